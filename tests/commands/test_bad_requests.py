"""Every wrong request ends with one clear line and exit code 2, leaves nothing behind, and never shows a traceback."""

from __future__ import annotations

import errno
import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from nasformer import cli
from nasformer.commands.list import TABLES
from nasformer.commands.new_run import new_run
from nasformer.errors import RequestError
from nasformer.recipes.carry_out import EXPERIMENTS
from nasformer.recipes.named import RECIPES, demo
from nasformer.recipes.recipe import TASKS, override
from nasformer.runs.run import Run
from nasformer.spaces.named import ARCHITECTURES, SPACES, shrinknas_small
from nasformer.spaces.primitives import PRIMITIVES

PAIRS = [
    (f"ein Satz über Ding {n} und Ort {n % 7}", f"a sentence about thing {n} and place {n % 7}") for n in range(400)
]


def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The exit code and what stood on standard error."""
    monkeypatch.setattr(sys, "argv", ["nasformer", *words])
    try:
        cli.main()
    except SystemExit as exit:
        return int(exit.code or 0), capsys.readouterr().err.strip()
    return 0, capsys.readouterr().err.strip()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A good small corpus to spoil."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for split, pairs in (("train", PAIRS[:300]), ("valid", PAIRS[300:350]), ("test", PAIRS[350:])):
        for side, language in ((0, "de"), (1, "en")):
            (folder / f"{split}.{language}").write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")
    return folder


def spoil_misaligned(folder: Path) -> None:
    (folder / "train.de").write_text("nur eine Zeile\n", encoding="utf-8")


def spoil_empty(folder: Path) -> None:
    (folder / "train.en").write_text("", encoding="utf-8")


def spoil_utf8(folder: Path) -> None:
    (folder / "train.de").write_bytes(b"\xff\xfe kaputt\n" * 300)


def spoil_missing(folder: Path) -> None:
    (folder / "train.de").unlink()


def spoil_long_line(folder: Path) -> None:
    lines = (folder / "train.de").read_text(encoding="utf-8").split("\n")
    lines[17] = "x" * 1_000_000
    (folder / "train.de").write_text("\n".join(lines), encoding="utf-8")


def spoil_blank_side(folder: Path) -> None:
    lines = (folder / "test.de").read_text(encoding="utf-8").split("\n")
    lines[3] = ""
    (folder / "test.de").write_text("\n".join(lines), encoding="utf-8")


def spoil_archive(folder: Path) -> None:
    content = gzip.compress((folder / "train.de").read_bytes())
    (folder / "train.de").unlink()
    (folder / "train.de.gz").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_misaligned, ("train.de", "1", "300")),
        (spoil_empty, ("train.en",)),
        (spoil_utf8, ("train.de", "UTF-8")),
        (spoil_missing, ("train",)),
        (spoil_long_line, ("train.de", "18", "1,000,000")),
        (spoil_blank_side, ("test", "4")),
        (spoil_archive, ("train.de.gz",)),
    ],
)
def test_bad_corpora_are_refused_in_one_line(
    spoil: object,
    words: tuple[str, ...],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(corpus)  # type: ignore[operator]
    run = tmp_path / "run"
    code, error = ask(monkeypatch, capsys, "search", "demo", f"task.path={corpus}", "--run", str(run))
    assert code == 2
    assert error.startswith("nasformer: ")
    assert "\n" not in error
    for word in words:
        assert word in error
    assert not run.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("request_words", "words"),
    [
        (("search", "shrinkna", "--run", "RUN"), ("'shrinkna'", "'shrinknas'")),
        (("search", "demo", "objective.max_core_parameters=1k", "--run", "RUN"), ("34,476", "smallest", "encoder 64")),
        (("search", "demo", "objektive.max_core_parameters=1k", "--run", "RUN"), ("objective.max_core_parameters",)),
        (("search", "demo", "seed=many", "--run", "RUN"), ("seed", "'many'")),
        (("search", "demo", "fine_tune.updates=-3", "--run", "RUN"), ("fine_tune", "updates", "-3")),
        (("search", "demo", "dropout.residual=1.5", "--run", "RUN"), ("residual", "1.5")),
        (("search", "demo", "space=shrinknass", "--run", "RUN"), ("'shrinknas'",)),
        (("search", "demo", "controls=[transfomer]", "--run", "RUN"), ("transformer",)),
        (("search", "demo", "task.path=/nowhere/at/all", "--run", "RUN"), ("/nowhere/at/all",)),
        (("search", "demo", "nonsense", "--run", "RUN"), ("key.path=value",)),
        (("search", "demo"), ("--run",)),
        (("resume", "RUN"), ("RUN", "run folder")),
        (("evaluate", "RUN"), ("RUN",)),
        (("report", "RUN"), ("RUN",)),
        (("export", "RUN", "--out", "OUT"), ("RUN",)),
        (("profile", "transfomer"), ("'transformer'",)),
        (("list", "recipe"), ("'recipes'",)),
        (("train", "lite-transformr", "--run", "RUN"), ("'lite-transformer'",)),
        (("train", "transformer", "task.kind=language", "--run", "RUN"), ("encoder", "task.kind=translation")),
        (("train", "language-model", "task.kind=translation", "--run", "RUN"), ("encoder", "task.kind=language")),
        (("train", "language-model", "task.kind=text", "--run", "RUN"), ("'text'", "language, translation")),
        (("train", "language-model", "task.lenght=3", "--run", "RUN"), ("'task.length'",)),
        (("train", "language-model", "--task", "/nowhere/at/all", "--run", "RUN"), ("/nowhere/at/all", "not exist")),
        (("train", "language-model", "training.batch_tokens=32", "--run", "RUN"), ("32", "64", "task.length")),
        (("search", "demo", "task.kind=language", "--run", "RUN"), ("encoder", "task.kind=translation")),
        (("search", "primer", "task.kind=translation", "--run", "RUN"), ("encoder", "task.kind=language")),
        (("search", "shrinknas", "space=primer", "--run", "RUN"), ("shrinknas", "'primer'", "strategy.kind")),
        (("search", "primer", "space=shrinknas-small", "--run", "RUN"), ("'shrinknas-small'", "strategy.kind")),
        (("search", "primer-demo", "controls=[spos]", "--run", "RUN"), ("the strategy primer", "'spos'", "start")),
        (("search", "demo", "controls=[primer_ez]", "--run", "RUN"), ("the strategy shrinknas", "'primer_ez'")),
        (
            ("search", "primer-demo", "strategy.population=2", "--run", "RUN"),
            ("a tournament of 3", "a population of 2", "strategy.population"),
        ),
        (("search", "primer-demo", "space.settings.heads=0", "--run", "RUN"), ("the space primer", "heads")),
        (("search", "primer-demo", "space=nowhere.txt", "--run", "RUN"), ("nowhere.txt", "program")),
        (("search", "rome-small", "space.name=t0", "--run", "RUN"), ("cell_decoder_only", "reads tokens", "images")),
        (("search", "rome-language", "space.name=s2", "--run", "RUN"), ("image_cells", "reads images", "task.kind")),
        (
            ("search", "rome-small", "controls=[rome]", "--run", "RUN"),
            ("unknown 'rome'", "known: all_edges, average, convolved"),
        ),
        (
            ("search", "rome-language", "task.vocabulary=letters", "--run", "RUN"),
            ("task.language: vocabulary: ", "'bytes' or 'characters'", "'letters'"),
        ),
        (("search", "primer-demo", "objective.max_core_parameters=1k", "--run", "RUN"), ("1,000", "98,944")),
        (("search", "primer-demo", "strategy.training.batch_tokens=32", "--run", "RUN"), ("32", "64", "task.length")),
        (
            (
                *("search", "primer-demo", "strategy.budget=0.01", "strategy.training.batch_tokens=4096"),
                *("strategy.workers=1", "--run", "RUN"),
            ),
            ("0.01 s", "strategy.budget"),
        ),
        (("train", "nowhere.program", "--run", "RUN"), ("'nowhere.program'",)),
        (("train", "program-primer-es", "--run", "RUN"), ("'program-primer-ez'",)),
        (("list", "primitive"), ("'primitives'",)),
    ],
)
def test_bad_requests_are_refused_in_one_line(
    request_words: tuple[str, ...],
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"RUN": str(tmp_path / "run"), "OUT": str(tmp_path / "out")}
    code, error = ask(monkeypatch, capsys, *(places.get(word, word) for word in request_words))
    assert code == 2
    assert error.startswith("nasformer: ")
    assert "\n" not in error
    for word in words:
        assert places.get(word, word) in error
    assert not (tmp_path / "run").exists()


PROGRAM = """depth 1
unit 4
constants c0=0
dims d0=2 d1=4

