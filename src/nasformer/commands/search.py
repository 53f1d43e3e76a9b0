"""`nasformer search` and `nasformer resume`: read the recipe, open the run, carry it out, show what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from nasformer.commands.console import ConsoleDisplay
from nasformer.commands.new_run import new_run
from nasformer.commands.train import carry_out as carry_out_training
from nasformer.errors import RequestError, nearest
from nasformer.recipes.carry_out import carry_out
from nasformer.recipes.named import RECIPES
from nasformer.recipes.recipe import Recipe, TrainRecipe, override
from nasformer.report.changes import changed_lines
from nasformer.report.gather import gather
from nasformer.report.page import write_report
from nasformer.report.speed import speedup_line
from nasformer.report.table import rich_table
from nasformer.report.verdict import verdict
from nasformer.runs.run import Run
from nasformer.training.memory import keep_freed_memory


def read_recipe(name: str, changes: Sequence[str]) -> Recipe:
    """A recipe by name, or from a JSON or YAML file, with `key.path=value` changes."""
    if name in RECIPES:
        recipe = RECIPES[name]()
    elif Path(name).suffix in (".json", ".yaml", ".yml"):
        recipe = Recipe.read_file(Path(name))
    else:
        raise RequestError(f"unknown recipe {name!r}; {nearest(name, RECIPES)}")
    return override(recipe, changes)


def search(name: str, changes: Sequence[str], folder: Path, command: str, console: Console) -> dict[str, Any]:
    """Search, train, prove and report; returns the result."""
    recipe = read_recipe(name, changes)
    recipe.open_space()
    with new_run(recipe, folder, command) as run:
        return _carry_out(recipe, run, console)


def resume(folder: Path, console: Console) -> dict[str, Any]:
    """Go on with a run as if it had never been stopped; returns the result."""
    with Run.open(folder) as run:
        recipe = run.recipe()
        if recipe.get("kind") == "train":
            return carry_out_training(TrainRecipe.read(recipe), run, console)
        return _carry_out(Recipe.read(recipe), run, console)


def _carry_out(recipe: Recipe, run: Run, console: Console) -> dict[str, Any]:
    keep_freed_memory()
    with ConsoleDisplay(console) as display:
        result = carry_out(recipe, run, display)
    page = write_report(run.path)
    gathered = gather(run.path)
    comparison = gathered.comparison
    console.print(rich_table(comparison))
    if comparison.note:
        console.print(comparison.note, markup=False, highlight=False)
    console.print(verdict(comparison))
    if (evolution := gathered.evolution) is not None:
        console.print(speedup_line(evolution.arms), highlight=False)
        if evolution.start and evolution.found:
            lines = "\n".join(changed_lines(evolution.start, evolution.found))
            said = f"The found program, beside the start (all of it: {run.path / 'architectures' / 'best.txt'}):"
            console.print(f"{said}\n{lines}" if lines else "The found program is the start.", markup=False)
    model = f"model {run.path / 'model'}, " if (run.path / "model").exists() else ""  # a table needs none
    console.print(f"{model}report {page}", markup=False)
    return result
