"""The spaces of the papers and the known architectures, by name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import Field

from nasformer.errors import RequestError, nearest
from nasformer.spaces import known_cells, known_programs, known_transformers, modern, sequence_spaces
from nasformer.spaces.image_cell import ImageCells
from nasformer.spaces.known_transformers import KERNELS, OPERATORS, Operator, mixer
from nasformer.spaces.known_transformers import hat_result as hat_result
from nasformer.spaces.known_transformers import language_model as language_model
from nasformer.spaces.known_transformers import light_convolution as light_convolution
from nasformer.spaces.known_transformers import lite_transformer as lite_transformer
from nasformer.spaces.known_transformers import resized as resized
from nasformer.spaces.known_transformers import sized as sized
from nasformer.spaces.known_transformers import transformer as transformer
from nasformer.spaces.known_transformers import uniform as uniform
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
    Norm,
    Zero,
)
from nasformer.spaces.value import Value


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
    norm: Norm = "post",
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
    """The space of the small-scale protocol (docs/papers/shrinknas.md §8): 9 · 3 · 90³ · 540³ codes.

    Norms come first, unlike the paper's: at this size and budget post-norm trains worse.
    """
    return Space(
        shrinknas(
            dims=(48, 64, 96),
            encoder_layers=3,
            decoder_layers=(1, 2, 3),
            kernels=(3, 7, 15),
            operators=operators,
            norm="pre",
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
    "modern": modern.modern,
    "modern-language": modern.modern_language,
    "primer": primer,
    "t0": sequence_spaces.t0,
    "t1": sequence_spaces.t1,
    "t2": sequence_spaces.t2,
    "t3": sequence_spaces.t3,
    "t4": sequence_spaces.t4,
    "t5": sequence_spaces.t5,
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


ARCHITECTURES: dict[str, Callable[[], EncoderDecoder | DecoderOnly | Program | ImageCells]] = {
    **known_transformers.TRANSFORMERS,
    **known_programs.PROGRAMS,
    **known_cells.CELLS,
}
"""Every known architecture, built when asked for."""