MAIN:
  s2 = HALF(s0)
  s3 = CONV_1X1(s2, d0)
  s4 = ADD(s0, s3)

HALF:
  s2 = CONV_1X1(s0, d1)
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("CONV_1X1(s2, d0)", "CONV_1X2(s2, d0)", ("line 8", "unknown primitive 'CONV_1X2'", "'CONV_1X1'")),
        ("CONV_1X1(s0, d1)", "MAIN(s0)", ("line 12", "cycle")),
        ("CONV_1X1(s2, d0)", "CONV_1X1(s2, d2)", ("line 8", "entry 2 of the dims, which have 2")),
        ("CONV_1X1(s2, d0)", "CONV_1X1(s5, d0)", ("line 8", "state s5")),
        ("ADD(s0, s3)", "T_MAT_MUL(s0, s3)", ("line 9", "one column for each time, expected 8,")),
        ("  s3 = CONV_1X1(s2, d0)", "  s3 = ", ("line 8", "expected 's3 = OPERATION(s0, …)'")),
        ("unit 4", "unit four", ("line 2", "unit and a number above 0", "'four'")),
        ("MAIN:", "# MAIN:", ("line 7", "unknown setting 's2'")),
        (PROGRAM, "", ("'depth'",)),
    ],
)
@pytest.mark.parametrize("asked", ["train", "search", "profile"])
def test_bad_programs_are_refused_with_line_and_reason(
    old: str,
    new: str,
    words: tuple[str, ...],
    asked: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, run = tmp_path / "prog.txt", ("--run", str(tmp_path / "run"))
    assert old in PROGRAM
    path.write_text(PROGRAM.replace(old, new, 1), encoding="utf-8")
    requests = {"train": ("train", str(path), *run), "profile": ("profile", str(path))}
    requests["search"] = ("search", "primer-demo", f"space={path}", *run)
    code, error = ask(monkeypatch, capsys, *requests[asked])
    assert code == 2
    assert error.startswith(f"nasformer: {path}")
    assert "\n" not in error
    for word in words:
        assert word in error
    assert not (tmp_path / "run").exists()


def test_a_program_that_sees_the_future_is_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = tmp_path / "leak.txt", tmp_path / "run"
    path.write_text(
        "depth 1\nunit 8\nconstants c0=0\ndims d0=1\n\nMAIN:\n  s2 = T_MAT_MUL(s0, s0)\n  s3 = MAT_MUL(s2, s0)\n",
        encoding="utf-8",
    )
    (tmp_path / "corpus.txt").write_text("good text, and more of it\n" * 999, encoding="utf-8")
    asked = ("train", str(path), "--task", str(tmp_path / "corpus.txt"), "task.length=16", "--run", str(run))
    code, error = ask(monkeypatch, capsys, *asked)
    assert code == 2
    assert "leaks from the future" in error
    assert not (run / "model").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"good text " * 99 + b"\xff", ("UTF-8", "0xff", "byte 990")),
        (b"", ("empty",)),
        (b"one short line of text, and no more", ("sequence of 65 tokens", "train")),
        (b"a line of text for training, and of it too little to validate on\n" * 9, ("sequence of 65 tokens", "valid")),
        (b"word", ("4 bytes", "valid split")),
    ],
)
@pytest.mark.parametrize("asked", ["train", "search"])
def test_bad_texts_are_refused_in_one_line(
    content: bytes,
    words: tuple[str, ...],
    asked: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "corpus.txt").write_bytes(content)
    path, run = str(tmp_path / "corpus.txt"), ("--run", str(tmp_path / "run"))
    requests = {"train": ("train", "language-model", "--task", path)}
    requests["search"] = ("search", "primer", f"task.path={path}")
    code, error = ask(monkeypatch, capsys, *requests[asked], *run)
    assert code == 2
    assert error.startswith("nasformer: ")
    assert "\n" not in error
    for word in (*words, "corpus.txt"):
        assert word in error
    assert not (tmp_path / "run").exists()


