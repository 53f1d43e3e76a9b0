"""A differentiable search at one rate of a sweep, and what its updates cost.

Its loss is the validation loss of what it runs, dropout off: of the mixture at the present logits where every option
runs, of a few selections drawn from equal logits, the same at every rate, where it draws them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nasformer.measures.training_cost import PASSES, update_flops
from nasformer.models.build import build
from nasformer.strategies.bilevel import BilevelSearch
from nasformer.training.randomness import derive
from nasformer.training.sweep import validation

DRAWN = 8
"""How many selections a search that draws them is measured on."""
LOGITS_PASSES = 2
"""An update of the logits is a forward pass and the part of a backward pass that goes to activations."""
UNROLLED_PASSES = 4 * PASSES
"""One that looks a step of the weights ahead: their update, its gradient again with both of its passes, and the loss
after it."""


class RatedSearch:
    """A search at one rate of a sweep (see `nasformer.training.sweep.Trainee`). It fails where it goes back after a
    loss that is NaN. Between two measurements its state waits in main memory, so that one supernet at a time is on the
    device.

    Args:
        begin: makes it, always the same.
        seed: of the sweep; validation batches and selections derive from it.
        tokens: of the validation split, that losses are measured on.
    """

    def __init__(self, begin: Callable[[], BilevelSearch], seed: int, tokens: int) -> None:
        self.begin, self.seed, self.tokens = begin, seed, tokens
        self._kept: tuple[dict[str, Tensor], dict[str, Any]] | None = None
        self._loss = math.nan
        self.failed = False

    def train(self, until: int) -> None:
        """Go on until so many updates are done, or until the search goes back."""
        if self.failed:
            return
        search = self.begin()
        if self._kept is not None:
            search.load(*self._kept)
        while search.path.updates < until and not self.failed:
            search.step()
            self.failed = search.rewound > 0
        if not self.failed:
            self._loss = mean_loss(search, self.seed, self.tokens)
            self._kept = (
                {name: tensor.to("cpu", copy=True) for name, tensor in search.tensors().items()},
                search.state(),
            )

    def loss(self) -> float:
        """The validation loss after the last update; NaN where the search failed."""
        return math.nan if self.failed else self._loss


def mean_loss(search: BilevelSearch, seed: int, tokens: int) -> float:
    """The validation loss of what a search runs, the mean over selections where it draws them."""
    batches = validation(search.path.task, seed, tokens, search.path.device.device)
    return fmean(search.path.task.evaluate(model, batches) for model in _models(search, seed))


def update_cost(search: BilevelSearch, members: Sequence[Any], seed: int, tokens: int) -> tuple[float, float]:
    """The training FLOPs of an update of the weights and of one of the logits.

    They are those of an update of `members` of the space (`nasformer.measures.training_cost`), times what a forward
    pass of the search takes of matrix products, convolutions and attentions over what one of the members takes: of all
    options side by side, or in the mean over selections that the search draws, for each that it gathers. The gradient
    of the logits needs none of the weights. What is run again to save memory (activations rebuilt) is not counted, as
    it is not for plain networks; nor are measurements of an early stopping.
    """
    batches = validation(search.path.task, seed, tokens, search.path.device.device)
    whole = fmean(_forward(search, model, batches) for model in _models(search, seed))
    settings, tokens = search.supernet.settings, search.settings.training.batch_tokens
    models = [build(member, settings, seed=seed).to(search.path.device.device) for member in members]
    alone = fmean(_forward(search, model, batches) for model in models)
    each = fmean(update_flops(member, settings, tokens) for member in members) / PASSES * whole / alone
    gathering = search.rules.gathering
    backward = LOGITS_PASSES if search.unrolled is None else UNROLLED_PASSES
    return gathering.weights * PASSES * each, gathering.logits * backward * each


def _models(search: BilevelSearch, seed: int) -> list[Any]:
    """What a search runs, as models: the mixture, or some selections from equal logits."""
    if search.settings.drawn:
        equal = {name: torch.zeros_like(logits) for name, logits in search.logits.items()}
        drawn = [search.drawn(equal, derive(seed, "sweep selections", number)) for number in range(DRAWN)]
    else:
        drawn = [search.selection()]
    return [search.rules.lend(search.supernet, selection, search.moment) for selection in drawn]


def _forward(search: BilevelSearch, model: Any, batches: Sequence[Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        search.path.task.evaluate(model, list(batches))
    return float(counter.get_total_flops())
