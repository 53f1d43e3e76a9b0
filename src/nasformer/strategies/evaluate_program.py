"""What a program is worth: its validation loss after a fixed budget of calibrated compute, cut short at hurdles.

Every program is trained from scratch with the same settings; a slow one gets fewer updates, so speed counts without
being an objective of its own (docs/papers/primer.md §2.2). Nothing here looks at a clock but the time-out, so the same
program and seed give the same evaluation everywhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, get_args

import numpy as np
import torch
from pydantic import Field
from torch import nn

from nasformer.errors import RequestError
from nasformer.measures.step_cost import Features, StepCost, calibrate, features
from nasformer.models.build import build
from nasformer.models.program import TOLERANCE, LeakError, check_causal, check_trained
from nasformer.models.size import core_parameters
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.program import Program
from nasformer.spaces.value import Count, Value
from nasformer.strategies.hurdles import hurdle_times, passes
from nasformer.tasks.task import Task
from nasformer.training.randomness import derive
from nasformer.training.trainer import Trainer, Training

Cause = Literal[
    "no valid shape",
    "leaks from the future",
    "over the size limit",
    "loss is no number",
    "no gradient",
    "time-out",
    "out of memory",
    "its worker died",
    "error",
]
"""Why a program is invalid. "error" is one that nobody foresaw; the reason says which."""
CAUSES: tuple[Cause, ...] = get_args(Cause)
NO_DROPOUT = Dropout(residual=0.0, attention=0.0, weight=0.0)
"""Regularisation is off in the search."""


class Trial(Value):
    """How a program is tried.

    `budget` seconds of calibrated cost, charged by `step_cost`, with `hurdles` on the way, and at the parts `marks` of
    the budget the loss is measured as well; `training` gives batches, schedule and weight decay, and the budget how
    many updates, to which the schedule is fitted. Losses are measured on about `validation_tokens` tokens, which is not
    charged: those of `validation_seed`, so that what is compared is measured on the same text, or where that is None
    those of the evaluation's own seed. The core parameters must be within 8 % of `parameters` (None: any).
    A program is given up when its updates take `patience` times the CPU time that they are charged, and not begun where
    what it writes in one update exceeds `memory` bytes.
    """

    budget: Annotated[float, Field(gt=0)] = 10.0
    hurdles: Annotated[int, Field(ge=0, le=10)] = 4
    marks: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    training: Training = Training()
    validation_tokens: Annotated[Count, Field(ge=16)] = 16_384
    validation_seed: Annotated[int, Field(ge=0)] | None = None
    parameters: Annotated[Count, Field(ge=1)] | None = None
    step_cost: StepCost = StepCost()
    patience: Annotated[float, Field(gt=0)] = 20.0
    memory: Annotated[Count, Field(ge=1)] = 8 * 2**30

    def updates(self, step: float) -> int:
        """How many updates at `step` seconds the budget gives."""
        return max(1, math.floor(self.budget / step))

    def training_of(self, step: float) -> Training:
        """How a program is trained whose updates cost `step` seconds."""
        updates = self.updates(step)
        return self.training.but(updates=updates, schedule=self.training.schedule.fitted(updates))

    def at(self, peak: float) -> Trial:
        """This trial with a peak that is known."""
        return self.but(training=self.training.at(peak))

    def refused(self, counted: Features) -> tuple[Cause, str] | None:
        """Why a program is not begun whose update takes what was counted; None where it is."""
        step = self.step_cost.seconds(counted)
        if (written := 4e6 * counted.elements) > self.memory:
            return "out of memory", f"an update writes {written:,.0f} bytes, expected {self.memory:,}"
        if step > self.budget:
            return "time-out", f"an update costs {step:.3g} s, the budget is {self.budget:g} s"
        updates = self.updates(step)
        if (warmup := self.training.schedule.warmup_updates(updates)) > updates:
            given = f"the budget of {self.budget:g} s gives this program {updates:,} updates"
            return "time-out", f"{given}, fewer than the {warmup:,} of the warm-up (training.schedule.warmup)"
        return None


@dataclass(frozen=True)
class Point:
    """A place on the way: the cost so far in seconds, the updates, and the validation loss in nats."""

    cost: float
    updates: int
    loss: float


@dataclass(frozen=True)
class Evaluation:
    """What became of a program; plain data.

    `curve` has a point for each hurdle and mark that it reached, and one for the end of the budget; `passed` counts the
    hurdles that it cleared. An invalid program has a cause and a reason in words. `cost` is charged for `updates` at
    `step_seconds` each; `seconds` is the CPU time that they took here, for the record.
    """

    parameters: int
    step_seconds: float = 0.0
    updates: int = 0
    cost: float = 0.0
    passed: int = 0
    finished: bool = False
    curve: tuple[Point, ...] = ()
    cause: Cause | None = None
    reason: str = ""
    seconds: float = 0.0

    @property
    def fitness(self) -> float:
        """The last validation loss in nats, the log of the perplexity; infinite for an invalid program."""
        return math.inf if self.cause is not None or not self.curve else self.curve[-1].loss

    def data(self) -> dict[str, Any]:
        """The evaluation as JSON knows it."""
        return asdict(self)

    @classmethod
    def read(cls, data: dict[str, Any]) -> Evaluation:
        """What `data` gave."""
        return cls(**data | {"curve": tuple(Point(**point) for point in data["curve"])})


def invalid(cause: Cause, reason: str, parameters: int = 0) -> Evaluation:
    """The evaluation of a program that is not tried."""
    return Evaluation(parameters, cause=cause, reason=reason)


class InvalidError(Exception):
    """Why a program cannot be tried further."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause = cause


