"""`nasformer train`: one given architecture on a task, to a model folder and a scorecard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from nasformer.commands.architectures import find_architecture
from nasformer.commands.console import ConsoleDisplay
from nasformer.commands.evaluate import quality_text
from nasformer.commands.new_run import new_run
from nasformer.recipes.experiment import train_alone
from nasformer.recipes.image_protocol import image_recipe
from nasformer.recipes.recipe import TrainRecipe, override, read_task, task_for
from nasformer.runs.files import plain
from nasformer.runs.run import Run
from nasformer.spaces.families import reads_images
from nasformer.training.memory import keep_freed_memory


def train(
    name: str, data: str | None, changes: Sequence[str], folder: Path, command: str, console: Console
) -> dict[str, Any]:
    """Train the architecture called `name` on the data at `data`; returns the result.

    Without `data` the architecture of a run folder is trained on that run's task, any other on the data that come
    along. Architectures with an encoder translate, those of image cells classify images, others model language.
    """
    architecture = find_architecture(name)
    task = read_task(Run.look(Path(name)).recipe()["task"]) if data is None and Path(name).is_dir() else None
    if reads_images(architecture):
        recipe = image_recipe(architecture, data)
    else:
        recipe = TrainRecipe(architecture=architecture, task=task_for(architecture, data))
    recipe = recipe.but(name=Path(name).stem, **{} if task is None else {"task": task})
    recipe = override(recipe, changes)
    whose = "the data that come along" if recipe.task.path is None else recipe.task.path
    console.print(f"training on {whose}", markup=False, highlight=False, soft_wrap=True)
    with new_run(recipe, folder, command) as run:
        return carry_out(recipe, run, console)


def carry_out(recipe: TrainRecipe, run: Run, console: Console) -> dict[str, Any]:
    """Train (or go on training) and write the result."""
    keep_freed_memory()
    with ConsoleDisplay(console) as display:
        result = train_alone(recipe, run, display)
    said = quality_text(plain(result["rows"][0]["scorecard"]))
    console.print(f"{said}, model {run.path / 'model'}", markup=False, soft_wrap=True)
    return result
