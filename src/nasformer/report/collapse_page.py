"""The part of the page that tells whether searches of cells collapsed: figures, and what to look for in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter

from nasformer.report.differentiable import first_start, start_number
from nasformer.report.edge_table import draw_edge_tables, edge_tables
from nasformer.report.figure import INK, QUIET, row_colour, svg, words
from nasformer.report.picture import Picture, Sheet
from nasformer.report.table import MISSING, amount
from nasformer.report.watch import Epoch, Watch, WatchedSearch

COUNTS = """What the search would have given at the end of each epoch, here an equal part of the search (a fiftieth
unless set otherwise): how many edges of a cell skip, and how many have an operator that learns nothing (skips too). The
dotted line is all edges of a cell; a cross marks a warning: three quarters of the edges or more; early ones are chance.
Look for a line that climbs and stays: such a search stops choosing operators and only passes its input on. Below that,
fewer is not better: good cells may well have some."""
ENTROPY = """Left, how undecided the search is: 1 means that all options are equally likely, 0 that one is certain. Look
for edges that are decided long before the operators, or the other way round. Right, the variance of the logits’
gradients over the samples of an update, added up over all logits, as a mean over each epoch; the mean of K samples, by
which the logits move, has a K-th of it. Look for jumps; between searches, compare at one epoch."""
TRAINED = """The share of all updates of the weights in which an operator of an edge was trained, in hundredths, by the
end of the last epoch shown. Empty where an edge has no such operator. Look for
operators that were hardly ever trained: their logits were judged by weights that had learnt little."""
DERIVED = """What the same logits give under each rule. “Topology” takes the edges by their own logits and then the best
operator of each, “joint” the edges and operators that are most probable together."""
_DASHED: Any = (0, (4, 2))
_LATER: Any = ((0, (4, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)))


def collapse_pictures(watch: Watch) -> Iterator[Picture]:
    """The parts for which the watch over collapse has something to show."""
    if any(epoch.cells for search in watch.all for epoch in search.epochs):
        yield Picture("Does the search collapse?", Markup(draw_counts(watch)), COUNTS)
    scattered = any(epoch.variance is not None for search in watch.all for epoch in search.epochs)
    if scattered or any(search.operator_entropy or search.edge_entropy for search in watch.all):
        yield Picture("How decided and how steady the search is", Markup(draw_entropy(watch)), ENTROPY)
    if watch.search and watch.search.shares:
        yield Picture("What was trained", Markup(draw_trained(watch.search)), trained_caption(watch.search))
    told = [one for one in watch.search.derived if one[0] in ("topology", "joint")] if watch.search else []
    if len({one[1:] for one in told}) > 1:
        rows = tuple((words(rule), found, MISSING if size is None else amount(size)) for rule, found, size in told)
        yield Picture(
            "Ways to derive", None, DERIVED, Sheet(("rule", "architecture", "core parameters"), rows, left=True)
        )


def draw_counts(watch: Watch) -> str:
    """Skips (left) and operators without parameters (right) by epoch, one line a search, one row a type of cell."""
    cells = list(dict.fromkeys(one.cell for search in watch.all for epoch in search.epochs for one in epoch.cells))
    styles = _styles(watch)

    def draw(figure: Figure) -> None:
        for row, cell in enumerate(cells):
            for column, what in enumerate(("skips", "parameter_free")):
                axes = figure.add_subplot(len(cells), 2, 2 * row + column + 1)
                edges = 0
                for search in watch.all[::-1]:
                    found = [one for epoch in search.epochs for one in epoch.cells if one.cell == cell]
                    edges = max([edges, *(one.edges for one in found)])
                    _draw_counts(axes, search, cell, what, styles[search.stage])
                axes.axhline(edges, color=QUIET, linewidth=1.0, linestyle=(0, (1, 2)))
                axes.annotate(f"all {edges} edges", (0, edges), (3, 3), xycoords=("axes fraction", "data"),
                              textcoords="offset points", fontsize=8, color=QUIET)  # fmt: skip
                axes.set(ylim=(-0.03 * edges, 1.15 * edges))
                axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
                axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
                axes.set_title(f"{words(cell)}: {'skips' if column == 0 else 'operators without parameters'}")
                if row == len(cells) - 1:
                    axes.set_xlabel("epochs")
        _legend(figure, watch)

    return svg("collapse", "Skips and operators without parameters by epoch", (8.8, 0.6 + 2.2 * len(cells)), draw)


def _draw_counts(axes: Axes, search: WatchedSearch, cell: str, what: str, style: dict[str, Any]) -> None:
    points = [(epoch, getattr(one, what)) for epoch in search.epochs for one in epoch.cells if one.cell == cell]
    if not points:
        return
    axes.plot([epoch.number for epoch, _ in points], [count for _, count in points],
              **style, marker="" if len(points) > 1 else "o", markersize=4)  # fmt: skip
    warned = [(epoch.number, count) for epoch, count in points if _warned(epoch, cell)]
    if warned:
        axes.plot(*zip(*warned, strict=True), linewidth=0, marker="x", markersize=5, color=style["color"], zorder=5)


def _warned(epoch: Epoch, cell: str) -> bool:
    return any(warning.cell == cell for warning in epoch.warnings)


def draw_entropy(watch: Watch) -> str:
    """The entropies of operators and edges by update, and the variance of the logits' gradients by epoch."""
    styles = _styles(watch)
    edges = any(search.edge_entropy for search in watch.all)

    def draw(figure: Figure) -> None:
        left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
        for search in watch.all[::-1]:
            style = styles[search.stage]
            for points, more in ((search.operator_entropy, {}), (search.edge_entropy, {"linestyle": _DASHED})):
                if points:
                    left.plot(*zip(*points, strict=True), **(style | more))
            scattered = [(epoch.number, epoch.variance) for epoch in search.epochs if epoch.variance]
            if scattered:
                right.plot(*zip(*scattered, strict=True), **style, marker="" if len(scattered) > 1 else "o")
        left.set(ylim=(0, 1.05), xlabel="updates of the weights", ylabel="share of the largest")
        left.set_title("entropy of operators" + (", dashed: of edges" if edges else ""))
        left.xaxis.set_major_formatter(EngFormatter(sep=""))
        left.xaxis.set_major_locator(MaxNLocator(5))
        right.set_title("variance of the logits’ gradients")
        right.set_xlabel("epochs")
        right.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if right.lines:
            right.set_yscale("log")
            right.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            right.yaxis.set_minor_formatter(NullFormatter())
        _legend(figure, watch)

    return svg("steadiness", "Entropy, and variance of the logits' gradients", (8.8, 3.1), draw)


