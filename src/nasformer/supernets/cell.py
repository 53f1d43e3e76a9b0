"""Every architecture of a space of cells in one set of weights, for every family whose networks are made of cells.

Each option of each edge that a cell may have has weights of its own in each cell; cells of one wiring share a
selection, never weights (docs/papers/rome.md, our reading 2). `at` gives the family's own network with the edges that
run now put in: a twin of its frame and twins of the options, nothing built anew. Two methods change what an edge is:
PC-DARTS sends only a part of the channels through it (`partial`), DARTS− adds the input itself (`bypass`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.errors import RequestError
from nasformer.models.build import FAMILIES, outline
from nasformer.models.cell import Place, Wiring
from nasformer.operators.operator import reset
from nasformer.spaces.cell import Edge, SearchedEdge, Skip, cells, searched_edges
from nasformer.spaces.families import reads_images
from nasformer.spaces.space import Answer, Choice, Space
from nasformer.supernets.elastic import Lender, copied, twin
from nasformer.supernets.mixed import Mixed
from nasformer.supernets.selection import Chosen, Selection, single

BYPASS = "bypass"
"""What the weights of an edge's way past its options are called."""


@dataclass(frozen=True)
class _Running:
    """An edge that runs, in all cells of its wiring: which options, their weights (or None), its own (or None)."""

    edge: SearchedEdge
    options: tuple[int, ...]
    weights: list[Tensor] | None
    scale: Tensor | None


