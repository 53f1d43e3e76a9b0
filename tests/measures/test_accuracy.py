"""Accuracy and Wilson's interval."""

from __future__ import annotations

import math

import pytest

from nasformer.errors import RequestError
from nasformer.measures.accuracy import accuracy


@pytest.mark.parametrize(("correct", "count"), [(93, 100), (0, 50), (4_711, 5_000), (7, 7)])
def test_the_interval_is_wilsons(correct: int, count: int) -> None:
    z, p = 1.959963984540054, correct / count
    centre = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    found = accuracy(correct, count)
    assert found.value == 100 * p
    assert (found.low, found.high) == pytest.approx((100 * (centre - half), 100 * (centre + half)), abs=1e-9)


@pytest.mark.parametrize(("correct", "count"), [(0, 0), (3, 2), (-1, 5)])
def test_what_is_no_share_is_refused(correct: int, count: int) -> None:
    with pytest.raises(RequestError, match=f"got {correct} of {count}"):
        accuracy(correct, count)
