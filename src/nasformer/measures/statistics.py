"""Intervals and rank correlations: how far a number can be trusted."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from nasformer.errors import RequestError

SEED = 12345
"""The seed of every bootstrap that is not given another one (sacrebleu's default)."""


@dataclass(frozen=True)
class Interval:
    """A number and the bounds it is believed to lie in; `None` where nothing can be said about them."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class RankCorrelation:
    """How far two scores put `n` things in the same order, from -1 to 1: Kendall's tau-b with interval, Spearman's rho.

    `nan` where one side is constant, since it then gives no order.
    """

    kendall: Interval
    spearman: float
    n: int


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean and its Student t interval; one value alone has no bounds. Raises `RequestError` without any value."""
    sample = _sample(values, level)
    mean = float(sample.mean())
    if len(sample) == 1:
        return Interval(mean, None, None)
    half = float(scipy.stats.t.ppf(0.5 + level / 2, len(sample) - 1) * sample.std(ddof=1) / math.sqrt(len(sample)))
    return Interval(mean, mean - half, mean + half)


def geometric_interval(values: Sequence[float]) -> Interval:
    """The geometric mean of positive values and its 95 % interval, Student's t of their logarithm: always positive.

    One value alone has no bounds. Raises `RequestError` without any value.
    """
    logarithm = mean_interval([math.log(value) for value in values])
    low, high = (None if bound is None else math.exp(bound) for bound in (logarithm.low, logarithm.high))
    return Interval(math.exp(logarithm.value), low, high)


def bootstrap_interval(
    values: Sequence[float],
    statistic: Callable[[np.ndarray], float] = lambda sample: float(sample.mean()),
    *,
    resamples: int = 1000,
    seed: int = SEED,
    level: float = 0.95,
) -> Interval:
    """A statistic of the values (their mean unless told) and its percentile bootstrap interval.

    One value alone has no bounds. Raises `RequestError` without any value.
    """
    sample = _sample(values, level)
    return _bootstrap(sample, statistic, resamples, seed, level)


def rank_correlation(
    a: Sequence[float], b: Sequence[float], *, resamples: int = 1000, seed: int = SEED, level: float = 0.95
) -> RankCorrelation:
    """Whether two scores of the same things agree in rank; the interval resamples the things, where they are at least
    four (fewer have so few orders that resampling them says nothing).

    Raises `RequestError` for unequal counts or fewer than two things.
    """
    if len(a) != len(b) or len(a) < 2:
        raise RequestError(f"expected two equally long lists of at least two scores, got {len(a)} and {len(b)}")
    pairs = np.stack([np.asarray(a, dtype=float), np.asarray(b, dtype=float)], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.stats.ConstantInputWarning)
        spearman = float(scipy.stats.spearmanr(pairs[:, 0], pairs[:, 1]).statistic)
    kendall = _bootstrap(pairs, _kendall, resamples if len(pairs) > 3 else 0, seed, level)
    return RankCorrelation(kendall, spearman, len(pairs))


def _kendall(pairs: np.ndarray) -> float:
    if len(pairs) == 2:  # where SciPy divides by zero
        return float(np.sign(np.diff(pairs, axis=0).prod())) or math.nan
    return float(scipy.stats.kendalltau(pairs[:, 0], pairs[:, 1], method="asymptotic").statistic)


def _bootstrap(
    sample: np.ndarray, statistic: Callable[[np.ndarray], float], resamples: int, seed: int, level: float
) -> Interval:
    value = float(statistic(sample))
    if len(sample) == 1 or resamples < 1:
        return Interval(value, None, None)
    random = np.random.default_rng(seed)
    draws = np.array([statistic(sample[random.integers(len(sample), size=len(sample))]) for _ in range(resamples)])
    draws = draws[~np.isnan(draws)]  # a resample that drew one thing only has no rank correlation
    if not len(draws) or math.isnan(value):
        return Interval(value, None, None)
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(value, float(low), float(high))


def _sample(values: Sequence[float], level: float) -> np.ndarray:
    if not len(values):
        raise RequestError("expected at least one value for an interval, got none")
    if not 0 < level < 1:
        raise RequestError(f"expected a level between 0 and 1, got {level}")
    return np.asarray(values, dtype=float)
