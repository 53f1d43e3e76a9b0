"""Adam with decoupled weight decay that updates exactly the slices that ran.

A weight outside the slices of the architecture of this update keeps its value and its moments: neither decay nor
momentum moves it. The bias correction counts the updates in which a weight tensor took part. Contiguous slices take
PyTorch's fused AdamW; slices cut in their last axis, which it cannot take, the same arithmetic over many tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from nasformer.supernets.elastic import leading

BETAS, EPSILON = (0.9, 0.98), 1e-8


class SliceAdam:
    """Adam (0.9, 0.98) over the named weights of a supernet.

    Args:
        weights: the shared weights by name; `step` writes to them through the parameters that are views of them.
        weight_decay: decoupled, times the learning rate.
    """

    def __init__(self, weights: dict[str, Tensor], *, weight_decay: float = 1e-4) -> None:
        self.weight_decay = weight_decay
        self.first = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.second = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.updates = {name: torch.tensor(0.0) for name in weights}
        self._views: dict[tuple[str, torch.Size], tuple[Tensor, Tensor]] = {}

    def step(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> None:
        """Update the given views from their gradients, and drop the gradients."""
        groups: dict[bool, list[Any]] = {True: [], False: []}
        for parameter in parameters:
            if parameter.grad is not None:
                groups[parameter.is_contiguous() and parameter.device.type == "cpu"].append(parameter)
        if groups[True]:
            self._fused(groups[True], learning_rate)
        if groups[False]:
            self._strided(groups[False], learning_rate)

    def _fused(self, group: list[Any], learning_rate: float) -> None:
        views = [self._view(parameter) for parameter in group]
        adamw(
            [parameter.detach() for parameter in group],
            [parameter.grad for parameter in group],
            [first for first, _ in views],
            [second for _, second in views],
            [],
            [self.updates[parameter.source] for parameter in group],
            foreach=False,
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=EPSILON,
            maximize=False,
        )
        for parameter in group:
            parameter.grad = None

    def _strided(self, group: list[Any], learning_rate: float) -> None:
        """The same arithmetic for slices that are not contiguous, in few passes: both bias corrections are folded
        into the step size and epsilon."""
        values, gradients = [p.detach() for p in group], [p.grad for p in group]
        first, second = (list(moments) for moments in zip(*map(self._view, group), strict=True))
        roots, rates = [], []
        for parameter in group:
            count = self.updates[parameter.source].add_(1).item()
            roots.append(math.sqrt(1 - BETAS[1] ** count))
            rates.append(-learning_rate * roots[-1] / (1 - BETAS[0] ** count))
        torch._foreach_lerp_(first, gradients, 1 - BETAS[0])
        torch._foreach_mul_(second, BETAS[1])
        torch._foreach_addcmul_(second, gradients, gradients, 1 - BETAS[1])
        divisors = torch._foreach_sqrt(second)
        torch._foreach_add_(divisors, [EPSILON * root for root in roots])
        torch._foreach_mul_(values, 1 - learning_rate * self.weight_decay)
        torch._foreach_addcdiv_(values, first, divisors, rates)
        for parameter in group:
            parameter.grad = None

    def _view(self, parameter: Any) -> tuple[Tensor, Tensor]:
        key = (parameter.source, parameter.shape)
        if key not in self._views:
            name, shape = key
            self._views[key] = (leading(self.first[name], shape), leading(self.second[name], shape))
        return self._views[key]

    def inherit(self, sources: dict[str, str], weights: dict[str, Tensor]) -> SliceAdam:
        """The state of a plain model with inherited weights: the same slices of the moments, copied.

        `sources` gives for each plain name the shared weight of which it is a leading slice.
        """
        other = SliceAdam(weights, weight_decay=self.weight_decay)
        for name, weight in weights.items():
            source = sources[name]
            other.first[name].copy_(leading(self.first[source], weight.shape))
            other.second[name].copy_(leading(self.second[source], weight.shape))
            other.updates[name].copy_(self.updates[source])
        return other

    def tensors(self) -> dict[str, Tensor]:
        """The whole state as named tensors, for a checkpoint."""
        return (
            {f"first.{name}": tensor for name, tensor in self.first.items()}
            | {f"second.{name}": tensor for name, tensor in self.second.items()}
            | {f"updates.{name}": tensor for name, tensor in self.updates.items()}
        )

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over a state that `tensors` gave."""
        for name in self.first:
            self.first[name].copy_(tensors[f"first.{name}"])
            self.second[name].copy_(tensors[f"second.{name}"])
            self.updates[name].copy_(tensors[f"updates.{name}"])
