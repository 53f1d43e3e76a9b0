"""`nasformer train`: one given architecture on a task, to a model folder and a scorecard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from nasformer.commands.architectures import find_architecture
from nasformer.commands.console import ConsoleDisplay
from nasformer.commands.new_run import new_run
from nasformer.recipes.experiment import train_alone
from nasformer.recipes.recipe import TrainRecipe, override
from nasformer.runs.run import Run
from nasformer.training.memory import keep_freed_memory


def train(
    name: str, data: str | None, changes: Sequence[str], folder: Path, command: str, console: Console
) -> dict[str, Any]:
    """Train the architecture called `name` on the text at `data` (None: the embedded corpus); returns the result."""
    recipe = TrainRecipe(architecture=find_architecture(name))
    if data is not None:
        recipe = recipe.but(task=recipe.task.but(path=data))
    recipe = override(recipe, changes)
    with new_run(recipe, folder, command) as run:
        return carry_out(recipe, run, console)


def carry_out(recipe: TrainRecipe, run: Run, console: Console) -> dict[str, Any]:
    """Train (or go on training) and write the result."""
    keep_freed_memory()
    with ConsoleDisplay(console) as display:
        result = train_alone(recipe, run, display)
    card = result["rows"][0]["scorecard"]
    console.print(f"BLEU {card['bleu']['value']:.2f}, chrF {card['chrf']['value']:.2f}, model {run.path / 'model'}")
    return result
