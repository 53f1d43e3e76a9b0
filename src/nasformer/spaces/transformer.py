"""The Transformer family: stacks of layers, each an operator that mixes time and a feed-forward operator.

Every class is an architecture's part, and with open fields a space's (`nasformer.spaces.open`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Tag, model_validator

from nasformer.errors import RequestError
from nasformer.spaces.open import is_open
from nasformer.spaces.value import BY_KIND, Value

Positive = Annotated[int, Field(ge=1)]
Activation = Literal["relu", "leaky_relu", "swish", "gelu", "squared_relu"]
Norm = Literal["post", "pre"]
"""Where each sub-layer normalises: after the residual sum, or what its operator reads."""
NormKind = Literal["layer", "rms"]
"""Layer normalisation (gain and bias), or by the root mean square alone (gain; Zhang & Sennrich, arXiv 1910.07467)."""
Tables = Literal["separate", "tied_output"]
"""A table each for source, target and output, or the target's embedding as the output map too (Press & Wolf, arXiv
1608.05859)."""


class Attention(Value):
    """Multi-head self-attention; `width` of queries, keys and values together is the layer's dim unless given.

    With `key_value_heads`, groups of heads share a key and a value (arXiv 2305.13245). With `query_key_norm` the
    queries and keys of each head are normalised (arXiv 2010.04245). `convolution` is how many taps a depthwise
    convolution of queries, keys and values has (Primer's MDHA, arXiv 2109.08668).
    """

    kind: Literal["attention"] = "attention"
    heads: Positive
    width: Positive | None = None
    key_value_heads: Positive | None = None
    query_key_norm: bool = False
    convolution: Positive | None = None

    @property
    def label(self) -> str:
        """The kind; with a convolution, always, it is told apart."""
        convolution: Any = self.convolution
        return self.kind if None in getattr(convolution, "options", (convolution,)) else f"{self.kind}_convolution"

    def fits(self, dim: int) -> bool:
        """Whether the heads divide the width, key–value heads the heads, and the taps are odd in number."""
        groups, taps = self.key_value_heads or self.heads, self.convolution or 1
        return (self.width or dim) % self.heads == 0 and self.heads % groups == 0 and taps % 2 == 1


class LightConvolution(Value):
    """Lightweight convolution: `heads` rows of `kernel` softmax-normalised taps, the same at every position."""

    kind: Literal["light_convolution"] = "light_convolution"
    heads: Positive
    kernel: Positive
    gated: bool = False

    def fits(self, dim: int) -> bool:
        """Whether the heads divide the dim and the kernel is odd."""
        return dim % self.heads == 0 and self.kernel % 2 == 1


class DynamicConvolution(Value):
    """Dynamic convolution: as the lightweight one, with taps predicted from each position."""

    kind: Literal["dynamic_convolution"] = "dynamic_convolution"
    heads: Positive
    kernel: Positive
    gated: bool = False

    def fits(self, dim: int) -> bool:
        """Whether the heads divide the dim and the kernel is odd."""
        return dim % self.heads == 0 and self.kernel % 2 == 1


class LongShort(Value):
    """Long–short range attention: attention on the first half of the channels, a convolution on the second."""

    kind: Literal["long_short"] = "long_short"
    filter: Literal["light", "dynamic"]
    heads: Positive
    kernel: Positive
    gated: bool = False

    @property
    def label(self) -> str:
        """`long_short_light` or `long_short_dynamic`."""
        return f"long_short_{self.filter}"

    def fits(self, dim: int) -> bool:
        """Whether the heads divide each half and the kernel is odd."""
        return dim % 2 == 0 and (dim // 2) % self.heads == 0 and self.kernel % 2 == 1


class Convolution(Value):
    """Standard convolution over time, every channel reading every channel."""

    kind: Literal["convolution"] = "convolution"
    kernel: Positive

    def fits(self, dim: int) -> bool:
        """Whether the kernel is odd."""
        return self.kernel % 2 == 1


class GatedLinear(Value):
    """A linear layer times a sigmoid gate, each position by itself."""

    kind: Literal["gated_linear"] = "gated_linear"

    def fits(self, dim: int) -> bool:
        """Always."""
        return True


class Zero(Value):
    """Nothing: zeros."""

    kind: Literal["zero"] = "zero"

    def fits(self, dim: int) -> bool:
        """Always."""
        return True


class Identity(Value):
    """The input as it is."""

    kind: Literal["identity"] = "identity"

    def fits(self, dim: int) -> bool:
        """Always."""
        return True


class Custom(Value):
    """An operator of the user's own, by the name under which it is listed in `nasformer.operators.catalogue.MIXERS`."""

    kind: Literal["custom"] = "custom"
    operator: str
    heads: Positive = 1
    kernel: Positive = 1

    @property
    def label(self) -> str:
        """The operator's name."""
        return self.operator

    def fits(self, dim: int) -> bool:
        """Whether the heads divide the dim; what else must hold, the operator itself checks."""
        return dim % self.heads == 0


class CrossAttention(Value):
    """Attention to the outputs of the last `span` encoder layers, or of all where there are fewer (HAT's arbitrary
    encoder–decoder attention)."""

    kind: Literal["cross_attention"] = "cross_attention"
    heads: Positive
    span: Annotated[int, Field(ge=1, le=3)] = 1
    width: Positive | None = None
    query_key_norm: bool = False

    def fits(self, dim: int) -> bool:
        """Whether the heads divide the width."""
        return (self.width or dim) % self.heads == 0


class FeedForward(Value):
    """Two linear layers with an activation between; the inner width is given, or `ratio` times the dim."""

    kind: Literal["feed_forward"] = "feed_forward"
    ratio: Annotated[float, Field(gt=0)] | None = None
    width: Positive | None = None
    activation: Activation = "relu"
    gated: bool = False

    @property
    def label(self) -> str:
        """The kind; a gated one, whose first layer has two maps, is told apart."""
        return f"gated_{self.kind}" if self.gated is True else self.kind

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.ratio is None) == (self.width is None):
            raise RequestError("feed_forward expects either ratio or width")
        return self

    def inner(self, dim: int) -> int:
        """The inner width in a stack of this dim."""
        return self.width if self.width is not None else round((self.ratio or 0) * dim)

    def fits(self, dim: int) -> bool:
        """Always."""
        return True


