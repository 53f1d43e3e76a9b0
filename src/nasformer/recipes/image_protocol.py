"""How DARTS trains an image network from scratch (quark0/darts, train.py; docs/papers/rome.md §3): 600 epochs of
CIFAR-10 in batches of 96, SGD along a cosine from 0.025 to 0, cutout, drop-path and an auxiliary classifier."""

from __future__ import annotations

from typing import Any

from nasformer.recipes.recipe import TrainRecipe
from nasformer.spaces.image_cell import ImageCells
from nasformer.tasks.images import Images
from nasformer.training.schedule import Cosine
from nasformer.training.trainer import Training


def image_training(*, updates: int = 30_000, images: int = 96, peak: float = 0.025) -> Training:
    """SGD with momentum 0.9 and weight decay 3e-4, the rate from `peak` to 0, gradients cut at 5; the last weights.

    DARTS trains for 600 epochs: 312,500 updates of 96 of CIFAR-10's 50,000 images. The default is a tenth of that.
    """
    return Training(
        updates=updates,
        batch_tokens=images,
        optimizer="sgd",
        schedule=Cosine(peak=peak),
        weight_decay=3e-4,
        clip=5.0,
        averaged=1,
    )


def image_task(path: str | None = None, *, auxiliary: bool = True) -> Images:
    """The images at `path` with DARTS' changes for training: a square of half the size blanked, drop-path up to 0.2,
    and the auxiliary classifier at 0.4, which reads images of about 32 pixels."""
    return Images(path=path, cutout=0.5, drop_path=0.2, auxiliary_weight=0.4 if auxiliary else 0.0)


def image_recipe(architecture: Any, path: str | None = None) -> TrainRecipe:
    """One image architecture trained as DARTS trains; the digits (without a path) are too small for the auxiliary
    classifier, and for blanking half of them."""
    auxiliary = path is not None and isinstance(architecture, ImageCells)
    task = image_task(path, auxiliary=auxiliary)
    return TrainRecipe(
        architecture=architecture,
        task=task if path is not None else task.but(cutout=0.0),
        training=image_training(),
    )
