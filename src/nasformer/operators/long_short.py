"""LSRA, long–short range attention (Wu et al., Lite Transformer, arXiv 2004.11886; docs/papers/operators.md §3).

The first half of the channels attends, the second half convolves; the halves are concatenated and the feed-forward
layer mixes them. How ours differs from the released code: padded positions are zeroed after the branch's first linear
layer, not before, so that no bias leaks from padding.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from nasformer.operators.attention import SelfAttention
from nasformer.operators.dynamic_convolution import DynamicConvolution, LightConvolution
from nasformer.operators.operator import Cache


class LongShort(nn.Module):
    """Attention on the first half of the channels beside a light or dynamic convolution on the second half."""

    def __init__(
        self,
        dim: int,
        *,
        filter: Literal["light", "dynamic"],
        heads: int,
        kernel: int,
        gated: bool = False,
        causal: bool = False,
        dropout: float = 0.0,
        weight_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        convolution = LightConvolution if filter == "light" else DynamicConvolution
        self.attention = SelfAttention(dim // 2, heads=heads, causal=causal, dropout=dropout)
        self.convolution = convolution(
            dim // 2, heads=heads, kernel=kernel, gated=gated, causal=causal, dropout=weight_dropout
        )

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """x (batch, time, dim) → (batch, time, dim)."""
        long, short = x.chunk(2, dim=-1)
        caches = (None, None) if cache is None else [cache.setdefault(name, {}) for name in ("long", "short")]
        parts = [self.attention(long, padding, caches[0]), self.convolution(short, padding, caches[1])]
        return torch.cat(parts, dim=-1)
