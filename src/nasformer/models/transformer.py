"""One architecture of the Transformer family made into a plain network. No choices survive here.

The network is described first, as a list of named `Part`s (`parts`), and then built from it; sizes and FLOPs come from
building the same parts on the meta device (`nasformer.models.size`), so what is counted is what is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.errors import RequestError
from nasformer.operators import catalogue
from nasformer.operators.attention import Memory
from nasformer.operators.catalogue import Dropout
from nasformer.operators.dropout import dropout
from nasformer.operators.normalization import NORMS, Sublayer
from nasformer.operators.operator import Cache, scale_output
from nasformer.operators.positions import position_table, positions
from nasformer.spaces.transformer import (
    CrossAttention,
    Decoder,
    DecoderOnly,
    Encoder,
    EncoderDecoder,
    NormKind,
    Positive,
)
from nasformer.spaces.value import Value

PAD = 0
"""The token that fills a batch; what stands there never matters."""


class ModelSettings(Value):
    """What a network needs besides its architecture.

    `position_width` is the width of the position table that every stack cuts to its dim: the largest dim of the space,
    so that an inherited network and its supernet agree; None takes the stack's own dim. With `dropout_full_dim` the
    residual dropout of a stack is scaled by its dim / dropout_full_dim (HAT's rule). With `shared_vocabulary` both
    sides have the same tokens, so that families with tied tables share one. With `tied` an encoder–decoder Transformer
    has one table for source, target and output (Vaswani et al. 2017, §3.4), as wide as its wider side; the narrower one
    uses its first channels, as slices of a supernet do. Without it, the architecture's `tables` say what is shared.

    Raises `RequestError` for `tied` where the two vocabularies differ in size.
    """

    source_vocabulary: Positive | None = None
    target_vocabulary: Positive
    position_width: Positive | None = None
    dropout: Dropout = Dropout()
    dropout_full_dim: Positive | None = None
    shared_vocabulary: bool = False
    tied: bool = False

    @model_validator(mode="after")
    def _one_vocabulary(self) -> Self:
        if self.tied and self.source_vocabulary != self.target_vocabulary:
            raise RequestError(
                f"tied tables need one vocabulary for both sides; got {self.source_vocabulary} tokens of the source "
                f"and {self.target_vocabulary} of the target"
            )
        return self

    def residual_dropout(self, dim: int) -> float:
        """The dropout of residual branches in a stack of this dim."""
        return self.dropout.residual * (dim / self.dropout_full_dim if self.dropout_full_dim else 1.0)


@dataclass(frozen=True)
class Part:
    """One sub-layer of a network: an operator with its residual and norm, or bare. `role` is its place in the layer."""

    role: str
    value: Any
    dim: int
    memory_dim: int
    causal: bool
    norm: Literal["post", "pre", "bare"]
    norm_kind: NormKind = "layer"
    initial: float = 1.0
    """What the initial weights that end the operator are multiplied by."""

    def build(self, settings: ModelSettings) -> nn.Module:
        """The sub-layer, on the current default device, weights not yet drawn."""
        if self.memory_dim:
            operator = catalogue.cross_attention(self.value, self.dim, self.memory_dim, dropout=settings.dropout)
        else:
            operator = catalogue.mixer(self.value, self.dim, causal=self.causal, dropout=settings.dropout)
        scale_output(operator, self.initial)
        if self.norm == "bare":
            return operator
        residual = settings.residual_dropout(self.dim)
        return Sublayer(operator, self.dim, norm=self.norm, residual=residual, kind=self.norm_kind)

    def example(self, time: int, source: int) -> tuple[Any, ...]:
        """What it reads of one sequence of `time` (and `source`) tokens, on the meta device."""
        x = torch.empty(1, time, self.dim, device="meta")
        memory = torch.empty(1, source, self.memory_dim, device="meta")
        return (x, Memory([memory] * 3, None)) if self.memory_dim else (x,)


def parts(architecture: EncoderDecoder | DecoderOnly) -> Iterator[tuple[str, int, Part]]:
    """Every sub-layer in the order of the computation: stack name, layer index, part."""
    encoder = architecture.encoder if isinstance(architecture, EncoderDecoder) else None
    for name, stack in _stacks(architecture):
        own = list(stack_parts(name, stack, encoder.dim if encoder else 0, architecture.norm))
        initial = len(own) ** -0.5 if architecture.depth_scaled else 1.0
        for _, index, part in own:
            value = part.value
            if encoder and isinstance(value, CrossAttention) and value.span > len(encoder.layers):
                value = value.but(span=len(encoder.layers))
            yield name, index, replace(part, value=value, norm_kind=architecture.norm_kind, initial=initial)


def _stacks(architecture: EncoderDecoder | DecoderOnly) -> list[tuple[str, Encoder | Decoder]]:
    """The stacks by name, in the order of the computation."""
    encoder: list[tuple[str, Encoder | Decoder]] = []
    if isinstance(architecture, EncoderDecoder):
        encoder = [("encoder", architecture.encoder)]
    return [*encoder, ("decoder", architecture.decoder)]


def stack_parts(
    name: str, stack: Encoder | Decoder, memory_dim: int, norm: Literal["post", "pre"]
) -> Iterator[tuple[str, int, Part]]:
    """The sub-layers of one stack; a decoder's is causal, and attends to a memory of `memory_dim` channels."""
    for index, layer in enumerate(stack.layers):
        for role in ("mixer", "cross", "feed_forward"):
            value = getattr(layer, role, None)
            if value is not None:
                yield name, index, Part(role, value, stack.dim, memory_dim * (role == "cross"), name == "decoder", norm)


def frame_parameters(architecture: EncoderDecoder | DecoderOnly) -> int:
    """Core parameters outside all parts: the final norms, where there are any."""
    if not (architecture.norm == "pre" if architecture.final_norm is None else architecture.final_norm):
        return 0
    with torch.device("meta"):
        norms = [NORMS[architecture.norm_kind](stack.dim) for _, stack in _stacks(architecture)]
    return sum(parameter.numel() for norm in norms for parameter in norm.parameters())


def table_parameters(architecture: EncoderDecoder | DecoderOnly, settings: ModelSettings) -> int:
    """Parameters of the embeddings and of the output matrix; of the one table where they are tied."""
    encoder = getattr(architecture, "encoder", None)
    if encoder and settings.tied:
        return settings.target_vocabulary * max(encoder.dim, architecture.decoder.dim)
    source = (settings.source_vocabulary or 0) * (encoder.dim if encoder else 0)
    target = settings.target_vocabulary * architecture.decoder.dim
    return source + (target if architecture.tables == "tied_output" else 2 * target)


MakePart = Callable[[str, int, Part], nn.Module]
"""(stack name, layer index, part) → the sub-layer; how a supernet lends its own."""


class Tokens(nn.Module):
    """A table of token embeddings."""

    def __init__(self, vocabulary: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary, dim))

    def reset(self, generator: torch.Generator) -> None:
        """N(0, 1/dim), the padding row zero."""
        with torch.no_grad():
            self.weight.normal_(0.0, self.weight.shape[1] ** -0.5, generator=generator)
            self.weight[PAD] = 0.0

    def look_up(self, tokens: Tensor, dim: int | None = None) -> Tensor:
        """tokens (batch, time) → their first `dim` channels (None: all), (batch, time, dim), times √dim."""
        x = F.embedding(tokens, self.weight)
        x = x if dim in (None, x.shape[-1]) else x[..., :dim]
        return x * math.sqrt(x.shape[-1])


