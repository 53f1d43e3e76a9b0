"""An architecture of sequence cells made into a plain network (docs/papers/rome.md §8).

Tokens → embedding and positions → blocks, each a cell of the outputs of the two blocks before it → norm. An operator
with weights normalises what it reads, one without reads it as it is (our reading 18); no edge has a residual, unless
the architecture says `residual_edges`. Residual dropout stands on the embeddings and on what a block gives (our reading
19), or where edges have residuals on what each of their operators gives, as in a Transformer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nasformer.models.cell import Nodes, Place, Wire, plain_wire
from nasformer.models.transformer import (
    Decoding,
    ModelSettings,
    Output,
    Part,
    Stack,
    count_seen,
    embedding,
    padding_of,
    stack_parts,
)
from nasformer.operators import catalogue
from nasformer.operators.attention import Memory
from nasformer.operators.dropout import add_dropout, dropout
from nasformer.operators.normalization import LayerNorm, Normed, Sublayer
from nasformer.operators.operator import Cache, Linear
from nasformer.spaces.cell import PARAMETER_FREE, Edge
from nasformer.spaces.sequence_cell import CellDecoderOnly, CellEncoder, CellEncoderDecoder


@dataclass(frozen=True)
class EdgePart:
    """The operator of one edge (as `nasformer.models.transformer.Part` is one sub-layer); `role` is its place."""

    role: str
    value: Any
    dim: int
    causal: bool
    residual: bool = False

    def build(self, settings: ModelSettings) -> nn.Module:
        """The operator behind its norm, on the current default device, weights not yet drawn."""
        operator = catalogue.mixer(self.value, self.dim, causal=self.causal, dropout=settings.dropout)
        if self.value.kind in PARAMETER_FREE:
            return operator
        if self.residual:
            return Sublayer(operator, self.dim, norm="pre", residual=settings.residual_dropout(self.dim))
        return Normed(operator, self.dim)

    def example(self, time: int, source: int) -> tuple[Any, ...]:
        """x (1, time, dim)."""
        return (torch.empty(1, time, self.dim, device="meta"),)


@dataclass(frozen=True)
class JoinPart:
    """The map of a cell's nodes side by side, `dim` channels, to its output."""

    dim: int
    outputs: int
    role: str = "output"

    def build(self, settings: ModelSettings) -> nn.Module:
        """The map, on the current default device, weights not yet drawn."""
        return Linear(self.dim, self.outputs)

    def example(self, time: int, source: int) -> tuple[Any, ...]:
        """The nodes side by side, (1, time, dim)."""
        return (torch.empty(1, time, self.dim, device="meta"),)


def parts(architecture: CellDecoderOnly | CellEncoderDecoder) -> Iterator[tuple[str, int, Any]]:
    """Every operator in the order of the computation: stack name, block index, part."""
    name, blocks = _blocks(architecture)
    for index in range(blocks.blocks):
        for number, node in enumerate(blocks.cell.nodes):
            for edge in node.edges:
                role = f"nodes.{number}.{edge.label}"
                yield name, index, EdgePart(role, edge.operator, blocks.dim, name == "decoder", blocks.residual_edges)
        if blocks.output == "linear":
            yield name, index, JoinPart(len(blocks.cell.nodes) * blocks.dim, blocks.dim)
    if isinstance(architecture, CellEncoderDecoder):
        yield from _decoder_parts(architecture)


def frame_parameters(architecture: CellDecoderOnly | CellEncoderDecoder) -> int:
    """Core parameters outside all parts: the final norms."""
    _, blocks = _blocks(architecture)
    dims = [blocks.dim] if blocks.final_norm else []
    if isinstance(architecture, CellEncoderDecoder) and architecture.norm == "pre":
        dims.append(architecture.decoder.dim)
    return 2 * sum(dims)


def table_parameters(architecture: CellDecoderOnly | CellEncoderDecoder, settings: ModelSettings) -> int:
    """Parameters of the embeddings and of the output matrix."""
    if isinstance(architecture, CellDecoderOnly):
        return 2 * settings.target_vocabulary * architecture.dim
    source = (settings.source_vocabulary or 0) * architecture.encoder.dim
    return source + 2 * settings.target_vocabulary * architecture.decoder.dim


def _blocks(architecture: CellDecoderOnly | CellEncoderDecoder) -> tuple[str, CellDecoderOnly | CellEncoder]:
    """The name of the stack that is made of cells, and the stack."""
    if isinstance(architecture, CellDecoderOnly):
        return "decoder", architecture
    return "encoder", architecture.encoder


def _decoder_parts(architecture: CellEncoderDecoder) -> Iterator[tuple[str, int, Part]]:
    return stack_parts("decoder", architecture.decoder, architecture.encoder.dim, architecture.norm)


def places(architecture: CellDecoderOnly | CellEncoderDecoder) -> tuple[Place, ...]:
    """Where the cells stand; all blocks have one wiring."""
    name, blocks = _blocks(architecture)
    path = "cell" if name == "decoder" else "encoder.cell"
    return tuple(Place(index, path, blocks.dim) for index in range(blocks.blocks))


