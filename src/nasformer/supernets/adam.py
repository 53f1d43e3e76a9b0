"""Adam with decoupled weight decay that updates exactly the slices that ran.

A weight outside the slices of the architecture of this update keeps its value and its moments: neither decay nor
momentum moves it. The bias correction counts the updates in which a weight tensor took part. The arithmetic is
PyTorch's own functional AdamW.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from nasformer.supernets.elastic import leading


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
                groups[parameter.is_contiguous()].append(parameter)
        for contiguous, group in groups.items():
            if group:
                self._update(group, learning_rate, fused=contiguous)

    def _update(self, group: list[Any], learning_rate: float, fused: bool) -> None:
        views = [self._view(parameter) for parameter in group]
        adamw(
            [parameter.detach() for parameter in group],
            [parameter.grad for parameter in group],
            [first for first, _ in views],
            [second for _, second in views],
            [],
            [self.updates[parameter.source] for parameter in group],
            foreach=not fused,
            fused=fused,
            amsgrad=False,
            beta1=0.9,
            beta2=0.98,
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )
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
