"""The part of the page that tells at which rates models were trained, and how those were found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nasformer.report.figure import row_colour, svg
from nasformer.report.picture import Picture, Sheet
from nasformer.report.sweeps import RateSweep
from nasformer.report.table import rate

SWEEPS = """Validation loss of short trainings against the rate at their peak: thin after the first updates, thick where
the better half went on, dashed for a kind of candidates of a control; a cross at the top is a training that failed. The
triangle is the rate that was chosen: lower than the best of a short training, for longer ones want lower rates. Look
for a valley with walls on both sides. Where the lowest point is at an edge, another rate may be better still."""
UNSWEPT = """Where a sweep took no updates, the training was too short to tell rates apart: the rate is the middle of
the grid."""


def sweep_pictures(sweeps: Sequence[RateSweep]) -> Iterator[Picture]:
    """The plot, where any rate was tried, and the table; nothing where every rate was given."""
    if not sweeps:
        return
    tried = [one for one in sweeps if one.points]
    rows = tuple((one.label, rate(one.peak), str(one.updates)) for one in sweeps)
    caption = " ".join([*([SWEEPS] if tried else []), *([UNSWEPT] if len(tried) < len(sweeps) else [])])
    drawn = Markup(draw_sweeps(tried)) if tried else None
    yield Picture("Rates", drawn, caption, Sheet(("what was trained", "peak rate", "updates of the sweep"), rows))


def draw_sweeps(sweeps: Sequence[RateSweep]) -> str:
    """Loss against rate of every sweep, and the chosen peaks."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        peaks = [peak for one in sweeps for peak in (one.peak, *(point.peak for point in one.points))]
        axes.set_xlim(min(peaks) / 1.3, max(peaks) * 1.3)
        named = set[str]()
        for one in sweeps:
            _draw_sweep(axes, one, named=one.arm in named)
            named.add(one.arm)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: rate(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("peak rate")
        axes.set_ylabel("validation loss\n(nats, lower is better)")
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, labelspacing=0.6)

    return svg("sweeps", "Validation loss by rate of every sweep", (8.4, 4.2), draw)


def _draw_sweep(axes: Axes, one: RateSweep, *, named: bool) -> None:
    colour, candidates = row_colour(one.arm), one.arm != one.stage
    line, faint = ("--", 0.5) if candidates else ("-", 1.0)
    label = "_" if named else one.label.partition(", candidates of kind ")[0]
    edge = axes.get_xaxis_transform()
    rungs = one.by_length()
    for rung in rungs:
        wide = 2.0 if rung == rungs[-1] else 1.0
        known = [(point.peak, point.loss) for point in rung if point.loss is not None]
        if known:
            rates, losses = zip(*known, strict=True)
            style: Any = {"linestyle": line, "linewidth": wide, "alpha": faint, "marker": "o", "markersize": 4}
            axes.plot(rates, losses, color=colour, label=label, **style)
            label = "_"
        failed = [point.peak for point in rung if point.loss is None]
        axes.plot(failed, [0.97] * len(failed), color=colour, linewidth=0, marker="x", transform=edge)
    axes.plot([one.peak], [0.03], color=colour, linewidth=0, marker="^", markersize=8, transform=edge)
