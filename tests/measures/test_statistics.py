"""Intervals and rank correlations against known values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nasformer.errors import RequestError
from nasformer.measures.statistics import (
    Interval,
    bootstrap_interval,
    geometric_interval,
    mean_interval,
    rank_correlation,
)


def test_a_geometric_interval_of_few_wide_values_stays_positive() -> None:
    interval = geometric_interval([34.0, 40.6])
    assert interval.value == pytest.approx((34.0 * 40.6) ** 0.5)
    assert interval.low is not None
    assert interval.high is not None
    assert 0 < interval.low < 34.0 < 40.6 < interval.high
    assert interval.low * interval.high == pytest.approx(interval.value**2)
    assert geometric_interval([3.0]) == Interval(pytest.approx(3.0), None, None)


def test_the_mean_interval_is_students() -> None:
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.value == 2
    assert interval.low == pytest.approx(2 - 4.302653 / math.sqrt(3))
    assert interval.high == pytest.approx(2 + 4.302653 / math.sqrt(3))
    wide, narrow = mean_interval([1.0, 2.0, 3.0], 0.99), mean_interval([1.0, 2.0, 3.0], 0.5)
    assert interval.low is not None
    assert wide.low is not None
    assert narrow.low is not None
    assert wide.low < interval.low < narrow.low < 2


def test_one_value_has_no_bounds_and_none_is_refused() -> None:
    assert mean_interval([3.0]) == bootstrap_interval([3.0]) == Interval(3.0, None, None)
    with pytest.raises(RequestError, match="at least one value"):
        mean_interval([])
    with pytest.raises(RequestError, match="at least one value"):
        bootstrap_interval([])
    with pytest.raises(RequestError, match="level"):
        mean_interval([1.0, 2.0], level=95)


def test_the_bootstrap_covers_as_it_says_and_follows_its_seed() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        interval = bootstrap_interval(list(random.normal(size=40)), resamples=200, seed=trial)
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 0 <= interval.high
    assert 0.87 <= covered / 200 <= 0.98
    values = list(random.normal(size=30))
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_the_bootstrap_takes_any_statistic() -> None:
    interval = bootstrap_interval([1.0, 2.0, 100.0], lambda sample: float(np.median(sample)))
    assert (interval.value, interval.low, interval.high) == (2, 1, 100)


def test_rank_correlation_knows_hand_counted_orders() -> None:
    found = rank_correlation([1, 2, 3, 4], [1, 3, 2, 4])  # five pairs agree, one does not
    assert found.kendall.value == pytest.approx(4 / 6)
    assert found.spearman == pytest.approx(0.8)
    assert found.n == 4
    backwards = rank_correlation([1, 2, 3], [3, 2, 1])
    assert (backwards.kendall.value, backwards.spearman) == (pytest.approx(-1), pytest.approx(-1))


def test_two_things_agree_or_not() -> None:
    for other, expected in (([3, 4], 1.0), ([4, 3], -1.0), ([3, 3], math.nan)):
        kendall = rank_correlation([1, 2], other).kendall
        assert kendall.value == pytest.approx(expected, nan_ok=True)
        assert kendall.low is kendall.high is None  # resampling two or three things says nothing
    assert rank_correlation([1, 2, 3], [1, 2, 3]).kendall.low is None
    assert rank_correlation([1, 2, 3, 4], [1, 2, 3, 4]).kendall.low is not None


def test_the_kendall_interval_holds_the_value_and_narrows_with_more_things() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=400)
    y = x + random.normal(size=400)
    widths = []
    for n in (20, 400):
        kendall = rank_correlation(list(x[:n]), list(y[:n]), resamples=200).kendall
        assert kendall.low is not None
        assert kendall.high is not None
        assert kendall.low < kendall.value < kendall.high
        widths.append(kendall.high - kendall.low)
    assert widths[1] < widths[0] / 2
    assert rank_correlation(list(x), list(y), resamples=50) == rank_correlation(list(x), list(y), resamples=50)


def test_a_constant_side_gives_no_order() -> None:
    found = rank_correlation([1, 2, 3], [5, 5, 5])
    assert math.isnan(found.kendall.value)
    assert math.isnan(found.spearman)
    assert (found.kendall.low, found.kendall.high) == (None, None)


def test_unpaired_scores_are_refused() -> None:
    with pytest.raises(RequestError, match="got 2 and 3"):
        rank_correlation([1, 2], [1, 2, 3])
    with pytest.raises(RequestError, match="at least two"):
        rank_correlation([1], [1])
