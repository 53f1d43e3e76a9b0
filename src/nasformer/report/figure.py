"""What every figure shares: one colour a kind of operator, one style, and the way from a figure to an SVG string."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from nasformer.report.reading import natural

INK, QUIET, FAINT = "#222222", "#6b6b6b", "#e3e3e3"

OPERATOR_COLOURS = {
    "attention": "#0072B2",
    "light_convolution": "#E69F00",
    "dynamic_convolution": "#D55E00",
    "convolution": "#CC79A7",
    "long_short": "#009E73",
    "long_short_light": "#009E73",
    "long_short_dynamic": "#00634A",
    "cross_attention": "#9CCDEC",
    "feed_forward": "#DADADA",
    "gated_linear": "#D3C35C",
    "image_convolution": "#228833",
    "separable_convolution": "#4477AA",
    "dilated_convolution": "#AA3377",
    "inverted_residual": "#9A6324",
    "depthwise_convolution": "#DDAA33",
    "local_attention": "#56B4E9",
    "max_pool": "#F6D9C9",
    "average_pool": "#DDE8C8",
    "fourier": "#C9E6DA",
    "noise": "#E3DAF0",
    "skip": "#F4F4F4",
    "identity": "#F4F4F4",
    "none": "#FFFFFF",
    "zero": "#FFFFFF",
}
"""The colour of each kind of operator, told apart by colour-blind readers (after Okabe and Ito, and Tol); pale where it
learns nothing."""

LINE_COLOURS = {
    "cross_attention": "#56A9DD",
    "feed_forward": "#8A8A8A",
    "gated_linear": "#A8962B",
    "max_pool": "#C57B52",
    "average_pool": "#7F9E46",
    "fourier": "#4DA386",
    "noise": "#8E76B8",
    "skip": INK,
    "identity": INK,
    "none": INK,
    "zero": INK,
}
"""What lines of operators with a pale colour are drawn in; the four that do nothing differ in their dashes."""

ROW_COLOURS = {
    "found": "#111111",
    "search": "#8A8A8A",
    "transformer": "#0072B2",
    "lite_transformer": "#009E73",
    "light_convolution": "#E69F00",
    "dynamic_convolution": "#D55E00",
    "random_search": "#CC79A7",
    "spos": "#56B4E9",
    "spos_search": "#56B4E9",
    "sizes_only": "#8C6D31",
    "random_architecture": "#B8A038",
    "uniform_sampling": "#CC79A7",
    "uniform_sampling_search": "#CC79A7",
    "plain_darts": "#332288",
    "plain_darts_search": "#332288",
    "other_zero": "#999999",
    "start": "#0072B2",
    "random_mutation": "#CC79A7",
    "random_mutation_search": "#CC79A7",
    "gelu": "#E69F00",
    "squared_relu": "#D55E00",
    "convolved": "#8C6D31",
    "transformer_plus_plus": "#009E73",
    "primer_ez": "#D55E00",
    "primer": "#56B4E9",
    "gdas": "#D55E00",
    "all_edges": "#56B4E9",
    "darts": "#332288",
    "pc_darts": "#009E73",
    "darts_minus": "#E69F00",
    "early_stopping": "#CC79A7",
    "darts_v2": "#0072B2",
    "gdas_v1": "#8C6D31",
    "fine_tuned": "#111111",
    "retrained": "#6B6B6B",
    "tuned_transformer": "#0072B2",
    "tuned_transformer_total": "#7FB8D8",
    "tuned_fixed": "#009E73",
    "tuned_fixed_total": "#80CEB9",
    "halving": "#D55E00",
    "average": "#E69F00",
    "supernet": "#8A8A8A",
    "supernet_sizes_only": "#8C6D31",
}
"""The colour of each stage and row; a row built of one operator has that operator's colour, and what was trained twice
has one for both."""

_OTHERS = ("#882255", "#44AA99", "#999933", "#AA4499", "#332288", "#B8A038")
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nasformer",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def operator_colour(kind: str) -> str:
    """The one colour of a kind of operator, on every figure; a kind that is not listed keeps its own too."""
    return OPERATOR_COLOURS.get(kind) or _other(kind)


def family(option: str) -> str:
    """The kind of operator of an option of a choice: `convolution` for `convolution_11`."""
    kind = option
    while kind not in OPERATOR_COLOURS and "_" in kind:
        kind = kind.rpartition("_")[0]
    return kind if kind in OPERATOR_COLOURS else option


def shade(colour: str, place: int, count: int) -> str:
    """One of `count` shades of a colour, light to dark."""
    depth = 0.0 if count < 2 else 0.9 * place / (count - 1) - 0.4
    towards = 1.0 if depth < 0 else 0.0
    red, green, blue = (part + abs(depth) * (towards - part) for part in to_rgb(colour))
    return to_hex((red, green, blue))


def shades(options: Sequence[str], colour: Callable[[str], str]) -> dict[str, str]:
    """The colour of each option: that of its kind, in a darker shade for a larger kernel."""
    kinds: dict[str, list[str]] = {}
    for option in dict.fromkeys(options):
        kinds.setdefault(family(option), []).append(option)
    found: dict[str, str] = {}
    for kind, members in kinds.items():
        ordered = sorted(members, key=lambda option: natural(option.replace("_", ".")))
        found |= {option: shade(colour(kind), place, len(ordered)) for place, option in enumerate(ordered)}
    return found


def row_colour(name: str) -> str:
    """The one colour of a row of the comparison and of the stage that trained it."""
    plain = name.removesuffix("_search")
    arm = re.sub(r"(_fine_tuned|_retrained)?(_\d+)?$", "", name)
    return ROW_COLOURS.get(name) or ROW_COLOURS.get(plain) or ROW_COLOURS.get(arm) or _other(plain)


def _other(name: str) -> str:
    return _OTHERS[zlib.crc32(name.encode()) % len(_OTHERS)]


def words(name: str) -> str:
    """A name as readers write it."""
    return name.replace("_", " ")


def svg(name: str, title: str, size: tuple[float, float], draw: Callable[[Figure], None]) -> str:
    """What `draw` puts on a figure of that size (inches), as an SVG element whose ids start with its name.

    The same values give the same text.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        text = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=metadata)
    drawn = text.getvalue()
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
    drawn = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{name}-", drawn)
    drawn = re.sub(r'^(<svg [^>]*?)width="[^"]*"', rf'\1width="{size[0] * 96:.0f}"', drawn)
    drawn = re.sub(r'^(<svg [^>]*?)height="[^"]*"', rf'\1height="{size[1] * 96:.0f}"', drawn)
    drawn = drawn.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
    drawn = drawn.replace("'DejaVu Sans Mono'", "'DejaVu Sans Mono', monospace")
    return drawn.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
