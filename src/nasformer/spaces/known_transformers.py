"""The known Transformers: one operator throughout, HAT's released ones, a language model; and any of them at a size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from nasformer.errors import RequestError
from nasformer.spaces.transformer import (
    Attention,
    CrossAttention,
    Decoder,
    DecoderLayer,
    DecoderOnly,
    DynamicConvolution,
    Encoder,
    EncoderDecoder,
    EncoderLayer,
    FeedForward,
    LightConvolution,
    LongShort,
    Norm,
    Tables,
)

Operator = Literal["attention", "light_convolution", "dynamic_convolution", "long_short_light", "long_short_dynamic"]
OPERATORS: tuple[Operator, ...] = (
    "attention",
    "light_convolution",
    "dynamic_convolution",
    "long_short_light",
    "long_short_dynamic",
)
KERNELS = (3, 7, 15, 31, 31, 31, 31)
"""Kernel size by layer index, the last for all further layers (Lite Transformer's and LightConv's; our reading 2 of
docs/papers/shrinknas.md)."""


def mixer(operator: Operator, heads: Any, kernel: int) -> Any:
    """An operator by name, with these heads (a number or an open mark) and, for convolutions, this kernel."""
    if operator == "attention":
        return Attention(heads=heads)
    if operator == "light_convolution":
        return LightConvolution(heads=heads, kernel=kernel)
    if operator == "dynamic_convolution":
        return DynamicConvolution(heads=heads, kernel=kernel)
    return LongShort(filter="light" if operator == "long_short_light" else "dynamic", heads=heads, kernel=kernel)


def uniform(
    operator: Operator,
    dim: int,
    *,
    ratio: float,
    heads: int = 4,
    encoder_layers: int = 6,
    decoder_layers: int = 6,
    kernels: Sequence[int] = KERNELS,
    norm: Norm = "post",
    tables: Tables = "separate",
) -> EncoderDecoder:
    """The same operator in every layer, the same width in both stacks."""
    feed_forward = FeedForward(ratio=ratio)
    encoder = tuple(
        EncoderLayer(mixer=mixer(operator, heads, kernels[min(i, len(kernels) - 1)]), feed_forward=feed_forward)
        for i in range(encoder_layers)
    )
    decoder = tuple(
        DecoderLayer(
            mixer=mixer(operator, heads, kernels[min(i, len(kernels) - 1)]),
            cross=CrossAttention(heads=heads),
            feed_forward=feed_forward,
        )
        for i in range(decoder_layers)
    )
    return EncoderDecoder(
        norm=norm,
        tables=tables,
        encoder=Encoder(dim=dim, layers=encoder),
        decoder=Decoder(dim=dim, layers=decoder),
    )


def transformer(
    dim: int = 128,
    encoder_layers: int = 6,
    decoder_layers: int = 6,
    *,
    norm: Norm = "post",
    tables: Tables = "separate",
) -> EncoderDecoder:
    """The standard Transformer at small size: attention everywhere, feed-forward twice the dim."""
    depth: Any = {"encoder_layers": encoder_layers, "decoder_layers": decoder_layers}
    return uniform("attention", dim, ratio=2.0, **depth, norm=norm, tables=tables)


def light_convolution(
    dim: int = 128,
    encoder_layers: int = 7,
    decoder_layers: int = 6,
    *,
    norm: Norm = "post",
    tables: Tables = "separate",
) -> EncoderDecoder:
    """LightConv without gates: lightweight convolutions for self-attention, feed-forward twice the dim."""
    depth: Any = {"encoder_layers": encoder_layers, "decoder_layers": decoder_layers}
    return uniform("light_convolution", dim, ratio=2.0, **depth, norm=norm, tables=tables)


def lite_transformer(
    dim: int = 160,
    encoder_layers: int = 6,
    decoder_layers: int = 6,
    *,
    norm: Norm = "post",
    tables: Tables = "separate",
) -> EncoderDecoder:
    """Lite Transformer: long-short range attention everywhere, flat feed-forward."""
    depth: Any = {"encoder_layers": encoder_layers, "decoder_layers": decoder_layers}
    return uniform("long_short_light", dim, ratio=1.0, **depth, norm=norm, tables=tables)


def hat_result(decoder_widths: Sequence[int] = (2048,)) -> EncoderDecoder:
    """A released HAT IWSLT architecture: dims 512, encoder width 1024, one decoder layer per given width.

    Heads and spans are not in the published table and do not change its sizes; we take 4 and the last layer.
    """
    encoder = EncoderLayer(mixer=Attention(heads=4, width=512), feed_forward=FeedForward(width=1024))
    decoder = tuple(
        DecoderLayer(
            mixer=Attention(heads=4, width=512),
            cross=CrossAttention(heads=4, width=512),
            feed_forward=FeedForward(width=width),
        )
        for width in decoder_widths
    )
    return EncoderDecoder(encoder=Encoder(dim=512, layers=(encoder,) * 6), decoder=Decoder(dim=512, layers=decoder))


def language_model(dim: int = 128, layers: int = 4, heads: int = 4) -> DecoderOnly:
    """The standard decoder-only Transformer: pre-norm, attention everywhere, GELU, feed-forward four times the dim."""
    layer = DecoderLayer(mixer=Attention(heads=heads), feed_forward=FeedForward(ratio=4.0, activation="gelu"))
    return DecoderOnly(decoder=Decoder(dim=dim, layers=(layer,) * layers))


def sized(operator: Operator, ratio: float, size: int, count: Callable[[EncoderDecoder], int], **settings: Any) -> Any:
    """The architecture of one operator that has `size` parameters, in the proportions that `ratio` asks for.

    `count` measures an architecture's size, core or total; `settings` are those of `uniform` besides (the numbers of
    layers, norm, tables, …).
    """
    return _fitted(lambda dim, ratio: uniform(operator, dim, ratio=ratio, **settings), ratio, size, count)


def resized(architecture: EncoderDecoder, size: int, count: Callable[[EncoderDecoder], int]) -> Any:
    """The same operators at the width that gives `size` parameters; all feed-forward layers get one ratio."""
    encoder = architecture.encoder
    inner = sum(layer.feed_forward.inner(encoder.dim) for layer in encoder.layers)
    ratio = inner / (encoder.dim * len(encoder.layers))

    def make(dim: int, ratio: float) -> EncoderDecoder:
        def widened(stack: Any) -> Any:
            feed_forward = [layer.feed_forward.but(ratio=ratio, width=None) for layer in stack.layers]
            layers = zip(stack.layers, feed_forward, strict=True)
            return stack.but(dim=dim, layers=tuple(layer.but(feed_forward=wide) for layer, wide in layers))

        return architecture.but(encoder=widened(architecture.encoder), decoder=widened(architecture.decoder))

    return _fitted(make, ratio, size, count)


def _fitted(
    make: Callable[[int, float], EncoderDecoder], ratio: float, size: int, count: Callable[[EncoderDecoder], int]
) -> Any:
    """For each dim (a multiple of 8) the feed-forward width is fitted to the size, to the nearest unit; the dim whose
    fitted ratio comes nearest to `ratio` is taken. A size that one dim does not hit within 1 % another may."""
    best: tuple[bool, float, Any] = (True, float("inf"), None)
    for dim in range(16, 1025, 8):
        asked = round(ratio * dim)
        try:
            plain, wider = (count(make(dim, width / dim)) for width in (asked, asked + 1))
        except RequestError:  # heads that do not divide this dim
            continue
        width = asked + round((size - plain) / (wider - plain))
        if width < dim // 4:  # nor will any wider dim leave room
            break
        reached = plain + (width - asked) * (wider - plain)
        key = (abs(reached / size - 1) > 0.01, abs(width / dim / ratio - 1))
        if key < best[:2]:
            best = (*key, make(dim, width / dim))
    if best[2] is None:
        raise RequestError(f"no architecture of these operators comes near {size:,} parameters")
    return best[2]


TRANSFORMERS: dict[str, Callable[[], EncoderDecoder | DecoderOnly]] = {
    "transformer": transformer,
    "light-convolution": light_convolution,
    "lite-transformer": lite_transformer,
    "hat-45.6ms": hat_result,
    "hat-74.5ms": lambda: hat_result((2048, 1024)),
    "hat-109.0ms": lambda: hat_result((1024, 1024, 2048)),
    "hat-137.8ms": lambda: hat_result((1024, 2048, 2048, 1024)),
    "hat-168.8ms": lambda: hat_result((2048, 2048, 2048, 1024, 1024)),
    "language-model": language_model,
}
"""Every one of them, built when asked for."""