def test_a_folder_of_texts_without_a_validation_part_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.txt").write_text("some text\n" * 99, encoding="utf-8")
    code, error = ask(monkeypatch, capsys, "search", "primer", f"task.path={folder}", "--run", str(tmp_path / "run"))
    assert code == 2
    assert "no valid file" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("what", list(TABLES))
def test_everything_that_can_be_listed_is(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["nasformer", "list", what, "--json"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    lines = json.loads(capsys.readouterr().out)
    names: dict[str, Any] = {"spaces": SPACES, "architectures": ARCHITECTURES, "recipes": RECIPES, "tasks": TASKS}
    names |= {"primitives": PRIMITIVES, "strategies": EXPERIMENTS}
    assert set(lines) >= set(names.get(what, ()))
    assert all(lines.values())


def test_a_space_in_a_recipe_file_names_the_nearest_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = {"mixer": {"kind": "atention", "heads": 2}, "feed_forward": {"ratio": 1.0}}
    stack = {"dim": 16, "layers": [layer]}
    recipe = {"name": "mine", "space": {"family": "encoder_decoder", "encoder": stack, "decoder": stack}}
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    code, error = ask(monkeypatch, capsys, "search", str(path), "--run", str(tmp_path / "run"))
    assert code == 2
    assert "'attention'" in error


def test_a_run_folder_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("precious", encoding="utf-8")
    code, error = ask(monkeypatch, capsys, "search", "demo", "--run", str(tmp_path))
    assert code == 2
    assert str(tmp_path) in error
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "precious"


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nasformer.commands.search.search", interrupted)
    monkeypatch.setattr("nasformer.commands.search.resume", interrupted)
    for words in (
        ("search", "demo", "--run", "my run"),
        ("search", "demo", "--run=my run"),
        ("resume", "my run"),
        ("resume", "--json", "my run"),
    ):
        code, error = ask(monkeypatch, capsys, *words)
        assert code == 130
        assert error == "nasformer: stopped; go on with: nasformer resume 'my run'"


def test_a_run_that_looks_up_says_why_it_has_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = RECIPES["rome-nasbench201"]()
    for name, changes, word in (("table", {"table": "t.csv"}, "nasformer train"), ("trained", {}, "nasformer resume")):
        with Run.create(tmp_path / name, recipe.but(**changes).data(), seed=1, command="nasformer"):
            pass
        for words in (("evaluate", str(tmp_path / name)), ("export", str(tmp_path / name), "--out", str(tmp_path))):
            code, error = ask(monkeypatch, capsys, *words)
            assert code == 2
            assert f"{word} {tmp_path / name}" in error


def test_a_late_refusal_keeps_the_work(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def work() -> None:
        with new_run(demo(), folder, "c") as run:
            run.record("update", stage="search", update=1)
            raise RequestError("too late")

    with pytest.raises(RequestError, match="too late"):
        work()
    assert (folder / "journal.jsonl").stat().st_size > 0


def test_knowing_the_task_is_no_work_yet(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def work() -> None:
        with new_run(demo(), folder, "c") as run:
            run.record("task", name="translation")
            raise RequestError("too long")

    with pytest.raises(RequestError, match="too long"):
        work()
    assert not folder.exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), Exception("(os error 28)")])
def test_a_full_disk_is_no_wrong_request(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise error if isinstance(error, OSError) else Exception(f"{os.strerror(errno.ENOSPC)} {error}")

    monkeypatch.setattr("nasformer.commands.list.list_things", full)
    code, said = ask(monkeypatch, capsys, "list", "spaces")
    assert code == 1
    assert said.startswith("nasformer: ")
    assert os.strerror(errno.ENOSPC) in said
    assert "\n" not in said


def test_a_space_of_ones_own_comes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(json.dumps(shrinknas_small().data()), encoding="utf-8")
    assert override(demo(), [f"space={path}"]).open_space().size == shrinknas_small().size


def test_search_and_controls_are_trained_alike() -> None:
    with pytest.raises(RequestError, match="batch_tokens"):
        override(demo(), ["strategy.training.batch_tokens=512"])


@pytest.mark.slow
def test_a_limit_that_a_control_cannot_meet_is_refused_before_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("search", "demo", "objective.max_core_parameters=40k", "controls=[sizes_only]", "task.embedded_pairs=1000")
    code, error = ask(monkeypatch, capsys, *words, "task.vocabulary=400", "--run", str(tmp_path / "run"))
    assert code == 2
    assert "sizes only" in error
    assert not (tmp_path / "run").exists()
