"""How public tables write architectures, to and from ours: NAS-Bench-201's cells and NAS-Bench-Macro's chains.

A NAS-Bench-201 cell is written `|OP~0|+|OP~0|OP~1|+|OP~0|OP~1|OP~2|`, node by node and source by source; a
NAS-Bench-Macro chain is a digit for each of its eight blocks.
"""

from __future__ import annotations

import re
from typing import Any

from nasformer.errors import RequestError, nearest
from nasformer.spaces.cell import AveragePool, Cell, Edge, ImageConvolution, Node, Skip
from nasformer.spaces.image_cell import BlockChain, StagedCells
from nasformer.spaces.known_cells import MACRO_OPERATORS
from nasformer.spaces.space import label
from nasformer.spaces.transformer import Zero

NASBENCH201_NAMES: dict[str, Any] = {
    "none": Zero(),
    "skip_connect": Skip(),
    "nor_conv_1x1": ImageConvolution(kernel=1),
    "nor_conv_3x3": ImageConvolution(kernel=3),
    "avg_pool_3x3": AveragePool(kernel=3),
}
"""The operators of a NAS-Bench-201 edge, by the names of its tables."""
_OF = {operator: name for name, operator in NASBENCH201_NAMES.items()}
_DIGITS = {operator: str(digit) for digit, operator in enumerate(MACRO_OPERATORS)}


def nasbench201_text(architecture: StagedCells) -> str:
    """The cell as NAS-Bench-201 writes it; an edge that is not there is `none`.

    Raises `RequestError` for a cell of other than three nodes, or with an operator that the tables do not have.
    """
    cell = architecture.cell
    if len(cell.nodes) != 3:
        raise RequestError(f"a NAS-Bench-201 cell has 3 nodes, got {len(cell.nodes)}")
    nodes = []
    for number, node in enumerate(cell.nodes):
        operators = {edge.source: edge.operator for edge in node.edges}
        names = [_name(operators.get(source, Zero()), number) for source in range(number + 1)]
        nodes.append("|" + "".join(f"{name}~{source}|" for source, name in enumerate(names)))
    return "+".join(nodes)


def _name(operator: Any, node: int) -> str:
    if operator not in _OF:
        raise RequestError(
            f"cell.nodes.{node}: NAS-Bench-201 has no {label(operator)}; expected one of {', '.join(map(label, _OF))}"
        )
    return _OF[operator]


def nasbench201_names(text: str) -> list[list[str]]:
    """The names of the operators, node by node and source by source, of a cell as NAS-Bench-201 writes it.

    Raises `RequestError` where it is none.
    """
    nodes = text.split("+")
    if len(nodes) != 3:
        raise RequestError(f"expected 3 nodes, |…|+|…|…|+|…|…|…|, got {len(nodes)} in {text!r}")
    found = []
    for number, node in enumerate(nodes):
        edges = [edge.rpartition("~") for edge in node.strip("|").split("|")]
        if [source for _, _, source in edges] != [str(source) for source in range(number + 1)]:
            sources = ", ".join(f"~{source}" for source in range(number + 1))
            raise RequestError(f"node {number} of {text!r}: expected the edges {sources}, got {node!r}")
        found.append([name for name, _, _ in edges])
        for name in found[-1]:
            if name not in NASBENCH201_NAMES:
                raise RequestError(f"{text!r}: unknown operator {name!r}; {nearest(name, NASBENCH201_NAMES)}")
    return found


def nasbench201_architecture(text: str, *, channels: int = 16, cells: int = 5) -> StagedCells:
    """The network of a cell as NAS-Bench-201 writes it, with all six edges; raises `RequestError` where it is none."""
    nodes = (
        Node(edges=tuple(Edge(source=source, operator=NASBENCH201_NAMES[name]) for source, name in enumerate(names)))
        for names in nasbench201_names(text)
    )
    return StagedCells(channels=channels, cells=cells, cell=Cell(inputs=1, nodes=tuple(nodes)))


def nasbench_macro_text(architecture: BlockChain) -> str:
    """The digits of a chain: 0 identity, 1 expansion 3 and kernel 3, 2 expansion 6 and kernel 5; raises `RequestError`
    for another number of blocks or another block."""
    operators = [block.nodes[0].edges[0].operator for block in architecture.blocks]
    if len(operators) != 8:
        raise RequestError(f"a NAS-Bench-Macro chain has 8 blocks, got {len(operators)}")
    for index, operator in enumerate(operators):
        if operator not in _DIGITS:
            known = ", ".join(map(label, _DIGITS))
            raise RequestError(f"blocks.{index}: NAS-Bench-Macro has no {label(operator)}; expected one of {known}")
    return "".join(_DIGITS[operator] for operator in operators)


def nasbench_macro_operators(text: str) -> list[Any]:
    """The operators of the blocks that eight digits name; raises `RequestError` where they do not."""
    if not re.fullmatch("[012]{8}", text):
        raise RequestError(f"expected eight digits 0, 1 or 2, got {text!r}")
    return [MACRO_OPERATORS[int(digit)] for digit in text]


def nasbench_macro_architecture(text: str, *, channels: int = 32, features: int = 1280) -> BlockChain:
    """The chain that eight digits name; raises `RequestError` where they do not."""
    operators = nasbench_macro_operators(text)
    blocks = (Cell(inputs=1, nodes=(Node(edges=(Edge(source=0, operator=one),)),)) for one in operators)
    return BlockChain(channels=channels, features=features, blocks=tuple(blocks))
