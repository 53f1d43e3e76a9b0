"""Networks with batch normalisation and drop-path under SGD along a cosine: the same after a stop, fairly averaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_images import DIGITS, TinyNetwork
from torch import Tensor, nn

from nasformer.runs.run import Run
from nasformer.runs.stage import Quiet, Stage
from nasformer.tasks.images import ImageTask
from nasformer.training.batch_statistics import BATCHES, measure_statistics
from nasformer.training.randomness import derive
from nasformer.training.schedule import Cosine
from nasformer.training.train import train
from nasformer.training.trainer import Trainer, Training

SETTINGS = Training(
    updates=12,
    batch_tokens=32,
    optimizer="sgd",
    schedule=Cosine(peak=0.1),
    weight_decay=3e-4,
    clip=1.0,
    averaged=1,
    record_every=5,
    validate_every=6,
)


@pytest.fixture(scope="module")
def task() -> ImageTask:
    """A part of the digits."""
    return DIGITS.open()


def state(model: nn.Module) -> dict[str, Tensor]:
    """Weights and running statistics."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether all tensors are the same to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def run_through(folder: Path, task: ImageTask, settings: Training, stops: tuple[int, ...] = ()) -> Any:
    """A training that is stopped after some updates and begun again each time; the state, and the journal."""
    with Run.create(folder, {}, seed=1, command="test") as run:
        for stop in (*stops, None):

            class Stopping(Quiet):
                def progress(self, stage: str, done: int, total: int, text: str, at: int | None = stop) -> None:
                    if done == at:
                        raise KeyboardInterrupt

            try:
                model = train(TinyNetwork(0.5), task, settings, Stage(run, "alone", Stopping(), every=0), seed=5)
            except KeyboardInterrupt:
                assert stop is not None
        events = [{k: v for k, v in event.items() if k not in ("time", "seconds")} for event in run.events()]
    return state(model), events


@pytest.mark.parametrize("averaged", [1, 3])
def test_stopped_and_resumed_is_uninterrupted(tmp_path: Path, task: ImageTask, averaged: int) -> None:
    settings = SETTINGS.but(averaged=averaged)
    whole = run_through(tmp_path / "whole", task, settings)
    stopped = run_through(tmp_path / "stopped", task, settings, stops=(3, 7, 12))
    assert same(whole[0], stopped[0])
    assert whole[1] == stopped[1]
    rates = [event["learning_rate"] for event in whole[1] if event["event"] == "update"]
    assert rates == [Cosine(peak=0.1).rate(update, 12) for update in (5, 10, 12)]


def test_one_snapshot_is_the_last_update(tmp_path: Path, task: ImageTask) -> None:
    found, _ = run_through(tmp_path / "run", task, SETTINGS)
    trainer = Trainer(TinyNetwork(0.5).train(), task, SETTINGS, 5)
    for update in range(12):
        trainer.update()
        assert trainer.model.progress == (update + 1) / 12
        if update == 5:
            task.validation_loss(trainer.model)
            trainer.model.train()
    assert same(found, state(trainer.model))
    assert int(found["first.1.num_batches_tracked"]) == 12


def test_statistics_of_a_mean_of_weights_are_measured_for_it(tmp_path: Path, task: ImageTask) -> None:
    found, _ = run_through(tmp_path / "run", task, SETTINGS.but(averaged=3, averaged_part=1.0))
    model = TinyNetwork().eval()
    model.load_state_dict(found)
    stream = task.stream(32, derive(5, "statistics"))
    with torch.no_grad():
        outputs = [model.first[0](stream.next().images) for _ in range(BATCHES)]
    mean = torch.stack([x.mean((0, 2, 3)) for x in outputs]).mean(0)
    variance = torch.stack([x.var((0, 2, 3)) for x in outputs]).mean(0)
    assert torch.allclose(found["first.1.running_mean"], mean, atol=1e-5)
    assert torch.allclose(found["first.1.running_var"], variance, atol=1e-5)
    assert int(found["second.1.num_batches_tracked"]) == BATCHES
    assert int(found["auxiliary.0.num_batches_tracked"]) == 12  # it does not run in evaluation


def test_measuring_leaves_all_else_as_it_was(task: ImageTask) -> None:
    model = TinyNetwork()
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    generator = torch.get_rng_state()
    measure_statistics(model, task, 32, seed=1, batches=3)
    assert not any(module.training for module in model.modules())
    assert model.first[1].momentum == 0.1
    assert same(weights, {name: weight.detach() for name, weight in model.named_parameters()})
    assert torch.equal(torch.get_rng_state(), generator)
    first = state(model)
    measure_statistics(model, task, 32, seed=1, batches=3)
    assert same(first, state(model))


def test_digits_are_learnt_in_seconds(task: ImageTask) -> None:
    model = TinyNetwork(drop_path=0.1)
    untrained = task.quality(model, "test")["accuracy"]
    trainer = Trainer(model.train(), task, SETTINGS.but(updates=200, clip=5.0), seed=1)
    for _ in range(200):
        trainer.update()
    trained = task.quality(model, "test")["accuracy"]
    assert untrained["high"] < 40
    assert trained["value"] > 90
