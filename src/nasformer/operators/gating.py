"""Gated linear unit as a layer of its own: value · sigmoid(gate), no convolution (docs/papers/operators.md §7)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.operators.operator import Cache, Linear


class GatedLinear(nn.Module):
    """Two maps dim → dim, one through a sigmoid, multiplied (docs/papers/dartsformer.md, our reading 7)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = Linear(dim, dim, maps=2)

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """x (batch, time, dim) → (batch, time, dim); padding and cache are not needed."""
        return F.glu(self.linear(x))
