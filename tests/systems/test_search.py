"""A search from the command line to a model that transformers loads."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import TINY
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from nasformer import cli
from nasformer.models.pretrained import beam_search
from nasformer.runs import run as run_module
from nasformer.tasks.pretrained import load_pretrained


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


def test_the_run_remembers_everything(finished: Path) -> None:
    for name in ("recipe.json", "environment.json", "journal.jsonl", "result.json", "report.html"):
        assert (finished / name).stat().st_size > 0
    result = json.loads((finished / "result.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in result["rows"]] == ["found", "random_search", "transformer"]
    found, _, transformer = (row["scorecard"] for row in result["rows"])
    assert found["core_parameters"] <= 120_000
    assert abs(transformer["core_parameters"] / found["core_parameters"] - 1) < 0.03
    assert found["updates"] == transformer["updates"] == 18
    assert {event["when"] for event in result["divergence"]} == {"before", "after"}
    stages = {event["stage"] for event in journal(finished) if event["event"] == "update"}
    assert stages == {"search", "found", "random_search", "transformer"}
    assert "<svg" in (finished / "report.html").read_text(encoding="utf-8")


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
