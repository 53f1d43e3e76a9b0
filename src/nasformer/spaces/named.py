"""The spaces of the papers and the known architectures, by name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import Field

from nasformer.errors import RequestError, nearest
from nasformer.spaces import known_cells, known_programs, sequence_spaces
from nasformer.spaces.image_cell import ImageCells
from nasformer.spaces.open import first_of, one_of
from nasformer.spaces.program import Program
from nasformer.spaces.program_space import ProgramSpace
from nasformer.spaces.reversible import Reversible, ReversibleLayer, ReversibleStack
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import (
    Activation,
    Attention,
    Convolution,
    CrossAttention,
    Decoder,
    DecoderLayer,
    DecoderOnly,
    DynamicConvolution,
    Encoder,
    EncoderDecoder,
    EncoderLayer,
    FeedForward,
    GatedLinear,
    Identity,
    LightConvolution,
    LongShort,
    Zero,
)
from nasformer.spaces.value import Value

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


def node_operators(*, heads: int, ratio: float = 4.0, cross: bool) -> tuple[Any, ...]:
    """The 13 operators of a node (docs/papers/dartsformer.md §2.3), with cross-attention 14."""
    return (
        *(Convolution(kernel=kernel) for kernel in (3, 5, 7, 11)),
        *(DynamicConvolution(heads=heads, kernel=kernel) for kernel in (3, 7, 11, 15)),
        Attention(heads=heads),
        *((CrossAttention(heads=heads),) if cross else ()),
        GatedLinear(),
        FeedForward(ratio=ratio),
        Zero(),
        Identity(),
    )


def dartsformer(
    *,
    dim: int = 960,
    embedding_dim: int = 256,
    splits: int = 2,
    searched: int = 2,
    depth: int = 12,
    heads: int = 8,
    pooling: Literal["max", "mean"] = "max",
    operators: Callable[..., tuple[Any, ...]] = node_operators,
) -> Space:
    """One operator per node of a multi-split reversible network (docs/papers/dartsformer.md §2.4).

    The encoder has `splits` splits, all searched; the decoder one more, fixed to cross-attention. `searched` layers are
    repeated up to `depth`. The defaults are the paper's base size, 13⁴ · 14⁴ members.
    Raises `RequestError` where `searched` layers cannot be repeated to `depth`, or a width does not divide.
    """
    if searched < 1 or depth % searched:
        raise RequestError(f"searched={searched} layers cannot be repeated to a depth of {depth}; expected a divisor")
    if splits < 2:
        raise RequestError(f"splits={splits}; a reversible layer needs at least 2")
    for name, n in (("encoder", splits), ("decoder", splits + 1)):
        if dim % n or (dim // n) % heads:
            raise RequestError(
                f"dim={dim} does not fit the {name}: its {n} splits must be equal and each divide by {heads} heads; "
                f"expected a multiple of {math.lcm(splits, splits + 1) * heads}"
            )
    here, there = operators(heads=heads, cross=False), operators(heads=heads, cross=True)
    encoder = ReversibleLayer(nodes=(one_of(*here),) * splits)
    decoder = ReversibleLayer(nodes=(*(one_of(*there),) * splits, CrossAttention(heads=heads)))
    return Space(
        Reversible(
            embedding_dim=embedding_dim,
            pooling=pooling,
            encoder=ReversibleStack(dim=dim, layers=(encoder,) * searched, repeats=depth // searched),
            decoder=ReversibleStack(dim=dim, layers=(decoder,) * searched, repeats=depth // searched),
        ),
        "dartsformer",
    )


def dartsformer_small(dim: int = 96, splits: int = 2, searched: int = 1) -> Space:
    """The space of the small-scale protocol (docs/papers/dartsformer.md §8): e = 32, d = 96, two repeats, 4 heads."""
    space = dartsformer(dim=dim, embedding_dim=32, splits=splits, searched=searched, depth=2 * searched, heads=4)
    return Space(space.template, "dartsformer-small")


def darts_transformer(
    *, dim: int = 320, layers: int = 6, heads: int = 8, ratio: float = 4.0, operators: Any = node_operators
) -> Space:
    """The plain Transformer whose self-attention may be any of the 13 operators, layer by layer: what plain DARTS
    searches (docs/papers/dartsformer.md, Table 5)."""
    options = operators(heads=heads, cross=False)
    feed_forward = FeedForward(ratio=ratio)
    encoder = EncoderLayer(mixer=one_of(*options), feed_forward=feed_forward)
    decoder = DecoderLayer(mixer=one_of(*options), cross=CrossAttention(heads=heads), feed_forward=feed_forward)
    return Space(
        EncoderDecoder(
            encoder=Encoder(dim=dim, layers=(encoder,) * layers), decoder=Decoder(dim=dim, layers=(decoder,) * layers)
        ),
        "darts-transformer",
    )


def darts_transformer_small() -> Space:
    """The plain Transformer for plain DARTS at the size of the small-scale protocol."""
    return Space(darts_transformer(dim=32, layers=2, heads=4).template, "darts-transformer-small")


def primer(width: int = 64, depth: int = 2, heads: int = 4, inner: float = 4) -> ProgramSpace:
    """Primer's space: programs of primitives, from the Transformer of this size on."""
    return ProgramSpace(known_programs.transformer(width, depth, heads, inner), "primer")


