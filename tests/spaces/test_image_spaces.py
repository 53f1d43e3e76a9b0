"""Spaces of image cells: their sizes, S1's table edge by edge, and what is refused in words."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from nasformer.errors import RequestError
from nasformer.spaces.cell import (
    AveragePool,
    Cell,
    DilatedConvolution,
    Edge,
    Fourier,
    MaxPool,
    Node,
    SeparableConvolution,
    Skip,
    searched_edges,
    topologies,
)
from nasformer.spaces.families import read_architecture, reads_images
from nasformer.spaces.image_cell import BlockChain, ImageCells, StagedCells
from nasformer.spaces.known_cells import CELLS, SPACES, cell, darts_v2, s0
from nasformer.spaces.named import ARCHITECTURES, NamedSpace
from nasformer.spaces.open import first_of, one_of
from nasformer.spaces.space import Space

TOPOLOGIES = 1 * 3 * 6 * 10


@pytest.mark.parametrize(
    ("name", "size", "choices"),
    [
        ("s0", (TOPOLOGIES * 7**8) ** 2, 2 * (4 + 14)),
        ("s1", (TOPOLOGIES * 2**8) ** 2, 36),
        ("s2", (TOPOLOGIES * 2**8) ** 2, 36),
        ("s3", (TOPOLOGIES * 3**8) ** 2, 36),
        ("s4", (TOPOLOGIES * 2**8) ** 2, 36),
        ("s5", (TOPOLOGIES * 8**8) ** 2, 36),
        ("nasbench201", 15_625, 6),
        ("nasbench201-two-inputs", 3_072, 7),
        ("nasbench-macro", 6_561, 8),
    ],
)
def test_sizes(name: str, size: int, choices: int) -> None:
    space: Any = NamedSpace(name=name).open()
    assert (space.name, space.size, len(space.choices)) == (name, size, choices)
    assert reads_images(space.template)
    assert len(topologies(space)) == {6: 0, 7: 1, 8: 0, 36: 8}[choices]
    member = space.sample(Random(1))
    assert read_architecture(json.loads(member.json_text())) == member


def test_the_operators_of_s1() -> None:
    """Edge by edge, e0 to e13, as docs/papers/rome.md §3.1 has them."""
    k, m, a = Skip(), MaxPool(), AveragePool()
    s, d3, d5 = SeparableConvolution(kernel=3), DilatedConvolution(kernel=3), DilatedConvolution(kernel=5)
    expected = {
        "normal": [
            *({k, d3}, {k, d5}),
            *({k, d5}, {k, s}, {k, d3}),
            *({m, k}, {k, s}, {k, s}, {k, d3}),
            *({k, s}, {m, k}, {k, d3}, {d3, d5}, {d3, d5}),
        ],
        "reduction": [
            *({m, a}, {m, d3}),
            *({m, a}, {m, a}, {k, d5}),
            *({m, a}, {m, s}, {k, d3}, {k, d5}),
            *({m, a}, {m, a}, {k, d5}, {k, d5}, {k, d5}),
        ],
    }
    places = [(node, source) for node in range(4) for source in range(2 + node)]
    for name, operators in expected.items():
        edges = [edge for edge in searched_edges(SPACES["s1"]()) if edge.cell == name]
        assert [(edge.node, edge.source) for edge in edges] == places
        assert [set(edge.operators) for edge in edges] == operators


def test_the_operators_of_the_other_spaces() -> None:
    def labels(name: str) -> set[tuple[str, ...]]:
        return {edge.labels for edge in searched_edges(SPACES[name]())}

    pools, sep, dil = ("max_pool_3", "average_pool_3"), "separable_convolution_", "dilated_convolution_"
    seven = (*pools, "skip", f"{sep}3", f"{sep}5", f"{dil}3", f"{dil}5")
    assert labels("s0") == {seven}
    assert labels("s2") == {("skip", f"{sep}3")}
    assert labels("s3") == {("zero", "skip", f"{sep}3")}
    assert labels("s4") == {("noise", f"{sep}3")}
    assert labels("s5") == {("zero", *seven)}
    convolutions = ("image_convolution_1", "image_convolution_3")
    assert labels("nasbench201") == {("zero", "skip", *convolutions, "average_pool_3")}
    assert labels("nasbench201-two-inputs") == {("skip", *convolutions, "average_pool_3")}
    assert labels("nasbench-macro") == {("skip", "inverted_residual_3_3", "inverted_residual_6_5")}


def test_known_networks_lie_in_their_space() -> None:
    for name, build in CELLS.items():
        assert build() == ARCHITECTURES[name]()
        assert build().but(channels=16, cells=8) in s0()
        assert (build().channels, build().cells, build().reductions) == (36, 20, (6, 13))
    assert s0(channels=8, cells=5).template.channels == 8


@pytest.mark.parametrize(("cells", "reductions"), [(1, (0,)), (2, (0, 1)), (3, (1, 2)), (8, (2, 5)), (20, (6, 13))])
def test_reduction_cells(cells: int, reductions: tuple[int, ...]) -> None:
    assert darts_v2().but(cells=cells).reductions == reductions


ONE: Any = cell([(0, Skip())], inputs=1)
TWO: Any = cell([(0, Skip()), (1, Skip())])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ImageCells(normal=ONE, reduction=TWO), "normal has 1 input; expected 2"),
        (lambda: ImageCells(normal=TWO, reduction=ONE), "reduction has 1 input; expected 2"),
        (lambda: StagedCells(cell=TWO), "cell has 2 inputs; expected 1"),
        (lambda: ImageCells(normal=cell([(1, Fourier())]), reduction=TWO), "nodes.0.from_1: fourier does not work on"),
        (
            lambda: ImageCells(normal=cell([(1, one_of(Skip(), Fourier()))]), reduction=TWO),
            "normal.nodes.0.from_1: fourier does not work on images; expected one of zero, skip",
        ),
        (lambda: StagedCells(cell=cell([(0, MaxPool(kernel=2))], inputs=1)), "max_pool_2 has an even kernel"),
        (lambda: BlockChain(blocks=(ONE,) * 7), "expected as many as stages .*, 8, got 7"),
        (lambda: BlockChain(stages=(1,), blocks=(TWO,)), "blocks.0 has 2 inputs"),
        (
            lambda: BlockChain(stages=(1,), blocks=(cell([(0, Skip())], [(1, Skip())], inputs=1),)),
            "blocks.0: expected one node with one edge",
        ),
        (lambda: BlockChain(stages=(1,), blocks=(cell([(0, MaxPool())], inputs=1),)), "max_pool does not .* chain"),
        (lambda: ImageCells(channels=1, normal=TWO, reduction=TWO), "channels"),
        (lambda: Cell(nodes=(Node(edges=(Edge(source=2, operator=Skip()),)),)), "reads from 2"),
        (lambda: Cell(nodes=(Node(edges=(Edge(source=one_of(0, 1), operator=Skip()),)),)), "source of an edge is left"),
        (lambda: Cell(inputs=one_of(1, 2), nodes=TWO.nodes), "inputs is left open"),
        (lambda: Cell(nodes=one_of(TWO.nodes, ONE.nodes)), "nodes is left open"),
        (lambda: Cell(nodes=(one_of(*TWO.nodes, *ONE.nodes),)), "nodes.0 is left open"),
        (lambda: Cell(nodes=(Node(edges=first_of((1,), TWO.nodes[0].edges)),)), "nodes.0.edges is left open"),
        (lambda: StagedCells(cell=cell([(0, MaxPool(kernel=one_of(2, 3)))], inputs=1)), "has an even kernel"),
        (lambda: BlockChain(blocks=first_of((1,), (ONE,))), "blocks is left open"),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        make()


def test_an_open_frame_is_a_space() -> None:
    assert Space(StagedCells(cell=one_of(ONE, cell([(0, MaxPool())], inputs=1)))).size == 2
    space = Space(ImageCells(channels=one_of(8, 16), cells=one_of(5, 8), normal=TWO, reduction=TWO))
    assert space.size == 4
    assert Space(BlockChain(stages=(one_of(1, 2), 1), blocks=(ONE,) * 3)).size == 2
