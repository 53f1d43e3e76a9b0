"""Draw a differentiable search: the probabilities of every node's options over time, and their entropy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from nasformer.report.edge_table import draw_edge_tables, edge_place, edge_tables
from nasformer.report.figure import FAINT, INK, LINE_COLOURS, QUIET, family, operator_colour, shades, svg, words
from nasformer.report.values import Differentiable, Probabilities

_DASHES: dict[str, Any] = {
    "zero": (0, (1, 1)),
    "none": (0, (1, 1)),
    "identity": (0, (4, 1.5)),
    "skip": (0, (4, 1.5)),
    "noise": (0, (2, 1)),
    "max_pool": (0, (5, 1)),
    "average_pool": (0, (3, 1, 1, 1)),
    "fourier": (0, (6, 1, 1, 1)),
}
_MOST_COLUMNS = 4
_LONGEST_NAME = 20


def on_edges(probabilities: Sequence[Probabilities]) -> bool:
    """Whether all choices are of operators on the edges of cells."""
    return bool(probabilities) and all(edge_place(one.choice) is not None for one in probabilities)


def draw_probabilities(
    probabilities: Sequence[Probabilities], edges: Mapping[str, Mapping[str, float]] | None = None
) -> str:
    """One panel a node, one line an option; the option that wins is named at its line's end.

    Of operators on the edges of cells, which are many, tables of the last probabilities, those of `edges` before them.
    """
    if on_edges(probabilities):
        last = {o.choice: {name: s[-1] for name, s in zip(o.options, o.shares, strict=True)} for o in probabilities}
        return draw_edge_tables("probabilities", "Probability of each operator", edge_tables(last, edges), framed=True)
    options = list(dict.fromkeys(option for one in probabilities for option in one.options))
    styles = line_styles(options)
    places = panel_places([one.choice for one in probabilities])
    rows, columns = (1 + max((place[axis] for place in places), default=0) for axis in (0, 1))
    top = max((max(map(max, one.shares)) for one in probabilities), default=1.0)

    def draw(figure: Figure) -> None:
        first: Axes | None = None
        for one, (row, column) in zip(probabilities, places, strict=True):
            axes = figure.add_subplot(rows, columns, row * columns + column + 1, sharex=first, sharey=first)
            first = first or axes
            _draw_panel(axes, one, styles)
            below = any(there == column and row < other for other, there in places)
            axes.tick_params(labelbottom=not below, labelleft=column == 0, labelsize=8.5)
            axes.set_xlabel("" if below else "updates of the weights", fontsize=8.5)
        if first is not None:
            first.set_ylim(0, min(1.0, top) * 1.3)
            first.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            first.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
            first.xaxis.set_major_formatter(EngFormatter(sep=""))
            first.xaxis.set_major_locator(MaxNLocator(4))
            figure.supylabel("probability", fontsize=10, color=INK)
        handles = [Line2D([], [], label=words(option), **styles[option]) for option in options]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=2.4)

    legend = 0.22 * -(-len(options) // 4)
    return svg("probabilities", "Probability of each option by update", (8.8, 0.75 + legend + 1.6 * rows), draw)


def _draw_panel(axes: Axes, one: Probabilities, styles: dict[str, dict[str, Any]]) -> None:
    axes.axhline(1 / len(one.options), color="#c8c8c8", linewidth=0.9, zorder=1)
    for number, option in enumerate(one.options):
        wins = number == one.winner
        axes.plot(one.updates, one.shares[number], **styles[option] | ({"linewidth": 2.4, "zorder": 4} if wins else {}))
    name = f"{words(one.options[one.winner])}: {one.shares[one.winner][-1]:.0%}"
    name = name.replace(" ", "\n", 1) if len(name) > _LONGEST_NAME else name
    covered = len(one.updates) * 3 // 4  # the label stands above all lines in this last part of the panel
    axes.annotate(
        name,
        (one.updates[-1], max(max(line[-covered:]) for line in one.shares)),
        (0, 4),
        textcoords="offset points",
        ha="right",
        linespacing=1.05,
        fontsize=8,
        fontweight="bold",
        color=INK,
    )
    axes.set_title(place_name(one.choice), fontsize=9, color=INK)


def line_styles(options: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour by kind of operator, a darker shade for a larger kernel, dashes where nothing is computed."""
    colours = shades(options, lambda kind: LINE_COLOURS.get(kind) or operator_colour(kind))
    return {
        option: {"color": colour, "linestyle": _DASHES.get(family(option), "-"), "linewidth": 1.2}
        for option, colour in colours.items()
    }


