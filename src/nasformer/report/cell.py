"""The drawing of cells: inputs at the left, nodes, the output at the right, and on every edge its operator's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, combinations, permutations
from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve
from matplotlib.textpath import TextPath

from nasformer.report.figure import INK, LINE_COLOURS, QUIET, family, operator_colour, shades, svg, words
from nasformer.report.shapes import canvas, frame, ink_on
from nasformer.report.wiring import Arrow, Wiring

_FONT, _LETTERS = 7.5, 15
_BEND, _RADIUS, _LANE, _LINE = 0.18, 0.11, 0.16, 0.125
_TITLE, _MARGIN, _BETWEEN, _WIDEST = 0.42, 0.12, 0.45, 11.6
_DASHED: Any = (0, (3, 2))
_QUIET_LINE = "#A9A9A9"


def draw_cells(wirings: Sequence[Wiring], stages: Sequence[int] = ()) -> str:
    """Cells side by side, in rows where they are many; cells of one edge as a chain, `stages` of them to a stage."""
    labels = [arrow.label for wiring in wirings for arrow in wiring.arrows]
    colours = shades(labels, operator_colour)
    if len(wirings) > 1 and all(wiring.single for wiring in wirings):
        return _draw_chain(wirings, stages, colours)
    boards = [_board(wiring) for wiring in wirings]
    rows: list[list[_Board]] = [[]]
    for board in boards:
        if rows[-1] and sum(one.width + _BETWEEN for one in rows[-1]) + board.width > _WIDEST:
            rows.append([])
        rows[-1].append(board)
    width = max(sum(one.width + _BETWEEN for one in row) - _BETWEEN for row in rows) + 2 * _MARGIN
    heights = [_TITLE + max(one.height for one in row) + _MARGIN for row in rows]

    def draw(figure: Figure) -> None:
        axes = canvas(figure, width, sum(heights))
        top = sum(heights)
        for row, height in zip(rows, heights, strict=True):
            left = _MARGIN
            for board in row:
                _draw_board(axes, board, left, top, colours)
                left += board.width + _BETWEEN
            top -= height

    return svg("architecture", "The cells, node by node", (width, sum(heights)), draw)


@dataclass(frozen=True)
class _Board:
    """Where all of a cell stands, in inches: the left side of each column (the output's last), and from the top the
    height of each point and of each arrow's lane; the words on the arrows, and the room for them before each column."""

    wiring: Wiring
    lines: tuple[Arrow, ...]
    columns: tuple[int, ...]
    xs: tuple[float, ...]
    points: tuple[float, ...]
    lanes: tuple[float, ...]
    texts: tuple[tuple[str, ...], ...]
    gaps: tuple[float, ...]
    width: float
    height: float


def _board(wiring: Wiring) -> _Board:
    columns, end = wiring.columns, max(wiring.columns)
    to_output = [Arrow(node, wiring.inputs + wiring.nodes, "", "", "") for node in wiring.output]
    lines = (*wiring.arrows, *(line for line in to_output if columns[line.source] < end))
    ends = tuple(columns[line.target] if line.kind else end for line in lines)
    lanes, places = _arrange(columns, [(line.source, line.target if line.kind else None) for line in lines])
    texts = tuple(_wrapped(line.text) for line in lines)
    rows = max([*lanes, *(int(place + 0.5) for place in places)]) + 1
    tall = [1] * rows
    for lane, text in zip(lanes, texts, strict=True):
        tall[lane] = max(tall[lane], len(text))
    edges = [0.0, *accumulate(_LANE + _LINE * count for count in tall)]
    gaps = [0.0] * end
    for column, text in zip(ends, texts, strict=True):
        gaps[column - 1] = max([gaps[column - 1], *(0.1 + text_width(one, _FONT) for one in text)])
    xs = [_RADIUS + 0.14]
    for gap in gaps:
        xs.append(xs[-1] + 2 * _RADIUS + 2 * _BEND + gap)
    last = [place for place, column in zip(places, columns, strict=True) if column == end]
    heights = [edges[round(place + 0.5)] for place in places]
    return _Board(
        wiring,
        (*lines, *(line for line in to_output if columns[line.source] == end)),
        (*columns, end + 1),
        (*xs, xs[-1] + 2 * _RADIUS + 0.3),
        (*heights, edges[round(sum(last) / len(last) + 0.5)]),
        tuple((edges[lane] + edges[lane + 1]) / 2 for lane in lanes),
        texts,
        tuple(gaps),
        xs[-1] + 2 * _RADIUS + 0.72,
        edges[-1] + _RADIUS,
    )


def _wrapped(text: str) -> tuple[str, ...]:
    return tuple(line for part in text.split(", ") for line in wrap(part, _LETTERS, break_long_words=False))


@lru_cache(maxsize=512)
def text_width(text: str, size: float) -> float:
    """How wide a line of words is in the figures' font, in inches."""
    return float(TextPath((0, 0), text, size=size, prop=FontProperties("DejaVu Sans")).get_extents().width) / 72


_Ports = tuple[int, int | None]
"""The points between which a line runs; the output is None."""


def _arrange(columns: Sequence[int], lines: Sequence[_Ports]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """A lane for each line (whole numbers) and a place for each point (half-way between two lanes), such that nothing
    lies on anything.

    Two lines that pass one gap have different lanes, and two points of one column different places; no lane runs
    through a point. Among all these, one is sought that bends and crosses lines little: from a first one, the best of
    all that differ by one line moved or two swapped, for as long as it is better.
    """
    spans = [(columns[source], max(columns) if target is None else columns[target]) for source, target in lines]
    room = max(sum(start <= gap < end for start, end in spans) for gap in range(max(columns)))
    apart = [
        {other for other, span in enumerate(spans) if other != one and span[0] < end and start < span[1]}
        for one, (start, end) in enumerate(spans)
    ]
    both = list(permutations(range(len(lines)), 2))

    def fits(lanes: Sequence[int]) -> bool:
        return all(lanes[one] != lanes[other] for one, others in enumerate(apart) for other in others)

    def burden(lanes: Sequence[int]) -> float:
        places = _places(columns, lines, lanes)
        ways = [
            [(column, None if port is None else places[port], lane) for column, port in zip(span, line, strict=True)]
            for span, line, lane in zip(spans, lines, lanes, strict=True)
        ]
        bends = sum((place - lane) ** 2 for way in ways for _, place, lane in way if place is not None)
        return bends + sum(_crossings(ways[one], ways[other], one < other) for one, other in both)

    best = _first_lanes(spans, apart)
    while True:
        better = min(filter(fits, _neighbours(best, room + 1)), key=burden, default=best)
        if burden(better) >= burden(best) - 1e-9:
            break
        best = better
    used = sorted(set(best))
    lanes = tuple(used.index(lane) for lane in best)
    return lanes, _places(columns, lines, lanes)


_Way = Sequence[tuple[int, float | None, int]]
"""For both ends of a line: the column, the place of the point, the lane."""


def _crossings(one: _Way, other: _Way, first: bool) -> int:
    """How often a line crosses another one on its way between its points and its lane; two that bend at one point of
    the way are counted with the `first` of them."""
    crossed = 0
    for (column, place, lane), (theirs, their_place, their_lane) in zip(one, other, strict=True):
        if place is None:
            continue
        if other[0][0] < column < other[1][0]:
            crossed += min(place, lane) < their_lane < max(place, lane)
        elif theirs == column and first and their_place is not None:
            crossed += (place - their_place) * (lane - their_lane) < 0
    return crossed


def _first_lanes(spans: Sequence[tuple[int, int]], apart: Sequence[set[int]]) -> list[int]:
    lanes = [-1] * len(spans)
    for one in sorted(range(len(spans)), key=lambda number: (spans[number][0] - spans[number][1], number)):
        lanes[one] = next(lane for lane in range(len(spans)) if all(lanes[other] != lane for other in apart[one]))
    return lanes


def _neighbours(lanes: Sequence[int], room: int) -> list[list[int]]:
    found = []
    for one in range(len(lanes)):
        found += [[*lanes[:one], lane, *lanes[one + 1 :]] for lane in range(room) if lane != lanes[one]]
    for one, other in combinations(range(len(lanes)), 2):
        swapped = list(lanes)
        swapped[one], swapped[other] = swapped[other], swapped[one]
        found.append(swapped)
    return found


def _places(columns: Sequence[int], lines: Sequence[_Ports], lanes: Sequence[int]) -> tuple[float, ...]:
    """The place of each point: near the middle of its lines, each of its own in its column."""
    touched: list[list[int]] = [[] for _ in columns]
    for (source, target), lane in zip(lines, lanes, strict=True):
        touched[source].append(lane)
        if target is not None:
            touched[target].append(lane)
    wanted = [sum(here) / len(here) if here else 0.0 for here in touched]
    places = list(wanted)
    for column in set(columns):
        taken: set[float] = set()
        for point in sorted((p for p, c in enumerate(columns) if c == column), key=lambda p: (wanted[p], p)):
            free = (step - 0.5 for step in range(len(lines) + len(columns)) if step - 0.5 not in taken)
            places[point] = min(free, key=lambda place: (abs(place - wanted[point]), place))
            taken.add(places[point])
    return tuple(places)


def _draw_board(axes: Axes, board: _Board, left: float, top: float, colours: Mapping[str, str]) -> None:
    wiring = board.wiring
    axes.text(left, top - 0.14, title(wiring.name), fontsize=10.5, fontweight="bold", color=INK, va="center")
    xs, base = [left + x for x in board.xs], top - _TITLE
    for number, line in enumerate(board.lines):
        x0, x1 = xs[board.columns[line.source]] + _RADIUS, xs[board.columns[line.target]] - _RADIUS
        y0, y1 = base - board.points[line.source], base - board.points[line.target]
        lane = base - board.lanes[number] if number < len(board.lanes) else None
        leave = x1 - _BEND if line.kind else xs[-2] + _RADIUS
        _draw_line(axes, (x0, y0), (x1, y1), None if lane is None else (lane, leave), line)
        if lane is not None and (text := board.texts[number]):
            gap = board.gaps[board.columns[line.target] - 1]
            _draw_words(axes, x1 - _BEND - gap / 2, lane, gap, text, line, colours[line.label])
    for point, height in enumerate(board.points):
        _draw_point(axes, xs[board.columns[point]], base - height, point, wiring)


def _draw_line(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], lane: tuple[float, float] | None, line: Arrow
) -> None:
    """From a point onto a lane (its height, and where it is left) and to the other point."""
    (x0, y0), (x1, y1) = start, end
    points = [start]
    if lane is not None:
        points += [(x0 + _BEND / 2, y0), (x0 + _BEND / 2, lane[0]), (x0 + _BEND, lane[0]), (lane[1], lane[0])]
    (x, y), codes = points[-1], [Curve.MOVETO, *([Curve.CURVE4] * 3 + [Curve.LINETO]) * (lane is not None)]
    points += [((x + x1) / 2, y), ((x + x1) / 2, y1), (x1, y1)]
    colour, style, width = _line_style(line)
    path = Curve(points, [*codes, *[Curve.CURVE4] * 3])
    axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=width, linestyle=style, zorder=1))
    axes.plot([x1 - 0.03], [y1], marker=">", markersize=4 if line.kind else 3, color=colour, zorder=1)


