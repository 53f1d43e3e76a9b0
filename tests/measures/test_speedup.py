"""Where loss curves cross, what a model saves, and the power law that a curve follows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nasformer.errors import RequestError
from nasformer.measures.speedup import Run, common_curves, crossing, power_law, speedup

COSTS = np.geomspace(0.1, 10, 200).tolist()


def curve(b: float = 1.0, a: float = 3.0, k: float = 0.2, noise: float = 0.0, seed: int = 0) -> Run:
    """l = a · (b · c)^−k; with `noise` the whole curve is moved by a draw, as a lucky seed would."""
    moved = noise * np.random.default_rng(seed).normal()
    return COSTS, [a * (b * cost) ** -k + moved for cost in COSTS]


def seeds(b: float = 1.0, noise: float = 0.0, first: int = 0, count: int = 5) -> list[Run]:
    return [curve(b, noise=noise, seed=first + seed) for seed in range(count)]


def test_a_crossing_is_linear_in_log_cost() -> None:
    assert crossing([1, 10, 100], [4.0, 3.0, 2.0], 2.5) == pytest.approx(10**1.5)
    assert crossing([1, 10, 100], [4.0, 3.0, 2.0], 3.0) == pytest.approx(10)
    assert crossing([1, 10, 100], [4.0, 3.0, 2.0], 5.0) == 1
    assert crossing([1, 10, 100], [4.0, 3.0, 2.0], 1.9) is None


def test_a_crossing_is_the_first_on_the_running_minimum() -> None:
    assert crossing([1, 10, 100, 1000], [4.0, 3.0, 3.5, 2.0], 2.5) == pytest.approx(10**2.5)
    assert crossing([1, 10, 100], [4.0, 2.0, 4.0], 3.0) == pytest.approx(10**0.5)
    assert crossing([1, 10, 100], [4.0, math.nan, 2.0], 3.0) == pytest.approx(10**1.5)
    assert crossing([1, 10, 100], [math.nan, 2.0, 1.0], 3.0) == 10
    assert crossing([1, 10], [math.nan, math.inf], 3.0) is None


def test_a_lower_target_costs_more() -> None:
    costs, losses = curve(noise=0.0)
    wobbling = [loss + 0.1 * math.sin(number) for number, loss in enumerate(losses)]
    needed = [crossing(costs, wobbling, target) for target in np.linspace(4.5, 2.0, 40)]
    known = [cost for cost in needed if cost is not None]
    assert known == sorted(known)
    assert len(set(known)) > 30


def test_curves_of_equal_form_give_their_factor() -> None:
    for b in (1.0, 1.3, 2.0, 4.2):
        assert speedup(seeds(), seeds(b)).value == pytest.approx(b, rel=0.002)


def test_who_never_gets_there_is_slower_by_the_mirrored_factor() -> None:
    assert speedup(seeds(), seeds(1 / 1.5)).value == pytest.approx(1 / 1.5, rel=0.002)
    flat = [(COSTS, [10.0] * len(COSTS))]
    assert speedup(seeds(), flat).value == pytest.approx(COSTS[0] / COSTS[-1])


def test_a_shorter_run_that_never_gets_there_is_judged_by_what_it_spent() -> None:
    costs, losses = curve(2.0)
    half = [(costs[:100], losses[:100])]
    assert speedup(seeds(), half).value == pytest.approx(2.0, rel=0.002)


def test_what_diverges_is_infinitely_slow() -> None:
    broken: list[Run] = [(COSTS, [math.nan] * len(COSTS))] * 2
    assert speedup(seeds(), broken).value == 0
    with pytest.raises(RequestError, match="finite"):
        speedup(broken, seeds())
    costs, losses = curve(2.0)
    late = [(costs, [*losses[:180], *[math.nan] * 20])] * 2
    assert speedup(seeds(), late).value == pytest.approx(2.0, rel=0.002)


def test_faster_curves_have_larger_factors() -> None:
    found = [speedup(seeds(noise=0.01), seeds(b, noise=0.01, first=9)).value for b in (0.6, 0.9, 1.0, 1.2, 2.0)]
    assert found == sorted(found)


@pytest.mark.slow
@pytest.mark.parametrize(("ours", "theirs"), [(5, 5), (5, 3), (3, 3)])
def test_the_interval_covers_what_it_says(ours: int, theirs: int) -> None:
    for factor in (1.0, 1.4):
        covered = 0
        for trial in range(200):
            start = seeds(noise=0.02, first=100 * trial, count=ours)
            found = speedup(start, seeds(factor, noise=0.02, first=100 * trial + 50, count=theirs))
            assert found.low is not None
            assert found.high is not None
            assert found.low < found.value < found.high
            covered += found.low <= factor <= found.high
        assert 0.92 <= covered / 200 <= 0.995
    assert speedup(seeds(), seeds()).value == pytest.approx(1)


def test_the_interval_follows_its_level() -> None:
    start, other = seeds(noise=0.02), seeds(1.5, noise=0.02, first=30)
    wide, narrow = speedup(start, other, level=0.95), speedup(start, other, level=0.5)
    assert None not in (wide.low, wide.high, narrow.low, narrow.high)
    assert wide.low < narrow.low < narrow.high < wide.high  # type: ignore[operator]
    assert math.log(wide.high / wide.value) == pytest.approx(math.log(wide.value / wide.low))  # type: ignore[operator]
    alone = speedup(start, other[:1])
    assert (alone.low, alone.high) == (None, None)
    same = speedup(seeds(), seeds())
    assert (same.low, same.high) == (same.value, same.value)


def test_runs_meet_on_the_costs_that_all_span() -> None:
    grid, losses = common_curves([([1, 10, 100], [4, 3, 2]), ([2, 20], [6, 5])])
    assert grid.tolist() == [2, 10, 20]
    assert losses[1] == pytest.approx([6, 6 - math.log(5) / math.log(10), 5])
    with pytest.raises(RequestError, match="overlap"):
        common_curves([([1, 2], [4, 3]), ([3, 4], [4, 3])])


def test_a_power_law_is_found_again() -> None:
    law = power_law(*curve(a=3.0, k=0.2))
    assert (law.a, law.k.value, law.r_squared) == pytest.approx((3.0, 0.2, 1.0))
    assert law.loss(4.0) == pytest.approx(3 * 4**-0.2)
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        found = power_law(COSTS, [3 * cost**-0.2 * math.exp(0.05 * random.normal()) for cost in COSTS])
        assert found.k.low is not None
        assert found.k.high is not None
        assert found.r_squared < 0.999
        covered += found.k.low <= 0.2 <= found.k.high
    assert 0.9 <= covered / 200 <= 0.99
    assert power_law([1, 2], [2.0, 1.0]).k.low is None
    pooled = power_law([4, 1, 2, 1, 4, 2], [3 * cost**-0.2 * lucky for cost, lucky in zip((4, 1, 2, 1, 4, 2), (1.1, 1.1,
                       1.1, 1 / 1.1, 1 / 1.1, 1 / 1.1), strict=True)])  # fmt: skip
    assert (pooled.a, pooled.k.value) == pytest.approx((3.0, 0.2))


@pytest.mark.parametrize(("costs", "losses"), [([0, 1], [2, 1]), ([2, 1], [2, 1]), ([1, 1], [2, 1]), ([1], [2, 1]),
                                               ([], []), ([1, math.nan], [2, 1])])  # fmt: skip
def test_what_is_no_curve_is_refused(costs: list[float], losses: list[float]) -> None:
    with pytest.raises(RequestError, match="costs"):
        crossing(costs, losses, 1.0)
    with pytest.raises(RequestError, match="costs"):
        speedup([(costs, losses)], [curve()])


def test_what_gives_no_law_is_refused() -> None:
    for costs, losses in (([1], [2]), ([1, 1], [2, 1]), ([1, 2], [2, -1]), ([0, 2], [2, 1]), ([1, 2], [2, math.nan])):
        with pytest.raises(RequestError, match="power law"):
            power_law(costs, losses)
    with pytest.raises(RequestError, match="at least one run"):
        speedup([], [curve()])
    with pytest.raises(RequestError, match="level"):
        speedup([curve()], [curve()], level=95)
