"""Spaces of today: norms first, both depths chosen from one layer on, and what has proved itself since 2017.

Operators and sizes at once, as ShrinkNAS searches them (docs/papers/shrinknas.md §2.4), with gated feed-forward layers
(arXiv 2002.05202), squared ReLU and attention with a convolution (Primer, arXiv 2109.08668) and the kind of norm
besides; grouped keys and values, normalised queries and keys, and initial weights by depth are there to be asked for.
The defaults suit small data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from nasformer.errors import RequestError, nearest
from nasformer.spaces.known_transformers import KERNELS, OPERATORS, Operator, mixer
from nasformer.spaces.open import first_of, one_of
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import (
    Activation,
    Attention,
    CrossAttention,
    Decoder,
    DecoderLayer,
    DecoderOnly,
    Encoder,
    EncoderDecoder,
    EncoderLayer,
    FeedForward,
    Norm,
    NormKind,
    Tables,
)

Mixing = Operator | Literal["attention_convolution"]
MIXINGS: tuple[Mixing, ...] = ("attention", "attention_convolution", *OPERATORS[1:])
FeedForwardForm = Literal[
    "relu", "leaky_relu", "swish", "gelu", "squared_relu", "gated_relu", "gated_swish", "gated_gelu"
]
"""An activation, or a gated one."""
TAPS = 3
"""Of attention with a convolution, as Primer has them."""
FORMS: tuple[FeedForwardForm, ...] = ("relu", "swish", "squared_relu", "gated_relu", "gated_swish")


def modern(
    *,
    dims: Sequence[int] = (48, 64, 96, 128),
    encoder_layers: Sequence[int] = (1, 2, 3, 4),
    decoder_layers: Sequence[int] = (1, 2),
    ratios: Sequence[float] = (1.0, 2.0, 3.0, 4.0),
    heads: Sequence[int] = (2, 4),
    key_value_heads: Sequence[int | None] = (None,),
    query_key_norm: bool | Sequence[bool] = False,
    operators: Sequence[Mixing] = MIXINGS,
    activations: Sequence[FeedForwardForm] = FORMS,
    spans: Sequence[int] = (1, 2, 3),
    kernels: Sequence[int] = KERNELS,
    norm: Norm = "pre",
    norm_kinds: Sequence[NormKind] = ("layer", "rms"),
    tables: Tables | Sequence[Tables] = "tied_output",
    depth_scaled: bool = False,
) -> Space:
    """Encoder–decoders of today. `kernels` are by layer, the last for all further ones; a span beyond an encoder's
    depth takes all its layers; several `tables`, `query_key_norm` or `key_value_heads` leave them open."""
    attention = _attention(heads, key_value_heads, query_key_norm)

    def layer(index: int) -> dict[str, Any]:
        return _layer(operators, attention, kernels[min(index, len(kernels) - 1)], ratios, activations)

    cross = CrossAttention(heads=one_of(*heads), span=one_of(*spans), query_key_norm=_open(query_key_norm))
    encoder = tuple(EncoderLayer(**layer(index)) for index in range(max(encoder_layers)))
    decoder = tuple(DecoderLayer(**layer(index), cross=cross) for index in range(max(decoder_layers)))
    return Space(
        EncoderDecoder(
            norm=norm,
            norm_kind=one_of(*norm_kinds),
            tables=_open(tables),
            depth_scaled=depth_scaled,
            encoder=Encoder(dim=one_of(*dims), layers=first_of(tuple(encoder_layers), encoder)),
            decoder=Decoder(dim=one_of(*dims), layers=first_of(tuple(decoder_layers), decoder)),
        ),
        "modern",
    )


def modern_language(
    *,
    dims: Sequence[int] = (48, 64, 96, 128),
    layers: Sequence[int] = (1, 2, 3, 4),
    ratios: Sequence[float] = (1.0, 2.0, 3.0, 4.0),
    heads: Sequence[int] = (2, 4),
    key_value_heads: Sequence[int | None] = (None,),
    query_key_norm: bool | Sequence[bool] = False,
    operators: Sequence[Mixing] = MIXINGS,
    activations: Sequence[FeedForwardForm] = FORMS,
    kernels: Sequence[int] = KERNELS,
    norm: Norm = "pre",
    norm_kinds: Sequence[NormKind] = ("layer", "rms"),
    tables: Tables | Sequence[Tables] = "tied_output",
    depth_scaled: bool = False,
) -> Space:
    """Language models of today: the decoders of `modern` without an encoder."""
    attention = _attention(heads, key_value_heads, query_key_norm)
    stack = tuple(
        DecoderLayer(**_layer(operators, attention, kernels[min(index, len(kernels) - 1)], ratios, activations))
        for index in range(max(layers))
    )
    return Space(
        DecoderOnly(
            norm=norm,
            norm_kind=one_of(*norm_kinds),
            tables=_open(tables),
            depth_scaled=depth_scaled,
            decoder=Decoder(dim=one_of(*dims), layers=first_of(tuple(layers), stack)),
        ),
        "modern-language",
    )


def _attention(
    heads: Sequence[int], key_value_heads: Sequence[int | None], query_key_norm: bool | Sequence[bool]
) -> Attention:
    """Self-attention with the heads left open; raises `RequestError` where key–value heads do not divide them all."""
    if unfit := [groups for groups in key_value_heads if groups and any(number % groups for number in heads)]:
        raise RequestError(f"key_value_heads={unfit[0]} does not divide each of heads={tuple(heads)}")
    return Attention(heads=one_of(*heads), key_value_heads=_open(key_value_heads), query_key_norm=_open(query_key_norm))


def _mixer(operator: Mixing, attention: Attention, kernel: int) -> Any:
    if operator == "attention":
        return attention
    if operator == "attention_convolution":
        return attention.but(convolution=TAPS)
    return mixer(operator, attention.heads, kernel)


def _layer(
    operators: Sequence[Mixing],
    attention: Attention,
    kernel: int,
    ratios: Sequence[float],
    activations: Sequence[FeedForwardForm],
) -> dict[str, Any]:
    return {
        "mixer": one_of(*(_mixer(operator, attention, kernel) for operator in operators)),
        "feed_forward": _feed_forward(ratios, activations),
    }


def _feed_forward(ratios: Sequence[float], activations: Sequence[FeedForwardForm]) -> Any:
    """Plain and gated layers are options apart, for the gated one's weights mean something else."""
    if unknown := [form for form in activations if form not in get_args(FeedForwardForm)]:
        raise RequestError(f"unknown activation {unknown[0]!r}; {nearest(unknown[0], get_args(FeedForwardForm))}")
    forms: dict[bool, list[Activation]] = {
        gated: [form.removeprefix("gated_") for form in activations if form.startswith("gated_") is gated]  # type: ignore[misc]
        for gated in (False, True)
    }
    options = [
        FeedForward(ratio=one_of(*ratios), activation=one_of(*forms[gated]), gated=gated)
        for gated in (False, True)
        if forms[gated]
    ]
    return one_of(*options) if len(options) > 1 else options[0]


def _open(options: Any) -> Any:
    """A field with these options, or closed where there is one."""
    if isinstance(options, str | bool):
        return options
    return one_of(*options) if len(options) > 1 else options[0]