def place_name(choice: str) -> str:
    """`encoder, layer 0, split 1` for `encoder.layers.0.nodes.0`."""
    stack, layer, node = _place(choice) or (words(choice), None, None)
    layer_name = "" if layer is None else f", layer {layer}"
    return f"{stack}{layer_name}" + ("" if node is None else f", split {node + 1}")


def panel_places(choices: Sequence[str]) -> list[tuple[int, int]]:
    """Row and column of each choice's panel: a column a node, the stacks side by side where they fit, and the input's
    layer at the bottom as in the drawing of the architecture."""
    places = [_place(choice) for choice in choices]
    known = [place for place in places if place is not None]
    if len(known) < len(places):
        return [divmod(number, _MOST_COLUMNS) for number in range(len(choices))]
    stacks = {stack: [place for place in known if place[0] == stack] for stack in sorted({k[0] for k in known})[::-1]}
    widths = {stack: 1 + max(node or 0 for _, _, node in inside) for stack, inside in stacks.items()}
    depths = {stack: 1 + max(layer for _, layer, _ in inside) for stack, inside in stacks.items()}
    beside = sum(widths.values()) <= _MOST_COLUMNS
    row = column = 0
    corners = {}
    for stack in sorted(stacks, reverse=beside):  # encoder at the left, or the decoder above
        corners[stack] = (max(depths.values()) if beside else row + depths[stack], column)
        row, column = row + depths[stack], column + widths[stack] if beside else 0
    return [(corners[stack][0] - 1 - layer, corners[stack][1] + (node or 0)) for stack, layer, node in known]


def _place(choice: str) -> tuple[str, int, int | None] | None:
    found = re.fullmatch(r"(\w+)\.layers\.(\d+)\.(?:nodes\.(\d+)|mixer)", choice)
    return found and (found[1], int(found[2]), None if found[3] is None else int(found[3]))


def draw_entropy(search: Differentiable) -> str:
    """The entropy of every node of the start that was taken, and the mean of every start."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        stacks: dict[str, str] = {}
        for one in search.probabilities:
            stack = one.choice.split(".")[0]
            dashes: Any = (
                "-" if stacks.setdefault(stack, f"a node of the {stack}") and stack != "decoder" else (0, (4, 2))
            )
            label = stacks[stack] if all(line.get_label() != stacks[stack] for line in axes.lines) else "_"
            axes.plot(one.updates, one.entropies, color=QUIET, alpha=0.55, linewidth=1.0, linestyle=dashes, label=label)
        for number, start in enumerate(search.starts):
            taken = number == search.taken
            which = f"mean of start {number + 1}" + (" (taken)" if taken and search.decided else "")
            label = which if len(search.starts) > 1 else "mean of all nodes"
            style: Any = (
                {"color": INK, "linewidth": 2.4, "zorder": 4} if taken else {"color": "#0072B2", "linewidth": 1.2}
            )
            axes.plot(start.updates, start.entropies, label=label, **style)
        for rewinds in search.rewinds:
            if rewinds.stage == search.starts[search.taken].stage:
                for place, update in enumerate(rewinds.updates):
                    label = "_" if place else "went back"
                    axes.axvline(update, color="#D55E00", linewidth=1.0, linestyle=(0, (1, 2)), label=label)
        axes.axhline(1.0, color=FAINT, linewidth=1.0, zorder=0)
        axes.set(ylim=(0, 1.05), xlabel="updates of the weights", ylabel="entropy\n(share of the largest)")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, labelspacing=0.6)

    return svg("entropy", "Entropy of the selections by update", (8.8, 2.7), draw)
