"""What all networks of cells share: where a cell stands, and the wiring of its nodes.

A network of cells says where its cells stand (`places`) and what an edge is there (`edge`); each family is a network in
a file of its own. A plain network builds the edges that its architecture names, a supernet hands in its own `wire`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from nasformer.operators.operator import Cache
from nasformer.spaces.cell import Cell, Edge


@dataclass(frozen=True)
class Place:
    """Where a cell stands in its network: its number, the path of its wiring in the architecture, the channels of its
    nodes, and whether it halves the resolution (then its edges from the cell's inputs have stride 2)."""

    index: int
    cell: str
    channels: int
    reduction: bool = False

    def stride(self, source: int, inputs: int = 2) -> int:
        """The stride of an edge from `source`."""
        return 2 if self.reduction and source < inputs else 1


Wiring = Sequence[Sequence[tuple[int, nn.Module]]]
"""For each node of a cell its edges: source and module."""
Wire = Callable[[Place], Wiring]
"""Gives a cell its wiring; how a supernet lends its own edges."""
MakeEdge = Callable[[Place, Edge], nn.Module]
"""(where the cell stands, an edge of it) → its operator, with unset weights on the current default device."""


def plain_wire(architecture: Any, make: MakeEdge) -> Wire:
    """The wiring that an architecture names."""

    def wire(place: Place) -> Wiring:
        cell = cell_at(architecture, place.cell)
        return [[(edge.source, make(place, edge)) for edge in node.edges] for node in cell.nodes]

    return wire


def cell_at(architecture: Any, path: str) -> Cell:
    """The cell at a dotted path of an architecture."""
    value = architecture
    for part in path.split("."):
        value = value[int(part)] if part.isdigit() else getattr(value, part)
    found: Cell = value
    return found


class Nodes(nn.Module):
    """The nodes of a cell: each the sum of its edges. Parameters are named `NODE.from_SOURCE.…`."""

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        for number in range(len(wiring)):
            self.add_module(str(number), nn.ModuleDict())
        self.wire(wiring)

    def wire(self, wiring: Wiring) -> None:
        """Put these edges, for as many nodes, in place of those there are."""
        self.sources = [[source for source, _ in node] for node in wiring]
        for number, node in enumerate(wiring):
            edges: Any = getattr(self, str(number))
            edges.clear()
            edges.update({f"from_{source}": module for source, module in node})

    def unread(self, inputs: int) -> list[int]:
        """The nodes that no other node reads, of a cell with so many inputs."""
        read = {source - inputs for sources in self.sources for source in sources}
        return [number for number in range(len(self.sources)) if number not in read]

    def forward(self, inputs: Sequence[Tensor], *context: Any, cache: Cache | None = None) -> list[Tensor]:
        """The cell's inputs → the outputs of its nodes; `context` goes to every edge, and behind it, where there is a
        cache, a part of the cache that is the edge's own."""
        states = list(inputs)
        for number, sources in enumerate(self.sources):
            edges: Any = getattr(self, str(number))
            brought = []
            for name, source in ((f"from_{source}", source) for source in sources):
                own = () if cache is None else (cache.setdefault(f"{number}.{name}", {}),)
                brought.append(edges[name](states[source], *context, *own))
            states.append(sum(brought[1:], brought[0]))
        return states[len(inputs) :]
