"""Draw a search over programs: the fitness of every program by number, and how many reached each hurdle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nasformer.report.evolved import Candidate, Evolution, Noise, Walk
from nasformer.report.figure import INK, QUIET, row_colour, svg

_FINISHED, _STOPPED, _BAND = "#0072B2", "#B5B5B5", "#DCE9F2"
_TOP = 0.95
"""Where on the height of a panel the programs are marked that have no place in it."""


def draw_fitness(evolution: Evolution) -> str:
    """Fitness by number: above, what was stopped at a hurdle or failed; below, what was trained to the end, the best so
    far (and the control's), and the band of the start."""
    programs = evolution.search.programs
    finished = [one for one in programs if evolution.finished(one)]
    others = [one for one in programs if not evolution.finished(one)]

    def draw(figure: Figure) -> None:
        rows, ratios = (2, (1, 2.2)) if others else (1, (1,))
        grid = figure.add_gridspec(rows, 1, height_ratios=ratios)
        below = figure.add_subplot(grid[rows - 1])
        if evolution.noise:
            _draw_noise(below, evolution.noise)
        _draw_programs(below, finished, _FINISHED, "trained to the end")
        _draw_best(below, evolution.control, "best so far, random mutation", control=True)
        _draw_best(below, evolution.search, "best so far")
        below.set_xlabel("number of the program")
        below.set_ylabel("validation loss\n(nats per token,\nlower is better)")
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        below.margins(x=0.01)
        if others:
            above = figure.add_subplot(grid[0], sharex=below)
            _draw_programs(above, others, _STOPPED, "stopped at a hurdle")
            above.tick_params(labelbottom=False)
            above.set_ylabel("loss where\nit stopped")
            _legend(above)
        _legend(below)

    return svg("fitness", "Fitness of every program by its number", (8.8, 4.9 if others else 3.4), draw)


def _draw_noise(axes: Axes, noise: Noise) -> None:
    times = f"{noise.runs} trainings" if noise.runs else "several trainings"
    ends = (noise.mean - 2 * noise.spread, noise.mean + 2 * noise.spread)
    label = f"the start in {times}:\nmean ± 2 standard deviations"
    axes.axhspan(*ends, facecolor=_BAND, edgecolor=QUIET, linewidth=0.6, zorder=0, label=label)


def _draw_programs(axes: Axes, programs: Sequence[Candidate], colour: str, label: str) -> None:
    """A dot a program; on top a triangle for one whose loss is far higher than the others', a cross where it failed."""
    points = [(one.number, one.fitness) for one in programs if one.fitness is not None]
    limit = _limit([loss for _, loss in points])
    dots = [(number, loss) for number, loss in points if loss <= limit]
    outside = [number for number, loss in points if loss > limit]
    failed = [one.number for one in programs if one.fitness is None]
    if dots:
        axes.scatter(
            [number for number, _ in dots], [loss for _, loss in dots], s=13, color=colour, linewidths=0, label=label
        )
    for numbers, marker, width, said in ((outside, "^", 0.0, "far above the others"), (failed, "x", 0.9, "failed")):
        if numbers:
            heights, top = [_TOP] * len(numbers), axes.get_xaxis_transform()
            colours = INK if marker == "x" else colour
            axes.scatter(
                numbers, heights, s=16, marker=marker, linewidths=width, color=colours, label=said, transform=top
            )
    if outside or failed:
        axes.margins(y=0.16)
    if not dots:
        axes.set_yticks([])


def _limit(losses: Sequence[float]) -> float:
    """Up to which loss a panel reaches: four times as far from the lowest as most losses are."""
    if not losses:
        return 0.0
    low = min(losses)
    return low + 4 * (float(np.quantile(losses, 0.8)) - low or 1.0)


def _draw_best(axes: Axes, walk: Walk, label: str, *, control: bool = False) -> None:
    if walk.best:
        numbers, values = zip(*walk.best, (walk.programs[-1].number, walk.best[-1][1]), strict=True)
        colour, line = (row_colour("random_mutation"), "--") if control else (INK, "-")
        axes.step(numbers, values, where="post", color=colour, linewidth=1.8, linestyle=line, label=label)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, labelspacing=0.7)


def draw_hurdles(evolution: Evolution) -> str:
    """Two bars a hurdle: how many programs reached it, and how many of them passed."""
    stations = evolution.stations
    ends = sum(map(evolution.finished, evolution.search.programs))
    tried = sum(one.cost is not None for one in evolution.search.programs)
    names = [f"hurdle {number} at {_seconds(at)}" for number, at in enumerate(evolution.hurdles, 1)]
    height = 0.8 + 0.46 * (len(names) + 2)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        end = f"end of the budget at {_seconds(evolution.budget)}" if evolution.budget else "end of the budget"
        labels = ["all programs", *names, end]
        for row, (reached, passed) in enumerate([(tried, None), *stations, (ends, None)]):
            only = passed is None
            axes.barh(
                row, reached, 0.62, color="#C9D6DF", edgecolor=INK, linewidth=0.6, label="_" if only else "reached"
            )
            said = str(reached)
            if passed is not None:
                axes.barh(
                    row, passed, 0.62, color=_FINISHED, edgecolor=INK, linewidth=0.6, hatch="////", label="passed"
                )
                said += f" reached, {passed} passed" + (f" ({passed / reached:.0%})" if reached else "")
            axes.annotate(said, (reached, row), (5, 0), textcoords="offset points", va="center", fontsize=9, color=INK)
        axes.set_yticks(range(len(labels)), labels)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.invert_yaxis()
        axes.set(xlim=(0, 1.35 * max(tried, 1)), xlabel="programs")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(False, axis="y")
        handles, said_labels = axes.get_legend_handles_labels()
        known = dict(zip(said_labels, handles, strict=True))
        if known:
            axes.legend(known.values(), known.keys(), loc="lower right")

    return svg("hurdles", "How many programs reached each hurdle", (8.4, height), draw)


def _seconds(value: float) -> str:
    return f"{value:.3g} s"
