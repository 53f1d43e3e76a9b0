"""`nasformer evaluate`: the model of a run on a split of its data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from nasformer.commands.trained import trained_model
from nasformer.errors import RequestError
from nasformer.recipes.experiment import VOCABULARIES
from nasformer.recipes.recipe import read_task
from nasformer.report.values import QUALITIES
from nasformer.runs.files import plain
from nasformer.runs.run import Run


def evaluate(folder: Path, split: str, console: Console) -> dict[str, Any]:
    """The quality of `folder/model` on a split; raises `RequestError` where there is no trained model."""
    if split not in ("valid", "test"):
        raise RequestError(f"expected the split valid or test, got {split!r}")
    run = Run.look(folder)
    model = trained_model(run)
    settings = read_task(run.recipe()["task"])
    network, task = settings.load(model, folder / VOCABULARIES)
    quality: dict[str, Any] = plain(task.quality(network, split))
    one = "image" if settings.kind == "images" else "token"
    console.print(f"{split}: {quality_text(quality)} nats per {one}", markup=False, soft_wrap=True)
    for measured in quality.values():
        if isinstance(measured, dict) and "signature" in measured:
            console.print(measured["signature"])
    return quality


def quality_text(quality: Mapping[str, Any]) -> str:
    """What a task measured (as plain data), with its intervals, in one line; the loss is the last."""
    told = []
    for known in QUALITIES:
        measured = quality.get(known.name)
        if isinstance(measured, Mapping):
            value, low, high = (measured.get(name) for name in ("value", "low", "high"))
            bounds = "" if low is None or high is None else f" ({float(low):.4g}–{float(high):.4g})"
            told.append(f"{known.label} {float(value):.4g}{bounds}")  # type: ignore[arg-type]
        elif measured is not None:
            told.append(f"{known.label} {float(measured):.4g}")
    return ", ".join(told)
