"""What the drawings of architectures are made of: a canvas in inches, boxes, words that fit."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from nasformer.report.figure import INK


def canvas(figure: Figure, width: float, height: float) -> Axes:
    """Axes without axes, measured in inches."""
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return axes


def frame(
    axes: Axes, left: float, bottom: float, width: float, height: float, face: str, edge: str, order: float = 1.0
) -> None:
    """A box with round corners."""
    axes.add_patch(
        FancyBboxPatch(
            (left, bottom),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=face,
            edgecolor=edge,
            linewidth=0.8,
            zorder=order,
        )
    )


def ink_on(colour: str) -> str:
    """The colour of words on a block of this colour."""
    return "white" if _luminance(colour) < 0.19 else INK


def _luminance(colour: str) -> float:
    """The relative luminance of WCAG 2: 0 is black, 1 is white."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def short(text: str, room: int) -> str:
    """The text, cut to `room` letters."""
    return text if len(text) <= room else text[: max(0, room - 1)].rstrip(" ,") + "…"
