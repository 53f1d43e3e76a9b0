"""Draw: gathered values become plots, each an SVG string to stand inside a page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator

from nasformer.report.differentiable import first_start
from nasformer.report.figure import FAINT, INK, QUIET, operator_colour, row_colour, svg, words
from nasformer.report.lead import Followed
from nasformer.report.table import amount
from nasformer.report.values import FOUND, Divergence, Exploration, Measured, Round, Row, Scatter, SearchCurve, Shares

_MARKERS = "osD^vPX<>ph"
_MOST_POINTS = 1000
_NARROWEST = 0.2
_LATER_STARTS: Any = ((0, (4, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)))


def trains_supernet(stage: str) -> bool:
    """Whether a stage trains a supernet (`search_2`, `spos_search`, …); `random_search` fine-tunes a plain model."""
    first = first_start(stage)
    return first == "search" or (first.endswith("_search") and first != "random_search")


def draw_curves(curves: Sequence[SearchCurve], rounds: Sequence[Round] = ()) -> str:
    """Loss against updates of every stage; the supernet's stage above, with its rounds, the plain models' below."""
    curves = [curve for curve in curves if curve.updates or curve.validation_updates]
    supernets = [curve for curve in curves if trains_supernet(curve.stage)]
    models = [curve for curve in curves if not trains_supernet(curve.stage)]
    panels = [(title, panel) for title, panel in (("Supernets", supernets), ("Plain models", models)) if panel]

    def draw(figure: Figure) -> None:
        for row, (title, panel) in enumerate(panels):
            axes = figure.add_subplot(len(panels), 1, row + 1)
            for curve in panel:
                _draw_curve(axes, curve)
            _name_axes(axes, "updates", "loss (nats)")
            axes.set_title(title)
            _legend(axes)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            if any(curve.stage == "search" for curve in panel):
                for number, one in enumerate(rounds):
                    axes.axvline(one.update, color=QUIET, linewidth=0.8, linestyle=(0, (2, 2)))
                    axes.annotate(
                        ("round " if number == 0 else "") + str(one.number),
                        (one.update, 1.0),
                        (2, -9),
                        xycoords=("data", "axes fraction"),
                        textcoords="offset points",
                        fontsize=8,
                        color=QUIET,
                    )

    return svg("curves", "Loss by update of every stage", (8.4, 0.4 + 2.9 * max(1, len(panels))), draw)


def _draw_curve(axes: Axes, curve: SearchCurve) -> None:
    first = first_start(curve.stage)
    colour, label = row_colour(first), words(curve.stage)
    line = "-" if curve.stage == first else _LATER_STARTS[int(curve.stage[len(first) + 1 :]) % len(_LATER_STARTS)]
    line = "--" if first.endswith("_retrained") else line
    thick = 2.4 if curve.stage == FOUND else 1.5
    if curve.updates:
        step = 1 + len(curve.updates) // _MOST_POINTS
        updates = curve.updates[::step]
        alone = "o" if len(updates) == 1 else ""
        axes.plot(updates, curve.losses[::step], color=colour, alpha=0.18, linewidth=0.8)
        axes.plot(
            updates, curve.smoothed[::step], color=colour, linewidth=thick, linestyle=line, marker=alone, label=label
        )
        label = "_"
    if curve.validation_updates:
        axes.plot(
            curve.validation_updates,
            curve.validation_losses,
            color=colour,
            linewidth=0,
            marker="o",
            markersize=4,
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=label,
        )


def draw_lead(followed: Sequence[Followed]) -> str:
    """Validation loss against updates of the trainings of the found architecture and of its strongest control."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for one in followed:
            ours = one.stage == FOUND or one.stage.startswith(("fine_tuned", "retrained"))
            line = "--" if "retrained" in one.stage else "-"
            colour = row_colour(FOUND if ours else one.stage)
            axes.plot(one.updates, one.losses, color=colour, linestyle=line, marker="o", markersize=4, label=one.label)
        _name_axes(axes, "updates", "validation loss\n(nats, lower is better)")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        _legend(axes)

    return svg("lead", "Validation loss of the found architecture and of its strongest control", (8.4, 3.3), draw)


