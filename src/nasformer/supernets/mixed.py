"""Options side by side: the weighted sum of what several operators make of the same input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
                output = weight * output
            if total is None:
                total = output
            elif weight is None or total.dtype != output.dtype:  # what an option gave may be another's input
                total = total + output
            else:  # a sum of products is ours alone, and need not be made anew
                total.add_(output)
        found: Tensor = total
        return found
