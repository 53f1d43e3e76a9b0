"""Networks of image cells: the frames around cells in which methods for images search (docs/papers/rome.md §2.1, §3.1).

Every class is an architecture, and with open fields a space (`nasformer.spaces.open`). What the cells bring is theirs;
what stands around them is the family's:

- `ImageCells`: DARTS' network of normal and reduction cells with two inputs;
- `StagedCells`: NAS-Bench-201's, one cell repeated in three stages with residual blocks between them;
- `BlockChain`: NAS-Bench-Macro's, a chain of blocks, each a cell of one edge.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from nasformer.errors import RequestError
from nasformer.spaces.cell import Cell, operators_of
from nasformer.spaces.open import OPEN, OneOf, is_open
from nasformer.spaces.transformer import Positive
from nasformer.spaces.value import Value

IMAGE_OPERATORS = (
    "zero",
    "skip",
    "noise",
    "max_pool",
    "average_pool",
    "image_convolution",
    "separable_convolution",
    "dilated_convolution",
    "inverted_residual",
)
"""The kinds of operators that work on images."""
CHAIN_OPERATORS = (
    "skip",
    "image_convolution",
    "separable_convolution",
    "dilated_convolution",
    "inverted_residual",
)
"""Those of them that can be a block of a chain, which must give other channels than it gets and not cut the chain."""


class ImageCells(Value):
    """DARTS' network for small images: stem, `cells` cells, global average pool, linear classifier.

    Every cell reads the outputs of the two cells before it and gives all its nodes side by side. The cells number
    ⌊cells/3⌋ and ⌊2·cells/3⌋ are reduction cells: half the resolution, twice the `channels` (of a node of the first
    cells). The stem has `stem` times the channels.
    """

    family: Literal["image_cells"] = "image_cells"
    channels: Annotated[int, Field(ge=2)] = 36
    cells: Positive = 20
    stem: Positive = 3
    normal: Cell
    reduction: Cell

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name in ("normal", "reduction"):
            _check_cell(getattr(self, name), name, inputs=2)
        return self

    @property
    def reductions(self) -> tuple[int, ...]:
        """The numbers of the reduction cells, ascending."""
        return tuple(sorted({self.cells // 3, 2 * self.cells // 3}))


class StagedCells(Value):
    """NAS-Bench-201's network: stem, three stages of `cells` cells, norm, global average pool, linear classifier.

    A cell has one input and gives its last node. Between the stages stand residual blocks that halve the resolution
    and double the `channels`.
    """

    family: Literal["staged_cells"] = "staged_cells"
    channels: Positive = 16
    cells: Positive = 5
    cell: Cell

    @model_validator(mode="after")
    def _whole(self) -> Self:
        _check_cell(self.cell, "cell", inputs=1)
        return self


class BlockChain(Value):
    """NAS-Bench-Macro's network: stem of `channels` channels, blocks, a 1×1 convolution to `features`, classifier.

    A block is a cell of one node with one edge. At the start of each stage of `stages` blocks the resolution is halved
    and the channels are doubled by the block itself.
    """

    family: Literal["block_chain"] = "block_chain"
    channels: Positive = 32
    features: Positive = 1280
    stages: tuple[Positive, ...] = (2, 3, 3)
    blocks: tuple[Cell, ...]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if isinstance(self.blocks, OPEN):
            raise RequestError("blocks is left open; expected the blocks one by one, with open operators")
        if not is_open(self.stages) and len(self.blocks) != sum(self.stages):
            raise RequestError(
                f"blocks: expected as many as stages {self.stages} have, {sum(self.stages)}, got {len(self.blocks)}"
            )
        for index, block in enumerate(self.blocks):
            _check_cell(block, f"blocks.{index}", inputs=1, operators=CHAIN_OPERATORS)
            if not isinstance(block, OPEN) and (len(block.nodes) != 1 or len(block.nodes[0].edges) != 1):
                raise RequestError(f"blocks.{index}: expected one node with one edge")
        return self


def _check_cell(cell: Cell, name: str, *, inputs: int, operators: tuple[str, ...] = IMAGE_OPERATORS) -> None:
    if isinstance(cell, OPEN):
        return
    if cell.inputs != inputs:
        raise RequestError(f"{name} has {cell.inputs} input{'s' * (cell.inputs > 1)}; expected {inputs} in this family")
    for place, operator in operators_of(cell):
        if operator.kind not in operators:
            where = "on images" if operators is IMAGE_OPERATORS else "in a chain of blocks"
            known = ", ".join(operators)
            raise RequestError(f"{name}.{place}: {operator.kind} does not work {where}; expected one of {known}")
        kernel: Any = getattr(operator, "kernel", 1)
        if any(size % 2 == 0 for size in (kernel.options if isinstance(kernel, OneOf) else (kernel,))):
            raise RequestError(f"{name}.{place}: {operator.label} has an even kernel; expected an odd one")
