"""DARTS' training of image networks as a recipe, and image tasks among the others."""

from __future__ import annotations

import json

import pytest

from nasformer.errors import RequestError
from nasformer.recipes.image_protocol import image_recipe, image_training
from nasformer.recipes.recipe import TrainRecipe, override, read_task, task_for
from nasformer.spaces.named import ARCHITECTURES
from nasformer.tasks.augmentation import Augmentation
from nasformer.tasks.images import Images
from nasformer.tasks.language import Language

DARTS_V2 = ARCHITECTURES["darts-v2"]()


def test_the_protocol_is_that_of_darts() -> None:
    recipe = image_recipe(DARTS_V2, "images")
    training = recipe.training.but(updates=312_500)
    assert (training.optimizer, training.batch_tokens, training.clip, training.averaged) == ("sgd", 96, 5.0, 1)
    assert training.weight_decay == 3e-4
    assert [training.rate(update) for update in (1, 156_251, 312_501)] == pytest.approx([0.025, 0.0125, 0.0])
    task = recipe.task
    assert isinstance(task, Images)
    assert (task.auxiliary_weight, task.drop_path) == (0.4, 0.2)
    assert task.augmentation(32) == Augmentation(shift=4, flip=True, cutout=16)
    other = image_training(updates=7, images=32, peak=0.1)
    assert (other.updates, other.batch_tokens, other.schedule.peak) == (7, 32, 0.1)


def test_an_image_recipe_survives_json_and_changes() -> None:
    recipe = image_recipe(DARTS_V2, "images")
    assert TrainRecipe.read(json.loads(recipe.json_text())) == recipe
    changed = override(recipe, ["task.size=16", "task.auxiliary_weight=0", "training.schedule.peak=0.1"])
    assert changed.task == recipe.task.but(path=changed.task.path, size=16, auxiliary_weight=0)
    assert changed.training.rate(1) == 0.1
    digits = image_recipe(DARTS_V2).task
    assert digits == Images(drop_path=0.2)


def test_an_architecture_that_reads_images_gets_images() -> None:
    assert task_for(DARTS_V2, "x") == Images(path="x")
    assert isinstance(task_for(ARCHITECTURES["language-model"]()), Language)
    assert read_task({"kind": "images", "size": 16}) == Images(size=16)
    recipe = TrainRecipe(architecture=DARTS_V2, task=Language())
    assert override(recipe, ["task.kind=images"]).task == Images()
    with pytest.raises(RequestError, match=r"image_cells reads images.*task\.kind=images"):
        Language().check(DARTS_V2)
