"""Reading parallel text: every form, every way in which it can be wrong, and splits that share no sentence."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nasformer.errors import RequestError
from nasformer.tasks.corpora import ParallelText, read_parallel

DE = [f"der Satz {number}" for number in range(400)]
EN = [f"the sentence {number}" for number in range(400)]


def _write(path: Path, lines: list[str], end: str = "\n") -> Path:
    data = "".join(line + end for line in lines).encode()
    data = gzip.compress(data) if path.suffix == ".gz" else lzma.compress(data) if path.suffix == ".xz" else data
    path.write_bytes(data)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, lines in (("train", slice(0, 380)), ("val", slice(380, 390)), ("test_a", slice(390, 400))):
        _write(tmp_path / f"{name}.de.gz", DE[lines])
        _write(tmp_path / f"{name}.en.xz", EN[lines])
    return tmp_path


def _sizes(text: ParallelText) -> dict[str, int]:
    return {split: len(sides[0]) for split, sides in text.splits.items()}


def _assert_disjoint(text: ParallelText) -> None:
    for side in (0, 1):
        sets = [set(sides[side]) for sides in text.splits.values()]
        assert sum(map(len, sets)) == len(set().union(*sets))


def test_a_folder_is_read_into_english_by_default(folder: Path) -> None:
    _write(folder / "test_b.de", DE[:3])
    _write(folder / "test_b.en", EN[:3])
    (folder / "train.txt").write_text("not a language")
    text = read_parallel(folder)
    assert text.languages == ("de", "en")
    assert _sizes(text) == {"train": 380, "valid": 10, "test": 10}
    assert text.splits["test"] == (tuple(DE[390:]), tuple(EN[390:]))
    turned = read_parallel(folder, source="en")
    assert turned.languages == ("en", "de")
    assert turned.splits["train"] == text.splits["train"][::-1]


def test_without_english_the_order_is_alphabetical(tmp_path: Path) -> None:
    _write(tmp_path / "train.fr", EN)
    _write(tmp_path / "train.cs", DE)
    assert read_parallel(tmp_path).languages == ("cs", "fr")


def test_with_three_languages_two_must_be_named(folder: Path) -> None:
    _write(folder / "train.fr", EN[:380])
    with pytest.raises(RequestError, match="name source and target"):
        read_parallel(folder)
    assert read_parallel(folder, source="de", target="en").languages == ("de", "en")
    text = read_parallel(folder, source="fr", target="de")
    assert _sizes(text) == {"train": 340, "valid": 20, "test": 20}


@pytest.mark.parametrize("header", [True, False])
def test_tsv(tmp_path: Path, header: bool) -> None:
    rows = [f"{de}\t{en}\tmore" for de, en in zip(DE, EN, strict=True)]
    text = read_parallel(_write(tmp_path / "pairs.tsv.gz", ["de\ten", *rows] if header else rows))
    assert text.languages == (("de", "en") if header else ("source", "target"))
    assert _sizes(text) == {"train": 360, "valid": 20, "test": 20}
    _assert_disjoint(text)
    read = {pair for sides in text.splits.values() for pair in zip(*sides, strict=True)}
    assert read == set(zip(DE, EN, strict=True))


def test_tsv_columns_can_be_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "pairs.tsv", [f"{de}\t{en}" for de, en in zip(DE, EN, strict=True)])
    assert read_parallel(path, source="de", target="en").languages == ("de", "en")


@pytest.mark.parametrize("nested", [True, False])
def test_jsonl(tmp_path: Path, nested: bool) -> None:
    records = [{"en": en, "de": de} for de, en in zip(DE, EN, strict=True)]
    lines = [json.dumps({"id": 1, "translation": record} if nested else record) for record in records]
    text = read_parallel(_write(tmp_path / "pairs.jsonl.xz", lines))
    assert text.languages == ("de", "en")
    assert sum(_sizes(text).values()) == 400


def test_a_folder_of_tsv(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        rows = [f"{split} {de}\t{split} {en}" for de, en in zip(DE, EN, strict=True)]
        _write(tmp_path / f"{split}.tsv", ["de\ten", *rows])
    assert _sizes(read_parallel(tmp_path)) == {"train": 400, "valid": 400, "test": 400}


def test_two_files(tmp_path: Path) -> None:
    one, other = _write(tmp_path / "x.en", EN), _write(tmp_path / "y.de.gz", DE)
    assert read_parallel(f"{one},{other}").languages == ("en", "de")
    plain = _write(tmp_path / "a.txt", EN), _write(tmp_path / "b.txt", DE)
    assert read_parallel(f"{plain[0]},{plain[1]}").languages == ("source", "target")
    named = read_parallel(f"{plain[0]},{plain[1]}", source="en", target="de")
    assert named.languages == ("en", "de")
    assert named.splits["train"][0][0].startswith("the")


def test_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{"translation": {"de": de, "en": en}} for de, en in zip(DE, EN, strict=True)]

    def load(name: str, config: str | None = None) -> dict[str, list[dict[str, dict[str, str]]]]:
        if (name, config) not in (("tiny", "de-en"), ("someone/tiny", "de-en")):
            raise ValueError(f"no data set {name}")
        return {"train": records[:380], "validation": records[380:390], "test": records[390:]}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    for name in ("hub:tiny/de-en", "hub:someone/tiny/de-en"):
        assert _sizes(read_parallel(name)) == {"train": 380, "valid": 10, "test": 10}
    with pytest.raises(RequestError, match="data set of the hub, got 'other': no data set other"):
        read_parallel("hub:other")


def test_hub_without_the_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(RequestError, match=r"pip install 'nasformer\[hub\]'"):
        read_parallel("hub:tiny")


def test_pairs_that_share_a_sentence_stay_together(tmp_path: Path) -> None:
    rows = [f"quelle {number // 3}\ttarget {number // 2}{'x' * (number % 12 == 0)}" for number in range(1200)]
    rows = [f"{row.split(chr(9))[0]} {n // 12}\t{row.split(chr(9))[1]} {n // 12}" for n, row in enumerate(rows)]
    text = read_parallel(_write(tmp_path / "p.tsv", rows))
    _assert_disjoint(text)
    assert sum(_sizes(text).values()) == 1200
    assert read_parallel(tmp_path / "p.tsv") == text
    assert read_parallel(tmp_path / "p.tsv", seed=2) != text


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    odd = ["ein\u0085e", "zwei\u2028e", "drei\x0ce", *DE[3:]]
    _write(tmp_path / "train.de", odd, end="\r\n")
    _write(tmp_path / "train.en", ["\ufeff" + EN[0], *EN[1:]])
    text = read_parallel(tmp_path)
    assert set(odd) == {line for sides in text.splits.values() for line in sides[0]}
    assert EN[0] in {line for sides in text.splits.values() for line in sides[1]}


def test_few_blank_training_pairs_are_skipped_and_counted(folder: Path) -> None:
    _write(folder / "train.de.gz", ["", *DE[1:300], "  ", *DE[301:380]])
    text = read_parallel(folder)
    assert text.skipped == 2
    assert _sizes(text)["train"] == 378
    _write(folder / "train.de.gz", [*DE[:100], "", "", "", "", *DE[104:380]])
    with pytest.raises(RequestError, match=r"4 blank of 380, the first in .*train\.de\.gz, line 101"):
        read_parallel(folder)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "train.de.gz",
            gzip.compress("\n".join(DE[:379]).encode(), mtime=0),
            r"got 379 in .*train\.de\.gz and 380 in .*train\.en\.xz",
        ),
        ("train.de.gz", gzip.compress(b"", mtime=0), r"train\.de\.gz, got an empty file"),
        ("train.de.gz", gzip.compress(b"gut\nb\xf6se\n", mtime=0), r"byte 0xf6 in .*train\.de\.gz, line 2"),
        ("train.de.gz", gzip.compress(b"gut\n" + b"x" * 100_001, mtime=0), r"100,001 in .*train\.de\.gz, line 2"),
        ("train.de.gz", gzip.compress("\n".join(DE).encode(), mtime=0)[:-40], r"damaged one: .*train\.de\.gz"),
        ("train.de.gz", b"plain text", r"damaged one: .*train\.de\.gz"),
        ("train.en.xz", lzma.compress("\n".join(EN).encode())[:-40], r"damaged one: .*train\.en\.xz"),
        ("train.en.xz", b"plain text", r"damaged one: .*train\.en\.xz"),
        (
            "val.en.xz",
            lzma.compress("\n".join(["x"] * 4 + [""] + ["x"] * 5).encode()),
            r"valid pair.*val\.en\.xz, line 5",
        ),
    ],
)
def test_a_bad_file_in_a_folder_is_named(folder: Path, name: str, data: bytes, message: str) -> None:
    (folder / name).write_bytes(data)
    with pytest.raises(RequestError, match=message) as error:
        read_parallel(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.tsv", "a\tb\nonly\n", r"two columns parted by a tab, got one in .*p\.tsv, line 2"),
        ("p.jsonl", '{"de": "a", "en": "b"}\n{"de": \n', r"one JSON object a line in .*p\.jsonl.* line 2"),
        ("p.jsonl", '{"de": "a", "en": "b"}\n{"de": "a"}\n', r"texts by language.*p\.jsonl, line 2"),
        ("p.jsonl", "[1]\n", r"texts by language.*line 1"),
        ("p.jsonl", '{"de": "a"}\n', r"two languages in .*p\.jsonl, got de"),
        ("p.tsv", "a\tb\n" * 30, r"enough independent pairs .* got 30 in 1 groups"),
        ("p.csv", "a,b\n", r"got .*p\.csv$"),
    ],
)
def test_a_bad_single_file_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=message):
        read_parallel(tmp_path / name)


def test_missing_things_are_named(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(RequestError, match="which does not exist"):
        read_parallel(folder / "nothing")
    with pytest.raises(RequestError, match="No such file"):
        read_parallel(folder / "nothing.tsv")
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(RequestError, match=r"train files of two languages in .*an empty folder"):
        read_parallel(empty)
    with pytest.raises(RequestError, match=r"got 'dee'; it has de, en; did you mean 'de'\?"):
        read_parallel(folder, source="dee")
    with pytest.raises(RequestError, match="got 'de' twice"):
        read_parallel(folder, source="de", target="de")


@pytest.mark.skipif("NASFORMER_DATA" not in os.environ, reason="NASFORMER_DATA names no folder of data")
def test_multi30k() -> None:
    text = read_parallel(Path(os.environ["NASFORMER_DATA"]) / "multi30k-en-de")
    assert text.languages == ("de", "en")
    assert _sizes(text) == {"train": 29_000, "valid": 1_014, "test": 1_000}
