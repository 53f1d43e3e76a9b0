"""New members from good ones: the refill step of evolution, within the limits and without duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from nasformer.models.transformer import ModelSettings
from nasformer.spaces.space import Space
from nasformer.strategies.objective import Objective


def breed(
    parents: Sequence[Any],
    *,
    mutants: int,
    crosses: int,
    rate: float,
    space: Space,
    objective: Objective,
    settings: ModelSettings,
    random: Random,
    tries: int = 20,
) -> tuple[list[Any], int]:
    """`mutants` and then `crosses` new members, different from the parents and from each other, and how many of them
    had to be uniform samples because `tries` attempts for each gave nothing new within the limits.

    A cross takes two different parents where there are two (docs/papers/shrinknas.md, our readings 11 and 12).
    """
    known = set(parents)
    children: list[Any] = []
    refilled = 0
    for number in range(mutants + crosses):
        child = None
        for _ in range(tries if space.size > 1 else 0):
            if number < mutants or len(parents) < 2:
                candidate = space.mutate(random.choice(parents), random, rate)
            else:
                first, second = random.sample(parents, 2)
                candidate = space.cross(first, second, random)
            if candidate not in known and objective.allows(candidate, settings):
                child = candidate
                break
        if child is None:
            refilled += 1
            child = objective.sample(space, random, settings)
        if child not in known:
            known.add(child)
            children.append(child)
    return children, refilled
