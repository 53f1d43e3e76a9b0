"""A differentiable search from the command line to a model that transformers loads, killed on the way."""

from __future__ import annotations

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
from transformers import AutoModelForSeq2SeqLM

from nasformer.tasks.pretrained import load_pretrained

TINY = [
    "task.embedded_pairs=1000",
    "task.vocabulary=400",
    "task.test_sentences=12",
    "task.beams=2",
    "strategy.training.updates=4",
    "strategy.training.batch_tokens=128",
    "strategy.training.record_every=2",
    "strategy.restarts=2",
    "fine_tune.updates=4",
    "fine_tune.batch_tokens=128",
    "controls=[random_architecture,uniform_sampling,plain_darts,other_zero,transformer]",
    "random_architectures=1",
]
"""Changes to the small recipe."""
PROGRAM = [sys.executable, "-c", "from nasformer.cli import main; main()"]


def run(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The command line in another process."""
    return subprocess.run([*PROGRAM, *words], capture_output=True, text=True, check=check, timeout=600)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny search."""
    folder = tmp_path_factory.mktemp("search") / "run"
    run("search", "dartsformer-small", *TINY, "--run", str(folder))
    return folder


def events(folder: Path) -> list[dict]:
    """The journal without what clocks say."""
    journal = folder / "journal.jsonl"
    text = journal.read_text(encoding="utf-8") if journal.exists() else ""
    lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]  # a half-written one is left out
    return [{k: v for k, v in json.loads(line).items() if k not in ("time", "seconds")} for line in lines]


@pytest.mark.slow
def test_every_arm_has_its_row_and_its_size(finished: Path) -> None:
    rows = {row["name"]: row for row in json.loads((finished / "result.json").read_text(encoding="utf-8"))["rows"]}
    assert list(rows) == [
        "found", "random_architecture", "uniform_sampling", "plain_darts", "other_zero", "transformer",
    ]  # fmt: skip
    core = rows["found"]["scorecard"]["core_parameters"]
    for name in ("random_architecture", "uniform_sampling", "plain_darts", "transformer"):
        assert abs(rows[name]["scorecard"]["core_parameters"] / core - 1) < 0.035, name
    updates = {name: row["scorecard"]["updates"] for name, row in rows.items()}
    assert updates["found"] == updates["plain_darts"] == updates["uniform_sampling"] == 2 * 4 * 2 + 4
    assert updates["transformer"] == updates["random_architecture"] == 4
    assert rows["plain_darts"]["architecture"]["family"] == "encoder_decoder"
    assert "zero" not in json.dumps(rows["found"]["architecture"])
    stages = {event["stage"] for event in events(finished) if event["event"] == "derived"}
    assert stages == {"search", "search_2", "plain_darts_search", "plain_darts_search_2"}
    (best, _) = [event for event in events(finished) if event["event"] == "restarts"]
    assert best["losses"][best["best"] - 1] == min(best["losses"])
    assert "<svg" in (finished / "report.html").read_text(encoding="utf-8")


def test_transformers_loads_the_reversible_model_and_agrees(finished: Path) -> None:
    network, source, _ = load_pretrained(finished / "model")
    model = AutoModelForSeq2SeqLM.from_pretrained(finished / "model").eval()
    tokens = torch.tensor([source.encode(["the old teacher sees the dog"])[0]])
    ours = network(tokens, torch.ones(1, 3, dtype=torch.long))
    theirs = model(input_ids=tokens, attention_mask=(tokens != 0).long(), decoder_input_ids=torch.ones(1, 3).long())
    assert torch.equal(ours, theirs.logits)
    found = [
        model.generate(tokens, attention_mask=(tokens != 0).long(), num_beams=3, max_new_tokens=8, use_cache=cached)
        for cached in (True, False)
    ]
    assert torch.equal(*found)


@pytest.mark.slow
def test_evaluate_and_profile_take_the_run(finished: Path) -> None:
    quality = json.loads(run("evaluate", str(finished), "--json").stdout)
    found = json.loads((finished / "result.json").read_text(encoding="utf-8"))["rows"][0]["scorecard"]
    assert quality["loss"] == pytest.approx(found["loss"], rel=1e-5)
    profile = json.loads(run("profile", str(finished), "--json").stdout)
    assert profile["core_parameters"] == found["core_parameters"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", [3, 9])
def test_a_killed_search_ends_as_if_nothing_had_happened(finished: Path, tmp_path: Path, moment: int) -> None:
    folder = tmp_path / "run"
    words = ["search", "dartsformer-small", *TINY, "checkpoint_seconds=0", "--run", str(folder)]
    child = subprocess.Popen([*PROGRAM, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while child.poll() is None and len(events(folder)) < moment:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (folder / "result.json").exists()
    run("resume", str(folder))
    weights, others = (load_file(where / "model/model.safetensors") for where in (finished, folder))
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert events(finished) == events(folder)


@pytest.mark.slow
def test_a_memory_limit_is_planned_kept_and_said(tmp_path: Path) -> None:
    words = [*TINY, "strategy.restarts=1", "controls=[]", "objective.memory=25MiB"]
    run("search", "dartsformer-small", *words, "--run", str(tmp_path / "run"))
    (planned,) = [event for event in events(tmp_path / "run") if event["event"] == "memory_plan"]
    assert planned["backward"] == "rebuilt"
    assert planned["predicted_bytes"] <= 25 * 2**20
    assert "25.0 MiB" in planned["text"]


@pytest.mark.slow
def test_plain_darts_is_a_search_of_its_own(tmp_path: Path) -> None:
    words = [*TINY, "strategy.restarts=1", "controls=[transformer]", "space=darts-transformer-small"]
    run("search", "dartsformer-small", *words, "--run", str(tmp_path / "run"))
    rows = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["rows"]
    assert [row["label"] for row in rows] == ["DARTS", "Transformer"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["controls=[spos]"], "the strategy darts has no control 'spos'"),
        (["space=shrinknas-small", "controls=[transformer]"], "chooses one operator of several"),
        (["objective.penalty=1", "objective.max_core_parameters=100k"], "has nothing to be added to"),
        (["objective.memory=1MiB"], "no way of an update fits into 1.0 MiB: the least is"),
        (["correlation=5"], "correlation is of scores on inherited weights"),
        (["space=darts-transformer-small"], "the control plain_darts stands beside a reversible space"),
        (["space.settings.heads=0"], "the space dartsformer with"),
        (["strategy.logits.betas=[1.0, 0.9]"], "less than 1"),
        (["task.data_seed=-1"], "data_seed"),
        (["space.settings.dim=100"], "does not fit the encoder"),
        (["space.settings.searched=3"], "cannot be repeated to a depth of 2"),
        (["space={name: dartsformer, settings: {split: 3}}"], "has no setting 'split'; did you mean 'splits'"),
        (["space=dartsformer-smal"], "did you mean 'dartsformer-small'"),
        (["objective.max_core_parameters=1k"], "below the smallest architecture"),
        (["strategy.weight_part=1"], "weight_part: Input should be less than 1"),
    ],
)
def test_wrong_requests_end_in_one_line(tmp_path: Path, changes: list[str], said: str) -> None:
    done = run("search", "dartsformer-small", *TINY, *changes, "--run", str(tmp_path / "run"), check=False)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
