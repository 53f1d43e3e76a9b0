"""The family of sequence cells: a cell repeated on a stream (batch, time, dim) (docs/papers/rome.md §8).

Every class is an architecture's part, and with open fields a space's (`nasformer.spaces.open`).
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from nasformer.errors import RequestError
from nasformer.spaces.cell import Cell, operators_of
from nasformer.spaces.open import OPEN, is_open
from nasformer.spaces.transformer import Decoder, Positive, check_stack, crosses
from nasformer.spaces.value import Value

SEQUENCE_OPERATORS = (
    "zero",
    "skip",
    "noise",
    "average_pool",
    "fourier",
    "attention",
    "local_attention",
    "depthwise_convolution",
    "feed_forward",
)
"""The kinds of operators that an edge of a sequence cell can have."""
CellOutput = Literal["linear", "mean", "unread"]
"""What a cell makes of its nodes: a linear map of all, their mean, or the mean of those that no other node reads."""


class _Blocks(Value):
    """`blocks` times the same cell on a stream of `dim` channels.

    A cell reads the outputs of the two blocks before it (source 0: the one before the last, source 1: the last; the
    first block reads the embedding twice). What it gives is a linear map of its nodes side by side, their mean, or the
    mean of those that no other node reads; with `residual` it is added to the last block's output. With
    `residual_edges` every edge whose operator has weights adds what it read, as a sub-layer of a Transformer does. With
    `final_norm` what leaves the blocks is normalised.
    """

    dim: Positive
    blocks: Positive
    cell: Cell
    output: CellOutput = "linear"
    residual: bool = False
    residual_edges: bool = False
    final_norm: bool = True


class CellDecoderOnly(_Blocks):
    """A language model whose blocks are causal cells."""

    family: Literal["cell_decoder_only"] = "cell_decoder_only"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        _check(self, "")
        return self


class CellEncoder(_Blocks):
    """An encoder whose blocks are cells."""


class CellEncoderDecoder(Value):
    """A sequence-to-sequence network: an encoder of cells and the Transformer family's decoder, with its norm style,
    which attends to the last output of the encoder."""

    family: Literal["cell_encoder_decoder"] = "cell_encoder_decoder"
    norm: Literal["post", "pre"] = "pre"
    encoder: CellEncoder
    decoder: Decoder

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not isinstance(self.encoder, OPEN):
            _check(self.encoder, "encoder.")
        if is_open(self.decoder):
            return self
        check_stack(self.decoder, "decoder")
        for place, cross in crosses(self.decoder):
            if cross.span != 1:
                raise RequestError(
                    f"{place}.span is {cross.span}; of an encoder of cells only the last output is there, expected 1"
                )
        return self


def _check(blocks: _Blocks, place: str) -> None:
    """Raise where a number is wrong or an operator cannot stand there, in a space too as far as it is given."""
    if isinstance(blocks.dim, int) and blocks.dim % 2:
        raise RequestError(f"{place}dim is {blocks.dim}; positions need an even number")
    if isinstance(blocks.cell, OPEN):
        return
    if blocks.cell.inputs != 2:
        raise RequestError(f"{place}cell.inputs is {blocks.cell.inputs}; a sequence cell reads two blocks, expected 2")
    for path, operator in operators_of(blocks.cell):
        if operator.kind not in SEQUENCE_OPERATORS:
            raise RequestError(
                f"{place}cell.{path}: {operator.kind} works on images; expected one of {', '.join(SEQUENCE_OPERATORS)}"
            )
        if isinstance(blocks.dim, int) and not is_open(operator) and not _fits(operator, blocks.dim):
            raise RequestError(
                f"{place}cell.{path}: {operator.label} {operator.data()} does not fit dim {blocks.dim}; "
                f"heads must divide the width, kernels and windows are odd"
            )


def _fits(operator: Any, dim: int) -> bool:
    """Whether the heads divide the channels and what reaches to both sides is odd."""
    own = getattr(operator, "fits", None)
    if own is not None:
        return bool(own(dim))
    odd = getattr(operator, "kernel", getattr(operator, "window", 1))
    return dim % getattr(operator, "heads", 1) == 0 and odd % 2 == 1
