"""Draw what models save: loss against cost of every arm, and the table of speed-up factors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from nasformer.measures.speedup import PowerLaw
from nasformer.measures.statistics import Interval
from nasformer.report.evolved import Arm
from nasformer.report.figure import row_colour, svg
from nasformer.report.lineage import interval_text
from nasformer.report.table import MISSING
from nasformer.report.values import FOUND, START

_DASHES: tuple[Any, ...] = ((0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1)), (0, (6, 1, 1, 1, 1, 1)))
_MARKERS = "sD^vPX<>"
SPEED_HEADER = ("model", "speed-up", "final loss", "cost", "seeds", "power law over budgets")


def draw_arms(arms: Sequence[Arm]) -> str:
    """Loss against cost, the cost on a logarithmic axis: a line for the mean, a band from lowest to highest seed."""
    drawn = [arm for arm in arms if arm.costs]
    styles = cycle(zip(_DASHES * len(_MARKERS), _MARKERS * len(_DASHES), strict=True))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for arm in drawn:
            _draw_arm(axes, arm, styles)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("cost in seconds of calibrated step cost (each step to the right is a multiple)")
        axes.set_ylabel("validation loss\n(nats per token, lower is better)")
        top = max((arm.means[len(arm.means) // 6] for arm in drawn), default=1.0)
        low = min((min(arm.lows) for arm in drawn), default=0.0)
        axes.set_ylim(low - 0.04 * (top - low or 1.0), top + 0.06 * (top - low or 1.0))
        if drawn:
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, labelspacing=0.7, handlelength=3)

    return svg("arms", "Loss against cost of every model", (8.8, 4.2), draw)


def _draw_arm(axes: Axes, arm: Arm, styles: Any) -> None:
    colour, line, marker, width = row_colour(arm.name), "-", "o", 1.6
    if arm.name == FOUND:
        marker, width = "*", 2.4
    elif arm.name != START:
        line, marker = next(styles)
    if arm.seeds > 1:
        axes.fill_between(arm.costs, arm.lows, arm.highs, color=colour, alpha=0.15, linewidth=0)
    axes.plot(
        arm.costs,
        arm.means,
        color=colour,
        linestyle=line,
        linewidth=width,
        marker=marker,
        markersize=9 if marker == "*" else 5,
        markevery=max(1, len(arm.costs) // 7),
        markeredgecolor="white",
        markeredgewidth=0.5,
        zorder=4 if arm.name == FOUND else 3,
        label=arm.label + (" ★" if arm.name == FOUND else ""),
    )


def speed_rows(arms: Sequence[Arm]) -> tuple[tuple[str, ...], ...]:
    """The texts of the table of speed-ups, the fastest first, in the order of `SPEED_HEADER`."""
    ordered = sorted(arms, key=lambda arm: -arm.speedup.value if arm.speedup else 0.0)
    return tuple(
        (
            arm.label + (" ★" if arm.name == FOUND else ""),
            _factor(arm),
            f"{arm.means[-1]:.3f}" if arm.means else MISSING,
            f"{arm.costs[-1]:.3g} s" if arm.costs else MISSING,
            str(arm.seeds) if arm.seeds else MISSING,
            law_text(arm.law),
        )
        for arm in ordered
    )


def _factor(arm: Arm) -> str:
    if arm.name.endswith(START):  # that of the budget, or a longer or wider one beside models of their kind
        return "reference"
    return MISSING if arm.speedup is None else speedup_text(arm.speedup)


def law_text(law: PowerLaw | None) -> str:
    """A power law with the interval of its exponent: `2.87 · cost^−0.150 (0.140–0.160)`."""
    return MISSING if law is None else f"{law.a:.3g} · cost^−{interval_text(law.k)}"


def speedup_text(value: Interval) -> str:
    """A factor with its interval: `1.31× (1.22–1.40)`."""
    text = interval_text(value, 2)
    first, space, rest = text.partition(" ")
    return f"{first}×{space}{rest}"


def speedup_line(arms: Sequence[Arm]) -> str:
    """The factors in a line, the largest first; empty where none is known."""
    known = sorted((arm for arm in arms if arm.speedup), key=lambda arm: -arm.speedup.value)  # type: ignore[union-attr]
    told = ", ".join(f"{arm.label} {speedup_text(arm.speedup)}" for arm in known if arm.speedup)
    return f"Speed-up to the loss of the start: {told}." if told else ""


def speedup_sentence(arms: Sequence[Arm]) -> str:
    """What the factor means, with the found program's as the example where it has one."""
    found = next((arm for arm in arms if arm.name == FOUND and arm.speedup), None)
    factor = found.speedup.value if found and found.speedup else 1.3
    example = f"A factor of {factor:.2f}" + (", the found program’s," if found else ", for example,")
    means = (
        f"{example} means that the start needs {factor:.2f} times the compute to reach its own final loss "
        f"as this model needs for that same loss; above 1 is faster than the start."
    )
    if any(arm.name.startswith(("longer", "wider")) for arm in arms):
        means += " A longer or wider model is compared with the start trained as long or made as wide."
    return (
        f"{means} Where a model never reaches that loss, its own final loss is the goal, and the factor is below 1. "
        f"An interval that holds 1 says that the seeds do not tell the two apart."
    )
