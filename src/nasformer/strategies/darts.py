"""DARTS: Differentiable Architecture Search (Liu et al., arXiv 1806.09055), on any supernet.

Every option of every choice runs, weighted by the softmax of the choice's logits. One update of the weights on one part
of the training data, one of the logits on the other part, in turn; in the end each choice keeps the option with the
largest logit. In a space of cells the logits go first (as in DARTS' code), every edge that a node may have runs with
weight 1, and in the end a node keeps as many edges as it shall have: those with the largest probability of an operator
that is not Zero. On a reversible supernet whose activations are rebuilt this is DARTSformer (Zhao et al., arXiv
2105.14669, Algorithm 2; docs/papers/dartsformer.md). How ours differs: Zero may be kept or passed over in the end where
no edge is chosen (both are recorded; our reading 18), limits hold for what is derived, a loss that is no number rewinds
the search, and the second order is the exact gradient through the unrolled step instead of finite differences, which
are mostly noise (`nasformer.strategies.unrolled`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from nasformer.operators.reversible import Backward
from nasformer.spaces.cell import searched_edges
from nasformer.spaces.space import Space
from nasformer.strategies.bilevel import BilevelSearch
from nasformer.strategies.derivation import Derivation, edge_scores, operator_scores, operator_strength
from nasformer.strategies.objective import Objective
from nasformer.strategies.rules import Gathering, Moment, Settings, all_edges, operator_sizes, refuse
from nasformer.strategies.unrolled import check_unrolled, unrolled
from nasformer.supernets.selection import Chosen, Selection
from nasformer.supernets.supernet import Supernet
from nasformer.tasks.task import Task


class Darts(Settings):
    """The settings of a differentiable search.

    `training.updates` counts updates of weights; there are as many of logits. `weight_part` of the training data serve
    the weights, the rest the logits. `zero`: whether Zero may be kept in the end, never on an edge that is chosen;
    None: in cells, where other edges are always there (NAS-Bench-201), and nowhere else. `restarts` searches are made
    from different starts and the derived architecture with the lowest validation loss on inherited weights is taken.
    `backward`, `one_at_a_time` and `exact` say how a reversible supernet differentiates, `micro_batches` in how many
    pieces a batch is worked on (with `objective.memory` all but `exact` are chosen by `nasformer.strategies.memory`).
    Without `exact` what is rebuilt is off by rounding, which Identity amplifies (docs/decisions/0008). With
    `second_order` the logits go before the weights and look one step of the weights ahead. After a loss that is no
    number the search goes back to its last good state and halves its rate, at most `rewinds` times.
    """

    kind: Literal["darts"] = "darts"
    zero: bool | None = None
    second_order: bool = False
    restarts: Annotated[int, Field(ge=1)] = 1
    backward: Backward = "rebuilt"
    one_at_a_time: bool = True
    exact: bool = True

    @property
    def ways(self) -> dict[str, Any]:
        """How its supernet is made: how a reversible one differentiates."""
        return {"backward": self.backward, "one_at_a_time": self.one_at_a_time, "exact": self.exact}

    def begin(self, space: Space, objective: Objective, task: Task, supernet: Supernet, seed: int) -> BilevelSearch:
        """The search under way. Raises `RequestError` for a space with other choices than one operator of several or
        the edges of a node, a penalty instead of hard limits, or a second order that the supernet cannot give."""
        refuse(space, objective)
        if self.second_order:
            check_unrolled(supernet, self.micro_batches)
        ahead = unrolled if self.second_order else None
        return BilevelSearch(self, Softmax(self, space), space, objective, task, supernet, seed, ahead)


class Softmax:
    """All options of every operator, weighted by the softmax of their logits, on all edges (see `Rules`)."""

    def __init__(self, settings: Darts, space: Space) -> None:
        self.settings, self.space = settings, space
        self.zero = bool(searched_edges(space)) if settings.zero is None else settings.zero
        self.sizes = operator_sizes(space)
        self.gathering = Gathering(first="logits" if settings.second_order or searched_edges(space) else "weights")
        self._edges = all_edges(space)

    def select(self, logits: Mapping[str, Tensor], moment: Moment, generator: torch.Generator) -> Selection:
        """Nothing is drawn: every option runs."""
        return self._edges | mixture({name: logits[name] for name in self.sizes})

    def lend(self, supernet: Any, selection: Selection, moment: Moment) -> Any:
        """The model of the selection."""
        return supernet.at(selection)

    def edges(self, logits: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
        """None: edges have no logits."""
        return {}

    def best(self, logits: Mapping[str, Tensor], derivation: Derivation, *, zero: bool | None = None) -> Any:
        """The operators of the largest logits, on the edges of the largest; with `zero` (by default as the settings
        say) Zero may be kept."""
        operators = operator_scores(logits, self.space, zero=self.zero if zero is None else zero)
        return derivation.best(edge_scores(operator_strength(logits, self.space), self.space) | operators)

    def derivations(self) -> dict[str, dict[str, Any]]:
        """With and without Zero."""
        return {"with_zero": {"zero": True}, "without_zero": {"zero": False}}


def mixture(logits: Mapping[str, Tensor]) -> dict[str, Chosen]:
    """All options of every choice that has logits (options,), weighted by softmax."""
    return {name: Chosen(tuple(range(len(tensor))), _softmax(tensor)) for name, tensor in logits.items()}


def _softmax(logits: Tensor) -> Tensor:
    found: Tensor = _Softmax.apply(logits)
    return found


class _Softmax(torch.autograd.Function):
    """softmax whose gradient is summed plainly: the same bits whatever the width of the processor's vectors."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        """(options,) → (options,)."""
        shares = logits.softmax(0)
        ctx.save_for_backward(shares)
        return shares

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """w (g − Σ w g)."""
        (shares,) = ctx.saved_tensors
        found: Tensor = shares * (gradient - (shares * gradient).sum())
        return found