def _line_style(line: Arrow) -> tuple[str, Any, float]:
    """Lines without an operator thin, those that learn nothing dashed, those that learn in their operator's colour."""
    if not line.kind:
        return "#D0D0D0", "-", 1.0
    if line.parameter_free:
        return _QUIET_LINE, _DASHED, 1.1
    kind = family(line.label)
    return LINE_COLOURS.get(kind) or operator_colour(kind), "-", 1.7


def _draw_words(axes: Axes, x: float, y: float, width: float, text: Sequence[str], line: Arrow, colour: str) -> None:
    height = _LINE * len(text) + 0.07
    left, bottom = x - width / 2, y - height / 2
    frame(axes, left, bottom, width, height, colour, QUIET if line.parameter_free else "none", order=2)
    if line.parameter_free:
        axes.patches[-1].set(linestyle=_DASHED)
    ink = ink_on(colour)
    axes.text(x, y, "\n".join(text), fontsize=_FONT, color=ink, ha="center", va="center", linespacing=1.05, zorder=3)


def _draw_point(axes: Axes, x: float, y: float, point: int, wiring: Wiring) -> None:
    """An input (square), a node (circle), or the output."""
    if point == wiring.inputs + wiring.nodes:
        axes.text(x - 0.08, y, "output", fontsize=_FONT, color=INK, va="center")
        return
    inside = point >= wiring.inputs
    axes.plot(
        [x],
        [y],
        marker="o" if inside else "s",
        markersize=144 * _RADIUS - 1,
        color="white" if inside else "#EDEDED",
        markeredgecolor=INK if inside else QUIET,
        markeredgewidth=1.1,
        zorder=4,
    )
    axes.text(x, y, str(point), fontsize=8, color=INK, ha="center", va="center_baseline", zorder=5)


