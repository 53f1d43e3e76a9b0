"""The image cells of the papers: the cells that DARTS and GDAS found, and the spaces that cells are searched in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nasformer.spaces.cell import (
    AveragePool,
    Cell,
    DilatedConvolution,
    Edge,
    ImageConvolution,
    InvertedResidual,
    MaxPool,
    Node,
    Noise,
    SeparableConvolution,
    Skip,
    chosen_inputs,
)
from nasformer.spaces.image_cell import BlockChain, ImageCells, StagedCells
from nasformer.spaces.open import one_of, some_of
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import Zero

MAX, AVERAGE, SKIP, NONE, NOISE = MaxPool(), AveragePool(), Skip(), Zero(), Noise()
SEPARABLE_3, SEPARABLE_5 = SeparableConvolution(kernel=3), SeparableConvolution(kernel=5)
DILATED_3, DILATED_5 = DilatedConvolution(kernel=3), DilatedConvolution(kernel=5)

S0_OPERATORS = (MAX, AVERAGE, SKIP, SEPARABLE_3, SEPARABLE_5, DILATED_3, DILATED_5)
"""DARTS' operators without `none` (docs/papers/rome.md §2.1)."""
NASBENCH201_OPERATORS = (NONE, SKIP, ImageConvolution(kernel=1), ImageConvolution(kernel=3), AVERAGE)
"""NAS-Bench-201's five operators, in the order of its code."""
MACRO_OPERATORS = (SKIP, InvertedResidual(kernel=3, expansion=3), InvertedResidual(kernel=5, expansion=6))
"""NAS-Bench-Macro's three blocks, in the order of their digits."""

_LETTERS = {"k": SKIP, "m": MAX, "a": AVERAGE, "s": SEPARABLE_3, "3": DILATED_3, "5": DILATED_5}
S1_NORMAL = "k3 k5 | k5 ks k3 | mk ks ks k3 | ks mk k3 35 35"
S1_REDUCTION = "ma m3 | ma ma k5 | ma ms k3 k5 | ma ma k5 k5 k5"
"""The two operators of each edge of S1, node by node and source by source (docs/papers/rome.md §3.1): k skip, m
maximum, a average, s separable 3, 3 and 5 dilated."""


def cell(*nodes: Sequence[tuple[int, Any]], inputs: Any = 2) -> Cell:
    """A cell from the (source, operator) of the edges of each node."""
    return Cell(
        inputs=inputs,
        nodes=tuple(Node(edges=tuple(Edge(source=s, operator=operator) for s, operator in node)) for node in nodes),
    )


def darts_v1() -> ImageCells:
    """The cells that first-order DARTS found (arXiv 1806.09055; quark0/darts)."""
    return ImageCells(
        normal=cell(
            [(0, SEPARABLE_3), (1, SEPARABLE_3)],
            [(0, SKIP), (1, SEPARABLE_3)],
            [(0, SKIP), (1, SEPARABLE_3)],
            [(0, SEPARABLE_3), (2, SKIP)],
        ),
        reduction=cell([(0, MAX), (1, MAX)], [(0, MAX), (2, SKIP)], [(0, MAX), (2, SKIP)], [(0, AVERAGE), (2, SKIP)]),
    )


def darts_v2() -> ImageCells:
    """The cells that second-order DARTS found (arXiv 1806.09055; quark0/darts)."""
    return ImageCells(
        normal=cell(
            [(0, SEPARABLE_3), (1, SEPARABLE_3)],
            [(0, SEPARABLE_3), (1, SEPARABLE_3)],
            [(0, SKIP), (1, SEPARABLE_3)],
            [(0, SKIP), (2, DILATED_3)],
        ),
        reduction=cell([(0, MAX), (1, MAX)], [(1, MAX), (2, SKIP)], [(0, MAX), (2, SKIP)], [(1, MAX), (2, SKIP)]),
    )


def gdas_v1() -> ImageCells:
    """The cells that GDAS found (arXiv 1910.04465; D-X-Y/AutoDL-Projects)."""
    return ImageCells(
        normal=cell(
            [(0, SKIP), (1, SKIP)],
            [(0, SKIP), (2, SEPARABLE_5)],
            [(0, SKIP), (3, SEPARABLE_3)],
            [(3, SEPARABLE_3), (4, SEPARABLE_5)],
        ),
        reduction=cell(
            [(0, SEPARABLE_5), (1, SEPARABLE_3)],
            [(1, SEPARABLE_5), (2, SEPARABLE_5)],
            [(1, SEPARABLE_3), (2, DILATED_5)],
            [(0, SEPARABLE_5), (1, SEPARABLE_5)],
        ),
    )


