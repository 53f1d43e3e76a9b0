"""Successive halving: many candidates trained a little, the better half twice as long, until one is left.

Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, arXiv 1502.07943. How
ours differs: a survivor goes on from where it stood, on the schedule of the whole training, so that the last one's
updates are updates of its own training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

Candidate = TypeVar("Candidate")


def rungs(candidates: int, first: int) -> list[tuple[int, int]]:
    """(candidates, updates each has had by the end) of every rung; the last rung has two candidates."""
    found = []
    updates = first
    while candidates > 1:
        found.append((candidates, updates))
        candidates, updates = math.ceil(candidates / 2), 2 * updates
    return found


def cost(candidates: int, first: int) -> int:
    """The updates of all candidates together."""
    total, before = 0, 0
    for count, updates in rungs(candidates, first):
        total, before = total + count * (updates - before), updates
    return total


def affordable(budget: float, first: int, most: int) -> int:
    """How many candidates `budget` updates pay for: at most `most`, and one where they pay for no two."""
    return max((count for count in range(2, most + 1) if cost(count, first) <= budget), default=1)


def halve(
    candidates: Sequence[Candidate], first: int, train: Callable[[Candidate, int], float]
) -> tuple[Candidate, list[list[float]]]:
    """The best candidate, and the losses of every rung, the best first.

    `train(candidate, updates)` takes a candidate on until it has had so many updates, and gives its validation loss;
    one that is NaN counts as the worst.
    """
    left, losses = list(candidates), list[list[float]]()
    for _, updates in rungs(len(left), first):
        scored = [(train(candidate, updates), place) for place, candidate in enumerate(left)]
        scored.sort(key=lambda pair: (pair[0] if math.isfinite(pair[0]) else math.inf, pair[1]))
        losses.append([loss for loss, _ in scored])
        left = [left[place] for _, place in scored[: math.ceil(len(left) / 2)]]
    return left[0], losses
