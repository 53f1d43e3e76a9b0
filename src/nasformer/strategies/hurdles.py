"""Halving hurdles: a program that is worse than half of those before it is not trained on (docs/papers/primer.md §2.2).

N hurdles cut a budget into N + 1 bands, each twice as long as the one before, so that with half passing each hurdle
every band takes the same compute in expectation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from nasformer.errors import RequestError

LEAST = 10
"""Everyone passes a hurdle until so many have arrived at it (our reading 2)."""


def hurdle_times(total: float, count: int) -> tuple[float, ...]:
    """When each of `count` hurdles stands, counted from the beginning, in the unit of the budget `total`."""
    if total <= 0 or count < 0:
        raise RequestError(f"expected a positive budget and no negative number of hurdles, got {total} and {count}")
    return tuple(total * (2**hurdle - 1) / (2 ** (count + 1) - 1) for hurdle in range(1, count + 1))


def expected_cost(total: float, count: int) -> float:
    """The mean cost of a program where half pass each hurdle."""
    return total / saving(count)


def saving(count: int) -> float:
    """How many times the programs that the same compute evaluates where half pass each hurdle."""
    return (2 ** (count + 1) - 1) / (count + 1)


class Bars:
    """The losses of the last `pool` arrivals at each of `count` hurdles; a hurdle's bar is their median.

    Everyone passes until ten have arrived, or the whole pool where it is smaller.
    """

    def __init__(self, count: int, pool: int) -> None:
        self.pool = pool
        self.losses: list[list[float]] = [[] for _ in range(count)]

    def now(self) -> tuple[float | None, ...]:
        """Every bar in nats; None where everyone passes."""
        least = min(LEAST, self.pool)
        return tuple(median(losses) if len(losses) >= least else None for losses in self.losses)

    def arrive(self, losses: Sequence[float]) -> None:
        """One more program, with its losses at the hurdles that it reached. Raises `RequestError` for a loss that is no
        number: such a program arrives nowhere."""
        if not all(map(math.isfinite, losses)):
            raise RequestError(f"expected finite losses at the hurdles, got {list(losses)}")
        for kept, loss in zip(self.losses, losses, strict=False):
            kept.append(loss)
            del kept[: -self.pool]

    def state(self) -> list[list[float]]:
        """Everything, as plain data."""
        return [list(losses) for losses in self.losses]

    def load(self, state: Sequence[Sequence[Any]]) -> None:
        """Take over what `state` gave."""
        self.losses = [list(losses) for losses in state]


def passes(loss: float, bar: float | None) -> bool:
    """Whether a loss clears a bar: it is a number, and no worse."""
    return math.isfinite(loss) and (bar is None or loss <= bar)