def edge(
    architecture: CellDecoderOnly | CellEncoderDecoder, settings: ModelSettings, place: Place, edge: Edge
) -> nn.Module:
    """The operator of an edge at a place, weights not yet drawn."""
    name, blocks = _blocks(architecture)
    part = EdgePart(edge.label, edge.operator, place.channels, name == "decoder", blocks.residual_edges)
    return part.build(settings)


class SequenceCell(nn.Module):
    """One block: the nodes of a cell, and what makes one output of theirs."""

    def __init__(self, nodes: Nodes, blocks: CellDecoderOnly | CellEncoder, residual: float) -> None:
        super().__init__()
        count = len(blocks.cell.nodes)
        self.nodes = nodes
        self.output = Linear(count * blocks.dim, blocks.dim) if blocks.output == "linear" else None
        self.unread, self.residual = blocks.output == "unread", blocks.residual
        self.dropout = 0.0 if blocks.residual_edges and not blocks.residual else residual

    def forward(self, inputs: Sequence[Tensor], padding: Tensor | None, cache: Cache | None = None) -> Tensor:
        """The outputs of the block before the last and of the last, (batch, time, dim) → (batch, time, dim)."""
        nodes = self.nodes(inputs, padding, cache=cache)
        if self.unread:
            nodes = [nodes[number] for number in self.nodes.unread(len(inputs))]
        x = torch.stack(nodes).mean(0) if self.output is None else self.output(torch.cat(nodes, dim=-1))
        if self.residual:
            return add_dropout(inputs[-1], x, self.dropout, self.training)
        return dropout(x, self.dropout, self.training)


def _cells(architecture: Any, settings: ModelSettings, wire: Wire | None) -> nn.ModuleList:
    _, blocks = _blocks(architecture)
    wire = wire or plain_wire(architecture, lambda place, on: edge(architecture, settings, place, on))
    residual = settings.residual_dropout(blocks.dim)
    return nn.ModuleList(SequenceCell(Nodes(wire(place)), blocks, residual) for place in places(architecture))


def _run(
    cells: nn.ModuleList, norm: nn.Module | None, x: Tensor, padding: Tensor | None, cache: Cache | None
) -> Tensor:
    """x (batch, time, dim) through the blocks."""
    before = last = x
    for index, cell in enumerate(cells):
        inside = None if cache is None else cache.setdefault(str(index), {})
        before, last = last, cell((before, last), padding, inside)
    return last if norm is None else norm(last)


class CellLanguageModel(nn.Module):
    """A language model of causal cells: tokens → logits of the next token."""

    def __init__(self, architecture: CellDecoderOnly, settings: ModelSettings, wire: Wire | None = None) -> None:
        super().__init__()
        self.architecture, self.settings = architecture, settings
        self.embedding = embedding(settings.target_vocabulary, architecture.dim, settings)
        self.cells = _cells(architecture, settings, wire)
        self.norm = LayerNorm(architecture.dim) if architecture.final_norm else None
        self.output = Output(settings.target_vocabulary, architecture.dim)

    places = staticmethod(places)
    edge = staticmethod(edge)

    def decode(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """tokens (batch, time) → hidden states (batch, time, dim); with a cache, of the new positions."""
        padding = padding_of(tokens)
        x = self.embedding(tokens, padding, count_seen(tokens, padding, cache))
        return _run(self.cells, self.norm, x, padding, cache)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (batch, time) → logits (batch, time, vocab)."""
        return self.output(self.decode(tokens))


class CellEncoderDecoderModel(Decoding):
    """A sequence-to-sequence network with an encoder of cells: source and target tokens → logits of the next token."""

    def __init__(self, architecture: CellEncoderDecoder, settings: ModelSettings, wire: Wire | None = None) -> None:
        super().__init__()
        self.architecture, self.settings = architecture, settings
        source, target = architecture.encoder.dim, architecture.decoder.dim
        assert settings.source_vocabulary is not None, "an encoder needs a source vocabulary"
        self.source_embedding = embedding(settings.source_vocabulary, source, settings)
        self.cells = _cells(architecture, settings, wire)
        self.norm = LayerNorm(source) if architecture.encoder.final_norm else None
        self.embedding = embedding(settings.target_vocabulary, target, settings)
        self.decoder = Stack("decoder", _decoder_parts(architecture), lambda stack, index, part: part.build(settings))
        self.output = Output(settings.target_vocabulary, target)

    places = staticmethod(places)
    edge = staticmethod(edge)

    def encode(self, source: Tensor) -> Memory:
        """source (batch, source) → the output of the last block."""
        padding = padding_of(source)
        x = self.source_embedding(source, padding)
        return Memory([_run(self.cells, self.norm, x, padding, None)], padding)

    def decode(self, target: Tensor, memory: Memory, cache: Cache | None = None) -> Tensor:
        """target (batch, target) → hidden states (batch, target, decoder dim); with a cache, of the new positions."""
        return self._decode(target, memory, cache)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """source (batch, source), target (batch, target) → logits (batch, target, vocab)."""
        return self.output(self.decode(target, self.encode(source)))
