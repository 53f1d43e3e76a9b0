"""Claim: hurdles save what the formula says, (2^(N+1) − 1)/(N + 1), within 20 % when half pass (docs/papers/primer.md
§2.2)."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from benchmarks.figure import Figure, Options, figure
from nasformer.strategies.hurdles import Bars, hurdle_times, passes, saving

PROGRAMS, POOL = 2_000, 100


def hurdle_saving(options: Options) -> Iterator[Figure]:
    """Programs of random quality run against the bars of a search, for 2 and 4 hurdles."""
    for count in (2, 4):
        off = [abs(_saved(count, Random(seed)) / saving(count) - 1) for seed in range(options.repeats(9))]
        how = f"|compute saved / {saving(count):.2f} − 1|, {count} hurdles, {PROGRAMS:,} programs of random quality"
        yield figure(f"hurdle_saving_{count}", off, 0.2, how)


def _saved(count: int, random: Random) -> float:
    """All programs' full cost, divided by what they cost with hurdles."""
    bars, times, spent = Bars(count, POOL), hurdle_times(1.0, count), 0.0
    for _ in range(PROGRAMS):
        quality, losses, cost = random.gauss(0, 1), [], 1.0
        for time, bar in zip(times, bars.now(), strict=True):
            losses.append(quality + random.gauss(0, 0.3))  # a loss early on tells of the final one, not all
            if not passes(losses[-1], bar):
                cost = time
                break
        bars.arrive(losses)
        spent += cost
    return PROGRAMS / spent
