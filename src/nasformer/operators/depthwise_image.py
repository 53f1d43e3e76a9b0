"""Depthwise convolution of images whose backward pass is made of the fast cases of a processor's library.

On a CPU the library's gradients of a dilated or of a 5×5 depthwise convolution take many times as long as those of a
3×3 one. But the gradient of the input is itself a depthwise convolution, with the taps turned over; a dilated
convolution is one without dilation on each of the grids that the dilation tells apart; and a 5×5 kernel is four of 3×3
that share a row and a column. What is dilated as much as it strides reads one grid alone, everywhere. Elsewhere (other
strides and kernels, a GPU) the library's own gradients are taken.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def depthwise_image(x: Tensor, taps: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """x (batch, channels, height, width) with taps (channels, 1, kernel, kernel), padded so that stride 1 keeps the
    size; can be differentiated any number of times."""
    if stride == dilation > 1:  # only the places of one grid are read
        return depthwise_image(x[:, :, ::stride, ::stride], taps)
    kernel = taps.shape[-1]
    ours = stride == 1 and (kernel, dilation) in ((3, 2), (5, 1), (5, 2))
    ours = ours and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if ours and x.shape[-1] % dilation == 0 and x.shape[-2] % dilation == 0:
        found: Tensor = _Depthwise.apply(x, taps, dilation)
        return found
    return F.conv2d(x, taps, None, stride, dilation * (kernel - 1) // 2, dilation, len(taps))


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x, taps)
        ctx.dilation = dilation
        return F.conv2d(x, taps, None, 1, dilation * (taps.shape[-1] - 1) // 2, dilation, len(taps))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (gradient,) = gradients
        x, taps = ctx.saved_tensors
        to_x = depthwise_image(gradient, taps.flip(2, 3), 1, ctx.dilation) if ctx.needs_input_grad[0] else None
        to_taps = _taps_gradient(gradient, x, taps.shape[-1], ctx.dilation) if ctx.needs_input_grad[1] else None
        return to_x, to_taps, None


def _taps_gradient(gradient: Tensor, x: Tensor, kernel: int, dilation: int) -> Tensor:
    """Σ over batch and places of gradient · x at each tap's distance, (channels, 1, kernel, kernel)."""
    if dilation > 1:
        gradient, x = _grids(gradient, dilation), _grids(x, dilation)
    if kernel == 3:
        return _three(gradient, x, 1)
    height, width = x.shape[-2:]
    padded = F.pad(x, (2, 2, 2, 2))

    def corner(row: int, column: int) -> Tensor:
        part = padded[:, :, 2 * row : 2 * row + height + 2, 2 * column : 2 * column + width + 2]
        return _three(gradient, part.contiguous(memory_format=torch.channels_last), 0)

    upper = torch.cat([corner(0, 0), corner(0, 1)[..., 1:]], -1)
    lower = torch.cat([corner(1, 0), corner(1, 1)[..., 1:]], -1)
    return torch.cat([upper, lower[..., 1:, :]], -2)


def _three(gradient: Tensor, x: Tensor, padding: int) -> Tensor:
    """The library's gradient of 3×3 taps."""
    channels = x.shape[1]
    taps = x.new_empty(channels, 1, 3, 3)
    found: Tensor = torch.ops.aten.convolution_backward(
        gradient, x, taps, None, [1, 1], [padding, padding], [1, 1], False, [0, 0], channels, [False, True, False]
    )[1]
    return found


def _grids(x: Tensor, dilation: int) -> Tensor:
    """x (batch, channels, height, width) → each of the dilation² grids of places as images of their own, channels
    last."""
    batch, channels, height, width = x.shape
    rows, columns = height // dilation, width // dilation
    split = x.permute(0, 2, 3, 1).reshape(batch, rows, dilation, columns, dilation, channels)
    return split.permute(2, 4, 0, 1, 3, 5).reshape(dilation**2 * batch, rows, columns, channels).permute(0, 3, 1, 2)
