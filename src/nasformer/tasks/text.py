"""Reading running text: one file cut into splits, a folder with a file for each split, or a folder of many files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nasformer.errors import RequestError
from nasformer.tasks.corpora import unpacked

SPLITS = ("train", "valid", "test")
_NAMES = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "test": "test"}
_SPLIT_FILE = re.compile(rf"(?:.*\.)?({'|'.join(_NAMES)})(?:\.\w+)?")

Documents = tuple[bytes, ...]


@dataclass(frozen=True)
class Text:
    """UTF-8 documents: `splits` gives those of "train", "valid" and "test"."""

    splits: dict[str, Documents]

    def size(self, split: str) -> int:
        """How many bytes a split has."""
        return sum(map(len, self.splits[split]))

    def digest(self, split: str) -> str:
        """The SHA-256 of a split's documents."""
        whole = hashlib.sha256()
        for document in self.splits[split]:
            whole.update(hashlib.sha256(document).digest())
        return whole.hexdigest()


def read_text(path: Path | str, *, valid_part: float, test_part: float, max_bytes: int | None = None) -> Text:
    """The text at `path`: UTF-8 files (plain, .gz or .xz).

    One file (or a folder with one) is one document; its last parts are the valid and the test split. A folder has one
    file for each split (`train.txt`, `valid.txt`, `validation.txt`, `val.txt` or `dev.txt`, `test.txt`), or it has many
    files, each a document, which are dealt out whole (`by_file`). Of the training text the first `max_bytes` are kept.
    Raises `RequestError` where a file is missing, empty, damaged or not UTF-8, and where a split is missing.
    """
    path = Path(path)
    if not path.exists():
        raise RequestError(f"expected a text file or a folder of text files at {path}, which does not exist")
    inside = path.rglob("*") if path.is_dir() else [path]
    names = sorted(file for file in inside if not file.is_dir() and not file.name.startswith("."))
    if not names:
        raise RequestError(f"expected text files in {path} (train.txt, valid.txt and test.txt), got an empty folder")
    splits: dict[str, Documents]
    if path.is_dir() and (files := _split_files(path)):
        splits = {split: (read_bytes(files[split]),) for split in SPLITS}
    elif len(names) == 1:
        splits = _cut(read_bytes(names[0]), valid_part, test_part, names[0])
    else:
        splits = by_file([read_bytes(name) for name in names], valid_part, test_part, str(path))
    return Text(splits | {"train": beginning(splits["train"], max_bytes)})


def read_bytes(path: Path) -> bytes:
    """The content of a UTF-8 file (plain, .gz or .xz) without a byte-order mark; raises `RequestError` if it cannot."""
    data = unpacked(path)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"0x{data[error.start]:02x}"
        raise RequestError(f"expected UTF-8, got byte {byte} in {path} at byte {error.start:,}; convert it") from None
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise RequestError(f"expected text in {path}, got an empty file")
    return data


def by_file(documents: Sequence[bytes], valid_part: float, test_part: float, origin: str) -> dict[str, Documents]:
    """Whole documents dealt out: in the order of their SHA-256 the first go to test, the next to valid, each split
    until it has its part of all bytes, the rest to train; equal ones are kept once. One that would bring a split to
    more than twice its part is passed over, and a split that gets none that way has the smallest. Each split keeps the
    given order.

    Raises `RequestError` where there are fewer different documents than splits.
    """
    order = list(dict.fromkeys(documents))
    if len(order) < len(SPLITS):
        raise RequestError(
            f"expected at least {len(SPLITS)} different files in {origin}, one for each split, got {len(order)}; give "
            f"one file, which is cut, or name files train.txt, valid.txt and test.txt"
        )
    left = sorted(order, key=lambda document: hashlib.sha256(document).digest())
    total, split_of = sum(map(len, order)), dict.fromkeys(order, "train")
    for split, part, keep in (("test", test_part, 2), ("valid", valid_part, 1)):
        split_of |= dict.fromkeys(_share(left, part * total, keep), split)
        left = [document for document in left if split_of[document] == "train"]
    return {split: tuple(document for document in order if split_of[document] == split) for split in SPLITS}


def _share(documents: Sequence[bytes], room: float, keep: int) -> list[bytes]:
    """The first documents that fill `room` bytes to at most twice, or the smallest; at least `keep` are not taken."""
    taken, size = list[bytes](), 0
    for document in documents:
        if size >= room or len(taken) == len(documents) - keep:
            break
        if size + len(document) <= 2 * room:
            taken.append(document)
            size += len(document)
    return taken or [min(documents, key=len)]


def beginning(documents: Iterable[bytes], max_bytes: int | None) -> Documents:
    """The first `max_bytes` of documents (all where None), cut between two characters."""
    if max_bytes is None:
        return tuple(documents)
    kept, left = [], max_bytes
    for document in documents:
        kept.append(document[: _between(document, left)])
        left -= len(document)
        if left <= 0:
            break
    return tuple(document for document in kept if document)


def _cut(data: bytes, valid_part: float, test_part: float, path: Path) -> dict[str, Documents]:
    first = _between(data, round(len(data) * (1 - valid_part - test_part)))
    second = _between(data, round(len(data) * (1 - test_part)))
    splits = {"train": data[:first], "valid": data[first:second], "test": data[second:]}
    if short := [split for split in SPLITS if not splits[split]]:
        raise RequestError(
            f"{path} has {len(data):,} bytes, too few to cut a {short[0]} split from; expected more text"
        )
    return {split: (part,) for split, part in splits.items()}


def _between(data: bytes, place: int) -> int:
    """The last place between two characters up to `place`."""
    place = min(place, len(data))
    while 0 < place < len(data) and data[place] & 0xC0 == 0x80:
        place -= 1
    return place


def _split_files(folder: Path) -> dict[str, Path]:
    """The file of each split; empty where no file is called after a split."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        match = _SPLIT_FILE.fullmatch(path.name.removesuffix(".gz").removesuffix(".xz"))
        if path.is_file() and match:
            found.setdefault(_NAMES[match[1]], []).append(path)
    for split, paths in found.items():
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise RequestError(f"expected one file of the {split} split in {folder}, got {names}; remove the others")
    if found and (missing := [split for split in SPLITS if split not in found]):
        raise RequestError(
            f"expected train, valid and test files in {folder}, got no {missing[0]} file "
            f"({missing[0]}.txt, .txt.gz or .txt.xz); add it, or give one file to be cut"
        )
    return {split: paths[0] for split, paths in found.items()}
