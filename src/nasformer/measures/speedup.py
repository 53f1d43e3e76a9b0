"""How much compute a model saves against another one: loss against cost, where the curves cross, and power laws.

A run is a pair (costs, losses): rising costs in seconds of calibrated step cost, and validation losses in nats per
token. A curve counts by its running minimum, and between measured points it is linear in the logarithm of the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from nasformer.errors import RequestError
from nasformer.measures.statistics import Interval

Numbers = Sequence[float] | np.ndarray
Run = Sequence[Numbers]
"""Costs and losses of one run, in this order."""


@dataclass(frozen=True)
class PowerLaw:
    """loss = a · cost^−k: `k` with its interval, and the share of the variance of log loss that the law explains."""

    a: float
    k: Interval
    r_squared: float

    def loss(self, cost: float) -> float:
        """The loss that the law predicts at a cost."""
        return float(self.a * cost**-self.k.value)


def crossing(costs: Numbers, losses: Numbers, target: float) -> float | None:
    """The cost at which a curve first reaches `target`; None where it never does.

    A curve that is there at its first point counts from that point on. A loss that is no number is passed over.
    Raises `RequestError` where the costs are not positive and rising.
    """
    cost, loss = _curve(costs, losses)
    best = np.fmin.accumulate(loss)
    reached = np.flatnonzero(best <= target)
    if not len(reached):
        return None
    place = int(reached[0])
    if place == 0 or not np.isfinite(best[place - 1]):
        return float(cost[place])
    share = (best[place - 1] - target) / (best[place - 1] - best[place])
    low, high = np.log(cost[place - 1 : place + 1])
    return float(np.exp(low + share * (high - low)))


def common_curves(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
    """The runs on one grid: all costs that every run spans, and (runs, costs) losses. Their mean is the mean curve.

    Raises `RequestError` without runs, or where no cost lies within all of them.
    """
    if not runs:
        raise RequestError("expected at least one run, got none")
    curves = [_curve(*run) for run in runs]
    first, last = max(cost[0] for cost, _ in curves), min(cost[-1] for cost, _ in curves)
    grid = np.unique(np.concatenate([cost for cost, _ in curves]))
    grid = grid[(grid >= first) & (grid <= last)]
    if not len(grid):
        raise RequestError("expected runs whose costs overlap")
    return grid, np.stack([np.interp(np.log(grid), np.log(cost), loss) for cost, loss in curves])


def speedup(start: Sequence[Run], other: Sequence[Run], *, level: float = 0.95) -> Interval:
    """The cost that `start` needs for its own final loss, divided by the cost that `other` needs for that same loss.

    Both arguments are lists of runs, one a seed; the losses are compared on their mean curves. Where `other` never
    gets there, the mirror image (our reading): the cost at which `start` reaches the final loss of `other`, divided by
    the whole cost of `other`; with equal budgets this is below 1. "Final" is the lowest loss of the mean curve; 0 is
    the factor of an `other` that has no finite loss.

    The interval is Student's, of the logarithm of the factor: the variance of each side by leaving out one run at a
    time (jackknife), the degrees of freedom by Welch and Satterthwaite. A percentile bootstrap over so few runs covers
    far less than it says. There are no bounds where one side has a single run, or a factor is 0 without one
    of the runs. Raises `RequestError` where `start` has no finite loss.
    """
    if not 0 < level < 1:
        raise RequestError(f"expected a level between 0 and 1, got {level}")
    (own_costs, own), (their_costs, theirs) = common_curves(start), common_curves(other)

    def factor(mine: np.ndarray, others: np.ndarray) -> float:
        return _ratio(own_costs, mine.mean(0), their_costs, others.mean(0))

    value = factor(own, theirs)
    if np.isnan(value):
        raise RequestError("expected a start with finite losses to compare with")
    if len(own) == 1 or len(theirs) == 1:
        return Interval(value, None, None)
    left_out = (
        np.array([factor(np.delete(own, run, 0), theirs) for run in range(len(own))]),
        np.array([factor(own, np.delete(theirs, run, 0)) for run in range(len(theirs))]),
    )
    if value <= 0 or not all(np.isfinite(one).all() and (one > 0).all() for one in left_out):
        return Interval(value, None, None)
    variances = [(len(one) - 1) * float(np.log(one).var()) for one in left_out]
    if not (total := sum(variances)):
        return Interval(value, value, value)
    freedom = total**2 / sum(part**2 / (len(one) - 1) for part, one in zip(variances, left_out, strict=True))
    half = float(scipy.stats.t.ppf(0.5 + level / 2, freedom)) * total**0.5
    return Interval(value, value * float(np.exp(-half)), value * float(np.exp(half)))


def power_law(costs: Numbers, losses: Numbers, level: float = 0.95) -> PowerLaw:
    """The power law through points, of one curve or of several, in any order: least squares in log–log, with Student's
    interval for the exponent.

    The interval takes the points as independent, which those of one training are not: compare exponents over seeds.
    Raises `RequestError` for fewer than two costs, and for costs or losses that are not positive.
    """
    cost, loss = np.asarray(costs, dtype=float), np.asarray(losses, dtype=float)
    if cost.shape != loss.shape or len(np.unique(cost)) < 2:
        raise RequestError(f"expected a loss for each of at least two costs for a power law, got {len(cost)} costs")
    if not (np.isfinite([cost, loss]).all() and min(cost.min(), loss.min()) > 0):
        raise RequestError("expected positive costs and losses for a power law")
    fit = scipy.stats.linregress(np.log(cost), np.log(loss))
    k = -float(fit.slope)
    if len(cost) == 2:
        return PowerLaw(float(np.exp(fit.intercept)), Interval(k, None, None), 1.0)
    half = float(scipy.stats.t.ppf(0.5 + level / 2, len(cost) - 2) * fit.stderr)
    return PowerLaw(float(np.exp(fit.intercept)), Interval(k, k - half, k + half), float(fit.rvalue**2))


def frontier_law(trainings: Sequence[tuple[float, Sequence[float]]]) -> PowerLaw | None:
    """The power law of final losses over budgets: `trainings` are pairs of a budget and the final losses from fresh
    starts, of one program at whatever sizes; at each budget the size with the lowest mean counts (docs/papers/primer.md
    §5). None where there are not two budgets."""
    best: dict[float, Sequence[float]] = {}
    for budget, losses in trainings:
        best[budget] = min(best.get(budget, losses), losses, key=np.mean)
    if len(best) < 2:
        return None
    points = [(budget, loss) for budget, losses in best.items() for loss in losses]
    return power_law([budget for budget, _ in points], [loss for _, loss in points])


def _curve(costs: Numbers, losses: Numbers) -> tuple[np.ndarray, np.ndarray]:
    cost, loss = np.asarray(costs, dtype=float), np.asarray(losses, dtype=float)
    if cost.ndim != 1 or cost.shape != loss.shape or not len(cost):
        raise RequestError(f"expected as many costs as losses and at least one, got {cost.size} and {loss.size}")
    if not (np.isfinite(cost).all() and cost[0] > 0 and (np.diff(cost) > 0).all()):
        raise RequestError("expected positive costs that rise from point to point")
    return cost, loss


def _ratio(own_costs: np.ndarray, own: np.ndarray, their_costs: np.ndarray, theirs: np.ndarray) -> float:
    if not np.isfinite(own).any():
        return float("nan")
    if not np.isfinite(theirs).any():
        return 0.0
    final = float(np.nanmin(own))
    needed = crossing(their_costs, theirs, final)
    if needed is not None:
        return (crossing(own_costs, own, final) or 0.0) / needed
    reached = crossing(own_costs, own, float(np.nanmin(theirs)))
    return (reached or 0.0) / float(their_costs[-1])
