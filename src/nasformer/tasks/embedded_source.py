"""The text that every machine has: the source of Python's standard library, where no other text is given."""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from nasformer.errors import RequestError
from nasformer.tasks.text import Text, by_file

LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
"""Folders whose files are no part of the corpus."""


def embedded_source(*, max_bytes: int, valid_part: float, test_part: float, folder: Path | None = None) -> Text:
    """The `.py` files of the standard library (or another folder) as documents, dealt out whole.

    They stand in the order of their paths; where they have more than about `max_bytes`, those with the smallest SHA-256
    are taken. Files that cannot be read as UTF-8 are left out.
    Raises `RequestError` where there are too few.
    """
    folder = folder or Path(sysconfig.get_path("stdlib"))
    documents = list(dict.fromkeys(_documents(folder)))
    taken, size = set(), 0
    for document in sorted(documents, key=lambda document: hashlib.sha256(document).digest()):
        if size >= max_bytes:
            break
        taken.add(document)
        size += len(document)
    if len(taken) < 3:
        raise RequestError(f"expected Python's standard library in {folder}, got {len(taken)} files; give task.path")
    return Text(by_file([one for one in documents if one in taken], valid_part, test_part, str(folder)))


def _documents(folder: Path) -> Iterator[bytes]:
    for path in _files(folder):
        try:
            document = path.read_bytes()
            document.decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if document.strip():
            yield document


def _files(folder: Path) -> Iterator[Path]:
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return
    for path in inside:
        if path.is_dir() and path.name not in LEFT_OUT:
            yield from _files(path)
        elif path.suffix == ".py" and path.is_file():
            yield path
