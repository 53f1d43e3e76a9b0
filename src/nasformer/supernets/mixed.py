"""Options side by side: the weighted sum of what several operators make of the same input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Mixed(nn.Module):
    """scale · Σ_o weight_o · option_o(x); weights (options,) and scale are given, not learned here; None is one.

    Each option costs one multiplication (weights and scale are multiplied before), and none where both are None.
    """

    def __init__(
        self, options: Sequence[nn.Module], weights: Tensor | Sequence[Tensor] | None, scale: Tensor | None = None
    ) -> None:
        super().__init__()
        self.options = nn.ModuleList(options)
        self.weights, self.scale = weights, scale

    def forward(self, *inputs: Any) -> Tensor:
        """The inputs go to every option alike."""
        weights = [self.scale] * len(self.options) if self.weights is None else self.weights
        total: Any = None
        for option, weight in zip(self.options, weights, strict=True):
            if self.weights is not None and self.scale is not None:
                weight = self.scale * weight
            output = option(*inputs)
            if weight is not None:
                output = weighted(weight, output) if len(self.options) == 1 else weight * output
            if total is None:
                total = output
            elif weight is None or total.dtype != output.dtype:  # what an option gave may be another's input
                total = total + output
            else:  # a sum of products is ours alone, and need not be made anew
                total.add_(output)
        found: Tensor = total
        return found


def weighted(weight: Tensor, output: Tensor) -> Tensor:
    """weight · output. A weight that is exactly one, as straight-through weights are, is only differentiated (on a CPU,
    where it costs nothing to look)."""
    if output.device.type == "cpu" and output.dtype == weight.dtype and float(weight.detach()) == 1.0:
        found: Tensor = _Unit.apply(weight, output)
        return found
    return weight * output


class _Unit(torch.autograd.Function):
    """The output itself; the weight's gradient is the inner product of the output and its gradient."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, output: Tensor) -> Tensor:
        ctx.save_for_backward(weight, output)
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (gradient,) = gradients
        weight, output = ctx.saved_tensors
        to_weight = None
        if ctx.needs_input_grad[0]:
            axes = sorted(range(output.dim()), key=output.stride, reverse=True)  # as it lies in memory
            flat = (tensor.permute(axes).reshape(-1) for tensor in (gradient, output))
            to_weight = torch.dot(*flat).reshape(weight.shape)
        return to_weight, weight * gradient if torch.is_grad_enabled() else gradient