def draw_exploration(explorations: Sequence[Exploration]) -> str:
    """Best and median score of the explored set, iteration by iteration, one background band a round."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        places = range(1, len(explorations) + 1)
        axes.plot(places, [one.median for one in explorations], color=QUIET, marker="o", markersize=4, label="median")
        axes.plot(places, [one.best for one in explorations], color=INK, marker="o", markersize=4, label="best")
        start = 0
        for band, (number, group) in enumerate(groupby(explorations, key=lambda one: one.round)):
            end = start + len(list(group))
            axes.axvspan(start + 0.5, end + 0.5, color="#f5f5f5" if band % 2 == 0 else "white", zorder=0, linewidth=0)
            axes.annotate(
                str(number) if band else f"round {number}",
                (start + 0.5, 1.0),
                (3, -9),
                fontsize=8,
                color=QUIET,
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
            )
            start = end
        axes.set_xlim(0.5, max(1, start) + 0.5)
        axes.margins(y=0.15)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        _name_axes(axes, "iterations of the exploration", "score (loss + penalties, lower is better)")
        axes.grid(False, axis="x")
        _legend(axes)

    return svg("exploration", "Best and median score of the explored set", (8.4, 3.3), draw)


def draw_operator_shares(shares: Sequence[Shares]) -> str:
    """The share of each operator: a row a layer (the input's at the bottom), a column a round, one panel a stack."""
    chosen = [one for one in shares if one.is_operator]
    stacks = {name: list(group) for name, group in groupby(chosen, key=lambda one: one.choice.split(".")[0])}
    stacks = dict(sorted(stacks.items(), key=lambda item: item[0] != "encoder"))
    kinds = list(dict.fromkeys(option for one in chosen for option in one.options))
    depth = max((len(group) for group in stacks.values()), default=1)

    def draw(figure: Figure) -> None:
        for column, (name, group) in enumerate(stacks.items()):
            axes = figure.add_subplot(1, len(stacks), column + 1)
            for layer, one in enumerate(group):
                _stack_bars(axes, layer, one)
            axes.set_title(name)
            axes.set_ylim(0, depth)
            axes.set_yticks([layer + 0.41 for layer in range(len(group))], [_layer_name(one.choice) for one in group])
            _round_ticks(axes, sorted({number for one in group for number in one.rounds}))
            axes.set_xlabel("after round")
            axes.grid(False)
            axes.tick_params(length=0)
            axes.spines[["left", "bottom"]].set_visible(False)
        patches = [Patch(facecolor=operator_colour(kind), label=words(kind)) for kind in kinds]
        figure.legend(handles=patches, loc="outside lower center", ncols=min(4, max(1, len(kinds))))

    return svg("shares", "Share of each operator by layer and round", (8.4, 1.5 + 0.5 * depth), draw)


def _stack_bars(axes: Axes, layer: int, one: Shares) -> None:
    bottoms = [float(layer)] * len(one.rounds)
    for option, heights in zip(one.options, zip(*one.shares, strict=True), strict=True):
        scaled = [0.82 * height for height in heights]
        axes.bar(one.rounds, scaled, bottom=bottoms, width=0.94, color=operator_colour(option), linewidth=0)
        bottoms = [bottom + height for bottom, height in zip(bottoms, scaled, strict=True)]


def draw_scatter(scatter: Scatter) -> str:
    """Size against quality: the trained rows above with intervals, the members scored by the search below."""
    rows = [row for row in scatter.comparison.rows if row.core_parameters is not None]
    main = scatter.comparison.main
    rows = [row for row in rows if main.name in row.qualities]
    panels = [panel for panel, there in (("rows", rows), ("members", scatter.members)) if there]

    def draw(figure: Figure) -> None:
        first: Axes | None = None
        for number, panel in enumerate(panels):
            axes = first = figure.add_subplot(len(panels), 1, number + 1, sharex=first)
            if panel == "members":
                sizes, losses = zip(*scatter.members, strict=True)
                axes.scatter(
                    sizes, losses, s=16, color=row_colour("search"), alpha=0.55, linewidths=0, label="evaluated members"
                )
                _name_axes(axes, "core parameters", "validation loss\n(nats, lower is better)")
            else:
                for row, marker in zip(rows, cycle(_MARKERS), strict=False):
                    _draw_row(axes, row, row.qualities[main.name], marker)
                better = "higher" if main.higher_is_better else "lower"
                _name_axes(axes, "core parameters", f"{main.label}\n({better} is better)")
            if scatter.limit is not None:
                axes.axvline(
                    scatter.limit,
                    color=INK,
                    linewidth=1.0,
                    linestyle=(0, (4, 3)),
                    label=f"limit {amount(scatter.limit)}",
                )
            axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
            axes.xaxis.set_major_locator(MaxNLocator(8))
            axes.margins(x=0.06)
            low, high = axes.get_xlim()
            if high - low < _NARROWEST * (low + high) / 2:  # models of one size stand above each other
                middle = (low + high) / 2
                axes.set_xlim((1 - _NARROWEST / 2) * middle, (1 + _NARROWEST / 2) * middle)
            _legend(axes)

    return svg("scatter", "Size against quality", (8.4, 0.4 + 3.0 * max(1, len(panels))), draw)


def _draw_row(axes: Axes, row: Row, value: Measured, marker: str) -> None:
    below = 0.0 if value.low is None else max(0.0, value.value - value.low)
    above = 0.0 if value.high is None else max(0.0, value.high - value.value)
    star = row.name == FOUND
    axes.errorbar(
        [row.core_parameters or 0.0],
        [value.value],
        yerr=[[below], [above]],
        color=row_colour(row.name),
        marker="*" if star else marker,
        markersize=14 if star else 7,
        linewidth=0,
        elinewidth=1.2,
        zorder=4 if star else 3,
        label=row.label,
    )


def draw_divergence(entries: Sequence[Divergence]) -> str:
    """The divergence of the sampled architectures before and after each round, joined by a line."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for one in entries:
            if one.before is not None and one.after is not None:
                axes.plot([one.round, one.round], [one.before, one.after], color=FAINT, linewidth=4, zorder=1)
        for when, colour, marker in (("before", QUIET, "o"), ("after", "#0072B2", "s")):
            points = [(one.round, value) for one in entries if (value := getattr(one, when)) is not None]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    color=colour,
                    marker=marker,
                    markersize=7,
                    linewidth=0,
                    label=f"{when} the round",
                )
        _round_ticks(axes, [one.round for one in entries])
        axes.margins(y=0.12)
        axes.set_ylim(bottom=0)
        _name_axes(axes, "round", "variance of the output\n(no unit)")
        axes.grid(False, axis="x")
        _legend(axes)

    return svg("divergence", "Divergence before and after each round", (8.4, 2.9), draw)


def _round_ticks(axes: Axes, rounds: Sequence[int]) -> None:
    """A tick at each round, or at every so many of them where they are too many to read."""
    if rounds:
        axes.set_xlim(rounds[0] - 0.6, rounds[-1] + 0.6)
        axes.set_xticks(rounds[:: 1 + len(rounds) // 12])


def _legend(axes: Axes) -> None:
    """The legend, where there is something to tell, beside the plot so that it hides nothing."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, labelspacing=0.6)


def _name_axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _layer_name(choice: str) -> str:
    number = next((part for part in choice.split(".") if part.isdecimal()), None)
    return choice if number is None else f"layer {number}"
