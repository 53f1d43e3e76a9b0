"""Halving hurdles against the table of docs/papers/primer.md §2.2."""

from __future__ import annotations

import json
import math
from random import Random
from statistics import mean, median

import pytest

from nasformer.errors import RequestError
from nasformer.strategies.hurdles import Bars, expected_cost, hurdle_times, passes, saving


@pytest.mark.parametrize(
    ("count", "times", "cost", "factor"),
    [
        (2, [3600, 10800], 10_800, 2.33),
        (3, [1680, 5040, 11760], 6_720, 3.75),
        (4, [812.9, 2438.7, 5690.3, 12193.5], 4_064.5, 6.2),
        (5, [400, 1200, 2800, 6000, 12400], 2_400, 10.5),
        (0, [], 25_200, 1.0),
    ],
)
def test_the_published_table(count: int, times: list[float], cost: float, factor: float) -> None:
    assert hurdle_times(25_200, count) == pytest.approx(times, abs=0.05)
    assert expected_cost(25_200, count) == pytest.approx(cost, abs=0.05)
    assert saving(count) == pytest.approx(factor, abs=0.005)


@pytest.mark.parametrize(("total", "count"), [(0.0, 2), (-1.0, 2), (1.0, -1)])
def test_budgets_that_are_none(total: float, count: int) -> None:
    with pytest.raises(RequestError, match="expected a positive budget"):
        hurdle_times(total, count)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_saving_with_half_passing_and_no_one_worse_than_the_bar(count: int) -> None:
    random = Random(7)
    bars, ends = Bars(count, pool=100), [*hurdle_times(1.0, count), 1.0]
    costs, passed_first = [], 0
    for _ in range(20_000):
        quality, losses, cost = random.random(), [], 1.0
        for hurdle, bar in enumerate(bars.now()):
            losses.append(quality + 0.01 * random.random())
            if not passes(losses[-1], bar):
                cost = ends[hurdle]
                break
            assert bar is None or losses[-1] <= bar
            passed_first += hurdle == 0
        bars.arrive(losses)
        costs.append(cost)
    assert passed_first / 20_000 == pytest.approx(0.5, abs=0.02)
    assert 1 / mean(costs) == pytest.approx((2 ** (count + 1) - 1) / (count + 1), rel=0.06)


def test_a_bar_is_the_median_of_the_last_arrivals() -> None:
    bars = Bars(2, pool=12)
    for number in range(9):
        bars.arrive([float(number)])
    assert bars.now() == (None, None)
    bars.arrive([9.0])
    assert bars.now() == (median(range(10)), None)
    for number in range(10, 30):
        bars.arrive([float(number), 1.0])
    assert bars.now() == (median(range(18, 30)), 1.0)
    other = Bars(2, pool=12)
    other.load(json.loads(json.dumps(bars.state())))
    assert other.now() == bars.now()
    assert other.state() == bars.state()


def test_a_pool_smaller_than_ten_fills_first() -> None:
    bars = Bars(1, pool=3)
    for loss in (3.0, 1.0):
        bars.arrive([loss])
        assert bars.now() == (None,)
    bars.arrive([2.0])
    assert bars.now() == (2.0,)


def test_what_is_no_number_passes_nothing_and_arrives_nowhere() -> None:
    assert passes(2.0, None)
    assert passes(2.0, 2.0)
    assert not passes(2.1, 2.0)
    assert not passes(math.nan, None)
    assert not passes(math.inf, None)
    with pytest.raises(RequestError, match="finite losses"):
        Bars(1, pool=3).arrive([math.nan])
