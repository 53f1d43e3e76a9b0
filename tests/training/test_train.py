"""The loop that trains a plain model: resumable to the bit, averaged, and honest about a loss that is no number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nasformer.errors import RequestError, RunError
from nasformer.models.build import build
from nasformer.operators.catalogue import Dropout
from nasformer.runs.run import Run
from nasformer.runs.stage import Quiet, Stage
from nasformer.spaces.named import uniform
from nasformer.supernets.adam import SliceAdam
from nasformer.tasks.translation import TranslationTask
from nasformer.training.loss_window import LossWindow
from nasformer.training.randomness import derive, seeded
from nasformer.training.schedule import InverseSquareRoot
from nasformer.training.train import train
from nasformer.training.trainer import Training, borrow

ARCHITECTURE = uniform("dynamic_convolution", 16, ratio=1.0, heads=2, encoder_layers=1, decoder_layers=1)
SETTINGS = Training(
    updates=9,
    batch_tokens=128,
    averaged=3,
    averaged_part=0.7,
    record_every=2,
    schedule=InverseSquareRoot(peak=1e-2, warmup=3),
)


class Watch(Quiet):
    """A display that does something after each update."""

    def __init__(self, after: Any) -> None:
        self.after = after

    def progress(self, stage: str, done: int, total: int, text: str) -> None:
        self.after(done)


def fresh(task: TranslationTask) -> nn.Module:
    """The model before training, with dropout."""
    return build(ARCHITECTURE, task.model_settings(Dropout(residual=0.2, weight=0.1)), seed=1)


def weights(model: nn.Module) -> Tensor:
    """All weights in one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).clone()


def journal(run: Run) -> list[dict[str, Any]]:
    """The events without their times."""
    return [{k: v for k, v in event.items() if k not in ("time", "seconds")} for event in run.events()]


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """A new run."""
    with Run.create(tmp_path / "run", {}, seed=1, command="test") as run:
        yield run


