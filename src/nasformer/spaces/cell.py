"""The cell: a small graph whose edges carry operators, repeated through a network (docs/papers/rome.md §2.1).

Every class is an architecture's part, and with open fields a space's (`nasformer.spaces.open`). A node that chooses
its inputs has `edges=some_of(2, (Edge(0, …), Edge(1, …), …))`, a node whose inputs are fixed a tuple of edges; either
way the operator of an edge may be left open. The choices of a space of cells are therefore named

- `CELL.nodes.NODE.edges`: which edges the node has (the topology), and
- `CELL.nodes.NODE.edges.from_SOURCE.operator`: the operator of an edge, where the edge itself is a choice, or
- `CELL.nodes.NODE.edges.INDEX.operator`: the same, where it is fixed;

`searched_edges` lists them, so that nobody takes names apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, Tag, model_validator

from nasformer.errors import RequestError
from nasformer.spaces.open import OPEN, OneOf, SomeOf, one_of, some_of
from nasformer.spaces.space import Choice, Space, option_names
from nasformer.spaces.transformer import Attention, FeedForward, Positive, Zero
from nasformer.spaces.value import BY_KIND, Value

Index = Annotated[int, Field(ge=0)]


class _Sized(Value):
    """An operator that its kernel size tells apart."""

    kernel: Positive

    @property
    def label(self) -> str:
        """The kind and the kernel size."""
        return f"{self.kind}_{self.kernel}"  # type: ignore[attr-defined]


class Skip(Value):
    """The input as it is; in an image cell, where the stride is 2, a factorised reduction."""

    kind: Literal["skip"] = "skip"


class Noise(Value):
    """Fresh N(0, 1) noise in the shape of the output, whatever the input."""

    kind: Literal["noise"] = "noise"


class MaxPool(_Sized):
    """The maximum over a window of an image."""

    kind: Literal["max_pool"] = "max_pool"
    kernel: Positive = 3


class AveragePool(_Sized):
    """The mean over a window, of an image or of time; what is padded is not counted."""

    kind: Literal["average_pool"] = "average_pool"
    kernel: Positive = 3


class ImageConvolution(_Sized):
    """ReLU, convolution, batch norm (NAS-Bench-201)."""

    kind: Literal["image_convolution"] = "image_convolution"


class SeparableConvolution(_Sized):
    """Twice: ReLU, depthwise convolution, 1×1 convolution, batch norm (DARTS)."""

    kind: Literal["separable_convolution"] = "separable_convolution"


class DilatedConvolution(_Sized):
    """ReLU, depthwise convolution with dilation 2, 1×1 convolution, batch norm (DARTS)."""

    kind: Literal["dilated_convolution"] = "dilated_convolution"


class InvertedResidual(_Sized):
    """1×1 convolution to `expansion` times the channels, depthwise convolution, 1×1 convolution (NAS-Bench-Macro)."""

    kind: Literal["inverted_residual"] = "inverted_residual"
    expansion: Positive

    @property
    def label(self) -> str:
        """The kind, the expansion and the kernel size."""
        return f"{self.kind}_{self.expansion}_{self.kernel}"


class Fourier(Value):
    """Mixing over time by fixed cosines, without parameters."""

    kind: Literal["fourier"] = "fourier"


class LocalAttention(Value):
    """Self-attention within a window: each position sees `window` positions at most, itself in them."""

    kind: Literal["local_attention"] = "local_attention"
    heads: Positive
    window: Positive

    @property
    def label(self) -> str:
        """The kind, the heads and the window."""
        return f"{self.kind}_{self.heads}_{self.window}"


class DepthwiseConvolution(_Sized):
    """Depthwise convolution over time, then a linear map of the channels."""

    kind: Literal["depthwise_convolution"] = "depthwise_convolution"


EdgeOperator = Annotated[
    Annotated[Zero, Tag("zero")]
    | Annotated[Skip, Tag("skip")]
    | Annotated[Noise, Tag("noise")]
    | Annotated[MaxPool, Tag("max_pool")]
    | Annotated[AveragePool, Tag("average_pool")]
    | Annotated[ImageConvolution, Tag("image_convolution")]
    | Annotated[SeparableConvolution, Tag("separable_convolution")]
    | Annotated[DilatedConvolution, Tag("dilated_convolution")]
    | Annotated[InvertedResidual, Tag("inverted_residual")]
    | Annotated[Fourier, Tag("fourier")]
    | Annotated[Attention, Tag("attention")]
    | Annotated[LocalAttention, Tag("local_attention")]
    | Annotated[DepthwiseConvolution, Tag("depthwise_convolution")]
    | Annotated[FeedForward, Tag("feed_forward")],
    BY_KIND,
]
"""What an edge can do; which of them a network can build is its family's to say."""
EDGE_OPERATORS: tuple[type[Value], ...] = tuple(get_args(kind)[0] for kind in get_args(get_args(EdgeOperator)[0]))
"""Each kind of them."""
PARAMETER_FREE = ("zero", "skip", "noise", "max_pool", "average_pool", "fourier")
"""The kinds of operators that learn nothing (a skip with stride 2 does, but counts as a skip)."""


