"""What is told of several trainings together: means and intervals over fresh starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from nasformer.measures.statistics import Interval, geometric_interval, mean_interval


def interval_of(values: Sequence[float], of: Callable[[Sequence[float]], Interval] = mean_interval) -> dict[str, float]:
    """Mean and 95 % interval over fresh starts; without an interval where there is one run, and without numbers where a
    run failed."""
    if not all(map(math.isfinite, values)):
        return {}
    return interval_data(of(values)) if len(values) > 1 else {"value": values[0]}


def interval_data(interval: Any) -> dict[str, float]:
    """An interval as plain data."""
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def pooled(qualities: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The qualities of several runs as one: means, with the interval over the runs; of perplexities the geometric mean,
    that of the mean loss."""
    together: dict[str, Any] = {"split": qualities[0]["split"]}
    for name, first in qualities[0].items():
        if isinstance(first, dict):
            values = [quality[name]["value"] for quality in qualities]
            together[name] = first | interval_of(values, geometric_interval if name == "perplexity" else mean_interval)
        elif isinstance(first, float):
            together[name] = fmean([quality[name] for quality in qualities])
    return together
