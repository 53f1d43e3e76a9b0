"""Depthwise convolution of images: values and gradients of first and second order are those of PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from nasformer.operators.depthwise_image import depthwise_image

CASES = [(3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 2, 1), (5, 1, 2), (3, 2, 2), (7, 1, 1)]
SIZES = [(8, 8), (4, 6), (2, 2), (7, 5)]


@pytest.mark.parametrize(("kernel", "dilation", "stride"), CASES)
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients_are_pytorchs(kernel: int, dilation: int, stride: int, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, taps = drawn(3, 4, *size).requires_grad_(), drawn(4, 1, kernel, kernel).requires_grad_()
    ours = depthwise_image(x, taps, stride, dilation)
    theirs = F.conv2d(x, taps, None, stride, dilation * (kernel - 1) // 2, dilation, 4)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    weights, other = drawn(*ours.shape), [drawn(*x.shape), drawn(*taps.shape)]
    found = []
    for y in (ours, theirs):
        first = torch.autograd.grad((y.square() * weights).sum(), (x, taps), create_graph=True)
        second = torch.autograd.grad(sum((g * o).sum() for g, o in zip(first, other, strict=True)), (x, taps))
        found.append((*first, *second))
    for one, another in zip(*found, strict=True):
        assert torch.allclose(one, another, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_single_precision_and_layouts(layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(8, 6, 12, 12, generator=generator).contiguous(memory_format=layout).requires_grad_()
    taps = torch.randn(6, 1, 5, 5, generator=generator).requires_grad_()
    weights = torch.randn(8, 6, 12, 12, generator=generator)
    ours = torch.autograd.grad((depthwise_image(x, taps, 1, 2) * weights).sum(), (x, taps))
    theirs = torch.autograd.grad((F.conv2d(x, taps, None, 1, 4, 2, 6) * weights).sum(), (x, taps))
    for one, another in zip(ours, theirs, strict=True):
        assert torch.allclose(one, another, rtol=1e-4, atol=1e-3)


def test_only_what_is_asked_for_is_differentiated() -> None:
    x, taps = torch.randn(2, 3, 4, 4), torch.randn(3, 1, 5, 5).requires_grad_()
    (to_taps,) = torch.autograd.grad(depthwise_image(x, taps).sum(), taps)
    assert to_taps.shape == taps.shape
    (to_x,) = torch.autograd.grad(depthwise_image(x.requires_grad_(), taps.detach()).sum(), x)
    assert to_x.shape == x.shape
