"""The one table from the name of an operator to what builds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from nasformer.errors import RequestError, nearest
from nasformer.operators.attention import CrossAttention, SelfAttention
from nasformer.operators.constant import Identity, Zero
from nasformer.operators.dynamic_convolution import DynamicConvolution, LightConvolution
from nasformer.operators.feedforward import FeedForward
from nasformer.operators.gating import GatedLinear
from nasformer.operators.long_short import LongShort
from nasformer.operators.standard_convolution import StandardConvolution
from nasformer.operators.time_mixing import AveragePool, DepthwiseConvolution, Fourier, Noise
from nasformer.spaces.value import Value

Probability = Annotated[float, Field(ge=0, lt=1)]


class Dropout(Value):
    """Dropout probabilities: of the residual branches, of attention weights, and of convolution taps."""

    residual: Probability = 0.1
    attention: Probability = 0.0
    weight: Probability = 0.1


Builder = Callable[[Any, int, bool, Dropout], nn.Module]
"""(the operator's value in the architecture, dim, causal, dropout) → the operator."""


def _attention(value: Any, dim: int, causal: bool, dropout: Dropout) -> nn.Module:
    return SelfAttention(
        dim,
        heads=value.heads,
        width=value.width,
        key_value_heads=value.key_value_heads,
        query_key_norm=value.query_key_norm,
        convolution=value.convolution,
        causal=causal,
        dropout=dropout.attention,
    )


def _local_attention(value: Any, dim: int, causal: bool, dropout: Dropout) -> nn.Module:
    return SelfAttention(dim, heads=value.heads, window=value.window, causal=causal, dropout=dropout.attention)


def _convolution(operator: type[LightConvolution] | type[DynamicConvolution]) -> Builder:
    def build(value: Any, dim: int, causal: bool, dropout: Dropout) -> nn.Module:
        return operator(
            dim, heads=value.heads, kernel=value.kernel, gated=value.gated, causal=causal, dropout=dropout.weight
        )

    return build


def _long_short(value: Any, dim: int, causal: bool, dropout: Dropout) -> nn.Module:
    return LongShort(
        dim,
        filter=value.filter,
        heads=value.heads,
        kernel=value.kernel,
        gated=value.gated,
        causal=causal,
        dropout=dropout.attention,
        weight_dropout=dropout.weight,
    )


def _standard_convolution(value: Any, dim: int, causal: bool, dropout: Dropout) -> nn.Module:
    return StandardConvolution(dim, kernel=value.kernel, causal=causal)


def _feed_forward(value: Any, dim: int, causal: bool, dropout: Dropout) -> nn.Module:
    return feed_forward(value, dim)


MIXERS: dict[str, Builder] = {
    "attention": _attention,
    "light_convolution": _convolution(LightConvolution),
    "dynamic_convolution": _convolution(DynamicConvolution),
    "long_short": _long_short,
    "convolution": _standard_convolution,
    "gated_linear": lambda value, dim, causal, dropout: GatedLinear(dim),
    "feed_forward": _feed_forward,
    "zero": lambda value, dim, causal, dropout: Zero(),
    "identity": lambda value, dim, causal, dropout: Identity(),
    "skip": lambda value, dim, causal, dropout: Identity(),
    "noise": lambda value, dim, causal, dropout: Noise(),
    "average_pool": lambda value, dim, causal, dropout: AveragePool(kernel=value.kernel, causal=causal),
    "fourier": lambda value, dim, causal, dropout: Fourier(causal=causal),
    "local_attention": _local_attention,
    "depthwise_convolution": lambda value, dim, causal, dropout: DepthwiseConvolution(
        dim, kernel=value.kernel, causal=causal
    ),
}
"""Every operator that can stand where time is mixed, by the `kind` of its value.

An operator of your own joins by being listed here under a name, and an architecture names it with
`Custom(operator=name)`: see `examples/own_operator.py`."""


def mixer(value: Any, dim: int, *, causal: bool, dropout: Dropout) -> nn.Module:
    """The operator that a value of an architecture names, for a stream of `dim` channels."""
    name = value.operator if value.kind == "custom" else value.kind
    if name not in MIXERS:
        raise RequestError(f"unknown operator {name!r}; {nearest(name, MIXERS)}")
    return MIXERS[name](value, dim, causal, dropout)


def cross_attention(value: Any, dim: int, memory_dim: int, *, dropout: Dropout) -> nn.Module:
    """The cross-attention that a value names."""
    return CrossAttention(
        dim,
        memory_dim,
        heads=value.heads,
        span=value.span,
        width=value.width,
        query_key_norm=value.query_key_norm,
        dropout=dropout.attention,
    )


def feed_forward(value: Any, dim: int) -> nn.Module:
    """The feed-forward operator that a value names."""
    return FeedForward(dim, value.inner(dim), activation=value.activation, gated=value.gated)
