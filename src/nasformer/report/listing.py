"""The drawing of a program: a frame a subprogram with its lines, in the order of the text, column by column."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure

from nasformer.report.figure import INK, svg
from nasformer.report.shapes import canvas, frame

_COLUMNS, _WIDTH, _GAP = 3, 2.8, 0.12
_LINE, _LETTERS = 0.185, 38
MONOSPACED = "DejaVu Sans Mono"


def draw_listing(parts: Sequence[Sequence[str]]) -> str:
    """Each part in a frame; the first line of a subprogram, its name, is bold."""
    wrapped = [[piece for line in part for piece in _pieces(line)] for part in parts]
    heights = [_LINE * len(lines) + 0.2 for lines in wrapped]
    places = columns([height + _GAP for height in heights], _COLUMNS)
    filled = [
        sum(h + _GAP for h, at in zip(heights, places, strict=True) if at == column) for column in range(_COLUMNS)
    ]
    width, height = _COLUMNS * (_WIDTH + _GAP) + _GAP, max(filled) + _GAP

    def draw(figure: Figure) -> None:
        axes = canvas(figure, width, height)
        tops = [height - _GAP] * _COLUMNS
        for lines, size, column in zip(wrapped, heights, places, strict=True):
            left, top = _GAP + column * (_WIDTH + _GAP), tops[column]
            frame(axes, left, top - size, _WIDTH, size, "#FAFAFA", "#9A9A9A")
            for number, line in enumerate(lines):
                bold = "bold" if line.endswith(":") else "normal"
                indent = 0.1 if line.startswith(" ") else 0.0
                place = (left + 0.1 + indent, top - 0.1 - _LINE * (number + 0.5))
                axes.text(*place, line.strip(), family=MONOSPACED, fontsize=8, color=INK, va="center", fontweight=bold)
            tops[column] = top - size - _GAP

    return svg("architecture", "The program, subprogram by subprogram", (width, height), draw)


def _pieces(line: str) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(line, _LETTERS, initial_indent="", subsequent_indent=indent + "  ") or [""]


def columns(heights: Sequence[float], count: int) -> list[int]:
    """In which of `count` columns each height goes, in order, so that the highest column is as low as can be."""
    low, high = max(heights, default=0.0), sum(heights)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if max(_filled(heights, middle), default=0) < count else (middle, high)
    return _filled(heights, high)


def _filled(heights: Sequence[float], limit: float) -> list[int]:
    places: list[int] = []
    column, used = 0, 0.0
    for height in heights:
        if used and used + height > limit:
            column, used = column + 1, 0.0
        places.append(column)
        used += height
    return places
