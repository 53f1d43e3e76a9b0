"""A search from the command line to a model that transformers loads."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tiny import TINY
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, modeling_utils

from nasformer import cli
from nasformer.models.pretrained import beam_search
from nasformer.runs import files
from nasformer.runs import run as run_module
from nasformer.tasks.pretrained import load_pretrained
from nasformer.tasks.vocabulary import Vocabulary


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command line in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["nasformer", *words])
    try:
        cli.main()
    except SystemExit as exit:
        return int(exit.code or 0)
    return 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny search."""
    folder = tmp_path_factory.mktemp("search") / "run"
    with pytest.MonkeyPatch.context() as patch:
        assert command(patch, "search", "demo", *TINY, "--run", str(folder)) == 0
    return folder


@pytest.mark.slow
def test_the_run_remembers_everything(finished: Path) -> None:
    for name in ("recipe.json", "environment.json", "journal.jsonl", "result.json", "report.html"):
        assert (finished / name).stat().st_size > 0
    result = json.loads((finished / "result.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in result["rows"]] == ["found", "random_search", "transformer"]
    found, _, transformer = (row["scorecard"] for row in result["rows"])
    assert found["core_parameters"] <= 120_000
    assert abs(transformer["core_parameters"] / found["core_parameters"] - 1) < 0.03
    finalists = [1, 1, 2, 18]  # updates from scratch: two of four were given up after one
    assert transformer["updates"] == 18
    assert found["updates"] == 12 + sum(finalists) + 6
    assert found["training_flops"] > 2 * transformer["training_flops"] > 0
    assert {event["when"] for event in result["divergence"]} == {"before", "after"}
    stages = {event["stage"] for event in journal(finished) if event["event"] == "update"}
    finalist = r"(random_search_)?retrained_[1-4]"  # those that were given up early recorded nothing
    assert {s for s in stages if not re.fullmatch(finalist, s)} == {
        *("search", "fine_tuned", "random_search_fine_tuned", "transformer")
    }
    assert sum(s.startswith("retrained_") for s in stages) >= 2
    rows = {name: json.loads((finished / f"rows/{name}.json").read_text()) for name in ("fine_tuned", "retrained")}
    better = min(rows, key=lambda name: rows[name]["validation_loss"])
    assert result["rows"][0]["handed_over"] == better
    assert found["loss"] == rows[better]["scorecard"]["loss"]
    assert "<svg" in (finished / "report.html").read_text(encoding="utf-8")
    first = journal(finished)[0]
    assert first == {"event": "task"} | result["task"]
    assert (first["blank_pairs_left_out"], first["long_pairs_left_out"]) == (0, 0)


def test_transformers_loads_the_model_and_agrees(finished: Path) -> None:
    folder = finished / "model"
    network, source, target = load_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lines = ["the old teacher sees the dog", "a child sleeps"]
    inputs = tokenizer(lines, return_tensors="pt", padding=True)
    rows = source.encode(lines)
    assert [[token for token in row if token] for row in inputs["input_ids"].tolist()] == rows
    labels = tokenizer(text_target=["der Hund schläft"], return_tensors="pt")["input_ids"]
    assert labels.tolist() == target.encode(["der Hund schläft"])
    ours = network(inputs["input_ids"], torch.ones(2, 3, dtype=torch.long))
    theirs = model(
        **{name: inputs[name] for name in ("input_ids", "attention_mask")},
        decoder_input_ids=torch.ones(2, 3, dtype=torch.long),
    )
    assert torch.equal(ours, theirs.logits)
    beams = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=15)
    expected = beam_search(network, inputs["input_ids"], beams=2, longest=15)
    assert [[token for token in row if token > 2] for row in beams.tolist()] == expected
    decoded = tokenizer.batch_decode(beams, skip_special_tokens=True)
    assert decoded == target.decode(expected)


@pytest.mark.slow
def test_an_exported_folder_loads_in_a_fresh_process(finished: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        assert command(patch, "export", str(finished), "--out", str(tmp_path / "out")) == 0
    program = (
        "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer\n"
        "import nasformer.tasks.pretrained\n"
        f"model = AutoModelForSeq2SeqLM.from_pretrained({str(tmp_path / 'out')!r})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({str(tmp_path / 'out')!r})\n"
        "tokens = tokenizer(['a dog sleeps'], return_tensors='pt')\n"
        "print(len(model.generate(tokens['input_ids'], attention_mask=tokens['attention_mask'], max_new_tokens=5)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.strip().endswith("1"), done.stderr


def test_evaluate_repeats_the_scorecard(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "evaluate", str(finished), "--json") == 0
    quality = json.loads(capsys.readouterr().out)
    found = json.loads((finished / "result.json").read_text(encoding="utf-8"))["rows"][0]["scorecard"]
    assert quality["loss"] == pytest.approx(found["loss"], rel=1e-5)
    assert quality["chrf"]["value"] == pytest.approx(found["chrf"]["value"])
    assert quality.keys() == found.keys() - {"core_parameters", "total_parameters", "flops", "updates", "evaluations",
                                             "seconds", "training_flops"}  # fmt: skip
    assert quality["bleu"].keys() == {"value", "low", "high", "signature"}


def same_outcome(one: Path, other: Path) -> None:
    """Both runs ended with the same architecture and bit-identical weights."""
    assert (one / "architectures/best.json").read_bytes() == (other / "architectures/best.json").read_bytes()
    weights, others = (load_file(folder / "model/model.safetensors") for folder in (one, other))
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert journal(one) == journal(other)


def journal(folder: Path) -> list[dict]:
    """The journal without what clocks say."""
    lines = (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("time", "seconds")} for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("moment", [3, 7, 12])
def test_a_killed_run_ends_as_if_nothing_had_happened(finished: Path, tmp_path: Path, moment: int) -> None:
    folder = tmp_path / "run"
    program = [sys.executable, "-c", "from nasformer.cli import main; main()"]
    words = ["search", "demo", *TINY, "checkpoint_seconds=0", "--run", str(folder)]
    child = subprocess.Popen([*program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while child.poll() is None and events(folder) < moment:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (folder / "result.json").exists()
    done = subprocess.run([*program, "resume", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    same_outcome(finished, folder)


def events(folder: Path) -> int:
    """How many lines the journal of a run has."""
    journal = folder / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


@pytest.mark.slow
def test_a_full_disk_loses_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    written, write_all = [0], run_module.write_all

    def full(file: int, content: bytes) -> None:
        written[0] += 1
        if written[0] == 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_all(file, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "write_all", full)
        assert command(patch, "search", "demo", *TINY, "--run", str(folder)) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "disk full" in error
    assert command(monkeypatch, "resume", str(folder)) == 0
    same_outcome(finished, folder)


FULL = "No space left on device (os error 28)"
"""What libraries in Rust say of a full disk, in errors of their own kinds."""


def full_for_weights(patch: pytest.MonkeyPatch) -> None:
    """The weights do not fit."""

    def save(_: object, path: str, **__: object) -> None:
        Path(path).write_bytes(b"half")
        raise SafetensorError(f"Error while serializing: I/O error: {FULL}")

    patch.setattr(modeling_utils, "safe_save_file", save)


def full_for_vocabulary(patch: pytest.MonkeyPatch) -> None:
    """Weights and configuration fit, the vocabularies do not."""

    def save(_: object, path: Path) -> None:
        path.write_text("half")
        raise Exception(FULL)

    patch.setattr(Vocabulary, "save", save)


def full_for(name: str, patch: pytest.MonkeyPatch) -> None:
    """All fits but one file, which is written half."""
    write_text, write_synced = Path.write_text, files.write_synced

    def text(path: Path, content: str, **others: str) -> int:
        if path.name.endswith(name):
            write_text(path, content[:20], **others)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_text(path, content, **others)

    def synced(path: Path, content: bytes) -> None:
        if path.name.endswith(name):
            write_synced(path, content[:20])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_synced(path, content)

    patch.setattr(Path, "write_text", text)
    patch.setattr(files, "write_synced", synced)


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_end_loses_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    words = ["search", "demo", *TINY, "--run", str(folder)]
    for fill, place in (
        (full_for_weights, "model"),
        (full_for_vocabulary, "model"),
        (partial(full_for, "nasformer_auto.py"), "model"),
        (partial(full_for, "found.json"), "rows/found.json"),
        (partial(full_for, "result.json"), "result.json"),
        (partial(full_for, "report.html"), "report.html"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            fill(patch)
            capsys.readouterr()
            assert command(patch, *words) == 1
        (error,) = capsys.readouterr().err.splitlines()
        again = "report" if place == "report.html" else "resume"
        safe = f"the run is safe, free some space and `nasformer {again} {folder}`"
        assert error == f"nasformer: disk full while writing {folder / place}; {safe}"
        assert not (folder / place).exists()
        assert not list(folder.rglob(".tmp-*"))
        words = ["resume", str(folder)]
    assert command(monkeypatch, "resume", str(folder)) == 0
    same_outcome(finished, folder)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"):
        assert (folder / "model" / name).read_bytes() == (finished / "model" / name).read_bytes()
    assert {path.name for path in folder.rglob("*")} == {path.name for path in finished.rglob("*")}


def test_a_disk_that_is_full_while_handing_over_leaves_nothing_half(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report, copy2 = (finished / "report.html").read_bytes(), shutil.copy2

    def copy(source: str, target: str, **others: bool) -> str:
        if Path(source).suffix == ".safetensors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return copy2(source, target, **others)

    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        full_for("report.html", patch)
        assert command(patch, "report", str(finished)) == 1
    assert f"disk full while writing {finished / 'report.html'}" in capsys.readouterr().err
    assert (finished / "report.html").read_bytes() == report
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "copytree", partial(shutil.copytree, copy_function=copy))
        assert command(patch, "export", str(finished), "--out", str(out)) == 1
    assert f"disk full while writing {out}" in capsys.readouterr().err
    assert not out.exists()
    assert command(monkeypatch, "export", str(finished), "--out", str(out)) == 0
    assert load_pretrained(out)
