"""Which experiment carries a recipe out, by the kind of its strategy."""

from __future__ import annotations

from typing import Any

from nasformer.recipes.experiment import Experiment
from nasformer.recipes.experiment_darts import DartsExperiment
from nasformer.recipes.experiment_primer import PrimerExperiment
from nasformer.recipes.experiment_shrinknas import ShrinkNasExperiment
from nasformer.recipes.recipe import Recipe
from nasformer.runs.run import Run
from nasformer.runs.stage import Display

EXPERIMENTS: dict[str, type[Experiment]] = {
    "shrinknas": ShrinkNasExperiment,
    "darts": DartsExperiment,
    "primer": PrimerExperiment,
}


def carry_out(recipe: Recipe, run: Run, display: Display) -> dict[str, Any]:
    """Everything that a recipe asks for; returns (and writes) the result."""
    return EXPERIMENTS[recipe.strategy.kind](recipe, run, display).carry_out()
