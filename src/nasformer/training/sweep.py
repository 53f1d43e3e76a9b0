"""The peak learning rate, searched for: short trainings at rates a factor apart, and the best of them.

A geometric grid of three rates is trained for a few updates each; while the best lies beyond it the grid grows on that
side; the two rates around it then go on to twice the updates (successive halving, Jamieson and Talwalkar, arXiv
1502.07943, among neighbours). Where the best lies is read off a parabola through all rates, since losses of so few
updates are noisy. Short trainings favour rates that are too high for long ones, so the best
peak of n updates becomes peak · (n / N)^decline for a training of N (Bjorck et al., arXiv 2409.19913; the exponent is
measured in docs/results.md). Weight decay, dropout and clipping stay as they are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import Field
from torch import nn

from nasformer.errors import RunError
from nasformer.runs.stage import Stage
from nasformer.spaces.value import Count, Value
from nasformer.tasks.task import Task
from nasformer.training.randomness import derive
from nasformer.training.schedule import AUTO
from nasformer.training.trainer import Trainer, Training

SHORTEST = 8
"""Rates are not told apart by fewer updates than these."""
SLACK = 0.25
"""So many steps the best rate may lie beyond the grid before it grows."""
OUTLIER = 6
"""A rate whose loss is so many times as far from the best as the median says nothing of where the best lies."""


class Sweep(Value):
    """How a peak is searched for where a schedule says `auto`.

    At most `share` of the updates of what is swept go into it, on top of them. The grid begins at `middle` (None:
    1.2e-2 for Adam, 0.1 for SGD) and the rates a `factor` below and above; losses are measured on about
    `validation_tokens` tokens of the validation split.
    """

    share: Annotated[float, Field(gt=0, le=0.5)] = 0.15
    middle: Annotated[float, Field(gt=0)] | None = None
    factor: Annotated[float, Field(gt=1)] = 2.0
    decline: Annotated[float, Field(ge=0, le=1)] = 0.2
    validation_tokens: Annotated[Count, Field(ge=16)] = 4096

    def begin(self, training: Training) -> float:
        """The rate in the middle of the first grid."""
        return self.middle or (1.2e-2 if training.optimizer == "adam" else 1e-1)

    def first_rung(self, updates: int) -> int:
        """How long each rate of the grid is tried first: four rates, and the better two once more, take the share."""
        return int(self.share * updates / 6)


@dataclass(frozen=True)
class Point:
    """A rate of a sweep, the updates it was trained for, and its validation loss in nats (NaN where it failed)."""

    peak: float
    updates: int
    loss: float


@dataclass(frozen=True)
class Swept:
    """What a sweep found: the peak for the whole training, the updates and seconds that were spent, every point."""

    peak: float
    updates: int
    points: tuple[Point, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    def data(self) -> dict[str, Any]:
        """As JSON knows it; a loss that is NaN is None."""
        points = [asdict(point) | {"loss": point.loss if math.isfinite(point.loss) else None} for point in self.points]
        return {"peak": self.peak, "updates": self.updates, "seconds": self.seconds, "points": points}

    @classmethod
    def read(cls, data: dict[str, Any]) -> Swept:
        """What `data` gave."""
        points = (Point(p["peak"], p["updates"], math.nan if p["loss"] is None else p["loss"]) for p in data["points"])
        return cls(data["peak"], data["updates"], tuple(points), data.get("seconds", 0.0))


class Trainee(Protocol):
    """What is trained at one rate of a sweep."""

    def train(self, until: int) -> None:
        """Go on until so many updates are done, or until one fails."""
        ...

    def loss(self) -> float:
        """The validation loss now; NaN where an update failed."""
        ...


def sweep(begin: Callable[[Training], Trainee], training: Training, updates: int, how: Sweep, stage: Stage) -> Swept:
    """The peak for `updates` of `training`, whose own length does not matter; `begin` makes what is trained by it.

    What was measured is kept in the run (`sweeps/STAGE.json`), so that a run that was stopped measures no rate twice.
    A training too short to tell rates apart takes the middle of the grid. Raises `RunError` where every rate fails.
    """
    path = f"sweeps/{stage.name}.json"
    if (stage.run.path / path).exists() and "peak" in (kept := stage.run.read_json(path)):
        return Swept.read(kept)
    first, middle = how.first_rung(updates), how.begin(training)
    if first < SHORTEST:
        found = Swept(middle, 0)
    else:
        found = _Grid(begin, training, updates, how, stage, path).search(first, middle)
    if stage.name not in [event["of"] for event in stage.run.events("sweep")]:
        stage.run.record("sweep", of=stage.name, **found.data())
        stage.display.event("sweep", {"stage": stage.name} | found.data())
    stage.run.write_json(path, found.data())
    return found


def found_rate(
    training: Training, updates: int, begin: Callable[[Training], Trainee], how: Sweep, stage: Stage
) -> tuple[Training, Swept | None]:
    """`training` with a peak that is known, and the sweep that found it; None where it was given."""
    if training.schedule.peak != AUTO:
        return training, None
    swept = sweep(begin, training, updates, how, stage)
    return training.at(swept.peak), swept


def plain_rate(
    training: Training, fresh: Callable[[], nn.Module], task: Task, seed: int, how: Sweep, stage: Stage
) -> tuple[Training, Swept | None]:
    """`found_rate` for a plain model that `fresh` makes, always with the same weights."""

    def begin(short: Training) -> Plain:
        return Plain(fresh(), task, short, seed, how.validation_tokens)

    return found_rate(training, training.updates, begin, how, stage)


class _Grid:
    """A sweep under way: the trainees by rate, and the points so far."""

    def __init__(
        self,
        begin: Callable[[Training], Trainee],
        training: Training,
        updates: int,
        how: Sweep,
        stage: Stage,
        path: str,
    ) -> None:
        self.begin, self.training, self.updates, self.how = begin, training, updates, how
        self.stage, self.path = stage, path
        self.budget = int(how.share * updates)
        self.trainees: dict[float, Trainee] = {}
        kept = stage.run.read_json(path) if (stage.run.path / path).exists() else {"points": []}
        known = kept["points"]
        self.known = {(p["peak"], p["updates"]): math.nan if p["loss"] is None else p["loss"] for p in known}
        self.seconds = float(kept.get("seconds", 0.0))
        self.points: list[Point] = []
        self.spent = 0

    def search(self, first: int, middle: float) -> Swept:
        """Grid, edges, halving."""
        self.length = 2 * first
        factor = self.how.factor
        losses = {peak: self.measure(peak, first) for peak in (middle / factor, middle, middle * factor)}
        while self.budget - self.spent >= first + 2 * first or not any(map(math.isfinite, losses.values())):
            side = _beyond(losses, factor)
            if side == 0:
                break
            beyond = max(losses) * factor if side > 0 else min(losses) / factor
            if self.spent + first > self.budget:
                rates = ", ".join(f"{peak:.2g}" for peak in sorted(losses))
                raise RunError(
                    f"{self.stage.name}: the loss became NaN within {first} updates at every rate of the sweep "
                    f"({rates}); look at the data, or set schedule.peak"
                )
            losses[beyond] = self.measure(beyond, first)
        ends = {peak: self.measure(peak, 2 * first) for peak in _around(losses, factor)}
        short = _lowest(losses, factor, ends)
        peak = short * (self.length / self.updates) ** self.how.decline
        return Swept(float(f"{peak:.4g}"), self.spent, tuple(self.points), self.seconds)

    def measure(self, peak: float, until: int) -> float:
        """The validation loss of a rate after `until` updates."""
        done = max((point.updates for point in self.points if point.peak == peak), default=0)
        self.stage.progress(self.spent, self.budget, f"rate {peak:.2g}")
        if (peak, until) not in self.known:
            started = time.monotonic()
            if peak not in self.trainees:
                schedule = self.training.schedule.shortened(self.length, self.updates)
                self.trainees[peak] = self.begin(self.training.but(updates=self.length, schedule=schedule).at(peak))
            self.trainees[peak].train(until)
            self.known[peak, until] = self.trainees[peak].loss()
            self.seconds += time.monotonic() - started
        self.spent += until - done
        self.points.append(Point(peak, until, self.known[peak, until]))
        kept = Swept(0.0, 0, tuple(self.points), self.seconds).data()
        self.stage.run.write_json(self.path, {"points": kept["points"], "seconds": self.seconds})
        return self.points[-1].loss


def _order(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf


def _best(losses: dict[float, float]) -> float:
    """The rate with the lowest loss; the lowest of them where all failed."""
    return min(losses, key=lambda peak: (_order(losses[peak]), peak))


def _parabola(losses: dict[float, float], factor: float) -> tuple[float, float] | None:
    """Where the parabola through the losses is lowest, in steps of the grid from its lowest rate, and its bend, the
    second difference. By least squares over the three best rates and whatever is not far worse; None where it is not
    bent upwards, or there are no three."""
    finite = {peak: loss for peak, loss in losses.items() if math.isfinite(loss)}
    if len(finite) < 3:
        return None
    best, middle = min(finite.values()), median(finite.values())
    bound = max(sorted(finite.values())[2], best + OUTLIER * (middle - best))
    kept = {peak: loss for peak, loss in finite.items() if loss <= bound}
    steps = [math.log(peak / min(losses), factor) for peak in kept]
    square, slope, _ = np.polyfit(steps, list(kept.values()), 2)
    return (float(-slope / (2 * square)), float(2 * square)) if square > 0 else None


def _beyond(losses: dict[float, float], factor: float) -> int:
    """On which side of the grid the best rate lies: -1 below, 1 above, 0 within; below where all failed."""
    best = _best(losses)
    if not math.isfinite(losses[best]):
        return -1
    if (found := _parabola(losses, factor)) is None:
        return -1 if best == min(losses) else int(best == max(losses))
    return -1 if found[0] < -SLACK else int(found[0] > len(losses) - 1 + SLACK)


def _around(losses: dict[float, float], factor: float) -> list[float]:
    """The two rates of the grid between which the best lies, as far as they did not fail; the best two where the losses
    do not tell."""
    rates = sorted(losses)
    if (found := _parabola(losses, factor)) is None:
        two = sorted(losses, key=lambda peak: _order(losses[peak]))[:2]
    else:
        lower = min(max(0, math.floor(found[0] + 1e-6)), len(rates) - 2)
        two = rates[lower : lower + 2]
    return [peak for peak in two if math.isfinite(losses[peak])]


def _lowest(losses: dict[float, float], factor: float, ends: dict[float, float]) -> float:
    """The rate of the lowest loss: the two that went on to the last rung (`ends`) lie on a parabola in the logarithm of
    the rate that is bent as that of the first rung (`losses`) is. The best of the last rung where the first does not
    tell, at most half a step from the two."""
    finite = {peak: loss for peak, loss in ends.items() if math.isfinite(loss)}
    best = _best(finite or losses)
    low, high, found = min(finite, default=best), max(finite, default=best), _parabola(losses, factor)
    if found is None or not math.isclose(high, low * factor):
        return best
    place = 0.5 - (finite[high] - finite[low]) / found[1]  # in steps from the lower
    return float(low * factor ** max(-0.5, min(1.5, place)))


class Plain:
    """A plain model at one rate of a sweep (see `Trainee`)."""

    def __init__(self, model: nn.Module, task: Task, training: Training, seed: int, tokens: int) -> None:
        self.task, self.trainer, self.failed = task, Trainer(model, task, training, seed), False
        self.batches = validation(task, seed, tokens, self.trainer.device.device)

    def train(self, until: int) -> None:
        """Go on until so many updates are done, or until a loss is NaN."""
        self.trainer.model.train()
        while self.trainer.updates < until and not self.failed:
            self.failed = not math.isfinite(self.trainer.update()[0])

    def loss(self) -> float:
        """The validation loss now."""
        return math.nan if self.failed else self.task.evaluate(self.trainer.model, self.batches)


def validation(task: Task, seed: int, tokens: int, device: Any) -> list[Any]:
    """The batches of the validation split that every rate of a sweep is measured on."""
    generator = np.random.default_rng(derive(seed, "sweep"))
    return [batch.to(device) for batch in task.draw(tokens, generator)]
