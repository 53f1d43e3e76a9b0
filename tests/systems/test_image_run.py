"""An image network on the command line: trained, stopped, resumed, scored, reported, exported."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageClassification

from nasformer.cli import main
from nasformer.runs.run import Run
from nasformer.tasks.images import Images
from nasformer.training.trainer import Trainer

TRAIN = [
    "architecture.cells=3",
    "architecture.channels=8",
    "training.updates=12",
    "training.batch_tokens=32",
    "training.record_every=4",
    "task.train_images=300",
    "checkpoint_seconds=0",
]


def nasformer(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of a command."""
    monkeypatch.setattr("sys.argv", ["nasformer", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_trained_stopped_resumed_scored_reported_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert nasformer(monkeypatch, "train", "darts-v2", "--run", str(whole), *TRAIN) == 0
    update = Trainer.update

    def interrupted(trainer: Trainer) -> Any:
        if trainer.updates == 7:
            raise KeyboardInterrupt
        return update(trainer)

    monkeypatch.setattr(Trainer, "update", interrupted)
    assert nasformer(monkeypatch, "train", "darts-v2", "--run", str(stopped), *TRAIN) != 0
    monkeypatch.setattr(Trainer, "update", update)
    assert nasformer(monkeypatch, "resume", str(stopped)) == 0
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (whole, stopped)]
    assert weights[0] == weights[1]

    again = tmp_path / "again"
    assert nasformer(monkeypatch, "train", str(whole), "--run", str(again), "training.updates=2") == 0
    assert Run.look(again).recipe()["task"] == Run.look(whole).recipe()["task"]  # of the run, not what comes along
    assert nasformer(monkeypatch, "report", str(again)) == 0
    page = (again / "report.html").read_text()
    assert "whole on images" in page
    assert "★" not in page
    assert "was not run" not in page

    card = json.loads((whole / "result.json").read_text())["rows"][0]["scorecard"]
    assert 0 <= card["accuracy"]["low"] < card["accuracy"]["value"] < card["accuracy"]["high"] <= 100
    capsys.readouterr()
    assert nasformer(monkeypatch, "evaluate", str(stopped)) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"test: accuracy (%) {card['accuracy']['value']:.4g} (")
    assert said.rstrip().endswith("nats per image")
    assert nasformer(monkeypatch, "report", str(whole)) == 0
    assert f"{card['accuracy']['value']:.2f}" in (whole / "report.html").read_text()
    assert nasformer(monkeypatch, "export", str(whole), "--out", str(tmp_path / "out")) == 0
    task = Run.look(whole).recipe()["task"]
    images = Images.read(task).open().draw(20, np.random.default_rng(1))[0].images
    ours, _ = Images.read(task).load(whole / "model")
    theirs: Any = AutoModelForImageClassification.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        assert torch.equal(theirs(pixel_values=images).logits, ours(images))


@pytest.mark.skipif("NASFORMER_DATA" not in os.environ, reason="NASFORMER_DATA names no folder of data")
def test_cifar_10_has_the_published_mean() -> None:
    path = Path(os.environ["NASFORMER_DATA"]) / "cifar10-jpeg"
    task = Images(path=str(path), train_images=5_000, evaluation_images=50).open()
    assert task.facts()["classes"] == 10
    assert task.normalisation.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=5e-3)
    assert task.normalisation.deviation == pytest.approx((0.2470, 0.2435, 0.2616), abs=5e-3)
