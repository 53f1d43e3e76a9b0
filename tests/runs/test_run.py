"""A run folder: made once, locked, readable, and whole after a crash or on a full disk."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from nasformer.errors import RequestError, RunError
from nasformer.measures.statistics import Interval
from nasformer.runs import files
from nasformer.runs.run import Run


def make(path: Path) -> Run:
    return Run.create(path, {"name": "tiny"}, seed=7, command="nasformer search tiny")


def test_a_new_run_holds_recipe_environment_and_an_empty_journal(tmp_path: Path) -> None:
    with make(tmp_path / "deep" / "run") as run:
        assert run.recipe() == {"name": "tiny"}
        assert run.read_json("environment.json")["seed"] == 7
        assert run.events() == []
        assert run.journal_position() == 0


def test_create_refuses_runs_files_and_filled_folders_and_leaves_them_as_they_were(tmp_path: Path) -> None:
    make(tmp_path / "run").close()
    with pytest.raises(RequestError, match=r"nasformer resume .*run"):
        make(tmp_path / "run")
    (tmp_path / "filled").mkdir()
    (tmp_path / "filled" / "thesis.tex").write_text("precious")
    with pytest.raises(RequestError, match=r"thesis\.tex"):
        make(tmp_path / "filled")
    assert [path.name for path in (tmp_path / "filled").iterdir()] == ["thesis.tex"]
    with pytest.raises(RequestError, match="is a file"):
        make(tmp_path / "filled" / "thesis.tex")
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty").close()


def test_create_takes_over_what_a_killed_create_left(tmp_path: Path) -> None:
    make(tmp_path / "run").close()
    (tmp_path / "run" / "recipe.json").unlink()
    (tmp_path / "run" / ".tmp-1-recipe.json").write_text('{"na')
    with make(tmp_path / "run") as run:
        assert run.recipe() == {"name": "tiny"}


def test_open_says_in_one_line_what_is_no_run(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "nowhere", "is no folder"), (tmp_path, r"has no recipe\.json")):
        for way in (Run.open, Run.look):
            with pytest.raises(RequestError, match=words) as caught:
                way(path)
            assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_run_has_one_writer_and_many_readers(tmp_path: Path) -> None:
    with make(tmp_path / "run") as run:
        run.record("started")
        with pytest.raises(RequestError, match=f"process {os.getpid()}"):
            Run.open(tmp_path / "run")
        with Run.look(tmp_path / "run") as reader:
            assert len(reader.events("started")) == 1
            with pytest.raises(ValueError, match="look"):
                reader.record("vandalism")
            with pytest.raises(ValueError, match="look"):
                reader.write_text("result.json", "")
    Run.open(tmp_path / "run").close()


def test_the_lock_names_another_process_and_dies_with_it(tmp_path: Path) -> None:
    make(tmp_path / "run").close()
    code = (
        "import sys, os, time; from pathlib import Path; from nasformer.runs.lock import Lock\n"
        "lock = Lock(Path(sys.argv[1])); child = os.fork()\n"
        "if not child: print(os.getpid(), flush=True)  # by now it has let the lock go\n"
        "time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run" / "lock")], stdout=subprocess.PIPE)
    try:
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        with pytest.raises(RequestError, match=f"process {owner.pid}"):
            Run.open(tmp_path / "run")
        owner.kill()
        owner.wait()
        try:
            Run.open(tmp_path / "run").close()  # although a forked child of the owner still lives
        finally:
            os.kill(child, signal.SIGKILL)
    finally:
        owner.kill()
        owner.wait()


def test_the_journal_keeps_order_names_and_numbers(tmp_path: Path) -> None:
    with make(tmp_path / "run") as run:
        run.record("step", loss=0.5, place=Path("a"), interval=Interval(1.0, None, 2.0))
        run.record("note", text="ü\n", value=torch.tensor(3))
        run.record("step", loss=math.nan, worst=[math.inf, -math.inf])
        steps = run.events("step")
        assert [event["event"] for event in run.events()] == ["step", "note", "step"]
    assert steps[0]["loss"] == 0.5
    assert steps[0]["interval"] == {"value": 1.0, "low": None, "high": 2.0}
    assert abs(steps[0]["time"] - time.time()) < 60
    assert (steps[1]["loss"], steps[1]["worst"]) == ("nan", ["inf", "-inf"])

    def forbid(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=forbid)


def test_an_event_that_json_cannot_hold_leaves_no_trace(tmp_path: Path) -> None:
    with make(tmp_path / "run") as run:
        with pytest.raises(TypeError, match="object"):
            run.record("step", thing=object())
        assert run.journal_position() == 0


@pytest.mark.parametrize("end", [b'{"event": "st', b'{"event": "st\n', b"\0\0\0", b"\0\0\n"])
def test_a_half_written_last_line_is_cut_off(tmp_path: Path, end: bytes) -> None:
    with make(tmp_path / "run") as run:
        run.record("first")
        whole = run.journal_position()
    with (tmp_path / "run" / "journal.jsonl").open("ab") as file:
        file.write(end)
    with Run.look(tmp_path / "run") as reader:
        assert len(reader.events()) == 1
    with Run.open(tmp_path / "run") as run:
        assert run.journal_position() == whole
        run.record("second")
        assert [event["event"] for event in run.events()] == ["first", "second"]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    make(tmp_path / "run").close()
    (tmp_path / "run" / "journal.jsonl").write_text('{"event": "a"}\nrubbish\n{"event": "b"}\n')
    with Run.look(tmp_path / "run") as run, pytest.raises(RunError, match="line 2"):
        run.events()


def test_a_resumed_journal_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    with make(tmp_path / "run") as run:
        run.record("step", number=1)
        position = run.journal_position()
        run.record("step", number=2)
    with Run.open(tmp_path / "run") as run:
        run.truncate_journal(position)
        run.record("step", number=2)
        assert [event["number"] for event in run.events()] == [1, 2]
        for wrong in (position - 1, 10**6, -1):
            with pytest.raises(RunError, match="ends at byte"):
                run.truncate_journal(wrong)
        assert len(run.events()) == 2


def test_json_files_are_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make(tmp_path / "run") as run:
        run.write_json("architectures/best.json", {"score": math.inf})
        assert run.read_json("architectures/best.json") == {"score": "inf"}

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run.write_json("architectures/best.json", {"score": 2})
        assert run.read_json("architectures/best.json") == {"score": "inf"}
        assert [path.name for path in (run.path / "architectures").iterdir()] == ["best.json"]


def test_files_stay_inside_the_run_and_missing_ones_are_named(tmp_path: Path) -> None:
    with make(tmp_path / "run") as run:
        for name in ("../escaped.json", str(tmp_path / "escaped.json")):
            with pytest.raises(RequestError, match="inside the run"):
                run.write_text(name, "")
        with pytest.raises(RequestError, match=r"result\.json"):
            run.read_json("result.json")
        run.write_text("broken.json", "{")
        with pytest.raises(RequestError, match="expected JSON"):
            run.read_json("broken.json")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_clear_error_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with make(tmp_path / "run") as run:
        run.record("first")
        run.write_json("result.json", {"score": 1})
        before = sorted(path.name for path in run.path.iterdir())
        room = [5]

        def filling(file: int, content: bytes) -> int:
            taken = min(room[0], len(content))
            room[0] -= taken
            if not taken:
                raise OSError(number, os.strerror(number))
            return write(file, bytes(content[:taken]))

        write = os.write
        monkeypatch.setattr(files.os, "write", filling)
        with pytest.raises(RunError, match=r"disk full .*run is safe.*nasformer resume"):
            run.record("second")
        room[0] = 5
        with pytest.raises(RunError, match=r"disk full .*run is safe.*nasformer resume"):
            run.write_json("result.json", {"score": 2})
        monkeypatch.undo()
        assert run.read_json("result.json") == {"score": 1}
        assert sorted(path.name for path in run.path.iterdir()) == before
        run.record("third")
        assert [event["event"] for event in run.events()] == ["first", "third"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        Exception("No space left on device (os error 28)"),  # tokenizers
        shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'")]),
        KeyboardInterrupt(),
        ValueError("something else"),
    ],
)
def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path, error: BaseException) -> None:
    full = not isinstance(error, KeyboardInterrupt | ValueError)

    def write_half(run: Run) -> None:
        with run.write_folder("model") as folder:
            (folder / "config.json").write_text("half")
            raise error

    with make(tmp_path / "run") as run:
        for before in ([], ["config.json"]):
            with pytest.raises(RunError if full else type(error)) as caught:
                write_half(run)
            assert not full or str(caught.value) == (
                f"disk full while writing {run.path / 'model'}; the run is safe, free some space and "
                f"`nasformer resume {run.path}`"
            )
            assert [path.name for path in (run.path / "model").glob("*")] == before
            assert not list(run.path.glob(".tmp-*"))
            with run.write_folder("model") as folder:
                assert (run.path / "model").exists() == bool(before)
                (folder / "config.json").write_text(f"whole {before}")
            assert (run.path / "model" / "config.json").read_text() == f"whole {before}"
        assert {path.name for path in run.path.iterdir() if path.is_dir()} == {"model"}


def test_forgetting_a_stage_leaves_other_stages_alone(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}, seed=1, command="c") as run:
        run.record("update", stage="search", update=1)
        position = run.journal_position()
        run.record("update", stage="found", update=1)
        run.forget("search", after=position)
        assert [event["stage"] for event in run.events()] == ["search", "found"]
        run.forget("found", after=position)
        assert [event["stage"] for event in run.events()] == ["search"]
        run.forget("search", after=0)
        assert run.events() == []
