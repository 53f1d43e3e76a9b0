"""PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search (Xu et al., arXiv 1907.05737).

DARTS on a supernet in which one channel of `partial` goes through an edge's options and the others past them, with
logits of their own for edges: a node's edges are weighted by their softmax. In the end edges are ranked by the product
of both probabilities; the logits go first, but rest for the first `resting` of the updates (docs/papers/rome.md §7.1).
Edges that are always there have no logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from nasformer.errors import RequestError
from nasformer.spaces.cell import topologies
from nasformer.spaces.space import Space
from nasformer.strategies.bilevel import BilevelSearch
from nasformer.strategies.darts import mixture
from nasformer.strategies.derivation import Derivation, edge_scores, operator_scores, operator_strength
from nasformer.strategies.objective import Objective
from nasformer.strategies.rules import Gathering, Logits, Moment, Resting, Settings, operator_sizes, refuse
from nasformer.supernets.selection import Selection
from nasformer.supernets.supernet import Supernet
from nasformer.tasks.task import Task


class PcDarts(Settings):
    """The settings of a PC-DARTS search; fields as of `nasformer.strategies.darts.Darts`."""

    kind: Literal["pc_darts"] = "pc_darts"
    logits: Logits = Logits(rate=6e-4, betas=(0.5, 0.999))
    partial: Annotated[int, Field(ge=1)] = 4
    resting: Resting = 15 / 50

    @property
    def ways(self) -> dict[str, Any]:
        """How its supernet is made."""
        return {"partial": self.partial}

    def begin(self, space: Space, objective: Objective, task: Task, supernet: Supernet, seed: int) -> BilevelSearch:
        """The search under way. Raises `RequestError` for a space that it cannot take, or a supernet with another
        `partial`."""
        refuse(space, objective)
        if (found := getattr(supernet, "partial", 1)) != self.partial:
            raise RequestError(f"strategy.partial={self.partial} needs a supernet made with it, got one with {found}")
        return BilevelSearch(self, WeightedEdges(self, space), space, objective, task, supernet, seed)


class WeightedEdges:
    """All operators and all edges, weighted by softmax (see `Rules`)."""

    def __init__(self, settings: PcDarts, space: Space) -> None:
        self.space = space
        self._choices = topologies(space)
        self.sizes = operator_sizes(space) | {choice.name: len(choice.options) for choice in self._choices}
        self.gathering = Gathering(first="logits")

    def select(self, logits: Mapping[str, Tensor], moment: Moment, generator: torch.Generator) -> Selection:
        """Nothing is drawn: everything runs."""
        return mixture(logits)

    def lend(self, supernet: Any, selection: Selection, moment: Moment) -> Any:
        """The model of the selection."""
        return supernet.at(selection)

    def edges(self, logits: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
        """The softmax of each node's edges."""
        shares = {choice.name: logits[choice.name].softmax(0).tolist() for choice in self._choices}
        return {choice.name: dict(zip(choice.options, shares[choice.name], strict=True)) for choice in self._choices}

    def best(self, logits: Mapping[str, Tensor], derivation: Derivation) -> Any:
        """The edges of the largest product of both probabilities, the operators of the largest logits; Zero only on an
        edge that every member has."""
        own = {choice.name: logits[choice.name].log_softmax(0).tolist() for choice in self._choices}
        strength = operator_strength(logits, self.space)
        joint = {(name, edge): value + own[name][edge] for (name, edge), value in strength.items()}
        return derivation.best(edge_scores(joint, self.space) | operator_scores(logits, self.space, zero=True))

    def derivations(self) -> dict[str, dict[str, Any]]:
        """One."""
        return {"joint": {}}
