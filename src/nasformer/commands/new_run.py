"""A new run folder that vanishes again if the request turns out to be wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nasformer.errors import RequestError
from nasformer.recipes.recipe import Recipe, TrainRecipe
from nasformer.runs.run import Run


@contextmanager
def new_run(recipe: Recipe | TrainRecipe, folder: Path, command: str) -> Iterator[Run]:
    """The run for a recipe; a `RequestError` inside (unreadable data, an impossible limit) leaves no folder behind,
    as long as no work has been done in it."""
    existed = folder.exists()
    with Run.create(folder, recipe.data(), seed=recipe.seed, command=command) as run:
        try:
            yield run
        except RequestError:
            if any("stage" in event for event in run.events()) or any(
                (folder / name).exists() for name in ("checkpoints", "rows")
            ):
                raise  # work was done: it stays
            for entry in folder.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            if not existed:
                folder.rmdir()
            raise