class Edge(Value):
    """From the output of `source` (first the cell's inputs, then its nodes) through an operator into a node."""

    source: Index
    operator: EdgeOperator

    @property
    def label(self) -> str:
        """`from_SOURCE`."""
        return f"from_{self.source}"


class Node(Value):
    """The sum of what its edges bring."""

    edges: tuple[Edge, ...]


class Cell(Value):
    """A graph of nodes. It has `inputs` inputs; node n may read these and all nodes before it.

    With two inputs, these are the outputs of the two previous cells.
    """

    inputs: Literal[1, 2] = 2
    nodes: tuple[Node, ...]

    @model_validator(mode="after")
    def _wired(self) -> Self:
        _check_open(self)
        if not self.nodes:
            raise RequestError("a cell expects at least one node, got none")
        for number, node in enumerate(self.nodes):
            edges = list(_edges(node))
            sources = [edge.source for edge in edges]
            if not edges:
                raise RequestError(f"nodes.{number} has no edge; expected at least one")
            if wrong := [source for source in sources if source >= self.inputs + number]:
                raise RequestError(
                    f"nodes.{number} reads from {wrong[0]}; a cell of {self.inputs} inputs gives it the sources 0 to "
                    f"{self.inputs + number - 1}"
                )
            if len(set(sources)) < len(sources):
                raise RequestError(f"nodes.{number} reads twice from one source, {sources}; expected different ones")
        return self


def _check_open(cell: Cell) -> None:
    """Raise where a cell leaves another field open than the edges of a node and what is on an edge."""

    def refuse(place: str, value: Any, expected: str) -> None:
        if isinstance(value, OPEN):
            raise RequestError(f"{place} is left open; a cell leaves edges=some_of(…) and operators open: {expected}")

    refuse("inputs", cell.inputs, "expected a number")
    refuse("nodes", cell.nodes, "expected the nodes one by one")
    for number, node in enumerate(cell.nodes):
        refuse(f"nodes.{number}", node, "expected a node whose edges are open")
        if not isinstance(node.edges, SomeOf):
            refuse(f"nodes.{number}.edges", node.edges, "expected some_of these edges")
        for edge in _edges(node):
            refuse(f"nodes.{number}: an edge", edge, "expected some_of edges in its place")
            refuse(
                f"nodes.{number}: the source of an edge", edge.source, "expected some_of edges, one from each source"
            )


def _edges(node: Node) -> Iterator[Edge]:
    """The edges that a node has or may have."""
    mark: Any = node.edges
    yield from mark if isinstance(mark, tuple) else mark.options


def operators_of(cell: Cell) -> Iterator[tuple[str, Any]]:
    """Every operator that an edge of a cell has or may have: where, `nodes.NODE.from_SOURCE`, and which."""
    for number, node in enumerate(cell.nodes):
        for edge in _edges(node):
            mark: Any = edge.operator
            for operator in mark.options if isinstance(mark, OneOf) else (mark,):
                yield f"nodes.{number}.{edge.label}", operator


