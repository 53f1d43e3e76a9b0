"""Layer and root-mean-square normalisation, and the sub-layer that wraps an operator in residual and norm."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.operators.dropout import add_dropout


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis, statistics over the channels that are there (epsilon 1e-5)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))
        self.bias = nn.Parameter(torch.empty(dim))

    def reset(self, generator: torch.Generator) -> None:
        """Gain 1, bias 0."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(…, dim) → (…, dim)."""
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, 1e-5)


class RMSNorm(nn.Module):
    """x / √(mean x² + 1e-5), times a gain, over the last axis (Zhang & Sennrich, arXiv 1910.07467)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))

    def reset(self, generator: torch.Generator) -> None:
        """Gain 1."""
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(…, dim) → (…, dim)."""
        return F.rms_norm(x, x.shape[-1:], self.weight, 1e-5)


class HeadNorm(nn.Module):
    """Root-mean-square normalisation of each head of queries or keys (Henry et al., arXiv 2010.04245; Dehghani et al.,
    arXiv 2302.05442).

    How ours differs: there is a gain for each channel of the whole width, where they have one in all or one for each
    channel of a head; so a channel keeps its gain whatever the number of heads, and narrower gains are leading slices.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))

    def reset(self, generator: torch.Generator) -> None:
        """Gain 1."""
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, heads, time, channels of a head) → the same."""
        return F.rms_norm(x, x.shape[-1:], eps=1e-5) * self.weight.view(x.shape[1], 1, -1)


NORMS: dict[str, type[LayerNorm] | type[RMSNorm]] = {"layer": LayerNorm, "rms": RMSNorm}
"""Every kind of norm that an architecture can name."""


class Normed(nn.Module):
    """`operator(norm(x))`: an operator that normalises what it reads, without a residual."""

    def __init__(self, operator: nn.Module, dim: int) -> None:
        super().__init__()
        self.norm = LayerNorm(dim)
        self.operator = operator

    def forward(self, x: Tensor, *context: Any) -> Tensor:
        """x (batch, time, dim) and whatever the operator takes besides."""
        found: Tensor = self.operator(self.norm(x), *context)
        return found


class Sublayer(nn.Module):
    """`norm(x + dropout(operator(x)))` (post) or `x + dropout(operator(norm(x)))` (pre); operators.md §0."""

    def __init__(
        self, operator: nn.Module, dim: int, *, norm: Literal["post", "pre"], residual: float, kind: str = "layer"
    ) -> None:
        super().__init__()
        self.operator = operator
        self.norm = NORMS[kind](dim)
        self.style = norm
        self.residual = residual

    def forward(self, x: Tensor, *context: Any) -> Tensor:
        """x (batch, time, dim) and whatever the operator takes besides."""
        if self.style == "pre":
            return add_dropout(x, self.operator(self.norm(x), *context), self.residual, self.training)
        return self.norm(add_dropout(x, self.operator(x, *context), self.residual, self.training))
