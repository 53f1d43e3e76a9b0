"""Tables of shades over edges and operators: a row an edge, a column an operator, one panel a type of cell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nasformer.report.cell import text_width, title
from nasformer.report.figure import FAINT, INK, QUIET, svg, words
from nasformer.report.shapes import canvas, ink_on


@dataclass(frozen=True)
class EdgePlace:
    """Where an edge is: its type of cell, the number of its cell in a row of cells (None: there is one), its node, and
    its source (or, where `fixed`, its number among the edges of the node)."""

    cell: str
    block: int | None
    node: int
    source: int
    fixed: bool


@dataclass(frozen=True)
class EdgeTable:
    """The panel of a type of cell: shares (0 to 1) by edge and column, None where there is no such option.

    `rows` are the names of the edges and the number of the node (or block) that each belongs to; the first `apart`
    columns are not of operators.
    """

    title: str
    rows: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    shares: tuple[tuple[float | None, ...], ...]
    apart: int = 0


def edge_place(name: str) -> EdgePlace | None:
    """The place of an edge by the name of the edge or of the choice of its operator; None for other names."""
    found = re.fullmatch(r"(.+)\.nodes\.(\d+)\.(?:edges\.)?(from_)?(\d+)(?:\.operator)?", name)
    if found is None:
        return None
    cell, node, source, number = found[1], int(found[2]), found[3], int(found[4])
    row = re.fullmatch(r"(.+)\.(\d+)", cell)
    return EdgePlace(row[1] if row else cell, int(row[2]) if row else None, node, number, source is None)


def edge_tables(
    operators: Mapping[str, Mapping[str, float]], edges: Mapping[str, Mapping[str, float]] | None = None
) -> tuple[EdgeTable, ...]:
    """The tables of what each operator of each edge has, by the name of the edge or of its choice.

    `edges` are what the edges themselves have, by the choice of the edges of a node (`CELL.nodes.NODE.edges`) and
    `from_SOURCE`: a column of its own before all others.
    """
    places = {name: place for name in operators if (place := edge_place(name)) is not None}
    own = {f"{choice}.{edge}": share for choice, table in (edges or {}).items() for edge, share in table.items()}
    known = dict.fromkeys(option for name in places for option in operators[name])
    tables = []
    for cell in dict.fromkeys(place.cell for place in places.values()):
        inside = sorted((_key(place), name) for name, place in places.items() if place.cell == cell)
        names = [name for _, name in inside]
        inputs = 1 + max((places[name].source for name in names if places[name].node == 0), default=0)
        options = tuple(option for option in known if any(option in operators[name] for name in names))
        used = [own.get(name.removesuffix(".operator")) for name in names]
        first = any(share is not None for share in used)
        shares = tuple(
            (*([share] if first else []), *(operators[name].get(option) for option in options))
            for name, share in zip(names, used, strict=True)
        )
        rows = tuple(_row(places[name], inputs) for name in names)
        columns = (*(["the edge itself"] if first else []), *options)
        tables.append(EdgeTable(title(cell), rows, columns, shares, int(first)))
    return tuple(tables)


def _key(place: EdgePlace) -> tuple[int, int, int]:
    return (-1 if place.block is None else place.block, place.node, place.source)


def _row(place: EdgePlace, inputs: int) -> tuple[str, int]:
    edge = f"edge {place.source} of {inputs + place.node}" if place.fixed else f"{place.source} → {inputs + place.node}"
    if place.block is None:
        return edge, place.node
    return f"{place.block}" if place.fixed and place.node == 0 else f"{place.block}: {edge}", place.block


_ROW, _COLUMN, _NODE, _APART, _FONT = 0.2, 0.36, 0.07, 0.1, 6.8
_DARK = "#2B5C8A"


def draw_edge_tables(
    name: str, says: str, tables: Sequence[EdgeTable], *, most: float = 1.0, framed: bool = False
) -> str:
    """Panels side by side; a share of `most` is darkest; `framed`: the largest of each row's operators has a frame."""
    heads = 0.1 + max((text_width(words(column), 7.5) for table in tables for column in table.columns), default=0.5)
    lefts = [0.15 + max((text_width(row, 7.5) for row, _ in table.rows), default=0.0) for table in tables]
    widths = [left + _COLUMN * len(table.columns) + _APART + 0.3 for left, table in zip(lefts, tables, strict=True)]
    gaps = [sum(a[1] != b[1] for a, b in zip(table.rows, table.rows[1:], strict=False)) for table in tables]
    tall = max((_ROW * len(table.rows) + _NODE * gap for table, gap in zip(tables, gaps, strict=True)), default=0.5)
    width, height = max(4.0, sum(widths)), tall + heads + 0.5

    def draw(figure: Figure) -> None:
        axes = canvas(figure, width, height)
        left = 0.05
        for table, room, wide in zip(tables, lefts, widths, strict=True):
            axes.text(left, height - 0.14, table.title, fontsize=10.5, fontweight="bold", color=INK, va="center")
            _draw_panel(axes, table, left + room, height - 0.35 - heads, most, framed)
            left += wide

    return svg(name, says, (width, height), draw)


def _draw_panel(axes: Axes, table: EdgeTable, left: float, top: float, most: float, framed: bool) -> None:
    xs = [left + _COLUMN * number + _APART * (number >= table.apart > 0) for number in range(len(table.columns))]
    for x, column in zip(xs, table.columns, strict=True):
        axes.text(x + _COLUMN / 2, top + 0.06, words(column), fontsize=7.5, color=INK, rotation=90, ha="center")
    y, cells = top, []
    for number, ((row, node), shares) in enumerate(zip(table.rows, table.shares, strict=True)):
        if number and table.rows[number - 1][1] != node:
            y -= _NODE
        y -= _ROW
        axes.text(left - 0.06, y + _ROW / 2, row, fontsize=7.5, color=QUIET, ha="right", va="center")
        largest = max((share for share in shares[table.apart :] if share is not None), default=None)
        for place, (x, share) in enumerate(zip(xs, shares, strict=True)):
            if share is None:
                continue
            colour = _tint(min(1.0, share / most if most else 0.0))
            front = framed and place >= table.apart and share == largest
            corners = Rectangle((x + 0.01, y + 0.01), _COLUMN - 0.02, _ROW - 0.02)
            cells.append((front, corners, colour))
            text = f"{100 * share:.0f}"
            style: Any = {"fontsize": _FONT, "color": ink_on(colour), "ha": "center", "va": "center"}
            axes.text(x + _COLUMN / 2, y + _ROW / 2, text, zorder=3, **style)
    cells.sort(key=lambda one: one[0])  # frames above the others
    axes.add_collection(
        PatchCollection(
            [corners for _, corners, _ in cells],
            facecolors=[colour for *_, colour in cells],
            edgecolors=[INK if front else FAINT for front, *_ in cells],
            linewidths=[1.1 if front else 0.5 for front, *_ in cells],
        )
    )


def _tint(share: float) -> str:
    """White at 0, dark at 1."""
    red, green, blue = (1 - share * (1 - part) for part in to_rgb(_DARK))
    return to_hex((red, green, blue))