def evaluate(
    program: Program, task: Task, trial: Trial, bars: Sequence[float | None], seed: int, number: int = 0
) -> Evaluation:
    """Try a program from scratch: `bars` are the losses, in nats, that stop it at the hurdles (None: everyone passes).

    The weights and the batches derive from `seed` and `number`; the validation batches from `seed` alone (or that of
    the trial), so that the programs of a search share them. Runs on one torch thread, so that the result is the same
    everywhere.
    """
    return _attempted(program, task, trial, bars, seed, number)[0]


def trained(
    program: Program, task: Task, trial: Trial, seed: int, number: int = 0
) -> tuple[Evaluation, nn.Module | None]:
    """Like `evaluate` where everyone passes; and the trained model, None for an invalid program."""
    return _attempted(program, task, trial, (None,) * trial.hurdles, seed, number)


def _attempted(
    program: Program, task: Task, trial: Trial, bars: Sequence[float | None], seed: int, number: int
) -> tuple[Evaluation, nn.Module | None]:
    with one_thread():
        attempt = Attempt(program, task, trial, seed, number)
        try:
            return attempt.run(bars), attempt.model
        except InvalidError as error:
            return replace(attempt.found, cause=error.cause, reason=str(error)), None


class Attempt:
    """One program on trial; `found` is what is known of it so far."""

    def __init__(self, program: Program, task: Task, trial: Trial, seed: int, number: int) -> None:
        self.program, self.task, self.trial, self.seed, self.number = program, task, trial, seed, number
        self.found = Evaluation(parameters=0)
        self.model: nn.Module | None = None

    def run(self, bars: Sequence[float | None]) -> Evaluation:
        """From the checks to the end of the budget, or to the hurdle that is not passed."""
        trial = self.trial
        step, trainer = self.checked(), self.trainer()
        model = trainer.model
        text = self.seed if trial.validation_seed is None else trial.validation_seed
        generator = np.random.default_rng(derive(text, "validation"))
        batches = [batch.to(trainer.device.device) for batch in self.task.draw(trial.validation_tokens, generator)]
        hurdles = list(enumerate(hurdle_times(trial.budget, trial.hurdles)))
        marks = [(None, part * trial.budget) for part in (*trial.marks, 1.0)]
        for hurdle, seconds in sorted([*hurdles, *marks], key=lambda stop: stop[1]):
            self.train(trainer, until=max(1, math.floor(seconds / step)))
            with _blamed("error"):
                loss = self.task.evaluate(model, batches)
                check_trained(model, batches[0].input[:4])
            if not math.isfinite(loss):
                raise InvalidError("loss is no number", f"the validation loss became {loss}")
            point = Point(self.found.cost, trainer.updates, loss)
            self.found = replace(self.found, curve=(*self.found.curve, point))
            if hurdle is not None:
                if not passes(loss, bars[hurdle]):
                    return self.found
                self.found = replace(self.found, passed=hurdle + 1)
        return replace(self.found, finished=True)

    def trainer(self, training: Training | None = None) -> Trainer:
        """The program, checked before, at the beginning of its training: that which the budget gives, or another."""
        settings = self.task.model_settings(NO_DROPOUT)
        with _blamed("error"):
            self.model = build(self.program, settings, seed=derive(self.seed, "weights", self.number))
        training = training or self.trial.training_of(self.found.step_seconds)
        return Trainer(self.model, self.task, training, derive(self.seed, "program", self.number))

    def checked(self) -> float:
        """The seconds that an update costs of a program that may be tried at all."""
        program, trial = self.program, self.trial
        settings = self.task.model_settings(NO_DROPOUT)
        batch, length = _shape(self.task, trial.training)
        with _blamed("no valid shape"):
            parameters = core_parameters(program)
        self.found = replace(self.found, parameters=parameters)
        if trial.parameters is not None and abs(parameters / trial.parameters - 1) > TOLERANCE:
            wanted = f"expected {trial.parameters:,} ± {TOLERANCE:.0%}"
            raise InvalidError("over the size limit", f"{parameters:,} core parameters, {wanted}")
        with _blamed("no valid shape"):
            counted = features(program, settings, batch, length)
        step = trial.step_cost.seconds(counted)
        if step <= 0:
            raise RequestError(f"strategy.step_cost charges {step} seconds for an update; expected a positive price")
        self.found = replace(self.found, step_seconds=step)
        if refused := trial.refused(counted):
            raise InvalidError(*refused)
        with _blamed("loss is no number"):
            check_causal(program, length, derive(self.seed, "guard", self.number))
        return step

    def train(self, trainer: Trainer, until: int) -> None:
        """Updates up to a number of them; the first one must have a gradient in the blocks."""
        trainer.model.train()
        start, before = time.thread_time(), self.found.seconds
        while trainer.updates < until:
            with _blamed("error"):
                loss, _ = trainer.differentiate()
                if trainer.updates == 1 and not _gradient(trainer.model):
                    raise InvalidError("no gradient", "the gradient of every weight of the blocks is zero")
                trainer.apply()
            if not math.isfinite(loss):
                raise InvalidError("loss is no number", f"the training loss became {loss} at update {trainer.updates}")
            cost, seconds = trainer.updates * self.found.step_seconds, before + time.thread_time() - start
            self.found = replace(self.found, updates=trainer.updates, cost=cost, seconds=seconds)
            if seconds > self.trial.patience * max(cost, self.trial.budget / 100):
                took = f"{trainer.updates} updates took {seconds:.1f} s and are charged {cost:.1f} s"
                raise InvalidError("time-out", took)


