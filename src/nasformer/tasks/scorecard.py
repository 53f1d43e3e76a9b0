"""A scorecard: measured quality and cost of one trained model, as a small value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Scorecard:
    """What a model scored and what it took.

    `quality` is what its task measures (`Task.quality`), as plain data: each task has other measures, and only the
    report, which knows them by name, reads them again. `core_parameters` leave out embeddings and output projection,
    `flops` are of one pass over a sentence of 30 tokens or an image of 32×32 pixels, `updates` of all training (of the
    supernet too), `evaluations` those of the search. `training_flops` are of everything that was run to get the model:
    sweeps of rates, the search and its evaluations, candidates that were given up (None: not counted).
    """

    quality: Mapping[str, Any]
    core_parameters: int
    total_parameters: int
    flops: int
    updates: int
    evaluations: int
    seconds: float
    training_flops: float | None = None

    def data(self) -> dict[str, Any]:
        """Plain data for `result.json`: quality and cost side by side."""
        cost = asdict(self)
        return cost.pop("quality") | cost
