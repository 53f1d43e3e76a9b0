"""LightConv and DynamicConv (Wu et al., arXiv 1901.10430; docs/papers/operators.md §1 and §2).

A linear layer (gated if asked), a convolution whose softmax-normalised taps are shared by the channels of a head, a
linear layer. LightConv's taps are weights; DynamicConv predicts them from each projected position. How ours differ from
the released code: weight dropout falls on the (heads, kernel) taps once per batch for LightConv and on each position's
taps for DynamicConv (our reading 1), padded positions are zeroed after the projection, and the softmax always runs over
all taps, so that decoding step by step agrees with training.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.operators.convolution import convolve, convolve_dynamic, convolve_last
from nasformer.operators.dropout import dropout as drop
from nasformer.operators.operator import Cache, Linear, with_past, xavier, zero_padding


class _Project(nn.Module):
    """dim → dim, or with a gate dim → 2·dim and value · sigmoid(gate)."""

    def __init__(self, dim: int, gated: bool) -> None:
        super().__init__()
        self.linear = Linear(dim, dim, maps=2 if gated else 0)
        self.gated = gated

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.linear(x)) if self.gated else self.linear(x)


class LightConvolution(nn.Module):
    """Lightweight convolution; `dropout` falls on the taps, after the softmax, without renormalising."""

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        kernel: int,
        gated: bool = False,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.input = _Project(dim, gated)
        self.taps = nn.Parameter(torch.empty(heads, kernel))
        self.output = Linear(dim, dim)
        self.kernel, self.causal, self.dropout = kernel, causal, dropout

    def reset(self, generator: torch.Generator) -> None:
        """Taps uniform in ±√(6/(heads + kernel)); the linear layers draw their own."""
        xavier(self.taps, generator)

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """x (batch, time, dim) → (batch, time, dim)."""
        u = zero_padding(self.input(x), padding)
        taps = drop(torch.softmax(self.taps, dim=-1), self.dropout, self.training).to(u.dtype)
        if cache is None:
            return self.output(convolve(u, taps, causal=self.causal))
        expanded = taps.expand(u.shape[0], u.shape[1], *taps.shape)
        return self.output(convolve_last(with_past(u, self.kernel, cache), expanded))


class DynamicConvolution(nn.Module):
    """Dynamic convolution; the taps of a position come from its own projection, by a map without bias."""

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        kernel: int,
        gated: bool = False,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.input = _Project(dim, gated)
        self.taps = nn.Parameter(torch.empty(heads, kernel, dim))
        self.output = Linear(dim, dim)
        self.kernel, self.causal, self.dropout = kernel, causal, dropout

    def reset(self, generator: torch.Generator) -> None:
        """The map to the taps uniform in ±1/√dim, as a plain linear layer starts."""
        bound = 1 / math.sqrt(self.taps.shape[-1])
        with torch.no_grad():
            self.taps.uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """x (batch, time, dim) → (batch, time, dim)."""
        u = zero_padding(self.input(x), padding)
        logits = F.linear(u, self.taps.flatten(0, 1)).unflatten(-1, self.taps.shape[:2])
        taps = drop(torch.softmax(logits, dim=-1), self.dropout, self.training).to(u.dtype)
        if cache is None:
            return self.output(convolve_dynamic(u, taps, causal=self.causal))
        return self.output(convolve_last(with_past(u, self.kernel, cache), taps))