Mixers = (
    Annotated[Attention, Tag("attention")]
    | Annotated[LightConvolution, Tag("light_convolution")]
    | Annotated[DynamicConvolution, Tag("dynamic_convolution")]
    | Annotated[LongShort, Tag("long_short")]
    | Annotated[Convolution, Tag("convolution")]
    | Annotated[GatedLinear, Tag("gated_linear")]
    | Annotated[FeedForward, Tag("feed_forward")]
    | Annotated[Zero, Tag("zero")]
    | Annotated[Identity, Tag("identity")]
    | Annotated[Custom, Tag("custom")]
)
Mixer = Annotated[Mixers, BY_KIND]
"""The operators that can stand where information moves along time, those included that leave it where it is."""


class EncoderLayer(Value):
    """One encoder layer: mix time, then feed forward."""

    mixer: Mixer
    feed_forward: FeedForward


class DecoderLayer(Value):
    """One decoder layer: mix the past, attend to the encoder (None in a decoder-only model), feed forward."""

    mixer: Mixer
    cross: CrossAttention | None = None
    feed_forward: FeedForward


class Encoder(Value):
    """A stack of encoder layers on a stream of `dim` channels."""

    dim: Positive
    layers: tuple[EncoderLayer, ...]


class Decoder(Value):
    """A stack of decoder layers on a stream of `dim` channels."""

    dim: Positive
    layers: tuple[DecoderLayer, ...]


class EncoderDecoder(Value):
    """A sequence-to-sequence Transformer with operators of any kind in any layer.

    `final_norm` says whether a stack ends with a norm; None: where norms come first. With `depth_scaled`, the initial
    weights that end a residual branch are divided by the root of how many branches the stack has (GPT-2, Radford et al.
    2019).
    """

    family: Literal["encoder_decoder"] = "encoder_decoder"
    norm: Norm = "post"
    encoder: Encoder
    decoder: Decoder
    norm_kind: NormKind = "layer"
    final_norm: bool | None = None
    tables: Tables = "separate"
    depth_scaled: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if is_open(self):
            return self
        check_stack(self.encoder, "encoder")
        check_stack(self.decoder, "decoder")
        tuple(crosses(self.decoder))
        return self


class DecoderOnly(Value):
    """A language model: a stack of causal layers without an encoder; the fields are those of `EncoderDecoder`."""

    family: Literal["decoder_only"] = "decoder_only"
    norm: Norm = "pre"
    decoder: Decoder
    norm_kind: NormKind = "layer"
    final_norm: bool | None = None
    tables: Tables = "separate"
    depth_scaled: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if is_open(self):
            return self
        check_stack(self.decoder, "decoder")
        for index, layer in enumerate(self.decoder.layers):
            if layer.cross is not None:
                raise RequestError(f"decoder.layers.{index}.cross is set, but a decoder-only model has no encoder")
        return self


def crosses(decoder: Decoder) -> Iterator[tuple[str, CrossAttention]]:
    """Where the cross-attention of each layer stands, and itself; raises `RequestError` at a layer without one."""
    for index, layer in enumerate(decoder.layers):
        place = f"decoder.layers.{index}.cross"
        if layer.cross is None:
            raise RequestError(f"{place} is missing; an encoder-decoder attends to its encoder")
        yield place, layer.cross


def check_stack(stack: Encoder | Decoder, name: str) -> None:
    """Raise `RequestError` where a stack has no layers or a number in it does not fit its dim."""
    if not stack.layers:
        raise RequestError(f"{name}.layers is empty; expected at least one layer")
    if stack.dim % 2:
        raise RequestError(f"{name}.dim is {stack.dim}; positions need an even number")
    layers: tuple[Any, ...] = stack.layers
    for index, layer in enumerate(layers):
        for part in (layer.mixer, getattr(layer, "cross", None)):
            if part is not None and not part.fits(stack.dim):
                raise RequestError(
                    f"{name}.layers.{index}: {part.label} {part.data()} does not fit dim {stack.dim}; "
                    f"heads must divide the width, key-value heads the heads, kernels are odd"
                )
