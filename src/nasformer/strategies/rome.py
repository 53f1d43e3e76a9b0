"""ROME: Robustifying Memory-Efficient NAS via Topology Disentanglement and Gradient Accumulation (arXiv 2011.11233).

A cell's topology is sampled apart from its operators, so that what is searched always has the shape of what is found:
each node runs as many edges as it shall have, each edge one operator (docs/papers/rome.md §2.2). The gradients of the
logits are averaged and those of the weights added up over several samples, one after the other, so that memory is that
of one. How ours differs: what the paper leaves open is settled by the readings of §4; a sample whose loss is no number
is drawn again, then the search rewinds (reading 36); limits hold for what is derived (reading 38).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from nasformer.errors import RequestError
from nasformer.spaces.cell import SearchedEdge, searched_edges, topologies
from nasformer.spaces.space import Answer, Space
from nasformer.strategies.bilevel import BilevelSearch
from nasformer.strategies.derivation import (
    Derivation,
    chosen_edges,
    edge_scores,
    operator_scores,
    operator_strength,
)
from nasformer.strategies.objective import Objective
from nasformer.strategies.rules import (
    Gathering,
    Half,
    Moment,
    Settings,
    all_edges,
    operator_sizes,
    refuse,
)
from nasformer.supernets import gumbel
from nasformer.supernets.selection import Selection
from nasformer.supernets.supernet import Supernet
from nasformer.tasks.task import Task

Rule = Literal["topology", "joint"]
Topology = Literal["top", "pairs", "all"]
Temperature = Annotated[float, Field(gt=0)]
TRIES = 3
"""How often an update is drawn before the search rewinds."""


class Rome(Settings):
    """The settings of a ROME search of a space of cells.

    `training.updates` counts updates of weights, `samples` is K; there are as many updates of logits, and `samples`
    passes in each. `samples_weights` and `samples_logits` set K apart for each (the ablation of §5.4; None: `samples`).
    `gather_weights` says whether the weights' gradients are added up (as printed) or averaged. `topology` is how edges
    are drawn: Gumbel-Top-k over edges ("top", V2), Gumbel-Max over sets of edges ("pairs", V1), or not at all ("all":
    every edge runs, without disentanglement, derived as GDAS derives). `derive` takes the edges by their own logits, or
    "joint" with those of their operators (reading 9). A Zero on an edge that is chosen contradicts the fixed number of
    inputs: "refuse", or "search_only", where it is drawn but passed over in the end (reading 10). The temperature falls
    linearly over the `epochs` equal parts of the updates (reading 5).
    """

    kind: Literal["rome"] = "rome"
    samples: Annotated[int, Field(ge=1)] = 7
    samples_weights: Annotated[int, Field(ge=1)] | None = None
    samples_logits: Annotated[int, Field(ge=1)] | None = None
    gather_weights: Literal["sum", "mean"] = "sum"
    topology: Topology = "top"
    temperature: tuple[Temperature, Temperature] = (10.0, 0.1)
    derive: Rule = "topology"
    zero: Literal["refuse", "search_only"] = "refuse"
    order: Literal["logits_first", "weights_first"] = "logits_first"

    @model_validator(mode="after")
    def _check_edges(self) -> Self:
        if self.topology == "all" and (self.derive, self.zero) != ("topology", "refuse"):
            raise ValueError("with topology=all edges have no logits of their own: derive and zero would do nothing")
        return self

    @property
    def drawn(self) -> bool:
        """Edges and operators are."""
        return True

    @property
    def gathering(self) -> Gathering:
        """How updates gather gradients."""
        first: Half = "logits" if self.order == "logits_first" else "weights"
        return Gathering(
            weights=self.samples_weights or self.samples,
            logits=self.samples_logits or self.samples,
            mean=self.gather_weights == "mean",
            first=first,
            tries=TRIES,
        )

    def begin(self, space: Space, objective: Objective, task: Task, supernet: Supernet, seed: int) -> BilevelSearch:
        """The search under way. Raises `RequestError` for a space without cells (unless `topology` is "all"), or in
        which a chosen edge may be Zero (see `zero`), or that a differentiable search cannot take."""
        refuse(space, objective)
        if self.topology != "all" and not searched_edges(space):
            raise RequestError(
                f"rome searches cells; the space {space.name!r} has none: expected a space of cells, or "
                f"strategy.topology=all, which draws operators alone"
            )
        if self.topology != "all" and self.zero == "refuse":
            for edge in chosen_edges(space):
                if any(operator.kind == "zero" for operator in edge.operators):
                    raise RequestError(
                        f"{edge.name} may be zero in the space {space.name!r}, but a chosen edge counts among the "
                        f"inputs that every node has; take the zero out of the space, or strategy.zero=search_only"
                    )
        rules = Sampled(self.gathering, space, self.topology, self.temperature, self.derive)
        return BilevelSearch(self, rules, space, objective, task, supernet, seed)


class Sampled:
    """One operator an edge (in a space without cells, a choice), drawn by Gumbel-Max; edges drawn as `topology` says
    (see `Rules`).

    Args:
        gathering: how updates gather gradients.
        space: what is searched.
        topology: "top", "pairs" or "all".
        temperature: of the first and of the last epoch.
        derive: "topology" or "joint"; without logits for edges they are taken by their operators alone.
    """

    def __init__(
        self,
        gathering: Gathering,
        space: Space,
        topology: Topology,
        temperature: tuple[float, float],
        derive: Rule = "topology",
    ) -> None:
        self.gathering, self.space = gathering, space
        self.topology, self.temperature, self.derive = topology, temperature, derive
        self.sizes = dict(operator_sizes(space))
        self._choices = {choice.name: choice for choice in topologies(space)}
        self._nodes: dict[str | None, list[SearchedEdge]] = {}
        for edge in searched_edges(space):
            self._nodes.setdefault(edge.topology, []).append(edge)
        on_edges = {edge.operator for edges in self._nodes.values() for edge in edges}
        self._elsewhere = [name for name in self.sizes if name not in on_edges]
        for name, choice in self._choices.items():
            if topology == "top":
                self.sizes[name] = len(choice.options)
            elif topology == "pairs":
                self.sizes[name] = len(gumbel.edge_sets(len(choice.options), choice.count))

    def select(self, logits: Mapping[str, Tensor], moment: Moment, generator: torch.Generator) -> Selection:
        """Edges, then one operator for each edge that runs; noise is drawn for all of them, whether they run or not."""
        temperature = moment.between(*self.temperature)
        drawn = gumbel.gumbel_noise(sum(self.sizes.values()), generator).split(list(self.sizes.values()))
        noise = dict(zip(self.sizes, drawn, strict=True))
        found = dict(all_edges(self.space))
        for name, choice in self._choices.items():
            if self.topology == "top":
                found[name] = gumbel.top(logits[name], choice.count, temperature, noise[name])
            elif self.topology == "pairs":
                found[name] = gumbel.pairs(logits[name], len(choice.options), temperature, noise[name], choice.count)
        for topology, edges in self._nodes.items():
            for edge in edges:
                if edge.operator and (topology is None or edge.option in found[topology].options):
                    found[edge.operator] = gumbel.one(logits[edge.operator], temperature, noise[edge.operator])
        return found | {name: gumbel.one(logits[name], temperature, noise[name]) for name in self._elsewhere}

    def lend(self, supernet: Any, selection: Selection, moment: Moment) -> Any:
        """The model of the selection."""
        return supernet.at(selection)

    def edges(self, logits: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
        """For each choice of edges how probable it is that each edge is drawn; together the number of edges."""
        found = {}
        for name, choice in self._choices.items() if self.topology != "all" else ():
            if self.topology == "top":
                shares = gumbel.inclusion(logits[name], choice.count)
            else:
                shares = gumbel.pair_inclusion(logits[name], len(choice.options), choice.count)
            found[name] = dict(zip(choice.options, shares.tolist(), strict=True))
        return found

    def best(self, logits: Mapping[str, Tensor], derivation: Derivation, *, derive: Rule | None = None) -> Any:
        """The most probable edges, by their own logits or jointly with those of their operators, and the operators of
        the largest logits; Zero only on an edge that every member has."""
        edges = self._edge_scores(logits, joint=(derive or self.derive) == "joint")
        return derivation.best(edges | operator_scores(logits, self.space, zero=True))

    def derivations(self) -> dict[str, dict[str, Any]]:
        """Both derivations; where edges have no logits there is one."""
        if self.topology == "all":
            return {"operators": {}}
        return {"topology": {"derive": "topology"}, "joint": {"derive": "joint"}}

    def _edge_scores(self, logits: Mapping[str, Tensor], *, joint: bool) -> dict[str, dict[Answer, float]]:
        """Log probabilities of sets of edges, and with `joint` of the best operators on them (Eq. 9)."""
        strength = operator_strength(logits, self.space)
        if self.topology == "all":
            return edge_scores(strength, self.space)
        if not joint:
            strength = dict.fromkeys(strength, 0.0)
        found = {}
        for name, answers in edge_scores(strength, self.space).items():
            own = logits[name].log_softmax(0).tolist()
            if self.topology == "pairs":  # the sets have logits of their own, in the same order
                found[name] = {answer: score + own[i] for i, (answer, score) in enumerate(answers.items())}
            else:
                found[name] = {
                    answer: score + sum(own[edge] for edge in ((answer,) if isinstance(answer, int) else answer))
                    for answer, score in answers.items()
                }
        return found