def chosen_inputs(
    operators: Sequence[Sequence[Any]], *, nodes: int = 4, inputs: Literal[1, 2] = 2, count: int = 2
) -> Cell:
    """An open cell in which every node has exactly `count` of its possible edges.

    `operators` are the options of each possible edge, node by node and source by source (for 4 nodes and 2 inputs 14).
    Raises `RequestError` where a node has fewer predecessors than edges asked for.
    """
    rest = iter(operators)
    made = []
    for number in range(nodes):
        predecessors = inputs + number
        if predecessors < count:
            raise RequestError(
                f"nodes.{number} has {predecessors} predecessor{'s' * (predecessors > 1)}, but {count} edges a node "
                f"are asked for; expected at most {inputs}, or more inputs"
            )
        edges = tuple(Edge(source=source, operator=one_of(*next(rest))) for source in range(predecessors))
        made.append(Node(edges=some_of(count, edges)))
    return Cell(inputs=inputs, nodes=tuple(made))


@dataclass(frozen=True)
class SearchedEdge:
    """An edge of a space of cells: where it lies, and the names of the choices that it depends on.

    `cell` is the path of its cell in the architecture; `topology` names the choice whose option number `option` the
    edge is (None: the edge is always there); `operator` names the choice of its operator (None: it is given), and
    `operators` are the options (or the given one).
    """

    cell: str
    node: int
    source: int
    topology: str | None
    option: int
    operator: str | None
    operators: tuple[Any, ...]

    @property
    def name(self) -> str:
        """Where it is, `CELL.nodes.NODE.from_SOURCE`."""
        return f"{self.cell}.nodes.{self.node}.from_{self.source}"

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the operators, as the choice among them calls its options."""
        return option_names(self.operators)


def cells(value: Any, path: str = "") -> Iterator[tuple[str, Cell]]:
    """Every cell inside an architecture, open or not: its path and itself."""
    if isinstance(value, Cell):
        yield path, value
    elif isinstance(value, Value):
        for field in type(value).model_fields:
            yield from cells(getattr(value, field), f"{path}.{field}" if path else field)
    elif isinstance(value, tuple):
        for index, part in enumerate(value):
            yield from cells(part, f"{path}.{index}")


def searched_edges(space: Space) -> tuple[SearchedEdge, ...]:
    """Every edge that some member of a space has, cell by cell, node by node, source by source.

    Raises `RequestError` where a node is left open in another way than `some_of` its edges.
    """
    found = []
    for path, cell in cells(space.template):
        for number, node in enumerate(cell.nodes):
            place = f"{path}.nodes.{number}.edges"
            if isinstance(node.edges, SomeOf):
                marks = [(place, i, f"{place}.{edge.label}", edge) for i, edge in enumerate(node.edges.options)]
            elif all(isinstance(edge, Edge) for edge in node.edges):
                marks = [(None, 0, f"{place}.{i}", edge) for i, edge in enumerate(node.edges)]
            else:
                raise RequestError(f"{place}: expected some_of the edges of the node, or all of them given")
            for topology, option, inside, edge in marks:
                mark: Any = edge.operator
                open_ = isinstance(mark, OneOf)
                operators = mark.options if open_ else (mark,)
                name = f"{inside}.operator" if open_ else None
                found.append(SearchedEdge(path, number, edge.source, topology, option, name, operators))
    return tuple(found)


def topologies(space: Space) -> tuple[Choice, ...]:
    """The choices of a space that are about which edges a node has."""
    names = {edge.topology for edge in searched_edges(space)}
    return tuple(choice for choice in space.choices if choice.name in names)


def without_zero(space: Space) -> Space:
    """The members of a space in which every edge that a node chose brings something: no Zero among the operators of
    edges that may be chosen, unless there is nothing else. What searches derive from a space is of this one."""
    template = _without_zero(space.template)
    return space if template == space.template else Space(template, space.name)


def _without_zero(value: Any) -> Any:
    if isinstance(value, SomeOf):
        return SomeOf(value.count, tuple(map(_without_zero_edge, value.options)))
    if isinstance(value, tuple):
        return tuple(map(_without_zero, value))
    if isinstance(value, Value):
        changed = {name: _without_zero(getattr(value, name)) for name in type(value).model_fields}
        return value.but(**changed)
    return value


def _without_zero_edge(edge: Any) -> Any:
    mark: Any = getattr(edge, "operator", None)
    if not isinstance(edge, Edge) or not isinstance(mark, OneOf):
        return edge
    kept = [operator for operator in mark.options if operator.kind != "zero"]
    return edge.but(operator=one_of(*kept or mark.options))
