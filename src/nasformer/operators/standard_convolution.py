"""Standard convolution over time: every output channel reads every input channel (docs/papers/dartsformer.md §2.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.operators.convolution import reach
from nasformer.operators.operator import Cache, with_past, xavier, zero_padding


class StandardConvolution(nn.Module):
    """dim → dim with bias, `kernel` positions wide, centred or causal, without activation (our reading 5).

    Its weight (kernel, out, in) is one linear map per tap.
    """

    def __init__(self, dim: int, *, kernel: int, causal: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kernel, dim, dim))
        self.bias = nn.Parameter(torch.empty(dim))
        self.kernel, self.causal = kernel, causal

    def reset(self, generator: torch.Generator) -> None:
        """Xavier uniform for the sum over taps, zero bias."""
        xavier(self.weight, generator, gain=1 / math.sqrt(self.kernel))
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """x (batch, time, dim) → (batch, time, dim)."""
        x = with_past(zero_padding(x, padding), self.kernel, cache)
        if cache is None:
            x = F.pad(x, (0, 0, *reach(self.kernel, self.causal)))
        return F.conv1d(x.transpose(1, 2), self.weight.permute(1, 2, 0), self.bias).transpose(1, 2)
