"""Options side by side: the weighted sum of what several operators make of the same input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class Mixed(nn.Module):
    """Σ_o weight_o · option_o(x); the weights (options,) are given, not learned here."""

    def __init__(self, options: Sequence[nn.Module], weights: Tensor | None) -> None:
        super().__init__()
        self.options = nn.ModuleList(options)
        self.weights = weights

    def forward(self, *inputs: Any) -> Tensor:
        """The inputs go to every option alike."""
        outputs = [option(*inputs) for option in self.options]
        if self.weights is not None:
            outputs = [weight * output for weight, output in zip(self.weights, outputs, strict=True)]
        return sum(outputs[1:], outputs[0])
