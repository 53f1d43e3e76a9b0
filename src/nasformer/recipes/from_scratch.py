"""Candidates trained from scratch and cut by successive halving, for what a search found and for its controls alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from nasformer.errors import DivergedError
from nasformer.measures.training_cost import update_flops
from nasformer.models.build import build
from nasformer.strategies.halving import halve
from nasformer.training.sweep import Sweep, Swept, plain_rate, validation
from nasformer.training.train import train
from nasformer.training.trainer import Training

if TYPE_CHECKING:
    from nasformer.recipes.experiment import Experiment


def rated(experiment: Experiment, architecture: Any, name: str, how: Sweep) -> tuple[Training, Swept | None]:
    """The whole training of an architecture with its rate found, and the sweep; None where the rate was given."""

    def fresh() -> nn.Module:
        return build(architecture, experiment.settings, seed=experiment.seed(name, "weights"))

    training, seed = experiment.whole_training(), experiment.seed(name)
    return plain_rate(training, fresh, experiment.task, seed, how, experiment.stage(name))


class Candidates:
    """Architectures, each with the peak of its rate, trained from scratch as a whole training begins.

    What was measured is kept in the run (`halving/NAME.json`), so that a run that was stopped goes on; `updates` are
    those that each candidate has had, `seconds` what they took.
    """

    def __init__(self, experiment: Experiment, name: str, rated: Sequence[tuple[Any, float]]) -> None:
        self.experiment, self.name, self.rated = experiment, name, rated
        self.updates = dict.fromkeys(range(len(rated)), 0)
        self.seconds = dict.fromkeys(range(len(rated)), 0.0)
        self.path = f"halving/{name}.json"
        run = experiment.run
        self.known = run.read_json(self.path) if (run.path / self.path).exists() else {}

    def halve(self, first: int) -> tuple[int, list[list[float]]]:
        """The number of the best one and the losses of every rung; `first` are the updates of the first."""
        return halve(range(len(self.rated)), first, self._loss)

    def go_on(self, number: int, until: int) -> nn.Module:
        """A candidate with so many updates, or to the end of its training."""
        experiment, (architecture, peak) = self.experiment, self.rated[number]
        self.updates[number] = min(until, experiment.whole_training().updates)
        model = build(architecture, experiment.settings, seed=experiment.seed(self.name, number, "weights"))
        training, seed = experiment.whole_training().at(peak), experiment.seed(self.name, number)
        stage = experiment.stage(f"{self.name}_{number + 1}" if len(self.rated) > 1 else self.name)
        model = train(model, experiment.task, training, stage, seed=seed, until=until)
        self.seconds[number] = stage.seconds
        return model

    def flops(self) -> float:
        """The training FLOPs of all candidates so far."""
        tokens, settings = self.experiment.whole_training().batch_tokens, self.experiment.settings
        return sum(
            done * update_flops(self.rated[number][0], settings, tokens) for number, done in self.updates.items()
        )

    def _loss(self, number: int, until: int) -> float:
        experiment, key = self.experiment, f"{number}/{until}"
        if key not in self.known:
            self.known[key] = self._measured(number, until)
            self.known[f"{key} seconds"] = self.seconds[number]
            experiment.run.write_json(self.path, self.known)
        self.updates[number] = min(until, experiment.whole_training().updates)
        self.seconds[number] = float(self.known.get(f"{key} seconds", 0.0))
        return float(self.known[key])

    def _measured(self, number: int, until: int) -> float:
        """The validation loss of a candidate with so many updates; NaN where its training diverged."""
        experiment = self.experiment
        try:
            model = self.go_on(number, until)
        except DivergedError:
            return math.nan
        tokens, device = experiment.recipe.sweep.validation_tokens, next(model.parameters()).device
        batches = validation(experiment.task, experiment.seed(self.name), tokens, device)
        return experiment.task.evaluate(model, batches)