def _searched(name: str, normal: Sequence[Any], reduction: Sequence[Any], channels: int, cells: int) -> Space:
    """A space of DARTS' cells: every node takes two inputs; the operators of the 14 edges."""
    found = ImageCells(channels=channels, cells=cells, normal=chosen_inputs(normal), reduction=chosen_inputs(reduction))
    return Space(found, name)


def s0(channels: int = 16, cells: int = 8) -> Space:
    """DARTS' space without `none`: seven operators on each edge, two inputs a node (docs/papers/rome.md §2.1)."""
    return _searched("s0", [S0_OPERATORS] * 14, [S0_OPERATORS] * 14, channels, cells)


def s1(channels: int = 16, cells: int = 8) -> Space:
    """Two operators of its own on each edge (RobustDARTS; docs/papers/rome.md §3.1)."""
    normal, reduction = (
        [[_LETTERS[letter] for letter in edge] for edge in table.split() if edge != "|"]
        for table in (S1_NORMAL, S1_REDUCTION)
    )
    return _searched("s1", normal, reduction, channels, cells)


def s2(channels: int = 16, cells: int = 8) -> Space:
    """Skip or separable convolution (RobustDARTS)."""
    return _searched("s2", [(SKIP, SEPARABLE_3)] * 14, [(SKIP, SEPARABLE_3)] * 14, channels, cells)


def s3(channels: int = 16, cells: int = 8) -> Space:
    """Nothing, skip or separable convolution (RobustDARTS)."""
    return _searched("s3", [(NONE, SKIP, SEPARABLE_3)] * 14, [(NONE, SKIP, SEPARABLE_3)] * 14, channels, cells)


def s4(channels: int = 16, cells: int = 8) -> Space:
    """Noise or separable convolution (RobustDARTS)."""
    return _searched("s4", [(NOISE, SEPARABLE_3)] * 14, [(NOISE, SEPARABLE_3)] * 14, channels, cells)


def s5(channels: int = 16, cells: int = 8) -> Space:
    """DARTS' space with `none`: eight operators on each edge."""
    operators = (NONE, *S0_OPERATORS)
    return _searched("s5", [operators] * 14, [operators] * 14, channels, cells)


def nasbench201(channels: int = 16, cells: int = 5) -> Space:
    """NAS-Bench-201: three nodes that read all before them, one of five operators on each edge (arXiv 2001.00326)."""
    operator = one_of(*NASBENCH201_OPERATORS)
    nodes = ([(source, operator) for source in range(count)] for count in (1, 2, 3))
    return Space(StagedCells(channels=channels, cells=cells, cell=cell(*nodes, inputs=1)), "nasbench201")


def nasbench201_two_inputs(channels: int = 16, cells: int = 5) -> Space:
    """NAS-Bench-201 without `none`, the last node taking two of its three inputs (docs/papers/rome.md §6.3)."""
    operator = one_of(*NASBENCH201_OPERATORS[1:])
    first, second, third = (tuple(Edge(source=s, operator=operator) for s in range(count)) for count in (1, 2, 3))
    found = Cell(inputs=1, nodes=(Node(edges=first), Node(edges=second), Node(edges=some_of(2, third))))
    return Space(StagedCells(channels=channels, cells=cells, cell=found), "nasbench201-two-inputs")


def nasbench_macro(channels: int = 32, features: int = 1280) -> Space:
    """NAS-Bench-Macro: eight blocks, each one of three (xiusu/NAS-Bench-Macro)."""
    block = cell([(0, one_of(*MACRO_OPERATORS))], inputs=1)
    return Space(BlockChain(channels=channels, features=features, blocks=(block,) * 8), "nasbench-macro")


SPACES = {
    "s0": s0,
    "s1": s1,
    "s2": s2,
    "s3": s3,
    "s4": s4,
    "s5": s5,
    "nasbench201": nasbench201,
    "nasbench201-two-inputs": nasbench201_two_inputs,
    "nasbench-macro": nasbench_macro,
}
"""The spaces of image cells, by name."""
CELLS = {"darts-v1": darts_v1, "darts-v2": darts_v2, "gdas-v1": gdas_v1}
"""The known networks of image cells, by name: 36 channels and 20 cells, as they were published."""
