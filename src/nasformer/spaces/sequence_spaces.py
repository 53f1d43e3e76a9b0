"""The spaces T0 to T5 of sequence cells (docs/papers/rome.md §8): T0 to T4 are what S0 to S4 are for images.

Every node of T0 to T4 has exactly two inputs. These spaces differ in what an edge can do; T1 to T4 mirror S1 to S4. In
T5 every node has one input, whose edge has a residual, so that a chain of nodes is a Transformer. All are causal
(language models), or with `encoder=True` the encoder of a sequence-to-sequence network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nasformer.spaces.cell import (
    AveragePool,
    Cell,
    DepthwiseConvolution,
    Edge,
    Fourier,
    LocalAttention,
    Noise,
    Skip,
    chosen_inputs,
)
from nasformer.spaces.open import one_of
from nasformer.spaces.sequence_cell import CellDecoderOnly, CellEncoder, CellEncoderDecoder, CellOutput
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import Attention, CrossAttention, Decoder, DecoderLayer, FeedForward, Zero

ATTENTION = Attention(heads=4)
OPERATORS: tuple[Any, ...] = (
    Skip(),
    AveragePool(kernel=3),
    Fourier(),
    Attention(heads=2),
    ATTENTION,
    LocalAttention(heads=4, window=9),
    DepthwiseConvolution(kernel=5),
    DepthwiseConvolution(kernel=9),
    FeedForward(ratio=2.0, activation="gelu"),
    FeedForward(ratio=4.0, activation="gelu"),
)
"""What an edge of T0 can do."""
MIXING = OPERATORS[3:]
"""What an edge of T5 can do: the operators of T0 that learn."""
_LETTERS = {
    "k": Skip(),
    "m": AveragePool(kernel=3),
    "s": ATTENTION,
    "3": FeedForward(ratio=4.0, activation="gelu"),
    "5": DepthwiseConvolution(kernel=9),
}
PAIRS = tuple(
    tuple(_LETTERS[letter] for letter in pair)
    for pair in ("k3", "k5", "k5", "ks", "k3", "mk", "ks", "ks", "k3", "ks", "mk", "k3", "35", "35")
)
"""The two operators of each of T1's 14 edges: S1's table for the normal cell (docs/papers/rome.md §3.1) with average
pool for max pool, attention for the separable convolution, feed-forward for the dilated convolution 3 and depthwise
convolution for the dilated convolution 5 (our reading 27)."""


def _space(
    name: str,
    cell: Cell,
    *,
    dim: int,
    blocks: int,
    output: CellOutput,
    residual: bool,
    encoder: bool,
    decoder_layers: int,
    residual_edges: bool = False,
) -> Space:
    fields: dict[str, Any] = {"dim": dim, "blocks": blocks, "cell": cell, "output": output, "residual": residual}
    fields["residual_edges"] = residual_edges
    if not encoder:
        return Space(CellDecoderOnly(**fields), name)
    layer = DecoderLayer(
        mixer=ATTENTION, cross=CrossAttention(heads=4), feed_forward=FeedForward(ratio=4.0, activation="gelu")
    )
    decoder = Decoder(dim=dim, layers=(layer,) * decoder_layers)
    return Space(CellEncoderDecoder(encoder=CellEncoder(**fields), decoder=decoder), name)


def _everywhere(name: str, operators: Sequence[Any], says: str) -> Callable[..., Space]:
    """A space in which every edge has the same operators to choose from."""

    def space(
        *,
        dim: int = 48,
        blocks: int = 2,
        nodes: int = 4,
        output: CellOutput = "linear",
        residual: bool = False,
        encoder: bool = False,
        decoder_layers: int = 2,
    ) -> Space:
        cell = chosen_inputs((operators,) * sum(range(2, 2 + nodes)), nodes=nodes)
        fields: dict[str, Any] = {"dim": dim, "blocks": blocks, "output": output, "residual": residual}
        return _space(name, cell, **fields, encoder=encoder, decoder_layers=decoder_layers)

    space.__doc__ = says
    return space


t0 = _everywhere("t0", OPERATORS, "The ten operators of T0 on every edge.")
t2 = _everywhere("t2", (Skip(), ATTENTION), "Skip or attention on every edge.")
t3 = _everywhere("t3", (Zero(), Skip(), ATTENTION), "Zero, skip or attention on every edge.")
t4 = _everywhere("t4", (Noise(), ATTENTION), "Noise or attention on every edge.")


def t1(
    *,
    dim: int = 48,
    blocks: int = 2,
    output: CellOutput = "linear",
    residual: bool = False,
    encoder: bool = False,
    decoder_layers: int = 2,
) -> Space:
    """Two operators on every edge, chosen beforehand (`PAIRS`)."""
    fields: dict[str, Any] = {"dim": dim, "blocks": blocks, "output": output, "residual": residual}
    return _space("t1", chosen_inputs(PAIRS), **fields, encoder=encoder, decoder_layers=decoder_layers)


def t5(*, dim: int = 48, blocks: int = 2, nodes: int = 4, encoder: bool = False, decoder_layers: int = 2) -> Space:
    """T0's operators that learn, one edge a node, each with a residual; a block is the mean of the nodes that none
    reads. A chain of attention and feed-forward nodes is a pre-norm Transformer, two layers a block; other wirings run
    branches side by side. The first node reads the last block, so that no block is in vain."""
    first, *others = chosen_inputs((MIXING,) * sum(range(2, 2 + nodes)), nodes=nodes, count=1).nodes
    cell = Cell(nodes=(first.but(edges=(Edge(source=1, operator=one_of(*MIXING)),)), *others))
    fields: dict[str, Any] = {"dim": dim, "blocks": blocks, "output": "unread", "residual": False}
    return _space("t5", cell, **fields, encoder=encoder, decoder_layers=decoder_layers, residual_edges=True)
