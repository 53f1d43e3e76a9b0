"""Controls as strong as one can make them: plain networks and random members, tuned at the cost of the found one.

Each gets the training FLOPs that were spent on the found architecture, all told: short sweeps of the rate for each kind
of candidate, successive halving among the candidates, a sweep for the one that is left, and its training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Any

from nasformer.errors import RequestError
from nasformer.measures.training_cost import update_flops
from nasformer.recipes.fixed import Size, plain_networks
from nasformer.recipes.from_scratch import Candidates, rated
from nasformer.recipes.measure import pooled
from nasformer.spaces.named import Operator
from nasformer.strategies.halving import affordable
from nasformer.training.sweep import Sweep, Swept

if TYPE_CHECKING:
    from nasformer.recipes.experiment import Experiment

FIXED: tuple[Operator, ...] = ("long_short_light", "light_convolution", "dynamic_convolution")
"""The operators of the fixed architectures besides attention: Lite Transformer, LightConv, dynamic convolution."""
FIRST = 32
"""The first rung of a halving is this part of the updates of a whole training."""
MOST = 16
"""Candidates of a halving, at the most."""
TRIED = 8
"""Members for which a control is looked for before anything is trained."""
SWEEPS = 0.25
"""The part of what a control may spend besides its last training that goes into sweeps for kinds of candidates."""

Group = Sequence[Any]
"""Candidates of one kind, which share a rate while they are compared."""


@dataclass(frozen=True)
class Control:
    """One row of the table: what reports call it, what it is in a sentence, how the result's row is made, and where it
    is a plain network, its candidates beside what was found: such need a space of layers or of cells for text."""

    label: str
    sentence: str
    row: Callable[[Experiment, str, Any], dict[str, Any]]
    networks: Callable[[Experiment, Any], Sequence[Group]] | None = None


def tuned(label: str, sentence: str, operators: Sequence[Operator], size: Size) -> Control:
    """The control that is the best network of one operator in every layer, of the found one's size."""

    def networks(experiment: Experiment, found: Any) -> Sequence[Group]:
        return plain_networks(experiment.space, experiment.settings, operators, size, found)

    def row(experiment: Experiment, name: str, found: Any) -> dict[str, Any]:
        return best_of(experiment, name, networks(experiment, found))

    return Control(label, sentence, row, networks)


def halving(experiment: Experiment, name: str, found: Any) -> dict[str, Any]:
    """Random members of the space of the found one's core size, from scratch, cut by halving."""
    random, members = Random(experiment.seed(name)), dict[Any, None]()
    for _ in range(20 * MOST):
        if len(members) < MOST:
            member = experiment.equal(found).sample(experiment.sampled_space(), random, experiment.settings)
            members[member.but(**experiment.recipe.trained)] = None
    return best_of(experiment, name, [list(members)])


def average(experiment: Experiment, name: str, found: Any) -> dict[str, Any]:
    """Random members of the found one's core size, each trained as the found one is: their mean."""
    rows = []
    for number in range(1, experiment.recipe.random_architectures + 1):
        one = f"{name}_{number}"
        random = Random(experiment.seed(name, number))
        member = experiment.equal(found).sample(experiment.sampled_space(), random, experiment.settings)
        rows.append(experiment.arm(one, partial(experiment.from_scratch, member, one)))
    cards = [row["scorecard"] for row in rows]
    costs = {key: value for key, value in cards[0].items() if isinstance(value, int | float) and key != "loss"}
    means = {key: fmean(card[key] for card in cards) for key in costs}
    whole = {key: round(value) if isinstance(costs[key], int) else value for key, value in means.items()}
    quality = pooled([{key: value for key, value in card.items() if key not in costs} for card in cards])
    return {
        "architecture": rows[0]["architecture"],
        "scorecard": quality | whole,
        "validation_loss": fmean(row["validation_loss"] for row in rows),
        "label": f"mean of {len(rows)} random members",
        "members": [row["scorecard"] for row in rows],
    }


