"""The best peak of the learning rate for one program, found by a sweep over the updates that its budget gives it."""

from __future__ import annotations

import math

from nasformer.errors import RunError
from nasformer.runs.stage import Stage
from nasformer.spaces.program import Program
from nasformer.strategies.evaluate_program import Attempt, InvalidError, Trial, one_thread
from nasformer.tasks.task import Task
from nasformer.training.schedule import AUTO
from nasformer.training.sweep import Sweep, Swept, found_rate, validation
from nasformer.training.trainer import Training


class RatedProgram:
    """A program at one rate of a sweep (see `nasformer.training.sweep.Trainee`), on one torch thread."""

    def __init__(self, program: Program, task: Task, trial: Trial, training: Training, seed: int, tokens: int) -> None:
        self.task, self.failed = task, False
        self.attempt = Attempt(program, task, trial, seed, 0)
        with one_thread():
            self.attempt.checked()
            self.trainer = self.attempt.trainer(training)
        self.batches = validation(task, seed, tokens, self.trainer.device.device)

    def train(self, until: int) -> None:
        """Go on until so many updates are done, or until one makes the program invalid."""
        if not self.failed:
            try:
                with one_thread():
                    self.attempt.train(self.trainer, until)
            except InvalidError:
                self.failed = True

    def loss(self) -> float:
        """The validation loss now; NaN for an invalid program."""
        with one_thread():
            return math.nan if self.failed else self.task.evaluate(self.trainer.model, self.batches)


def rated(
    program: Program, task: Task, trial: Trial, how: Sweep, seed: int, stage: Stage
) -> tuple[Trial, Swept | None]:
    """How a program is tried at its own best rate, and the sweep that found it; None where the rate was given.

    A program that cannot be tried, or that fails at every rate, has the middle of the grid: its trial says why.
    """
    if trial.training.schedule.peak != AUTO:
        return trial, None
    anyway = trial.at(how.begin(trial.training)), None
    try:
        with one_thread():
            training = trial.training_of(Attempt(program, task, trial, seed, 0).checked())
    except InvalidError:
        return anyway

    def begin(short: Training) -> RatedProgram:
        return RatedProgram(program, task, trial, short, seed, how.validation_tokens)

    try:
        training, swept = found_rate(training, training.updates, begin, how, stage)
    except RunError:
        return anyway
    return trial.at(training.schedule.largest()), swept