def draw_trained(search: WatchedSearch) -> str:
    """The share of updates in which each operator of each edge was trained."""
    shares = {one.edge: dict(zip(one.operators, one.shares, strict=True)) for one in search.shares}
    most = max((share for table in shares.values() for share in table.values()), default=1.0)
    return draw_edge_tables("trained", "Share of updates by edge and operator", edge_tables(shares), most=most)


def trained_caption(search: WatchedSearch) -> str:
    """What to look for, with the mean and the unevenness."""
    said = [TRAINED]
    if search.coverage is not None:
        said.append(f"On average an operator was trained in {search.coverage:.1%} of the updates.")
    if search.unevenness is not None:
        said.append(
            f"How often operators ran differs by a coefficient of variation (standard deviation over mean) of "
            f"{search.unevenness:.2f}."
        )
    return " ".join(said)


def _styles(watch: Watch) -> dict[str, dict[str, Any]]:
    """The search strong, its other starts in the same colour with dashes, controls in the colours of their rows."""
    styles = {}
    for search in watch.all:
        if search is watch.search:
            styles[search.stage] = {"color": INK, "linewidth": 2.2, "zorder": 4}
        elif search in watch.starts:
            dashes = _LATER[start_number(search.stage) % len(_LATER)]
            styles[search.stage] = {"color": INK, "linewidth": 1.2, "linestyle": dashes}
        else:
            styles[search.stage] = {"color": row_colour(first_start(search.stage)), "linewidth": 1.4}
    return styles


def _legend(figure: Figure, watch: Watch) -> None:
    """One entry a search, where there are several."""
    if len(watch.all) < 2:
        return
    styles = _styles(watch)
    handles = [Line2D([], [], label=words(search.stage), **styles[search.stage]) for search in watch.all]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)))
