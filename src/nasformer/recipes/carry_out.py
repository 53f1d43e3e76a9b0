"""Which experiment carries a recipe out, by the kind of its strategy and whether its space is one of cells."""

from __future__ import annotations

from typing import Any

from nasformer.recipes.experiment import Experiment
from nasformer.recipes.experiment_cell import CellExperiment, searches_cells
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
    return experiment_of(recipe)(recipe, run, display).carry_out()


def experiment_of(recipe: Recipe) -> type[Experiment]:
    """The experiment that carries a recipe out; DARTS searches spaces of cells and others."""
    return CellExperiment if searches_cells(recipe) else EXPERIMENTS.get(recipe.strategy.kind, CellExperiment)
