"""The two operators without weights: nothing at all, and the input as it is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasformer.operators.operator import Cache


class Zero(nn.Module):
    """Zeros in the shape of the input, of which they do not depend."""

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """x (batch, time, dim) → zeros (batch, time, dim)."""
        return torch.zeros_like(x)


class Identity(nn.Module):
    """The input itself."""

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """x (batch, time, dim) → x."""
        return x