class Embedding(Tokens):
    """Token embeddings times √dim plus sinusoidal positions."""

    def __init__(self, vocabulary: int, dim: int, position_width: int, residual: float) -> None:
        super().__init__(vocabulary, dim)
        self.position_width, self.residual = position_width, residual

    def forward(self, tokens: Tensor, padding: Tensor | None, offset: Tensor | int = 0) -> Tensor:
        """tokens (batch, time) → (batch, time, dim); `offset` (batch, 1) is the number of real tokens before."""
        x = add_positions(self.look_up(tokens), padding, offset, self.position_width)
        return dropout(x, self.residual, self.training)


def add_positions(x: Tensor, padding: Tensor | None, offset: Tensor | int, width: int) -> Tensor:
    """x (batch, time, dim) plus the sinusoids of its positions, cut from a table of `width` channels."""
    at = positions(padding, x.shape[1], offset)
    longest = x.shape[1] if at is None or at.device.type == "meta" else int(at.max()) + 1
    table = position_table(longest, width, x.shape[-1], x)
    return x + (table[: x.shape[1]] if at is None else table[at])


class TiedEmbedding(nn.Module):
    """An embedding as `Embedding` is, of the first `dim` channels of a table that belongs to another module."""

    def __init__(self, table: Tokens, dim: int, position_width: int, residual: float) -> None:
        super().__init__()
        self.dim, self.position_width, self.residual = dim, position_width, residual
        self._table = (table,)  # inside a tuple, so that the weight is listed and saved once

    def forward(self, tokens: Tensor, padding: Tensor | None, offset: Tensor | int = 0) -> Tensor:
        """tokens (batch, time) → (batch, time, dim); `offset` (batch, 1) is the number of real tokens before."""
        x = add_positions(self._table[0].look_up(tokens, self.dim), padding, offset, self.position_width)
        return dropout(x, self.residual, self.training)


