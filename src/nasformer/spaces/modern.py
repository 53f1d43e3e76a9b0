"""Spaces of today: norms first, both depths chosen from one layer on, and what has proved itself since 2017.

Operators and sizes at once, as ShrinkNAS searches them (docs/papers/shrinknas.md §2.4), with gated feed-forward layers
(arXiv 2002.05202), squared ReLU (Primer, arXiv 2109.08668) and the kind of norm besides. The defaults suit small data.
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

FeedForwardForm = Literal[
    "relu", "leaky_relu", "swish", "gelu", "squared_relu", "gated_relu", "gated_swish", "gated_gelu"
]
"""An activation, or a gated one."""
FORMS: tuple[FeedForwardForm, ...] = ("relu", "swish", "squared_relu", "gated_relu", "gated_swish")


def modern(
    *,
    dims: Sequence[int] = (48, 64, 96, 128),
    encoder_layers: Sequence[int] = (1, 2, 3, 4),
    decoder_layers: Sequence[int] = (1, 2),
    ratios: Sequence[float] = (1.0, 2.0, 3.0, 4.0),
    heads: Sequence[int] = (2, 4),
    operators: Sequence[Operator] = OPERATORS,
    activations: Sequence[FeedForwardForm] = FORMS,
    spans: Sequence[int] = (1, 2, 3),
    kernels: Sequence[int] = KERNELS,
    norm: Norm = "pre",
    norm_kinds: Sequence[NormKind] = ("layer", "rms"),
    tables: Tables | Sequence[Tables] = "tied_output",
) -> Space:
    """Encoder–decoders of today. `kernels` are by layer, the last for all further ones; a span beyond an encoder's
    depth takes all its layers; several `tables` leave them open."""

    def layer(index: int) -> dict[str, Any]:
        return _layer(operators, heads, kernels[min(index, len(kernels) - 1)], ratios, activations)

    cross = CrossAttention(heads=one_of(*heads), span=one_of(*spans))
    encoder = tuple(EncoderLayer(**layer(index)) for index in range(max(encoder_layers)))
    decoder = tuple(DecoderLayer(**layer(index), cross=cross) for index in range(max(decoder_layers)))
    return Space(
        EncoderDecoder(
            norm=norm,
            norm_kind=one_of(*norm_kinds),
            tables=_one_or_several(tables),
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
    operators: Sequence[Operator] = OPERATORS,
    activations: Sequence[FeedForwardForm] = FORMS,
    kernels: Sequence[int] = KERNELS,
    norm: Norm = "pre",
    norm_kinds: Sequence[NormKind] = ("layer", "rms"),
    tables: Tables | Sequence[Tables] = "tied_output",
) -> Space:
    """Language models of today: the decoders of `modern` without an encoder."""
    stack = tuple(
        DecoderLayer(**_layer(operators, heads, kernels[min(index, len(kernels) - 1)], ratios, activations))
        for index in range(max(layers))
    )
    return Space(
        DecoderOnly(
            norm=norm,
            norm_kind=one_of(*norm_kinds),
            tables=_one_or_several(tables),
            decoder=Decoder(dim=one_of(*dims), layers=first_of(tuple(layers), stack)),
        ),
        "modern-language",
    )


def _layer(
    operators: Sequence[Operator],
    heads: Sequence[int],
    kernel: int,
    ratios: Sequence[float],
    activations: Sequence[FeedForwardForm],
) -> dict[str, Any]:
    return {
        "mixer": one_of(*(mixer(operator, one_of(*heads), kernel) for operator in operators)),
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


def _one_or_several(tables: Tables | Sequence[Tables]) -> Any:
    return tables if isinstance(tables, str) else one_of(*tables)
