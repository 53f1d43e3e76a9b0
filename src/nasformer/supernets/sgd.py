"""Stochastic gradient descent with momentum and L2 weight decay that updates exactly the slices that ran.

A weight outside the slices of the architecture of this update keeps its value and its momentum: it neither decays nor
drifts on. Where every weight runs at every update this is `torch.optim.SGD`, whose momentum buffer also begins with the
first gradient; where a weight runs only now and then, its momentum is that of the updates in which it ran.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nasformer.supernets.elastic import leading


class SliceSgd:
    """SGD over the named weights of a supernet, or of a plain model.

    Args:
        weights: the shared weights by name; `step` writes to them through the parameters that are views of them.
        momentum: the share of the momentum that is kept from update to update.
        weight_decay: coupled (L2): this times the weight is added to its gradient.
        nesterov: look ahead along the momentum.
    """

    def __init__(
        self, weights: dict[str, Tensor], *, momentum: float = 0.9, weight_decay: float = 3e-4, nesterov: bool = False
    ) -> None:
        self.momentum, self.weight_decay, self.nesterov = momentum, weight_decay, nesterov
        self.velocity = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self._views: dict[tuple[str, torch.Size], Tensor] = {}

    def step(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> None:
        """Update the given views from their gradients, and drop the gradients."""
        group: list[Any] = [parameter for parameter in parameters if parameter.grad is not None]
        if not group:
            return
        values, gradients = [p.detach() for p in group], [p.grad for p in group]
        velocities = [self._view(parameter) for parameter in group]
        if self.weight_decay:
            gradients = list(torch._foreach_add(gradients, values, alpha=self.weight_decay))
        torch._foreach_mul_(velocities, self.momentum)
        torch._foreach_add_(velocities, gradients)
        steps = velocities
        if self.nesterov:
            steps = list(torch._foreach_add(gradients, velocities, alpha=self.momentum))
        torch._foreach_add_(values, steps, alpha=-learning_rate)
        for parameter in group:
            parameter.grad = None

    def _view(self, parameter: Any) -> Tensor:
        key = (parameter.source, parameter.shape)
        if key not in self._views:
            name, shape = key
            self._views[key] = leading(self.velocity[name], shape)
        return self._views[key]

    def inherit(self, sources: dict[str, str], weights: dict[str, Tensor]) -> SliceSgd:
        """The state of a plain model with inherited weights: the same slices of the momentum, copied.

        `sources` gives for each plain name the shared weight of which it is a leading slice.
        """
        other = SliceSgd(weights, momentum=self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov)
        for name, weight in weights.items():
            other.velocity[name].copy_(leading(self.velocity[sources[name]], weight.shape))
        return other

    def tensors(self) -> dict[str, Tensor]:
        """The whole state as named tensors, for a checkpoint."""
        return {f"velocity.{name}": tensor for name, tensor in self.velocity.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over a state that `tensors` gave."""
        for name, velocity in self.velocity.items():
            velocity.copy_(tensors[f"velocity.{name}"])
