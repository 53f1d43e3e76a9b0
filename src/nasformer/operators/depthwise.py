"""Causal depthwise convolution over time with a few taps (docs/papers/operators.md §9)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def depthwise(x: Tensor, taps: Tensor) -> Tensor:
    """y_t[c] = Σ_s taps[c, s] · x_{t − s}[c], zeros before the start; one pass over x for each tap.

    x is (…, time, channels), taps are (…, channels, kernel), where leading axes broadcast against those of x but for
    the first, the batch.
    """
    result: Tensor = _Depthwise.apply(x, taps)
    return result


def as_convolution(x: Tensor, taps: Tensor) -> Tensor:
    """The same sum as one convolution, for x (batch, time, channels) and taps (channels, kernel)."""
    padded = F.pad(x.transpose(1, 2), (taps.shape[1] - 1, 0))
    return F.conv1d(padded, taps.flip(1).unsqueeze(1), groups=x.shape[-1]).transpose(1, 2)


def filtered(x: Tensor, taps: Tensor) -> Tensor:
    """The same sum in its fastest form, for x (batch, time, channels) and taps (channels, kernel)."""
    # Twice as fast as a convolution on a CPU; elsewhere, and to be counted, the convolution.
    return depthwise(x, taps) if x.device.type == "cpu" else as_convolution(x, taps)


def _rows(taps: Tensor) -> Tensor:
    """(kernel, …, 1, channels), against (…, time, channels)."""
    return taps.movedim(-1, 0).contiguous().unsqueeze(-2)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor) -> Tensor:
        rows = _rows(taps)
        ctx.save_for_backward(x, taps, rows)
        y = x * rows[0]
        for s in range(1, min(len(rows), x.shape[-2])):
            y[..., s:, :].addcmul_(x[..., :-s, :], rows[s])
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (g,) = gradients
        x, taps, rows = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again, in the taps too
            rows = _rows(taps)
        to_x = g * rows[0]
        to_rows = torch.zeros_like(rows)
        to_rows[0] = (g * x).sum_to_size(rows.shape[1:])
        for s in range(1, min(len(rows), x.shape[-2])):
            later, earlier = g[..., s:, :], x[..., :-s, :]
            to_x[..., :-s, :].addcmul_(later, rows[s])
            to_rows[s] = (later * earlier).sum_to_size(rows.shape[1:])
        return to_x.sum_to_size(x.shape), to_rows.squeeze(-2).movedim(0, -1)