class CellSupernet:
    """The shared weights of a space of cells.

    Args:
        space: the space; its choices are which edges a node has and which operator an edge has.
        settings: the settings of every model.
        seed: draws the initial weights.
        weights: the weights to start from instead (as saved from `weights`).
        partial: only one channel of so many goes through an edge's options; the others go past them (2×2 maximum where
            the stride is 2), then all are shuffled (PC-DARTS; images of one width within a cell only).
        bypass: every edge can add its input to what its options bring, see `at` (DARTS−).

    Raises `RequestError` where the space leaves anything else open, or the networks keep statistics of batches.
    """

    def __init__(
        self,
        space: Space,
        settings: Any,
        *,
        seed: int,
        weights: dict[str, Tensor] | None = None,
        partial: int = 1,
        bypass: bool = False,
    ) -> None:
        self.space, self.settings, self.partial, self.bypass = space, settings, partial, bypass
        self._choices = {choice.name: choice for choice in space.choices}
        self._inputs = {path: cell.inputs for path, cell in cells(space.template)}
        self._edges: dict[str, list[list[SearchedEdge]]] = {}
        for edge in searched_edges(space):
            nodes = self._edges.setdefault(edge.cell, [])
            nodes.extend([] for _ in range(edge.node + 1 - len(nodes)))
            nodes[edge.node].append(edge)
        self._check()
        self._member = space.close(_first)
        network: Any = FAMILIES[self._member.family].network
        self._network = network
        self._places: tuple[Place, ...] = network.places(self._member)
        check_partial(space, partial)
        self.weights = self._drawn(seed) if weights is None else weights
        self._forget()

    def to(self, device: torch.device) -> Self:
        """This supernet with its weights on a device; models lent before keep the old ones."""
        self.weights = {name: weight.to(device) for name, weight in self.weights.items()}
        self._forget()
        return self

    def at(self, selection: Selection | Any, *, skip: float | Tensor | None = None) -> nn.Module:
        """The network that runs this selection (or architecture) on the shared weights.

        A choice of edges may run any number of them and a choice of operators any number of options, with or without
        weights; where the selection does not name a choice, its first options run. With `skip` every edge that runs
        adds that much of its input (where the stride is 2, of its factorised reduction), outside all weights. The
        network's `architecture` is that of the first options.
        """
        if skip is not None and not self.bypass:
            raise RequestError("skip needs edges that have a bypass; make the supernet with bypass=True")
        if isinstance(selection, Mapping):
            architecture = self.space.close(lambda choice: self._answer(choice, selection))
        else:
            architecture, selection = selection, single(self.space.encode(selection))
        wired = {path: [self._running(node, selection) for node in nodes] for path, nodes in self._edges.items()}
        model: Any = twin(self._frame)
        model.architecture = architecture
        for place in self._places:
            edges = [[(one.edge.source, self._lent(place, one, skip)) for one in node] for node in wired[place.cell]]
            model.cells[place.index].nodes.wire(edges)
        found: nn.Module = model
        return found

    def inherit(self, architecture: Any) -> nn.Module:
        """A plain network with its own copy of the weights that `at(architecture)` runs.

        Raises `RequestError` for a supernet with partial channels, whose weights fit no plain network.
        """
        return copied(outline(architecture, self.settings), self.weights, self.sources(architecture))

    def sources(self, architecture: Any) -> dict[str, str]:
        """For each parameter of the plain network, the name of the shared weight that it is a copy of."""
        if self.partial > 1:
            raise RequestError(
                f"weights for one channel of {self.partial} fit no plain network; train the architecture from the start"
            )
        code = self.space.encode(architecture)
        labels = {}
        for place in self._places:
            for edge in self._edges_at(place):
                if edge.operator in code:
                    labels[_path(place, edge)] = self._choices[edge.operator].options[code[edge.operator]]  # type: ignore[index]

        def rename(name: str) -> str:
            parts = name.split(".", 5)
            own = labels.get(".".join(parts[:5]))
            return name if own is None else ".".join([*parts[:5], own, *parts[5:]])

        return {name: rename(name) for name, _ in outline(architecture, self.settings).named_parameters()}

    def _check(self) -> None:
        every = [edge for nodes in self._edges.values() for node in nodes for edge in node]
        known = {edge.topology for edge in every} | {edge.operator for edge in every}
        if other := [name for name in self._choices if name not in known]:
            raise RequestError(
                f"a supernet of cells shares weights between edges and between their operators; the choice {other[0]} "
                f"of the space {self.space.name!r} is another: fix it"
            )

    def _drawn(self, seed: int) -> dict[str, Tensor]:
        """Fresh weights: of the frame, then cell by cell, edge by edge, option by option."""
        generator = torch.Generator().manual_seed(seed)
        frame = self._network(self._member, self.settings, wire=self._no_edges)
        reset(frame, generator)
        weights = {name: parameter.detach() for name, parameter in frame.named_parameters()}
        for place in self._places:
            for edge in self._edges_at(place):
                for option in (*range(len(edge.operators)), *([BYPASS] if self.bypass else [])):
                    module = self._built(place, edge, option)
                    reset(module, generator)
                    path = self._option_path(place, edge, option)
                    weights |= {f"{path}.{name}": parameter.detach() for name, parameter in module.named_parameters()}
        return weights

    def _forget(self) -> None:
        """Start lending anew, from the weights there are now."""
        self._lender = Lender(self.weights)
        self._options: dict[str, nn.Module] = {}
        self._mixtures: dict[tuple[int, str, tuple[int, ...]], nn.Module] = {}
        with torch.device("meta"):
            frame = self._network(self._member, self.settings, wire=self._no_edges)
        if any(True for _ in frame.buffers()):
            raise RequestError("a supernet keeps no statistics of batches; its settings need searching=true")
        self._frame = self._lender.lend(frame, lambda name: name)

    def _no_edges(self, place: Place) -> Wiring:
        return [[] for _ in self._edges[place.cell]]

    def _edges_at(self, place: Place) -> Iterator[SearchedEdge]:
        return (edge for node in self._edges[place.cell] for edge in node)

    def _running(self, node: list[SearchedEdge], selection: Selection) -> list[_Running]:
        """The edges of a node that run."""
        topology = node[0].topology
        edges = Chosen(tuple(range(len(node)))) if topology is None else self._chosen(topology, selection)
        found = []
        for number, scale in zip(edges.options, _each(edges), strict=True):
            edge = node[number]
            chosen = Chosen((0,)) if edge.operator is None else self._chosen(edge.operator, selection)
            pairs = list(zip(chosen.options, _each(chosen), strict=True))
            if len(pairs) > 1:  # a zero among others need not be computed
                pairs = [pair for pair in pairs if edge.operators[pair[0]].kind != "zero"] or pairs[:1]
            weights = None if chosen.weights is None else [weight for _, weight in pairs]
            found.append(_Running(edge, tuple(option for option, _ in pairs), weights, scale))
        return found

    def _chosen(self, name: str, selection: Selection) -> Chosen:
        found = selection.get(name)
        return Chosen(tuple(range(self._choices[name].count))) if found is None else found

    def _answer(self, choice: Choice, selection: Selection) -> Answer:
        """The first options that run, filled up with the first others where too few run for an architecture."""
        running = self._chosen(choice.name, selection).options
        others = (option for option in range(len(choice.options)) if option not in running)
        options = tuple(sorted((*running, *others)[: choice.count]))
        return options if choice.count > 1 else options[0]

    def _lent(self, place: Place, running: _Running, skip: float | Tensor | None) -> nn.Module:
        """One edge of a network: its options as the selection has them, over the shared weights."""
        edge, options, weights, scale = running.edge, running.options, running.weights, running.scale
        partial = self.partial > 1
        if len(options) == 1 and weights is None and (partial or scale is None):
            found = twin(self._option(place, edge, options[0]))
        else:
            found = twin(self._mixture(place, edge, options))
            found.weights, found.scale = weights, None if partial else scale
        if partial:
            found = Partial(found, self.partial, place.stride(edge.source, self._inputs[place.cell]), scale)
        return found if skip is None else Bypassed(found, twin(self._option(place, edge, BYPASS)), skip)

    def _mixture(self, place: Place, edge: SearchedEdge, options: tuple[int, ...]) -> nn.Module:
        """These options side by side there, made once: to make a module takes longer than to twin it."""
        key = (place.index, edge.name, options)
        if key not in self._mixtures:
            self._mixtures[key] = Mixed([self._option(place, edge, option) for option in options], None)
        return self._mixtures[key]

    def _option(self, place: Place, edge: SearchedEdge, option: int | str) -> nn.Module:
        """An option's module there, made once; what runs are twins of it."""
        key = self._option_path(place, edge, option)
        if key not in self._options:
            with torch.device("meta"):
                built = self._built(place, edge, option)
            self._options[key] = self._lender.lend(built, lambda name: f"{key}.{name}")
        return self._options[key]

    def _built(self, place: Place, edge: SearchedEdge, option: int | str) -> nn.Module:
        operator = Skip() if option == BYPASS else edge.operators[option]  # type: ignore[index]
        if self.partial > 1 and option != BYPASS:
            place = replace(place, channels=place.channels // self.partial)
        found: nn.Module = self._network.edge(
            self._member, self.settings, place, Edge(source=edge.source, operator=operator)
        )
        return found

    def _option_path(self, place: Place, edge: SearchedEdge, option: int | str) -> str:
        if option == BYPASS:
            return f"{_path(place, edge)}.{BYPASS}"
        if edge.operator is None:
            return _path(place, edge)
        return f"{_path(place, edge)}.{self._choices[edge.operator].options[option]}"  # type: ignore[index]


class Partial(nn.Module):
    """weight · shuffle(part(x's first 1/`parts` of the channels), the others), x (batch, channels, height, width)
    (PC-DARTS, arXiv 1907.05737); where the stride is 2 the others are the maxima of 2×2 windows."""

    def __init__(self, part: nn.Module, parts: int, stride: int, weight: Tensor | None) -> None:
        super().__init__()
        self.part, self.parts, self.stride, self.weight = part, parts, stride, weight

    def forward(self, x: Tensor, *context: Any) -> Tensor:
        """(batch, channels, height, width) → the same, height and width divided by the stride."""
        channels = x.shape[1]
        first, others = x.split([channels // self.parts, channels - channels // self.parts], 1)
        if self.stride > 1:
            others = F.max_pool2d(others, self.stride, self.stride, ceil_mode=True)
        shuffled = F.channel_shuffle(torch.cat([self.part(first, *context), others], 1), self.parts)
        return shuffled if self.weight is None else self.weight * shuffled


class Bypassed(nn.Module):
    """edge(x) + amount · bypass(x) (DARTS−, arXiv 2009.01027)."""

    def __init__(self, edge: nn.Module, bypass: nn.Module, amount: float | Tensor) -> None:
        super().__init__()
        self.edge, self.bypass, self.amount = edge, bypass, amount

    def forward(self, *inputs: Any) -> Tensor:
        """The inputs go to the edge and to the bypass alike."""
        found: Tensor = self.edge(*inputs) + self.amount * self.bypass(*inputs)
        return found


def check_partial(space: Space, partial: int) -> None:
    """Raises `RequestError` for a space whose cells cannot send one channel of `partial` through their options."""
    member: Any = space.close(_first)
    if partial > 1 and (not reads_images(member) or member.family == "block_chain"):
        raise RequestError(
            f"partial={partial} is for images, in cells of one width; the space {space.name!r} has none (the blocks of "
            f"a chain may have two): expected partial=1, or another space"
        )
    network: Any = FAMILIES[member.family].network
    places = network.places(member)
    widths = sorted({place.channels for place in places})
    if partial < 1 or any(width % partial for width in widths):
        raise RequestError(f"partial={partial} does not divide the channels of every cell, {widths}; choose another")
    if thin := [place.channels for place in places if place.reduction and place.channels < 2 * partial]:
        raise RequestError(
            f"partial={partial} leaves one of {thin[0]} channels in a cell that halves the resolution, whose skips "
            f"need two; expected a smaller one, or space.settings.channels of {partial} and more"
        )


def _first(choice: Choice) -> Answer:
    return tuple(range(choice.count)) if choice.count > 1 else 0


def _each(chosen: Chosen) -> Any:
    """The weight of each option that runs, or None for each."""
    return [None] * len(chosen.options) if chosen.weights is None else chosen.weights.unbind()


def _path(place: Place, edge: SearchedEdge) -> str:
    return f"cells.{place.index}.nodes.{edge.node}.from_{edge.source}"
