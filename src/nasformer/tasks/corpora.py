"""Reading parallel text: a folder, one file of pairs, two aligned files, or a data set of the hub."""

from __future__ import annotations

import gzip
import json
import lzma
import random
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasformer.errors import RequestError, nearest

SPLITS = {"train": ("train",), "valid": ("valid", "val", "dev"), "test": ("test",)}
LONGEST_LINE = 100_000
_LANGUAGE = re.compile(r"[a-z]{2,3}([-_][A-Za-z]{2,4})?")
_NOT_LANGUAGES = {"txt", "tsv", "csv", "md", "log", "tok", "bpe", "raw"}

Pairs = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class ParallelText:
    """Aligned lines of two languages: `splits` gives (source lines, target lines) for "train", "valid" and "test".

    `skipped` counts the training pairs that were left out because a side was blank.
    """

    languages: tuple[str, str]
    splits: dict[str, Pairs]
    skipped: int = 0


@dataclass(frozen=True)
class _Table:
    """The lines of one split by language, and the name of the place that each language came from."""

    lines: dict[str, list[str]]
    origins: dict[str, str]


def absolute(path: str) -> str:
    """`path` (of any form that `read_parallel` takes) as it is found from every working directory."""
    if path.startswith("hub:"):
        return path
    if "," in path and not Path(path).exists():
        return ",".join(str(Path(part.strip()).resolve()) for part in path.split(","))
    return str(Path(path).resolve())


def read_parallel(
    path: Path | str, *, source: str | None = None, target: str | None = None, seed: int = 1
) -> ParallelText:
    """The parallel text at `path`, translated into English where one side is English, else in alphabetical order.

    `path` is a folder with `train.<language>` (and `valid…`, `val…`, `dev…`, `test…`) or `train.tsv`/`train.jsonl`; one
    `.tsv` or `.jsonl` file; `source_file,target_file`; or `hub:NAME[/CONFIG]`. Files may end in `.gz` or `.xz`. A
    validation or test split that is missing is cut from train by `seed`, 2 % of the pairs (20 to 2,000) each, such that
    no sentence of it is in another split. Raises `RequestError` on everything that cannot be read as aligned UTF-8.
    """
    text = str(path)
    if text.startswith("hub:"):
        tables = _hub(text.removeprefix("hub:"))
    elif Path(text).is_dir():
        tables = _folder(Path(text), source, target)
    elif "," in text and not Path(text).exists():
        tables, source, target = _two_files(text, source, target)
    else:
        tables = {"train": _one_file(Path(text), source, target)}
    if "train" not in tables:
        raise RequestError(f"expected a train split in {text}, got only {', '.join(sorted(tables)) or 'nothing'}")
    languages = _direction(list(tables["train"].lines), source, target, text)
    splits: dict[str, Pairs] = {}
    skipped = 0
    for split, table in tables.items():
        _direction(list(table.lines), *languages, f"the {split} split of {text}")
        splits[split], blank = _clean(split, table, languages)
        skipped += blank
    missing = [split for split in ("valid", "test") if split not in splits]
    splits |= _cut(splits["train"], missing, seed, text) if missing else {}
    return ParallelText(languages, {split: splits[split] for split in SPLITS}, skipped)


def _direction(languages: Sequence[str], source: str | None, target: str | None, origin: str) -> tuple[str, str]:
    for given in (source, target):
        if given is not None and given not in languages:
            raise RequestError(
                f"expected a language of {origin}, got {given!r}; "
                f"it has {', '.join(sorted(languages))}; {nearest(given, languages)}"
            )
    if source is not None and source == target:
        raise RequestError(f"expected two different languages of {origin}, got {source!r} twice")
    others = [language for language in sorted(languages) if language not in (source, target)]
    wanted = 2 - (source is not None) - (target is not None)
    if wanted and len(others) != wanted:
        raise RequestError(
            f"expected two languages in {origin}, got {', '.join(sorted(languages)) or 'none'}; name source and target"
        )
    if wanted == 2:
        return (others[1], "en") if others[0] == "en" else (others[0], others[1])
    return source or others[0], target or others[0]


