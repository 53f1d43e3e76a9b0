"""The drawing of a reversible architecture: a lane for each split, the nodes of a layer side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nasformer.report.diagram import Block, Diagram, Stack
from nasformer.report.figure import INK, QUIET, operator_colour, svg, words
from nasformer.report.shapes import canvas, frame, ink_on, short

_LANE, _STREAM, _GAP, _BLOCK = 1.53, 0.14, 0.85, 0.44
_LAYER, _SPACE, _END = 0.74, 0.16, 0.3
_MARGIN, _BOTTOM = 0.5, 0.96
_MEMORY, _PALE = "#3D8FC4", "#B0B0B0"


@dataclass(frozen=True)
class _Place:
    """Where a stack stands, in inches: the frames of its layers, and from where to where the brackets may reach."""

    left: float
    right: float
    top: float

    def stream(self, k: int) -> float:
        """Where split k, from 0, runs upwards."""
        return self.left + k * _LANE + _STREAM

    def node(self, k: int) -> tuple[float, float]:
        """The sides of the node that adds to split k."""
        return self.stream(k) + 0.15, self.left + (k + 1) * _LANE

    def layer(self, number: int) -> float:
        """The bottom of a layer."""
        return _BOTTOM + number * (_LAYER + _SPACE)


def draw_reversible(diagram: Diagram) -> str:
    """Stacks side by side with the input at the bottom; from the encoder's output a line to every cross-attention."""
    places: dict[str, _Place] = {}
    left = _MARGIN
    for stack in diagram.stacks:
        right = left + stack.splits * _LANE + 0.07
        places[stack.name] = _Place(left, right, _BOTTOM + len(stack.layers) * (_LAYER + _SPACE))
        left = right + _GAP
    width, height = left - _GAP + _MARGIN, max(place.top for place in places.values()) + _END + 0.12

    def draw(figure: Figure) -> None:
        axes = canvas(figure, width, height)
        for stack in diagram.stacks:
            _draw_stack(axes, stack, places[stack.name], diagram)
        if "encoder" in places and "decoder" in places:
            _draw_memory(axes, places["encoder"], places["decoder"], diagram.stacks[1])

    return svg("architecture", "The architecture, layer by layer and split by split", (width, height), draw)


def _draw_stack(axes: Axes, stack: Stack, place: _Place, diagram: Diagram) -> None:
    depth = stack.repeats * len(stack.layers)
    title = f"{stack.name}: {depth} layer{'s' * (depth != 1)}"
    axes.text(place.left, 0.12, title, fontsize=10.5, fontweight="bold", color=INK, va="center")
    for k in range(stack.splits):
        x = place.stream(k)
        axes.plot([x, x], [0.6, place.top], color=_PALE, linewidth=3, solid_capstyle="butt", zorder=0.5)
        axes.text(x + 0.1, 0.8, f"split {k + 1}", fontsize=8, color=QUIET, va="center")
    _end(axes, place, 0.34, _entry(stack, diagram))
    _end(axes, place, place.top, _exit(stack, diagram))
    for number, layer in enumerate(stack.layers):
        _draw_layer(axes, layer, number, place)
    if stack.repeats > 1:
        _draw_repeats(axes, place, stack)


def _draw_layer(axes: Axes, layer: tuple[Block, ...], number: int, place: _Place) -> None:
    bottom = place.layer(number)
    frame(axes, place.left, bottom, place.right - place.left, _LAYER, "#F8F8F8", "#C4C4C4", order=0.2)
    corner = (place.node(0)[0], bottom + _LAYER - 0.1)
    axes.text(*corner, f"layer {number}", fontsize=7.5, color=QUIET, va="center")
    for k, block in enumerate(layer):
        x, (left, right), low = place.stream(k), place.node(k), bottom + 0.1
        middle = low + _BLOCK / 2
        axes.plot([x, left], [middle, middle], color=_PALE, linewidth=1.6, zorder=0.5)
        axes.plot([x], [middle], marker="o", markersize=9, color="white", markeredgecolor=QUIET, zorder=3)
        axes.plot([x], [middle], marker="+", markersize=5.5, color=INK, markeredgewidth=1.1, zorder=4)
        _draw_node(axes, block, left, low, right - left)


