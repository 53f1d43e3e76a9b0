"""A measured figure, and the clock by which two ways of doing the same work are compared."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Options:
    """What the command line asks for: real text instead of the embedded corpus, how many repeats (1: as planned)."""

    data: Path | None = None
    effort: float = 1.0
    compiled: bool = False

    def repeats(self, planned: int) -> int:
        """The planned number of repeats, scaled; at least three."""
        return max(3, round(planned * self.effort))


@dataclass(frozen=True)
class Figure:
    """A ratio with its bar (it must not be greater; None: for information), and how it was measured.

    `spread` holds the quartiles of what the ratio is the median of.
    """

    benchmark: str
    ratio: float
    bar: float | None
    spread: tuple[float, float]
    how: str

    def line(self) -> str:
        """One line of JSON."""
        holds = None if self.bar is None else self.ratio <= self.bar
        fields = asdict(self) | {"holds": holds, "ratio": _round(self.ratio), "spread": list(map(_round, self.spread))}
        return json.dumps({key: fields[key] for key in ("benchmark", "ratio", "bar", "holds", "spread", "how")})


def figure(name: str, ratios: Sequence[float], bar: float | None, how: str) -> Figure:
    """The median of several ratios with their quartiles."""
    low, middle, high = np.quantile(np.asarray(ratios, dtype=float), [0.25, 0.5, 0.75])
    return Figure(name, float(middle), bar, (float(low), float(high)), how)


def clock() -> float:
    """Seconds: processor time of this process where it computes alone on one thread, which other work on a shared
    machine disturbs least; else wall time."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def clock_name() -> str:
    """What `clock` reads, for the sentence that says how a figure was measured."""
    alone = not torch.cuda.is_available() and torch.get_num_threads() == 1
    return "processor time on one thread" if alone else f"wall time on {torch.get_num_threads()} threads"


def seconds(function: Callable[[], Any]) -> float:
    """How long one call takes by `clock`."""
    start = clock()
    function()
    return max(clock() - start, 1e-9)


def in_turn(functions: Sequence[Callable[[], Any]], repeats: int, warmup: int = 2) -> np.ndarray:
    """Seconds (repeats, functions) of several callables, called in turn (A B C A B C …)."""
    for _ in range(warmup):
        for function in functions:
            function()
    return np.array([[seconds(function) for function in functions] for _ in range(repeats)])


def ratio_of(first: Callable[[], Any], second: Callable[[], Any], repeats: int, warmup: int = 2) -> float:
    """The median of paired ratios: how many times the second's time the first takes."""
    times = in_turn([first, second], repeats, warmup)
    return float(np.median(times[:, 0] / times[:, 1]))


def _round(number: float) -> float:
    return float(f"{number:.4g}")