def title(path: str) -> str:
    """What a cell is called: `normal cell`, `decoder cell`, `block 3`."""
    parts = [part for part in path.split(".") if part != "cell"]
    if parts and parts[-1].isdecimal():
        return " ".join([*parts[:-2], *(parts[-2].removesuffix("s") for _ in parts[-2:-1]), parts[-1]])
    return " ".join([*map(words, parts), "cell"])


_PER_ROW, _LINK, _STAGE = 8, 0.2, 0.28


def _draw_chain(wirings: Sequence[Wiring], stages: Sequence[int], colours: Mapping[str, str]) -> str:
    """A row of blocks from the left to the right, with the numbers of blocks and stages above."""
    arrows = [wiring.arrows[0] for wiring in wirings]
    texts = [_wrapped(arrow.text) for arrow in arrows]
    block = max([0.5, *(0.14 + text_width(line, _FONT) for text in texts for line in text)])
    begins, at = {}, 0
    for number, count in enumerate(stages):
        begins[at] = number
        at += count
    rows = -(-len(arrows) // _PER_ROW)
    row_height = 0.62 + _LINE * max(map(len, texts))
    step = block + _LINK
    width = 2 * _MARGIN + min(len(arrows), _PER_ROW) * step + _STAGE * len(begins)
    height = rows * row_height + _MARGIN

    def draw(figure: Figure) -> None:
        axes = canvas(figure, width, height)
        left = _MARGIN
        for number, (arrow, text) in enumerate(zip(arrows, texts, strict=True)):
            row, place = divmod(number, _PER_ROW)
            left = _MARGIN if place == 0 else left
            y = height - row * row_height - 0.42 - _LINE * max(map(len, texts)) / 2
            end = left + _LINK + (_STAGE if number in begins else 0.0)
            axes.plot([left, end - 0.04], [y, y], color=_QUIET_LINE, linewidth=1.2, zorder=1)
            axes.plot([end - 0.06], [y], marker=">", markersize=4, color=_QUIET_LINE, zorder=1)
            _draw_words(axes, end + block / 2, y, block, text, arrow, colours[arrow.label])
            high = y + _LINE * max(map(len, texts)) / 2 + 0.14
            axes.text(end + block / 2, high, str(number), fontsize=_FONT, color=QUIET, ha="center", va="center")
            if number in begins:
                stage = f"stage {begins[number]}"
                axes.text(end, high + 0.17, stage, fontsize=8.5, fontweight="bold", color=INK, va="center")
            left = end + block

    return svg("architecture", "The blocks, one after another", (width, height), draw)
