"""Depthwise convolution of images whose backward pass is made of the fast cases of a processor's library.

On a CPU the library differentiates a dilated depthwise convolution many times as slowly as one without. But the
gradient of the input is itself a depthwise convolution, with the taps turned over; that of the taps is one without
dilation on each of the grids of places that the dilation tells apart; and what is dilated as much as it strides reads
one such grid alone (`python -m benchmarks depthwise_gradients`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def depthwise_image(x: Tensor, taps: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """x (batch, channels, height, width) with taps (channels, 1, kernel, kernel), padded so that stride 1 keeps the
    size; can be differentiated any number of times."""
    if stride == dilation > 1:
        return depthwise_image(x[:, :, ::stride, ::stride], taps)
    even = x.shape[-1] % dilation == 0 and x.shape[-2] % dilation == 0
    ours = dilation > 1 and stride == 1 and even
    if ours and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        found: Tensor = _Dilated.apply(x, taps, dilation)
        return found
    return F.conv2d(x, taps, None, stride, dilation * (taps.shape[-1] // 2), dilation, len(taps))


class _Dilated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x, taps)
        ctx.dilation = dilation
        return F.conv2d(x, taps, None, 1, dilation * (taps.shape[-1] // 2), dilation, len(taps))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (gradient,), dilation = gradients, ctx.dilation
        x, taps = ctx.saved_tensors
        to_x = depthwise_image(gradient, taps.flip(2, 3), 1, dilation) if ctx.needs_input_grad[0] else None
        to_taps = None
        if ctx.needs_input_grad[1]:
            to_taps = _taps_gradient(_grids(gradient, dilation), _grids(x, dilation), taps.shape[-1])
        return to_x, to_taps, None


def _taps_gradient(gradient: Tensor, x: Tensor, kernel: int) -> Tensor:
    """The library's gradient of the taps (channels, 1, kernel, kernel) of a convolution without dilation."""
    channels, reach = x.shape[1], kernel // 2
    taps = x.new_empty(channels, 1, kernel, kernel)
    found: Tensor = torch.ops.aten.convolution_backward(
        gradient, x, taps, None, [1, 1], [reach, reach], [1, 1], False, [0, 0], channels, [False, True, False]
    )[1]
    return found


def _grids(x: Tensor, dilation: int) -> Tensor:
    """x (batch, channels, height, width) → each of the dilation² grids of places as images of their own, channels
    last."""
    batch, channels, height, width = x.shape
    rows, columns = height // dilation, width // dilation
    split = x.permute(0, 2, 3, 1).reshape(batch, rows, dilation, columns, dilation, channels)
    return split.permute(2, 4, 0, 1, 3, 5).reshape(dilation**2 * batch, rows, columns, channels).permute(0, 3, 1, 2)
