"""The drawing of an architecture: stacks of coloured blocks, or nested boxes where its family has no stacks."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve

from nasformer.report.cell import draw_cells
from nasformer.report.diagram import Block, Box, Diagram, Stack
from nasformer.report.figure import INK, QUIET, operator_colour, svg, words
from nasformer.report.listing import draw_listing
from nasformer.report.reversible import draw_reversible
from nasformer.report.shapes import canvas, frame, ink_on, short


def draw_architecture(diagram: Diagram) -> str:
    """The architecture: stacks of layers with the input at the bottom, or nested boxes for an unknown family.

    Reversible stacks, programs and cells have drawings of their own; cells stand above stacks that go with them.
    """
    if diagram.cells:
        return draw_cells(diagram.cells, diagram.stages) + (_draw_stacks(diagram) if diagram.stacks else "")
    if diagram.parts:
        return draw_listing(diagram.parts)
    if any(stack.splits for stack in diagram.stacks):
        return draw_reversible(diagram)
    return _draw_stacks(diagram) if diagram.stacks else _draw_box(diagram.box or Box(diagram.family))


_WIDTH, _GAP, _BLOCK, _SPACE = 3.7, 1.2, 0.38, 0.26


def _draw_stacks(diagram: Diagram) -> str:
    heights = [sum(_BLOCK * len(layer) + _SPACE for layer in stack.layers) for stack in diagram.stacks]
    height, width = max(heights) + 0.35, len(diagram.stacks) * (_WIDTH + _GAP) - _GAP + 0.2

    def draw(figure: Figure) -> None:
        axes = canvas(figure, width, height)
        ports: dict[tuple[str, int, str], tuple[float, float]] = {}
        for column, stack in enumerate(diagram.stacks):
            _draw_stack(axes, stack, 0.1 + column * (_WIDTH + _GAP), ports)
        for line in diagram.connections:
            x0, y0 = ports["encoder", line.encoder_layer, "out"]
            x1, y1 = ports["decoder", line.decoder_layer, "cross"]
            points = [(x0, y0), (x0 + 0.7, y0), (x1 - 0.7, y1), (x1, y1)]
            path = Curve(points, [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4])
            axes.add_patch(PathPatch(path, facecolor="none", edgecolor="#3D8FC4", linewidth=1.2, alpha=0.8))
            axes.plot([x1], [y1], marker=">", markersize=4, color="#3D8FC4")

    return svg("architecture", "The architecture, layer by layer", (width, height), draw)


def _draw_stack(axes: Axes, stack: Stack, left: float, ports: dict[tuple[str, int, str], tuple[float, float]]) -> None:
    dim = "" if stack.dim is None else f", {stack.dim} channels"
    axes.text(
        left,
        0.12,
        f"{stack.name}: {len(stack.layers)} layer{'s' * (len(stack.layers) != 1)}{dim}",
        fontsize=10.5,
        fontweight="bold",
        color=INK,
        va="center",
    )
    bottom = 0.4
    for number, layer in enumerate(stack.layers):
        top = bottom + _BLOCK * len(layer) + 0.1
        frame(axes, left, bottom, _WIDTH, top - bottom, "#F8F8F8", "#C4C4C4")
        axes.text(left + 0.17, (bottom + top) / 2, str(number), fontsize=9, color=QUIET, ha="center", va="center")
        for place, block in enumerate(layer):
            low = bottom + 0.07 + place * _BLOCK
            _draw_block(axes, block, left + 0.34, low, _WIDTH - 0.42)
            if block.kind == "cross_attention":
                ports[stack.name, number, "cross"] = (left - 0.04, low + _BLOCK / 2 - 0.02)
        ports[stack.name, number, "out"] = (left + _WIDTH, top - 0.2)
        bottom = top + _SPACE - 0.1


def _draw_block(axes: Axes, block: Block, left: float, bottom: float, width: float) -> None:
    colour = operator_colour(block.kind)
    frame(axes, left, bottom, width, _BLOCK - 0.04, colour, "none")
    ink = ink_on(colour)
    name = words(block.kind)
    room = 47 - round(1.1 * len(name))
    middle = bottom + _BLOCK / 2 - 0.02
    axes.text(left + 0.08, middle, name, fontsize=8, fontweight="bold", color=ink, va="center")
    axes.text(left + width - 0.08, middle, short(block.text, room), fontsize=8, color=ink, va="center", ha="right")


_LINE, _MOST_LINES = 0.3, 160


def _draw_box(box: Box) -> str:
    height, width = _LINE * min(_lines(box), _MOST_LINES + 1) + 0.2, 8.0

    def place(axes: Axes, one: Box, left: float, top: float, right: float, odd: bool) -> float:
        end = top - _LINE * _lines(one)
        if top < 0.1 + _LINE:
            return end
        if end > 0:
            frame(axes, left, end + 0.05, right - left, top - end - 0.08, "#F3F6F9" if odd else "white", "#9AA7B4")
        middle = top - _LINE / 2 - 0.03
        axes.text(left + 0.1, middle, one.title, fontsize=8.5, fontweight="bold", color=INK, va="center")
        room = int((right - left) * 12.5) - round(1.25 * len(one.title))
        axes.text(right - 0.1, middle, short(one.text, room), fontsize=8, color=INK, va="center", ha="right")
        top -= _LINE
        for part in one.inner:
            top = place(axes, part, left + 0.15, top, right - 0.1, not odd)
        return end

    def draw(figure: Figure) -> None:
        axes = canvas(figure, width, height)
        place(axes, box, 0.1, height - 0.1, width - 0.1, False)
        if _lines(box) > _MOST_LINES:
            axes.text(width / 2, 0.15, "… and more fields", fontsize=8.5, color=QUIET, ha="center")

    return svg("architecture", "The architecture, as nested fields", (width, height), draw)


def _lines(box: Box) -> float:
    """The height of a box, in lines."""
    return 1 + sum(map(_lines, box.inner)) + (0.25 if box.inner else 0)
