"""The trained model of a run, or why there is none."""

from __future__ import annotations

from pathlib import Path

from nasformer.errors import RequestError
from nasformer.runs.run import Run


def trained_model(run: Run) -> Path:
    """The folder `model` of a run; raises `RequestError` where it has none (yet)."""
    model = run.path / "model"
    if (model / "config.json").exists():
        return model
    if run.recipe().get("table") is not None:
        raise RequestError(
            f"expected a trained model in {model}; this run looks accuracies up in a table and trains none: train what "
            f"it found with nasformer train {run.path} --run FOLDER"
        )
    raise RequestError(f"expected a trained model in {model}; finish the run: nasformer resume {run.path}")
