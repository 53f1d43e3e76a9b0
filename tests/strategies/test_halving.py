"""Successive halving: the best is left, everyone is paid for what it had, and a budget buys what it pays for."""

from __future__ import annotations

import math
from random import Random

import pytest

from nasformer.strategies.halving import affordable, cost, halve, rungs


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_the_best_of_steady_candidates_is_left_at_the_stated_cost(count: int) -> None:
    candidates = Random(count).sample(range(100), count)
    had: dict[int, int] = dict.fromkeys(candidates, 0)
    spent = 0

    def train(candidate: int, updates: int) -> float:
        nonlocal spent
        spent += updates - had[candidate]
        had[candidate] = updates
        return candidate - updates / 1e6

    best, losses = halve(candidates, 10, train)
    assert best == min(candidates)
    assert spent == cost(count, 10)
    assert [len(rung) for rung in losses] == [number for number, _ in rungs(count, 10)]


def test_a_candidate_that_overtakes_late_is_lost_and_nan_is_the_worst() -> None:
    late = {"early": lambda n: 1.0, "late": lambda n: 2.0 if n < 20 else 0.0, "broken": lambda n: math.nan}
    best, losses = halve(list(late), 10, lambda name, updates: late[name](updates))
    assert best == "late"  # two of three go on
    assert math.isnan(losses[0][-1])
    assert halve(["early", "late"], 10, lambda name, updates: late[name](updates))[0] == "early"


def test_a_budget_buys_as_many_candidates_as_it_pays_for() -> None:
    assert [affordable(budget, 100, 16) for budget in (0, 199, 200, 600, 1599, 1600)] == [1, 1, 2, 4, 7, 8]
    assert affordable(1e9, 100, 5) == 5