def _draw_node(axes: Axes, block: Block, left: float, low: float, width: float) -> None:
    colour = operator_colour(block.kind)
    frame(axes, left, low, width, _BLOCK, colour, "#9A9A9A" if block.kind in ("zero", "identity") else "none")
    ink, middle = ink_on(colour), left + width / 2
    name = low + _BLOCK * (0.69 if block.text else 0.48)
    axes.text(
        middle, name, words(block.kind), fontsize=7.5, fontweight="bold", color=ink, ha="center", va="center", zorder=3
    )
    if block.text:
        text = short(block.text, 24)
        axes.text(middle, low + 0.27 * _BLOCK, text, fontsize=7, color=ink, ha="center", va="center", zorder=3)


def _draw_repeats(axes: Axes, place: _Place, stack: Stack) -> None:
    """A bracket over all layers, on the side on which no memory comes in."""
    side = 1 if stack.name == "decoder" else -1
    x = place.right + 0.07 if side > 0 else place.left - 0.07
    low, high = _BOTTOM, place.top - _SPACE
    axes.plot([x, x + side * 0.07, x + side * 0.07, x], [low, low, high, high], color=INK, linewidth=1.2)
    where: Any = {"ha": "left" if side > 0 else "right", "va": "center"}
    axes.text(
        x + side * 0.1, (low + high) / 2, f"× {stack.repeats}", fontsize=10, fontweight="bold", color=INK, **where
    )


def _entry(stack: Stack, diagram: Diagram) -> str:
    dims = " → ".join(str(dim) for dim in (diagram.embedding_dim, stack.dim) if dim)
    width = f", {stack.splits} × {stack.dim // stack.splits}" if stack.dim else ""
    return f"embedding {dims} channels{width}" if dims else "embedding"


def _exit(stack: Stack, diagram: Diagram) -> str:
    norm = " + LayerNorm" if diagram.final_norm else ""
    dims = " → ".join(str(dim) for dim in (stack.dim, diagram.embedding_dim) if dim)
    return f"splits joined{norm}" + (f", {dims} → words" if stack.name == "decoder" and dims else "")


def _end(axes: Axes, place: _Place, bottom: float, text: str) -> None:
    frame(axes, place.left, bottom, place.right - place.left, _END, "#EDEDED", "#C4C4C4")
    middle = (place.left + place.right) / 2
    axes.text(middle, bottom + _END / 2, text, fontsize=8, color=INK, ha="center", va="center")


def _draw_memory(axes: Axes, encoder: _Place, decoder: _Place, stack: Stack) -> None:
    """From the encoder's top to a rail between the stacks, and along the foot of each layer up into its nodes."""
    style: Any = {"color": _MEMORY, "linewidth": 1.5, "solid_joinstyle": "round", "zorder": 2}
    rail, source = encoder.right + _GAP / 2, encoder.top + _END / 2
    feet = []
    for number, layer in enumerate(stack.layers):
        crossing = [decoder.node(k)[1] - 0.2 for k, block in enumerate(layer) if block.kind == "cross_attention"]
        if crossing:
            foot = decoder.layer(number) + 0.045
            feet.append(foot)
            axes.plot([rail, crossing[-1]], [foot, foot], **style)
            axes.plot(crossing, [foot + 0.045] * len(crossing), marker="^", markersize=6, linewidth=0, color=_MEMORY)
    if feet:
        axes.plot([encoder.right, rail, rail], [source, source, min(feet)], **style)
        axes.text(rail + 0.07, source - 0.25, "memory", fontsize=8, color=_MEMORY, va="center", rotation=90)