def unpacked(path: Path) -> bytes:
    """The content of a file, plain, .gz or .xz; raises `RequestError` where it cannot be read."""
    unpack: Any = {".gz": gzip.decompress, ".xz": lzma.decompress}.get(path.suffix, bytes)
    try:
        data: bytes = unpack(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise RequestError(
            f"expected a whole {path.suffix} file, got a damaged one: {path} ({error}); fetch it again"
        ) from None
    except OSError as error:
        raise RequestError(f"expected a readable file at {path}, got: {error.strerror}; check the path") from None
    return data


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file (plain, .gz or .xz), split at line feeds only; raises `RequestError` if it cannot."""
    data = unpacked(path)
    if not data.strip():
        raise RequestError(f"expected lines of text in {path}, got an empty file")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"0x{data[error.start]:02x}"
        raise RequestError(f"expected UTF-8, got byte {byte} in {path}, line {line}; convert the file") from None
    lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").removesuffix("\n").split("\n")]
    longest = max(range(len(lines)), key=lambda number: len(lines[number]))
    if (length := len(lines[longest])) > LONGEST_LINE:
        raise RequestError(
            f"expected at most {LONGEST_LINE:,} characters a line, got {length:,} in {path}, "
            f"line {longest + 1}; is it one sentence a line?"
        )
    return lines


def _bare(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".xz")


def _folder(folder: Path, source: str | None, target: str | None) -> dict[str, _Table]:
    found: dict[str, dict[str, dict[str, Path]]] = {split: {} for split in SPLITS}  # split, stem, ending → file
    for path in sorted(folder.iterdir()):
        split = next((name for name, starts in SPLITS.items() if path.name.startswith(starts)), None)
        stem, _, ending = _bare(path).rpartition(".")
        if split and path.is_file() and stem:
            found[split].setdefault(stem, {}).setdefault(ending, path)
    tables: dict[str, _Table] = {}
    for split, stems in found.items():
        for stem, files in sorted(stems.items()):
            spoken = [end for end in files if _LANGUAGE.fullmatch(end) and end not in _NOT_LANGUAGES]
            if len(spoken) > 1 and (split == "train" or {source, target} <= set(spoken)):
                source, target = _direction(spoken, source, target, f"{folder} ({stem}.*)")
                tables[split] = _aligned({source: files[source], target: files[target]})
                break
            whole = next((files[end] for end in ("tsv", "jsonl") if end in files), None)
            if whole is not None and not stem.endswith("index"):
                tables[split] = _one_file(whole, source, target)
                break
    if "train" not in tables:
        names = ", ".join(path.name for path in sorted(folder.iterdir())[:6]) or "an empty folder"
        raise RequestError(
            f"expected train files of two languages in {folder} (train.de and train.en, train.tsv or "
            f"train.jsonl), got {names}"
        )
    return tables


def _aligned(files: dict[str, Path]) -> _Table:
    lines = {language: read_lines(path) for language, path in files.items()}
    (one, first), (other, second) = lines.items()
    if len(first) != len(second):
        raise RequestError(
            f"expected as many lines on both sides, got {len(first):,} in {files[one]} and "
            f"{len(second):,} in {files[other]}; align them"
        )
    return _Table(lines, {language: str(path) for language, path in files.items()})


def _two_files(text: str, source: str | None, target: str | None) -> tuple[dict[str, _Table], str, str]:
    if text.count(",") != 1:
        raise RequestError(f"expected 'source_file,target_file', got {text!r}")
    paths = [Path(part.strip()) for part in text.split(",")]
    first, second = (_bare(path).rpartition(".")[2] for path in paths)
    if first == second or not all(_LANGUAGE.fullmatch(x) and x not in _NOT_LANGUAGES for x in (first, second)):
        first, second = source or "source", target or "target"
    if source is None and target is None:
        source, target = first, second
    source, target = _direction([first, second], source, target, text)
    return {"train": _aligned({first: paths[0], second: paths[1]})}, source, target


def _one_file(path: Path, source: str | None, target: str | None) -> _Table:
    kind = _bare(path).rpartition(".")[2]
    if kind not in ("tsv", "jsonl"):
        raise RequestError(
            f"expected a folder, a .tsv or .jsonl file, 'source_file,target_file' or 'hub:NAME', got "
            f"{path}" + ("" if path.exists() else ", which does not exist")
        )
    lines = read_lines(path)
    return _tsv(lines, path, source, target) if kind == "tsv" else _jsonl(lines, path)


def _tsv(lines: list[str], path: Path, source: str | None, target: str | None) -> _Table:
    rows = [line.split("\t") for line in lines]
    for number, row in enumerate(rows, start=1):
        if len(row) < 2:
            raise RequestError(f"expected two columns parted by a tab, got one in {path}, line {number}")
    names = rows[0][0].strip(), rows[0][1].strip()
    if names[0] != names[1] and (names == ("source", "target") or all(_LANGUAGE.fullmatch(name) for name in names)):
        rows = [["", ""], *rows[1:]]  # the header's place is kept, so that lines keep their numbers
    else:
        names = source or "source", target or "target"
    first = int(rows[0][:2] == ["", ""] and lines[0].strip() != "")
    lines_of = {name: [row[column] for row in rows[first:]] for column, name in enumerate(names)}
    return _Table(lines_of, {name: str(path) + (" below its header" if first else "") for name in names})


def _jsonl(lines: list[str], path: Path) -> _Table:
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise RequestError(f"expected one JSON object a line in {path}, got {error} in line {number}") from None
    return _records(records, str(path))


def _records(records: Iterable[Any], origin: str) -> _Table:
    lines: dict[str, list[str]] = {}
    for number, record in enumerate(records, start=1):
        words = record.get("translation", record) if isinstance(record, dict) else None
        if not lines and isinstance(words, dict):
            lines = {name: [] for name, text in words.items() if isinstance(text, str) and _LANGUAGE.fullmatch(name)}
        if not isinstance(words, dict) or not lines or any(not isinstance(words.get(name), str) for name in lines):
            raise RequestError(
                f'expected texts by language, as {{"de": …, "en": …}}, in {origin}, line {number}, '
                f"got {str(record)[:80]}"
            )
        for name, column in lines.items():
            if len(words[name]) > LONGEST_LINE:
                raise RequestError(
                    f"expected at most {LONGEST_LINE:,} characters a text, got {len(words[name]):,} in "
                    f"{origin}, line {number}"
                )
            column.append(words[name])
    return _Table(lines, dict.fromkeys(lines, origin))


def _hub(name: str) -> dict[str, _Table]:
    try:
        import datasets
    except ImportError:
        raise RequestError("hub data needs the package `datasets`; pip install 'nasformer[hub]'") from None
    parts = name.split("/")
    tries = [("/".join(parts[:2]), *parts[2:])] + ([tuple(parts)] if len(parts) == 2 else [])
    problems = []
    for arguments in tries:
        try:
            loaded = datasets.load_dataset(*arguments)
            break
        except Exception as error:  # the hub raises errors of many kinds
            problems.append((str(error) or type(error).__name__).split("\n")[0])
    else:
        raise RequestError(
            f"expected a data set of the hub, got {name!r}: {problems[0]}; write hub:NAME or hub:NAME/CONFIG"
        )
    tables = {}
    for split, starts in SPLITS.items():
        key = next((key for key in sorted(loaded) if key.startswith(starts)), None)
        if key is not None:
            tables[split] = _records(loaded[key], f"hub:{name} ({key})")
    return tables


def _clean(split: str, table: _Table, languages: tuple[str, str]) -> tuple[Pairs, int]:
    pairs = list(zip(*(table.lines[language] for language in languages), strict=True))
    blank = [number for number, pair in enumerate(pairs) if not (pair[0].strip() and pair[1].strip())]
    if blank and (split != "train" or len(blank) * 100 >= len(pairs)):
        side = languages[0] if not pairs[blank[0]][0].strip() else languages[1]
        raise RequestError(
            f"expected text on both sides of every {split} pair, got {len(blank):,} blank of "
            f"{len(pairs):,}, the first in {table.origins[side]}, line {blank[0] + 1}; remove them"
        )
    if not pairs:
        raise RequestError(f"expected pairs in the {split} split ({table.origins[languages[0]]}), got none")
    gone = set(blank)
    kept = [pair for number, pair in enumerate(pairs) if number not in gone]
    return _columns(kept), len(blank)


def _columns(pairs: Sequence[tuple[str, str]]) -> Pairs:
    return tuple(source for source, _ in pairs), tuple(target for _, target in pairs)


def _cut(train: Pairs, missing: Sequence[str], seed: int, origin: str) -> dict[str, Pairs]:
    """Deals whole groups of pairs that share a sentence, so that no split has a sentence of another."""
    pairs = list(zip(*train, strict=True))
    size = min(max(len(pairs) // 50, 20), 2_000)
    groups = list(_groups(pairs).values())
    random.Random(seed).shuffle(groups)
    room = dict.fromkeys(missing, size)
    dealt: dict[str, list[int]] = {split: [] for split in ("train", *missing)}
    for group in groups:
        split = next((name for name in missing if room[name] >= len(group)), "train")
        dealt[split].extend(group)
        if split != "train":
            room[split] -= len(group)
    if len(dealt["train"]) < size or any(len(dealt[split]) * 2 < size for split in missing):
        raise RequestError(
            f"expected enough independent pairs to cut {' and '.join(missing)} of {size:,} from train, "
            f"got {len(pairs):,} in {len(groups):,} groups that share no sentence ({origin}); give the "
            "splits as files"
        )
    return {split: _columns([pairs[row] for row in sorted(rows)]) for split, rows in dealt.items()}


def _groups(pairs: Sequence[tuple[str, str]]) -> dict[int, list[int]]:
    parent = list(range(len(pairs)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[tuple[int, str], int] = {}
    for row, pair in enumerate(pairs):
        for side in (0, 1):
            parent[root(row)] = root(first.setdefault((side, pair[side]), row))
    groups: dict[int, list[int]] = {}
    for row in range(len(pairs)):
        groups.setdefault(root(row), []).append(row)
    return groups