class Stack(nn.Module):
    """The layers of one side, with a final norm or without; None: with one where norms come first."""

    def __init__(
        self, name: str, parts: Iterable[tuple[str, int, Part]], make: MakePart, final_norm: bool | None = None
    ) -> None:
        super().__init__()
        own = [(index, part) for stack, index, part in parts if stack == name]
        layers: dict[int, nn.ModuleDict] = {}
        for index, part in own:
            layers.setdefault(index, nn.ModuleDict())[part.role] = make(name, index, part)
        self.layers = nn.ModuleList(layers.values())
        first = own[0][1]
        normed = first.norm == "pre" if final_norm is None else final_norm
        self.norm = NORMS[first.norm_kind](first.dim) if normed else None

    def each(self) -> Iterator[Any]:
        """The layers in order; each is a dict of its sub-layers by role."""
        yield from self.layers

    def finish(self, x: Tensor) -> Tensor:
        """What leaves the stack: normalised, whichever the style, unless the architecture says otherwise (our reading 3
        of docs/papers/operators.md)."""
        found: Tensor = x if self.norm is None else self.norm(x)
        return found


def padding_of(tokens: Tensor) -> Tensor | None:
    """Where tokens (batch, time) are padding; None where a look at them costs nothing and finds none."""
    padding = tokens == PAD
    return None if tokens.device.type == "cpu" and not padding.any() else padding


def count_seen(tokens: Tensor, padding: Tensor | None, cache: Cache | None) -> Tensor | int:
    """How many real tokens (batch, 1) came before tokens (batch, time); the cache counts these in too."""
    if cache is None:
        return 0
    before: Tensor | int = cache.get("seen", 0)
    real = torch.full_like(tokens[:, :1], tokens.shape[1]) if padding is None else (~padding).sum(1, True)
    cache["seen"] = before + real
    return before


class Decoding(nn.Module):
    """The part that networks share: a causal stack over target tokens, and the map to the vocabulary."""

    embedding: Embedding | TiedEmbedding
    decoder: Stack
    output: Output | TiedOutput

    def _decode(self, tokens: Tensor, memory: Memory | None, cache: Cache | None) -> Tensor:
        padding = padding_of(tokens)
        x = self.embedding(tokens, padding, count_seen(tokens, padding, cache))
        for index, layer in enumerate(self.decoder.each()):
            inside = None if cache is None else cache.setdefault(str(index), {"mixer": {}, "cross": {}})
            x = layer["mixer"](x, padding, None if inside is None else inside["mixer"])
            if memory is not None:
                x = layer["cross"](x, memory, None if inside is None else inside["cross"])
            x = layer["feed_forward"](x)
        return self.decoder.finish(x)


