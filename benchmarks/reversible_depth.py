"""Claim: what a rebuilt backward pass keeps does not grow with depth: at 32 layers at most 1.1 of what it is at 4.

`python -m benchmarks.reversible_depth docs/memory.svg` draws the curve.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure as Plot

from benchmarks.figure import Figure, Options
from benchmarks.reversible import DIM, SHAPE, Network, Way, space
from nasformer.report.figure import svg

DEPTHS = (4, 8, 16, 32)
WAYS: tuple[Way, ...] = ("stored", "checkpoint", "rebuilt one at a time")
GREY = "#808080"
LINES = {
    "stored": ("stored", "#D55E00", "o"),
    "checkpoint": ("checkpoint of each layer", "#E69F00", "s"),
    "rebuilt one at a time": ("rebuilt", "#0072B2", "D"),
}


def reversible_depth(options: Options) -> Iterator[Figure]:
    """Rebuilt against its own 4 layers; the other ways for information."""
    found = measured()
    for way in WAYS:
        mib = ", ".join(f"{depth}: {found[way][depth] / 2**20:.1f}" for depth in DEPTHS)
        ratio = found[way][DEPTHS[-1]] / found[way][DEPTHS[0]]
        how = (
            f"bytes kept for backward, {way}, {DEPTHS[-1]} layers / {DEPTHS[0]}; 13 and 14 options mixed in each node, "
            f"d = {DIM}, 2 and 3 splits, {SHAPE}; MiB by layers of each stack {{{mib}}}; exact"
        )
        bar = 1.1 if way == "rebuilt one at a time" else None
        yield Figure(f"reversible_depth_{way.split()[0]}", ratio, bar, (ratio, ratio), how)


def measured() -> dict[Way, dict[int, int]]:
    """Bytes kept, by way and depth."""
    networks = ((depth, Network.of(space(depth))) for depth in DEPTHS)
    rows = {depth: {way: network.kept(way) for way in WAYS} for depth, network in networks}
    return {way: {depth: rows[depth][way] for depth in DEPTHS} for way in WAYS}


def draw(found: dict[Way, dict[int, int]]) -> str:
    """Bytes kept against depth, both axes logarithmic, as SVG. Legible on light and on dark."""

    def fill(plot: Plot) -> None:
        axes = plot.add_subplot()
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        for way, (name, colour, marker) in LINES.items():
            line = found[way]  # type: ignore[index]
            mib = [count / 2**20 for count in line.values()]
            axes.plot(list(line), mib, color=colour, marker=marker)
            at = {"xytext": (8, 0), "textcoords": "offset points", "va": "center", "color": colour}
            axes.annotate(f"{name}\n{_size(mib[-1])}", (DEPTHS[-1], mib[-1]), **at)  # type: ignore[arg-type]
        axes.set_xticks(DEPTHS, [str(depth) for depth in DEPTHS])
        ticks = [16, 64, 256, 1024, 4096]
        axes.set_yticks(ticks, [_size(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(12, 10_000)
        axes.set_xlabel("layers of each stack", color=GREY)
        axes.set_title("Kept for the backward pass of a search update", color=GREY)
        axes.grid(color=GREY, alpha=0.25)
        axes.tick_params(colors=GREY)
        axes.spines[["left", "bottom"]].set_color(GREY)

    return svg("memory", "Bytes kept for the backward pass against depth", (7.0, 3.4), fill)


def _size(mib: float) -> str:
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB".replace(".0 ", " ")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(measured()) + "\n", encoding="utf-8")
