"""The rate of a search's own training, found where it is to be, and what the search costs with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Any

from nasformer.measures.training_cost import update_flops
from nasformer.strategies.bilevel import BilevelSearch
from nasformer.strategies.bilevel_rate import RatedSearch, update_cost
from nasformer.strategies.early_stopping import EarlyStopping
from nasformer.strategies.rules import Settings
from nasformer.strategies.single_path import SampledMembers, SinglePath
from nasformer.training.sweep import found_rate
from nasformer.training.trainer import Training

if TYPE_CHECKING:
    from nasformer.recipes.experiment import Experiment

COMPARED = 4
"""With the mean of how many members the cost of a search is compared."""
DRAWN = 32
"""Over how many sampled members the cost of an update is averaged."""


@dataclass(frozen=True)
class Rate:
    """The peak that a search is trained with, and the updates that went into finding it."""

    peak: float
    updates: int = 0

    def data(self) -> dict[str, Any]:
        """As the row of the result tells it."""
        return {"search_peak": self.peak, "search_sweep_updates": self.updates}


def rated(experiment: Experiment, strategy: Any, stage: str, begin: Callable[[Any], BilevelSearch]) -> tuple[Any, Rate]:
    """A differentiable strategy with a rate that is known; `begin` makes a search of other settings, always the same.

    Mixtures train every weight in every update, so that a longer search has a lower rate, as a plain network has; of a
    search that draws, most weights have few updates however long it is.
    """
    own: Settings = getattr(strategy, "darts", strategy)
    how, seed = experiment.recipe.sweep, experiment.seed("sweep", stage)
    if own.drawn:
        how = how.but(decline=0.0)

    def short(training: Training) -> RatedSearch:
        settings = own.but(training=training, rewinds=max(1, own.rewinds))
        return RatedSearch(lambda: begin(settings), seed, how.validation_tokens)

    training, swept = found_rate(own.training, own.training.updates, short, how, experiment.stage(stage))
    rate = Rate(training.schedule.largest(), swept.updates if swept else 0)
    own = own.but(training=training)
    return strategy.but(darts=own) if isinstance(strategy, EarlyStopping) else own, rate


def measure_costs(experiment: Experiment, search: Any, stage: str) -> None:
    """Measure what an update of a search costs that is at its beginning (see `update_cost`), once in a run."""
    path, run = f"costs/{stage}.json", experiment.run
    if not (run.path / path).exists():
        bilevel: BilevelSearch = getattr(search, "search", search)
        seed = experiment.seed("cost", stage)
        random, tokens = Random(seed), experiment.recipe.sweep.validation_tokens
        members = [bilevel.space.sample(random) for _ in range(COMPARED)]
        weights, logits = update_cost(bilevel, members, seed, tokens)
        run.write_json(path, {"weights": weights, "logits": logits})


def known_costs(experiment: Experiment, stage: str) -> tuple[float, float]:
    """The training FLOPs of an update of the weights and of one of the logits of a search that was measured."""
    found = experiment.run.read_json(f"costs/{stage}.json")
    return found["weights"], found["logits"]


def rated_paths(
    experiment: Experiment, training: Training, stage: str, begin: Callable[[Training], SinglePath], draw: Callable
) -> tuple[Training, Rate, float]:
    """The training of a supernet on single paths that `draw` draws, with its rate found, and the FLOPs of that."""
    how, seed = experiment.recipe.sweep.but(decline=0.0), experiment.seed("sweep", stage)

    def short(given: Training) -> SampledMembers:
        return SampledMembers(begin(given), draw, seed, how.validation_tokens)

    found, swept = found_rate(training, training.updates, short, how, experiment.stage(stage))
    rate = Rate(found.schedule.largest(), swept.updates if swept else 0)
    random = Random(seed)
    members = [draw(random) for _ in range(DRAWN if rate.updates else 0)]
    costs = [update_flops(one, experiment.settings, training.batch_tokens) for one in members]
    return found, rate, rate.updates * fmean(costs) if costs else 0.0