def test_stopped_and_resumed_is_uninterrupted(tiny_task: TranslationTask, run: Run, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    with Run.create(tmp_path / "whole", {}, seed=1, command="test") as other:
        expected = train(fresh(tiny_task), tiny_task, SETTINGS, Stage(other, "alone"), seed=5)
        events = journal(other)

    def stop_at(update: int) -> Watch:
        def stop(done: int) -> None:
            if done == update:
                raise KeyboardInterrupt

        return Watch(stop)

    for update in (2, 5, 8):
        with pytest.raises(KeyboardInterrupt):
            train(fresh(tiny_task), tiny_task, SETTINGS, Stage(run, "alone", stop_at(update), every=0.0), seed=5)
    again = train(fresh(tiny_task), tiny_task, SETTINGS, Stage(run, "alone"), seed=5)
    assert torch.equal(weights(again), weights(expected))
    assert journal(run) == events
    assert [event["update"] for event in events] == [2, 4, 6, 8, 9]
    done = train(fresh(tiny_task), tiny_task, SETTINGS, Stage(run, "alone"), seed=5)
    assert torch.equal(weights(done), weights(expected))
    assert journal(run) == events
    assert torch.equal(torch.get_rng_state(), state)
    assert not expected.training


def test_another_seed_trains_otherwise(tiny_task: TranslationTask, run: Run) -> None:
    settings = SETTINGS.but(updates=2)
    one, two = (train(fresh(tiny_task), tiny_task, settings, Stage(run, f"s{s}"), seed=s) for s in (1, 2))
    assert not torch.equal(weights(one), weights(two))


def test_the_result_is_the_mean_of_the_snapshots(tiny_task: TranslationTask, run: Run) -> None:
    model = fresh(tiny_task)
    seen: dict[int, Tensor] = {}
    watch = Watch(lambda done: seen.__setitem__(done, weights(model).double()))
    train(model, tiny_task, SETTINGS, Stage(run, "alone", watch), seed=1)
    assert SETTINGS.snapshots() == {9, 7, 5}
    mean = (seen[9] + seen[7] + seen[5]) / 3
    assert torch.allclose(weights(model).double(), mean, atol=1e-6)
    assert not torch.allclose(weights(model).double(), seen[9], atol=1e-5)


@pytest.mark.parametrize(
    ("updates", "averaged", "part", "expected"),
    [(100, 1, 0.25, {100}), (100, 4, 0.2, {100, 95, 90, 85}), (2, 10, 1.0, {1, 2}), (1, 10, 0.25, {1})],
)
def test_snapshots_are_evenly_spaced_at_the_end(updates: int, averaged: int, part: float, expected: set[int]) -> None:
    assert Training(updates=updates, averaged=averaged, averaged_part=part).snapshots() == expected


def test_training_lowers_the_validation_loss(tiny_task: TranslationTask, run: Run) -> None:
    model = fresh(tiny_task)
    before = tiny_task.validation_loss(model)
    settings = SETTINGS.but(updates=25, averaged=1, validate_every=10)
    train(model, tiny_task, settings, Stage(run, "alone"), seed=1)
    assert tiny_task.validation_loss(model) < before - 0.3
    assert [event["update"] for event in run.events("validation")] == [10, 20]


def test_a_loss_that_is_no_number_ends_the_work(tiny_task: TranslationTask, run: Run) -> None:
    model = fresh(tiny_task)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(RunError, match="loss became nan; lower the peak learning rate"):
        train(model, tiny_task, SETTINGS, Stage(run, "alone"), seed=1)


def test_fine_tuning_goes_on_with_schedule_and_state(tiny_task: TranslationTask, run: Run) -> None:
    model = fresh(tiny_task)
    adam = SliceAdam(borrow(model))
    settings = SETTINGS.but(updates=3, record_every=1)
    train(model, tiny_task, settings, Stage(run, "tuned"), seed=1, updates_before=40, optimizer=adam)
    rates = [event["learning_rate"] for event in run.events("update")]
    assert rates == [pytest.approx(1e-2 * (3 / update) ** 0.5) for update in (41, 42, 43)]
    assert {float(count) for count in adam.updates.values()} == {3.0}


def test_seeds_for_different_purposes_are_far_apart() -> None:
    found = {derive(seed, *names) for seed in (1, 2) for names in (("a",), ("b",), ("a", 1), ("a", 2), ("a/1", 2))}
    assert len(found) == 10
    assert derive(1, "dropout", 7) == 232366600219967  # in every process and on every machine
    assert all(0 <= seed < 2**48 for seed in found)


def test_seeded_leaves_the_global_generator_as_it_was() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    drawn = []
    for seed in (1, 1, 2):
        with seeded(seed, "dropout", 4):
            drawn.append(torch.rand(5))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])

    def fail() -> None:
        with seeded(1, "x"):
            raise KeyError(float(torch.rand(1)))

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(torch.get_rng_state(), state)


def test_the_loss_window_is_the_mean_since_the_last_entry() -> None:
    window = LossWindow()
    for loss in (1.0, 3.0):
        window.add(loss, 10)
    assert window.take(2, 0.1) == {"update": 2, "loss": 2.0, "learning_rate": 0.1, "tokens": 20}
    window.add(5.0, 10)
    other = LossWindow()
    other.load(window.state())
    assert other.take(3, 0.1)["loss"] == 5.0
    with pytest.raises(RunError, match="inf"):
        window.add(float("inf"), 1)


@pytest.mark.parametrize("bad", [{"updates": 0}, {"averaged_part": 0.0}, {"batch_tokens": 1}, {"precision": "16"}])
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(bad))):
        Training(**bad)


def test_progress_tells_a_loss_from_the_first_update_on(tiny_task: TranslationTask, run: Run) -> None:
    told: list[str] = []

    class Told(Quiet):
        def progress(self, stage: str, done: int, total: int, text: str) -> None:
            told.append(text)

    train(fresh(tiny_task), tiny_task, SETTINGS.but(updates=2), Stage(run, "alone", Told()), seed=1)
    assert len(told) == 2
    assert all(float(text.removeprefix("loss ")) > 0 for text in told)