def _gradient(model: nn.Module) -> bool:
    """Whether any weight of the blocks (of the network, where they have none) has a gradient that is not zero."""
    blocks = list(model.blocks.parameters()) if isinstance(model.blocks, nn.Module) else []
    return any(bool(w.grad.any()) for w in blocks or model.parameters() if w.grad is not None)


@contextmanager
def _blamed(cause: Cause) -> Iterator[None]:
    """What goes wrong inside makes the program invalid: a refusal for this cause; a leak, lack of memory and whatever
    nobody foresaw for their own."""
    try:
        yield
    except LeakError as error:
        raise InvalidError("leaks from the future", str(error)) from None
    except RequestError as error:
        raise InvalidError(cause, str(error)) from None
    except InvalidError:
        raise
    except Exception as error:
        memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in str(error)
        line = next(iter(str(error).splitlines()), "")
        line = line if isinstance(error, RuntimeError) and line else f"{type(error).__name__}: {line}"
        raise InvalidError("out of memory" if memory else "error", line) from None


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread inside: sums are then taken in the same order everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def step_seconds(program: Program, task: Task, trial: Trial) -> float:
    """What an update of a program is charged."""
    batch, length = _shape(task, trial.training)
    return trial.step_cost.seconds(features(program, task.model_settings(NO_DROPOUT), batch, length))


def _shape(task: Task, training: Training) -> tuple[int, int]:
    """The sequences of a training batch, and their length."""
    batch = task.draw(1, np.random.default_rng(0))[0]
    length = int(batch.input.shape[1])
    return max(1, training.batch_tokens // length), length


def calibrated(
    programs: Sequence[Program], task: Task, training: Training, *, repeats: int = 7
) -> tuple[StepCost, list[float]]:
    """Prices fitted to real training steps of these programs on this machine, on one torch thread; and for each program
    by how much the prediction is off, as a part of the time measured."""
    with one_thread():
        settings, (batch, length) = task.model_settings(NO_DROPOUT), _shape(task, training)
        steps = []
        for program in programs:
            trainer = Trainer(build(program, settings, seed=1).train(), task, training, seed=1)
            steps.append((features(program, settings, batch, length), trainer.update))
        cost, seconds = calibrate(steps, repeats=repeats)
    return cost, [cost.seconds(counted) / taken - 1 for (counted, _), taken in zip(steps, seconds, strict=True)]
