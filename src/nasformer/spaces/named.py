"""The spaces of the papers and the known architectures, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from nasformer.errors import RequestError
from nasformer.spaces.open import first_of, one_of
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import (
    Activation,
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


def shrinknas(
    *,
    dims: Sequence[int] = (160, 240, 320),
    encoder_layers: int = 6,
    decoder_layers: Sequence[int] = (1, 2, 3, 4, 5, 6),
    ratios: Sequence[float] = (1.0, 1.5, 2.0),
    heads: Sequence[int] = (2, 4),
    operators: Sequence[Operator] = OPERATORS,
    activations: Sequence[Activation] = ("relu", "leaky_relu", "swish"),
    spans: Sequence[int] = (1, 2, 3),
    kernels: Sequence[int] = KERNELS,
    norm: Literal["post", "pre"] = "post",
) -> Space:
    """Operators and sizes at once (docs/papers/shrinknas.md §2.4); the defaults are the paper's space."""

    def layer(index: int) -> dict[str, Any]:
        return {
            "mixer": one_of(
                *(mixer(operator, one_of(*heads), kernels[min(index, len(kernels) - 1)]) for operator in operators)
            ),
            "feed_forward": FeedForward(ratio=one_of(*ratios), activation=one_of(*activations)),
        }

    def cross() -> CrossAttention:
        return CrossAttention(heads=one_of(*heads), span=one_of(*(n for n in spans if n <= encoder_layers)))

    encoder = tuple(EncoderLayer(**layer(i)) for i in range(encoder_layers))
    decoder = tuple(DecoderLayer(**layer(i), cross=cross()) for i in range(max(decoder_layers)))
    return Space(
        EncoderDecoder(
            norm=norm,
            encoder=Encoder(dim=one_of(*dims), layers=encoder),
            decoder=Decoder(dim=one_of(*dims), layers=first_of(tuple(decoder_layers), decoder)),
        ),
        "shrinknas",
    )


def shrinknas_small(operators: Sequence[Operator] = OPERATORS) -> Space:
    """The space of the small-scale protocol (docs/papers/shrinknas.md §8): 9 · 3 · 90³ · 540³ codes."""
    return Space(
        shrinknas(
            dims=(48, 64, 96), encoder_layers=3, decoder_layers=(1, 2, 3), kernels=(3, 7, 15), operators=operators
        ).template,
        "shrinknas-small",
    )


def sizes_only() -> Space:
    """The paper's space with attention everywhere: what HAT would search at these sizes."""
    return Space(shrinknas(operators=("attention",)).template, "sizes-only")


def sizes_only_small() -> Space:
    """The small-scale space with attention everywhere."""
    return Space(shrinknas_small(operators=("attention",)).template, "sizes-only-small")


def hat() -> Space:
    """HAT's IWSLT space: sizes only, query width 512, six encoder layers (docs/papers/operators.md §5)."""

    def encoder_layer() -> EncoderLayer:
        return EncoderLayer(
            mixer=Attention(heads=one_of(4, 2), width=512), feed_forward=FeedForward(width=one_of(2048, 1024, 512))
        )

    def decoder_layer() -> DecoderLayer:
        return DecoderLayer(
            mixer=Attention(heads=one_of(4, 2), width=512),
            cross=CrossAttention(heads=one_of(4, 2), span=one_of(1, 2, 3), width=512),
            feed_forward=FeedForward(width=one_of(2048, 1024, 512)),
        )

    return Space(
        EncoderDecoder(
            encoder=Encoder(dim=one_of(640, 512), layers=tuple(encoder_layer() for _ in range(6))),
            decoder=Decoder(
                dim=one_of(640, 512), layers=first_of((6, 5, 4, 3, 2, 1), tuple(decoder_layer() for _ in range(6)))
            ),
        ),
        "hat",
    )


SPACES: dict[str, Callable[[], Space]] = {
    "shrinknas": shrinknas,
    "shrinknas-small": shrinknas_small,
    "sizes-only": sizes_only,
    "sizes-only-small": sizes_only_small,
    "hat": hat,
}
"""Every named space, built when asked for."""


def uniform(
    operator: Operator,
    dim: int,
    *,
    ratio: float,
    heads: int = 4,
    encoder_layers: int = 6,
    decoder_layers: int = 6,
    kernels: Sequence[int] = KERNELS,
    norm: Literal["post", "pre"] = "post",
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
    return EncoderDecoder(norm=norm, encoder=Encoder(dim=dim, layers=encoder), decoder=Decoder(dim=dim, layers=decoder))


def transformer(dim: int = 128, encoder_layers: int = 6, decoder_layers: int = 6) -> EncoderDecoder:
    """The standard Transformer at small size: attention everywhere, feed-forward twice the dim."""
    return uniform("attention", dim, ratio=2.0, encoder_layers=encoder_layers, decoder_layers=decoder_layers)


def light_convolution(dim: int = 128, encoder_layers: int = 7, decoder_layers: int = 6) -> EncoderDecoder:
    """LightConv without gates: lightweight convolutions for self-attention, feed-forward twice the dim."""
    return uniform("light_convolution", dim, ratio=2.0, encoder_layers=encoder_layers, decoder_layers=decoder_layers)


def lite_transformer(dim: int = 160, encoder_layers: int = 6, decoder_layers: int = 6) -> EncoderDecoder:
    """Lite Transformer: long-short range attention everywhere, flat feed-forward."""
    return uniform("long_short_light", dim, ratio=1.0, encoder_layers=encoder_layers, decoder_layers=decoder_layers)


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


def sized(operator: Operator, ratio: float, core: int, count: Callable[[EncoderDecoder], int], **depth: Any) -> Any:
    """The architecture of one operator with the core size `core`, in the proportions that `ratio` asks for.

    `count` measures a core size. For each dim (a multiple of 8) the feed-forward width is fitted to the size, to the
    nearest unit; the dim whose width comes nearest to `ratio` times the dim is taken.
    """
    best: tuple[float, Any] = (float("inf"), None)
    for dim in range(16, 1025, 8):
        plain = uniform(operator, dim, ratio=ratio, **depth)
        step = count(uniform(operator, dim, ratio=ratio + 1 / dim, **depth)) - count(plain)
        width = round(ratio * dim) + round((core - count(plain)) / step)
        if width < dim // 4:
            continue
        distance = abs(width / dim / ratio - 1)
        if distance < best[0]:
            best = (distance, uniform(operator, dim, ratio=width / dim, **depth))
    if best[1] is None:
        raise RequestError(f"no architecture of {operator} comes near {core:,} core parameters")
    return best[1]


ARCHITECTURES: dict[str, Callable[[], EncoderDecoder | DecoderOnly]] = {
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
"""Every known architecture, built when asked for."""
