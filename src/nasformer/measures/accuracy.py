"""How many of some things were told right, with an interval."""

from __future__ import annotations

import scipy

from nasformer.errors import RequestError
from nasformer.measures.statistics import Interval


def accuracy(correct: int, count: int, level: float = 0.95) -> Interval:
    """The percentage of `count` things that are right, and Wilson's interval for it (JASA 22, 1927), which holds near
    0 and 100 % too. Raises `RequestError` without things, or for more right ones than there are."""
    if count < 1 or not 0 <= correct <= count:
        raise RequestError(f"expected at least one thing, and from none to all of them right; got {correct} of {count}")
    found = scipy.stats.binomtest(correct, count).proportion_ci(level, method="wilson")
    return Interval(100 * correct / count, 100 * float(found.low), 100 * float(found.high))