CONTROLS: dict[str, Control] = {
    "tuned_transformer": tuned(
        "Transformer, tuned",
        "the best plain Transformer over depths, norms and rates",
        ("attention",),
        "core",
    ),
    "tuned_fixed": tuned(
        "fixed operators, tuned",
        "the best of Lite Transformer, LightConv and dynamic convolution over depths, norms and rates",
        FIXED,
        "core",
    ),
    "tuned_transformer_total": tuned(
        "Transformer, tuned, equal total size",
        "the same, with tables counted in the size",
        ("attention",),
        "total",
    ),
    "tuned_fixed_total": tuned(
        "fixed operators, tuned, equal total size",
        "the same, with tables counted in the size",
        FIXED,
        "total",
    ),
    "halving": Control(
        "successive halving of random members", "trained from scratch, the better half goes on", halving
    ),
    "average": Control("mean of random members", "each trained as the found one is", average),
}
"""The controls that stand beside every search, by name."""


def check(experiment: Experiment, name: str) -> None:
    """Raises `RequestError` where a control has no meaning for the space."""
    if CONTROLS[name].networks and not _of_layers(experiment.space.template):
        raise RequestError(
            f"the control {name} is a network of layers, and the space {experiment.space.name!r} has none; leave it out"
        )


def check_size(experiment: Experiment, name: str) -> None:
    """Raises `RequestError` where a control has no network of the size of any of a few members within the limits."""
    networks = CONTROLS[name].networks
    if networks is None:
        return
    limits, random, refused = experiment.limits(experiment.space), Random(experiment.seed(name)), []
    for _ in range(TRIED):
        member = limits.sample(experiment.sampled_space(), random, experiment.settings)
        try:
            networks(experiment, member.but(**experiment.recipe.trained))
        except RequestError as error:
            refused.append(str(error))
        else:
            return
    raise RequestError(
        f"the control {name} has no network of the size that the limits ask for: {refused[0]}; leave it out"
    )


def _of_layers(template: Any) -> bool:
    return hasattr(getattr(template, "decoder", None), "layers") or template.family == "cell_decoder_only"


def best_of(experiment: Experiment, name: str, groups: Sequence[Group]) -> dict[str, Any]:
    """The best of several kinds of candidates at the cost of the found architecture; its row says what was tried."""
    recipe, settings, training = experiment.recipe, experiment.settings, experiment.whole_training()
    updates = training.updates
    mean = fmean(update_flops(one, settings, training.batch_tokens) for group in groups for one in group)
    left = experiment.spent() / mean - updates * (1 + recipe.sweep.share)
    share = min(recipe.sweep.share, SWEEPS * max(0.0, left) / (len(groups) * updates))
    sweeps, flops = recipe.sweep.but(share=share) if share > 0 else None, 0.0
    rates, swept_updates, seconds = [], 0, 0.0
    for number, group in enumerate(groups):
        peak, swept = _rate(experiment, group[0], f"{name}_rate_{number + 1}", sweeps)
        rates.append(peak)
        swept_updates += swept.updates
        seconds += swept.seconds
        flops += swept.updates * update_flops(group[0], settings, training.batch_tokens)
    rated = ([(one, peak) for one in group] for group, peak in zip(groups, rates, strict=True))
    candidates = [pair for pairs in zip_longest(*rated) for pair in pairs if pair is not None]
    first = max(1, updates // FIRST)
    candidates = candidates[: affordable(left - swept_updates, first, min(MOST, len(candidates)))]
    tried = Candidates(experiment, name, candidates)
    best, losses = tried.halve(first)
    flops += tried.flops()
    seconds += sum(tried.seconds.values())
    cost: dict[str, Any] = {"searched": swept_updates + sum(tried.updates.values()), "flops": flops, "seconds": seconds}
    row = experiment.from_scratch(candidates[best][0], name, **cost)
    return row | {"tried": len(candidates), "rungs": losses}


def _rate(experiment: Experiment, architecture: Any, name: str, how: Sweep | None) -> tuple[float, Swept]:
    """The peak for a kind of candidates, and the sweep that found it."""
    if how is None:
        training = experiment.whole_training()
        peak = training.schedule.peak
        known = experiment.recipe.sweep.begin(training) if isinstance(peak, str) else float(peak)
        return known, Swept(known, 0)
    found, swept = rated(experiment, architecture, name, how)
    return found.schedule.largest(), swept or Swept(found.schedule.largest(), 0)
