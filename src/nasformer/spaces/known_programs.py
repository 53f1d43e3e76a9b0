"""Known blocks as programs: the Transformer from which a search starts, and what was found or is compared with it."""

from __future__ import annotations

from collections.abc import Callable

from nasformer.spaces.program import Program
from nasformer.spaces.program_text import read_program

_HEAD = """
depth {depth}
unit {unit!r}
constants c0=0 c1={scale!r}{constants}
dims d0={heads} d1={inner!r} d2=1{dims}

MAIN:
{main}
"""
_ATTENTION = """
SELF_ATTENTION:
{projections}
  s5 = C_MUL(s2, c1)
  s6 = T_MAT_MUL(s5, s3)
  s7 = SOFTMAX(s6)
  s8 = MAT_MUL(s7, s4)
"""
_FEED_FORWARD = """
FEED_FORWARD:
  s2 = CONV_1X1(s0, d1)
  s3 = {activation}(s2)
  s4 = CONV_1X1(s3, d0)
"""
_PROJECTION = """
PROJECTION:
  s2 = CONV_1X1(s0, d2)
"""
_CONVOLVED_PROJECTION = _PROJECTION + "  s3 = DCONV_3X1(s2)\n"
_SOFTMAX = """
SOFTMAX:
  s2 = EXP(s0)
  s3 = MASK(s2)
  s4 = RED_SUM(s3)
  s5 = DIVIDE(s3, s4)
"""
_LAYER_NORM = """
LAYER_NORM:
  s2 = Z_SCORE(s0)
  s3 = SCALE_SHIFT(s2)

Z_SCORE:
  s2 = RED_MEAN(s0)
  s3 = DIFFERENCE(s0, s2)
  s4 = {square}
  s5 = RED_MEAN(s4)
  s6 = ABS_ROOT(s5)
  s7 = DIVIDE(s3, s6)

SCALE_SHIFT:
  s2 = SCALE(s0)
  s3 = SHIFT(s2)
"""
_RMS_NORM = """
LAYER_NORM:
  s2 = SQUARE(s0)
  s3 = RED_MEAN(s2)
  s4 = ABS_ROOT(s3)
  s5 = DIVIDE(s0, s4)
  s6 = SCALE(s5)
"""
_RESIDUAL = """
RESIDUAL:
  s2 = ADD(s0, s1)
"""
_RELU = """
RELU:
  s2 = MAX(s0, c0)
"""
_SQUARED_RELU = _RELU + "  s3 = SQUARE(s2)\n"
_GELU = """
GELU:
  s2 = SQUARE(s0)
  s3 = MULTIPLY(s2, s0)
  s4 = C_MUL(s3, c2)
  s5 = ADD(s0, s4)
  s6 = C_MUL(s5, c3)
  s7 = TANH(s6)
  s8 = MULTIPLY(s7, s0)
  s9 = ADD(s8, s0)
  s10 = C_MUL(s9, c4)
"""
_MAIN = """  s2 = LAYER_NORM(s0)
  s3 = SELF_ATTENTION(s2) x{heads}
  s4 = CONV_1X1(s3, d0)
  s5 = RESIDUAL(s0, s4)
  s6 = LAYER_NORM(s5)
  s7 = FEED_FORWARD(s6)
  s8 = RESIDUAL(s5, s7)"""
_PRIMER_MAIN = """  s2 = LAYER_NORM(s0)
  s3 = SELF_ATTENTION(s2) x{heads}
  s4 = CONV_1X1(s3, d0)
  s5 = RESIDUAL(s0, s4)
  s6 = FEED_FORWARD(s5)
  s7 = LAYER_NORM(s6)
  s8 = RESIDUAL(s5, s7)"""


def _program(
    *parts: str, width: int, depth: int, heads: int, inner: float, main: str = _MAIN, **fields: str
) -> Program:
    unit = width / heads
    projections = "\n".join(f"  s{state} = PROJECTION(s0)" for state in (2, 3, 4))
    fields = {"activation": "RELU", "square": "SQUARE(s3)", "constants": "", "dims": " d3=2 d4=4 d5=16"} | fields
    text = (_HEAD + "".join(parts)).format(
        depth=depth,
        unit=unit,
        scale=unit**-0.5,
        heads=heads,
        inner=inner * heads,
        main=main.format(heads=heads),
        projections=projections,
        **fields,
    )
    return read_program(text)