class Output(nn.Module):
    """The untied map from the last hidden state to the vocabulary, without bias."""

    def __init__(self, vocabulary: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary, dim))

    def reset(self, generator: torch.Generator) -> None:
        """N(0, 1/dim)."""
        with torch.no_grad():
            self.weight.normal_(0.0, self.weight.shape[1] ** -0.5, generator=generator)

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, dim) → logits (…, vocab)."""
        return F.linear(hidden, self.weight)


class TiedOutput(nn.Module):
    """The map from the last hidden state to the vocabulary by the first channels of a table that belongs to another
    module, without bias."""

    def __init__(self, table: Tokens) -> None:
        super().__init__()
        self._table = (table,)  # as in `TiedEmbedding`

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, dim) → logits (…, vocab)."""
        weight, dim = self._table[0].weight, hidden.shape[-1]
        return F.linear(hidden, weight if weight.shape[1] == dim else weight[:, :dim])


class EncoderDecoderModel(Decoding):
    """A sequence-to-sequence network: source and target tokens → logits of the next target token.

    Source, target and output have a table each, target and output one (`architecture.tables`), or with `settings.tied`
    all three (see `ModelSettings`).
    """

    def __init__(self, architecture: EncoderDecoder, settings: ModelSettings, make: MakePart | None = None) -> None:
        super().__init__()
        make = make or (lambda stack, index, part: part.build(settings))
        self.architecture, self.settings = architecture, settings
        source, target = architecture.encoder.dim, architecture.decoder.dim
        assert settings.source_vocabulary is not None, "an encoder needs a source vocabulary"
        self.tokens = Tokens(settings.target_vocabulary, max(source, target)) if settings.tied else None
        self.source_embedding = embedding(settings.source_vocabulary, source, settings, self.tokens)
        self.encoder = Stack("encoder", parts(architecture), make, architecture.final_norm)
        self.embedding = embedding(settings.target_vocabulary, target, settings, self.tokens)
        self.decoder = Stack("decoder", parts(architecture), make, architecture.final_norm)
        self.output = output(architecture, settings, self.tokens or self.embedding)

    def encode(self, source: Tensor) -> Memory:
        """source (batch, source) → the outputs of the last three layers."""
        padding = padding_of(source)
        x = self.source_embedding(source, padding)
        outputs = []
        for layer in self.encoder.each():
            x = layer["feed_forward"](layer["mixer"](x, padding))
            outputs.append(x)
        return Memory([self.encoder.finish(output) for output in reversed(outputs[-3:])], padding)

    def decode(self, target: Tensor, memory: Memory, cache: Cache | None = None) -> Tensor:
        """target (batch, target) → hidden states (batch, target, decoder dim); with a cache, of the new positions."""
        return self._decode(target, memory, cache)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """source (batch, source), target (batch, target) → logits (batch, target, vocab)."""
        return self.output(self.decode(target, self.encode(source)))


class DecoderOnlyModel(Decoding):
    """A language model: tokens → logits of the next token."""

    def __init__(self, architecture: DecoderOnly, settings: ModelSettings, make: MakePart | None = None) -> None:
        super().__init__()
        make = make or (lambda stack, index, part: part.build(settings))
        self.architecture, self.settings = architecture, settings
        self.embedding = embedding(settings.target_vocabulary, architecture.decoder.dim, settings)
        self.decoder = Stack("decoder", parts(architecture), make, architecture.final_norm)
        self.output = output(architecture, settings, self.embedding)

    def decode(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """tokens (batch, time) → hidden states (batch, time, dim); with a cache, of the new positions."""
        return self._decode(tokens, None, cache)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (batch, time) → logits (batch, time, vocab)."""
        return self.output(self.decode(tokens))


def embedding(
    vocabulary: int, dim: int, settings: ModelSettings, table: Tokens | None = None
) -> Embedding | TiedEmbedding:
    """The embedding of a stack of this dim: of a table of its own, or of the one that is given."""
    others = dim, settings.position_width or dim, settings.residual_dropout(dim)
    return Embedding(vocabulary, *others) if table is None else TiedEmbedding(table, *others)


def output(architecture: EncoderDecoder | DecoderOnly, settings: ModelSettings, table: Any) -> Output | TiedOutput:
    """The map to the vocabulary: by `table`, where it is shared, or by a table of its own."""
    if (settings.tied and isinstance(architecture, EncoderDecoder)) or architecture.tables == "tied_output":
        return TiedOutput(table)
    return Output(settings.target_vocabulary, architecture.decoder.dim)
