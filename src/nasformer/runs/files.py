"""Files written whole or not at all, and plain data that is always valid JSON."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nasformer.errors import RunError

TEMPORARY = ".tmp-"
"""How the name of everything half-written begins."""
OLD = "-old"
"""How the name of a folder ends that is set aside while a new one takes its place."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


def plain(value: Any) -> Any:
    """The same data as dicts, lists, numbers and strings; `nan`, `inf` and `-inf` become strings, since JSON has none.

    Takes values with a `data()` method, dataclasses, paths and one-element tensors or arrays as well.
    Raises `TypeError` for anything else.
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    for name in ("data", "item"):
        if callable(method := getattr(value, name, None)):
            return plain(method())
    raise TypeError(f"expected data that JSON can hold, got {type(value).__name__}")


def json_text(data: Any) -> str:
    """The data as indented JSON that ends in a newline."""
    return json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def is_full_disk(error: BaseException) -> bool:
    """Whether an error says that a disk is full or a quota exhausted.

    safetensors, tokenizers and `shutil.copytree` say so in their text only.
    """
    return getattr(error, "errno", None) in _FULL or any(os.strerror(number) in str(error) for number in _FULL)


@contextmanager
def full_disk_explained(path: Path, run: Path, again: str = "nasformer resume") -> Iterator[None]:
    """Turns a full disk inside the block into one `RunError`, which asks to do it `again`; other errors pass."""
    try:
        yield
    except Exception as error:  # what libraries raise has no common class
        if not is_full_disk(error):
            raise
        raise RunError(
            f"disk full while writing {path}; the run is safe, free some space and `{again} {run}`"
        ) from error


def write_all(file: int, content: bytes) -> None:
    """Writes every byte to an open file descriptor (`os.write` alone may stop early)."""
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]


def write_synced(path: Path, content: bytes) -> None:
    """Writes a new file and waits until it is on the disk."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        write_all(file, content)
        os.fsync(file)
    finally:
        os.close(file)


def sync(path: Path) -> None:
    """Waits until a file's content, or the names in a folder, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill: it becomes `path`, in place of an older one, where the block ends well, and else vanishes.

    The older one is set aside as `path-old`, never missing, until the new one stands.
    """
    temporary, aside = path.with_name(TEMPORARY + path.name), path.with_name(path.name + OLD)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for part in (*temporary.rglob("*"), temporary):
            sync(part)
        if path.exists():
            if aside.exists():
                shutil.rmtree(aside)
            os.rename(path, aside)
        os.rename(temporary, path)
        sync(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def write_whole(path: Path, content: bytes) -> None:
    """Replaces a file in one step: whoever reads it sees the old content or the new, never a part."""
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        write_synced(temporary, content)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)