def transformer(width: int = 64, depth: int = 2, heads: int = 4, inner: float = 4) -> Program:
    """The pre-norm Transformer, cut into ten subprograms along the concepts that people use (docs/papers/primer.md
    §2.1); `inner` is the width of the feed-forward layer as a multiple of `width`."""
    parts = (_ATTENTION, _FEED_FORWARD, _PROJECTION, _SOFTMAX, _LAYER_NORM, _RESIDUAL, _RELU)
    return _program(*parts, width=width, depth=depth, heads=heads, inner=inner)


def gelu(width: int = 64, depth: int = 2, heads: int = 4, inner: float = 4) -> Program:
    """The Transformer with GELU (in its tanh form) for ReLU."""
    parts = (_ATTENTION, _FEED_FORWARD, _PROJECTION, _SOFTMAX, _LAYER_NORM, _RESIDUAL, _GELU)
    constants = " c2=0.044715 c3=0.7978845608028654 c4=0.5"
    return _program(*parts, width=width, depth=depth, heads=heads, inner=inner, activation="GELU", constants=constants)


def squared_relu(width: int = 64, depth: int = 2, heads: int = 4, inner: float = 4) -> Program:
    """The Transformer with squared ReLU."""
    parts = (_ATTENTION, _FEED_FORWARD, _PROJECTION, _SOFTMAX, _LAYER_NORM, _RESIDUAL, _SQUARED_RELU)
    return _program(*parts, width=width, depth=depth, heads=heads, inner=inner)


def convolved(width: int = 64, depth: int = 2, heads: int = 4, inner: float = 4) -> Program:
    """The Transformer with multi-dconv-head attention: a depthwise convolution after each projection."""
    parts = (_ATTENTION, _FEED_FORWARD, _CONVOLVED_PROJECTION, _SOFTMAX, _LAYER_NORM, _RESIDUAL, _RELU)
    return _program(*parts, width=width, depth=depth, heads=heads, inner=inner)


def primer_ez(width: int = 64, depth: int = 2, heads: int = 4, inner: float = 4) -> Program:
    """Primer-EZ: the Transformer with these two changes alone."""
    parts = (_ATTENTION, _FEED_FORWARD, _CONVOLVED_PROJECTION, _SOFTMAX, _LAYER_NORM, _RESIDUAL, _SQUARED_RELU)
    return _program(*parts, width=width, depth=depth, heads=heads, inner=inner)


def transformer_plus_plus(width: int = 64, depth: int = 2, heads: int = 4, inner: float = 4) -> Program:
    """Transformer++: RMS normalisation and SwiGLU, the inner width cut to two thirds to hold the parameters."""
    swiglu = """
FEED_FORWARD:
  s2 = CONV_1X1(s0, d1)
  s3 = SIGMOID(s2)
  s4 = MULTIPLY(s3, s2)
  s5 = CONV_1X1(s0, d1)
  s6 = MULTIPLY(s4, s5)
  s7 = CONV_1X1(s6, d0)
"""
    parts = (_ATTENTION, swiglu, _PROJECTION, _SOFTMAX, _RMS_NORM, _RESIDUAL)
    return _program(*parts, width=width, depth=depth, heads=heads, inner=2 * inner / 3)


def primer(width: int = 64, depth: int = 2, heads: int = 4, inner: float = 4) -> Program:
    """Primer in its T5 form: shared query and key, a norm after the feed-forward layer and none before it, and the
    custom norm, which in exact arithmetic is layer normalisation (docs/papers/primer.md §2.3).

    The query is made from the key head by head: no primitive cuts a state into heads, so the T5 form's map across all
    heads is here its block diagonal (our reading 21)."""
    shared = """
SELF_ATTENTION:
  s2 = PROJECTION(s0)
  s3 = CONV_1X1(s2, d2)
  s4 = PROJECTION(s0)
  s5 = C_MUL(s3, c1)
  s6 = T_MAT_MUL(s5, s2)
  s7 = SOFTMAX(s6)
  s8 = MAT_MUL(s7, s4)
"""
    parts = (shared, _FEED_FORWARD, _CONVOLVED_PROJECTION, _SOFTMAX, _LAYER_NORM, _RESIDUAL, _SQUARED_RELU)
    custom = "MULTIPLY(s0, s3)"
    return _program(*parts, width=width, depth=depth, heads=heads, inner=inner, main=_PRIMER_MAIN, square=custom)


PROGRAMS: dict[str, Callable[..., Program]] = {
    "program-transformer": transformer,
    "program-gelu": gelu,
    "program-squared-relu": squared_relu,
    "program-convolved": convolved,
    "program-primer-ez": primer_ez,
    "program-transformer-plus-plus": transformer_plus_plus,
    "program-primer": primer,
}
"""Every known program, by name."""