SPACES: dict[str, Callable[..., Space | ProgramSpace]] = {
    "shrinknas": shrinknas,
    "shrinknas-small": shrinknas_small,
    "sizes-only": sizes_only,
    "sizes-only-small": sizes_only_small,
    "hat": hat,
    "dartsformer": dartsformer,
    "dartsformer-small": dartsformer_small,
    "darts-transformer": darts_transformer,
    "darts-transformer-small": darts_transformer_small,
    "primer": primer,
    "t0": sequence_spaces.t0,
    "t1": sequence_spaces.t1,
    "t2": sequence_spaces.t2,
    "t3": sequence_spaces.t3,
    "t4": sequence_spaces.t4,
    **known_cells.SPACES,
}
"""Every named space, built when asked for."""


class NamedSpace(Value):
    """A named space with some of the settings of the function that builds it (`dartsformer`: dim, splits, …)."""

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)

    def open(self) -> Space | ProgramSpace:
        """The space; raises `RequestError` for an unknown name, setting or value."""
        if self.name not in SPACES:
            raise RequestError(f"unknown space {self.name!r}; {nearest(self.name, SPACES)}")
        build = SPACES[self.name]
        known = inspect.signature(build).parameters
        if unknown := [name for name in self.settings if name not in known]:
            raise RequestError(f"the space {self.name} has no setting {unknown[0]!r}; {nearest(unknown[0], known)}")
        try:
            return build(**self.settings)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise RequestError(f"the space {self.name} with {self.settings}: {error}") from None


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

    `count` measures a core size; `depth` are the numbers of layers.
    """
    return _fitted(lambda dim, ratio: uniform(operator, dim, ratio=ratio, **depth), ratio, core, count)


def resized(architecture: EncoderDecoder, core: int, count: Callable[[EncoderDecoder], int]) -> Any:
    """The same operators at the width that gives the core size `core`; all feed-forward layers get one ratio."""
    encoder = architecture.encoder
    inner = sum(layer.feed_forward.inner(encoder.dim) for layer in encoder.layers)
    ratio = inner / (encoder.dim * len(encoder.layers))

    def make(dim: int, ratio: float) -> EncoderDecoder:
        def widened(stack: Any) -> Any:
            feed_forward = [layer.feed_forward.but(ratio=ratio, width=None) for layer in stack.layers]
            layers = zip(stack.layers, feed_forward, strict=True)
            return stack.but(dim=dim, layers=tuple(layer.but(feed_forward=wide) for layer, wide in layers))

        return architecture.but(encoder=widened(architecture.encoder), decoder=widened(architecture.decoder))

    return _fitted(make, ratio, core, count)


def _fitted(
    make: Callable[[int, float], EncoderDecoder], ratio: float, core: int, count: Callable[[EncoderDecoder], int]
) -> Any:
    """For each dim (a multiple of 8) the feed-forward ratio is fitted to the size, to the nearest unit of width; the
    dim whose fitted ratio comes nearest to `ratio` is taken."""
    best: tuple[float, Any] = (float("inf"), None)
    for dim in range(16, 1025, 8):
        try:
            plain = make(dim, ratio)
        except RequestError:  # heads that do not divide this dim
            continue
        step = count(make(dim, ratio + 1 / dim)) - count(plain)
        width = round(ratio * dim) + round((core - count(plain)) / step)
        if width < dim // 4:
            continue
        distance = abs(width / dim / ratio - 1)
        if distance < best[0]:
            best = (distance, make(dim, width / dim))
    if best[1] is None:
        raise RequestError(f"no architecture of these operators comes near {core:,} core parameters")
    return best[1]


ARCHITECTURES: dict[str, Callable[[], EncoderDecoder | DecoderOnly | Program | ImageCells]] = {
    "transformer": transformer,
    "light-convolution": light_convolution,
    "lite-transformer": lite_transformer,
    "hat-45.6ms": hat_result,
    "hat-74.5ms": lambda: hat_result((2048, 1024)),
    "hat-109.0ms": lambda: hat_result((1024, 1024, 2048)),
    "hat-137.8ms": lambda: hat_result((1024, 2048, 2048, 1024)),
    "hat-168.8ms": lambda: hat_result((2048, 2048, 2048, 1024, 1024)),
    "language-model": language_model,
    **known_programs.PROGRAMS,
    **known_cells.CELLS,
}
"""Every known architecture, built when asked for."""
