"""What tells one differentiable search from another: its logits, its draws, how it gathers gradients, what it derives.

The search itself is `nasformer.strategies.bilevel`; a method is frozen settings and an object that keeps these `Rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from nasformer.errors import RequestError
from nasformer.spaces.cell import topologies
from nasformer.spaces.space import Space
from nasformer.spaces.value import Value
from nasformer.strategies.objective import Objective
from nasformer.supernets.selection import Chosen, Selection
from nasformer.training.trainer import Training

Rate = Annotated[float, Field(gt=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(gt=0, lt=1)]
Whole = Annotated[int, Field(ge=0)]
Resting = Annotated[float, Field(ge=0, lt=1)]
Half = Literal["weights", "logits"]


class Logits(Value):
    """How logits are trained: Adam with a constant rate and L2 weight decay, from `spread` · N(0, 1)
    (docs/papers/dartsformer.md, our reading 4; docs/papers/rome.md, our reading 6)."""

    rate: Rate = 3e-4
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    betas: tuple[Beta, Beta] = (0.9, 0.98)
    spread: Annotated[float, Field(ge=0)] = 1e-3


CELL_LOGITS = Logits(betas=(0.5, 0.999))
"""As searches of cells train theirs (docs/papers/rome.md §3)."""


class Settings(Value):
    """What the settings of every differentiable search say.

    `training.updates` counts updates of weights; there are as many of logits. `weight_part` of the training data serve
    the weights, the rest the logits; `micro_batches` in how many pieces a batch is worked on; `epochs` equal parts of
    the updates are journalled. The logits rest for the part `resting` of the updates, the first ones (our reading 46 in
    docs/papers/rome.md). After a loss that is no number the search goes back to its last good state and halves its
    rate, at most `rewinds` times.
    """

    training: Training = Training(updates=30_000)
    logits: Logits = CELL_LOGITS
    weight_part: Part = 0.5
    micro_batches: Annotated[int, Field(ge=1)] = 1
    epochs: Annotated[int, Field(ge=1)] = 50
    resting: Resting = 0.0
    rewinds: Whole = 5

    @property
    def ways(self) -> dict[str, Any]:
        """How its supernet is made besides the space and the settings of models: as it is."""
        return {}

    @property
    def drawn(self) -> bool:
        """Whether what runs is drawn at random; otherwise every option does."""
        return False

    @property
    def rests(self) -> int:
        """How many updates the logits rest at the beginning."""
        return int(self.resting * self.training.updates)


@dataclass(frozen=True)
class Moment:
    """When something is drawn: at update 1, 2, …, `updates`, which make `epochs` equal parts, numbered from 0."""

    update: int
    updates: int
    epochs: int

    @property
    def epoch(self) -> int:
        """The part that the update is in."""
        return (self.update - 1) * self.epochs // self.updates

    @property
    def ends_epoch(self) -> bool:
        """Whether the next update is in another part."""
        return self.update * self.epochs // self.updates > self.epoch

    def between(self, first: float, last: float) -> float:
        """Linear from `first` in the first part to `last` in the last."""
        return first + (last - first) * self.epoch / max(1, self.epochs - 1)


@dataclass(frozen=True)
class Gathering:
    """How updates gather gradients: over how many selections, the logits always their mean, the weights their sum or
    `mean`; which half goes first; how often other selections are tried after a loss that is no number."""

    weights: int = 1
    logits: int = 1
    mean: bool = False
    first: Half = "weights"
    tries: int = 1


class Rules(Protocol):
    """What tells one differentiable search from another."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """How many logits there are, by choice."""
        ...

    @property
    def gathering(self) -> Gathering:
        """How updates gather gradients."""
        ...

    def select(self, logits: Mapping[str, Tensor], moment: Moment, generator: torch.Generator) -> Selection:
        """A selection from logits (options,), whose weights differentiate into them."""
        ...

    def lend(self, supernet: Any, selection: Selection, moment: Moment) -> Any:
        """The model that runs a selection."""
        ...

    def edges(self, logits: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
        """For each choice of edges that has logits, how probable each edge is."""
        ...

    @property
    def best(self) -> Callable[..., Any]:
        """(logits, derivation, …) → the architecture that the logits stand for; what follows changes how it is
        derived."""
        ...

    def derivations(self) -> dict[str, dict[str, Any]]:
        """The ways of deriving that are recorded at the end, by name: what `best` is told."""
        ...


def refuse(space: Space, objective: Objective) -> None:
    """Raises `RequestError` for a space with other choices than one operator of several or the edges of a node, or a
    penalty instead of hard limits."""
    chosen = {choice.name for choice in topologies(space)}
    for choice in space.choices:
        if choice.name not in chosen and (not choice.operators or choice.count > 1):
            raise RequestError(
                f"a differentiable search chooses one operator of several; the choice {choice.name} of the space "
                f"{space.name!r} is another: fix it, or search with shrinknas"
            )
    if objective.penalty:
        raise RequestError(
            f"objective.penalty={objective.penalty:g} has nothing to be added to in a differentiable search, which "
            f"scores no architectures; expected 0 (hard limits on what is derived)"
        )


def operator_sizes(space: Space) -> dict[str, int]:
    """How many options each choice of an operator has, by name."""
    chosen = {choice.name for choice in topologies(space)}
    return {choice.name: len(choice.options) for choice in space.choices if choice.name not in chosen}


def all_edges(space: Space) -> dict[str, Chosen]:
    """The part of a selection that runs every edge that may be chosen, with weight 1."""
    return {choice.name: Chosen(tuple(range(len(choice.options)))) for choice in topologies(space)}
