"""A sweep finds the rate of a landscape whose best rate is known, extends its grid, resumes, and says when all fail."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from nasformer.errors import RunError
from nasformer.models.build import build
from nasformer.operators.catalogue import Dropout
from nasformer.runs.run import Run
from nasformer.runs.stage import Stage
from nasformer.spaces.named import uniform
from nasformer.tasks.translation import TranslationTask
from nasformer.training.schedule import AUTO
from nasformer.training.sweep import Plain, Sweep, Swept, _around, _beyond, _parabola, found_rate, sweep
from nasformer.training.trainer import Training

UPDATES = 800
TRAINING = Training(updates=UPDATES)
AS_FOUND = Sweep(decline=0.0)


class Bowl:
    """What has its lowest loss at one rate, and fails from another on."""

    begun: int = 0

    def __init__(self, training: Training, best: float, fails: float) -> None:
        Bowl.begun += 1
        self.training, self.best, self.fails, self.updates = training, best, fails, 0

    def train(self, until: int) -> None:
        self.updates = until

    def loss(self) -> float:
        peak = self.training.schedule.largest()
        return math.nan if peak >= self.fails else 3 + math.log2(peak / self.best) ** 2 - self.updates / 1e4


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """A new run."""
    with Run.create(tmp_path / "run", {}, seed=1, command="test") as run:
        yield run


def bowl(run: Run, best: float, *, fails: float = math.inf, how: Sweep = AS_FOUND, name: str = "one") -> Swept:
    return sweep(lambda training: Bowl(training, best, fails), TRAINING, UPDATES, how, Stage(run, name))


@pytest.mark.parametrize("best", [0.003, 0.006, 0.009, 0.012, 0.024, 0.048])
def test_the_best_rate_is_found_also_beyond_the_first_grid_and_between_its_rates(run: Run, best: float) -> None:
    found = bowl(run, best)
    assert found.peak == pytest.approx(best, rel=1e-3)
    assert found.updates <= 0.15 * UPDATES


def test_rates_that_fail_are_the_worst(run: Run) -> None:
    assert bowl(run, 0.02, fails=0.02).peak == pytest.approx(0.012, rel=0.5)


def test_the_grid_goes_down_where_all_fail_and_gives_up_with_a_line(run: Run) -> None:
    assert bowl(run, 1.0, fails=0.005).peak == pytest.approx(0.003, rel=0.5)
    with pytest.raises(RunError, match=r"two: the loss became NaN within 20 updates at every rate of the sweep \(.*\)"):
        bowl(run, 1.0, fails=0.0, name="two")


def test_a_longer_training_takes_a_lower_rate(run: Run) -> None:
    found = bowl(run, 0.012, how=Sweep(decline=0.5))
    assert found.peak == pytest.approx(0.012 * math.sqrt(40 / UPDATES), rel=1e-3)


def test_a_training_too_short_to_tell_takes_the_middle(run: Run) -> None:
    found = sweep(lambda training: Bowl(training, 0.1, 1.0), TRAINING, 60, AS_FOUND, Stage(run, "short"))
    assert (found.peak, found.updates, found.points) == (0.012, 0, ())


def test_a_sweep_is_told_once_and_measured_once(run: Run) -> None:
    first = bowl(run, 0.012)
    begun = Bowl.begun
    assert bowl(run, 0.012) == first
    assert Bowl.begun == begun
    assert [event["of"] for event in run.events("sweep")] == ["one"]


def test_the_warmup_is_scaled_with_it(run: Run) -> None:
    seen: list[Training] = []

    def begin(training: Training) -> Bowl:
        seen.append(training)
        return Bowl(training, 0.012, math.inf)

    sweep(begin, TRAINING.but(schedule=TRAINING.schedule.fitted(UPDATES)), UPDATES, AS_FOUND, Stage(run, "warm"))
    assert {training.updates for training in seen} == {40}
    assert {training.schedule.warmup_updates(40) for training in seen} == {5}


def test_a_sweep_that_was_stopped_goes_on_to_the_same_rate(tiny_task: TranslationTask, tmp_path: Path) -> None:
    architecture = uniform("attention", 16, ratio=1.0, heads=2, encoder_layers=1, decoder_layers=1, norm="pre")
    settings = tiny_task.model_settings(Dropout(residual=0.1))
    training = Training(updates=400, batch_tokens=64)

    def begin(short: Training) -> Plain:
        return Plain(build(architecture, settings, seed=1), tiny_task, short, 3, 128)

    class Stopped(Exception):  # noqa: N818
        pass

    def found(name: str, stop: int | None) -> Swept:
        with Run.create(tmp_path / name, {}, seed=1, command="test") as run:
            if stop is not None:
                left = [stop]

                def stopping(short: Training) -> Plain:
                    left[0] -= 1
                    if left[0] < 0:
                        raise Stopped
                    return begin(short)

                with pytest.raises(Stopped):
                    found_rate(training, 400, stopping, Sweep(), Stage(run, "arm"))
            again, swept = found_rate(training, 400, begin, Sweep(), Stage(run, "arm"))
            assert swept is not None
            assert again.schedule.peak == swept.peak
            return swept

    whole = found("whole", None)
    assert whole == found("stopped", 2)
    assert len({point.loss for point in whole.points}) == len(whole.points)


def test_a_rate_that_is_given_is_taken(run: Run) -> None:
    given = TRAINING.at(0.5)
    assert found_rate(given, UPDATES, lambda training: Bowl(training, 1, 1), Sweep(), Stage(run, "x")) == (given, None)
    assert TRAINING.schedule.peak == AUTO


@pytest.mark.parametrize(
    ("losses", "near", "ends"),
    [
        # The best two of a noisy grid are no neighbours: the parabola says where between them to look.
        ({0.006: 4.877, 0.012: 4.934, 0.024: 4.862, 0.048: 5.075}, 0.0107, [0.006, 0.012]),
        ({0.006: 5.172, 0.012: 5.203, 0.024: 4.925, 0.048: 5.245}, 0.0175, [0.012, 0.024]),
        ({0.006: 4.708, 0.012: 4.6, 0.024: 4.751}, 0.0114, [0.006, 0.012]),
        ({0.006: 5.012, 0.012: 4.936, 0.024: 9.0}, 0.0085, [0.006, 0.012]),
        ({0.003: 4.9, 0.006: 4.8, 0.012: math.nan, 0.024: math.nan}, None, [0.003, 0.006]),
        ({0.006: 4.9, 0.012: 4.95, 0.024: 4.9}, None, [0.006, 0.024]),
    ],
)
def test_noise_does_not_send_the_sweep_to_an_edge(
    losses: dict[float, float], near: float | None, ends: list[float]
) -> None:
    found = _parabola(losses, 2.0)
    assert (found is None) == (near is None)
    if found is not None and near is not None:
        assert min(losses) * 2 ** found[0] == pytest.approx(near, rel=0.02)
        assert found[1] > 0
    assert sorted(_around(losses, 2.0)) == ends
    assert _beyond(losses, 2.0) in ((0,) if near is not None else (0, 1, -1))
