"""Claim: gradients of depthwise convolutions of images that are made of the library's fast cases take at most 0.8 of
the library's own time, where we take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.figure import Figure, Options, clock_name, figure, in_turn
from nasformer.operators.depthwise_image import depthwise_image

CASES = ((3, 2, 1), (5, 2, 1), (3, 2, 2), (5, 2, 2))
"""Kernel, dilation, stride."""
SHAPES = ((32, 16, 32, 32), (32, 32, 16, 16), (32, 64, 8, 8))
"""(batch, channels, height, width) of the three resolutions of a search of S0."""


def depthwise_gradients(options: Options) -> Iterator[Figure]:
    """Forward and backward, both gradients, channels last; one figure a case, over the three resolutions."""
    repeats = options.repeats(10)
    for kernel, dilation, stride in CASES:
        ratios = []
        for shape in SHAPES:
            ours, theirs = _passes(shape, kernel, dilation, stride)
            times = in_turn([ours, theirs], repeats)
            ratios.extend(times[:, 0] / times[:, 1])
        how = (
            f"forward and backward of a {kernel}×{kernel} depthwise convolution, dilation {dilation}, stride {stride}, "
            f"ours / PyTorch's; {clock_name()}; {repeats} pairs in turn at each of {len(SHAPES)} shapes, channels last"
        )
        yield figure(f"depthwise_gradients_{kernel}_{dilation}_{stride}", ratios, 0.8, how)


def _passes(
    shape: tuple[int, int, int, int], kernel: int, dilation: int, stride: int
) -> tuple[Callable[[], None], Callable[[], None]]:
    generator = torch.Generator().manual_seed(1)
    channels = shape[1]
    x = torch.randn(shape, generator=generator).contiguous(memory_format=torch.channels_last).requires_grad_()
    taps = torch.randn(channels, 1, kernel, kernel, generator=generator).requires_grad_()
    padding = dilation * (kernel - 1) // 2

    def passing(convolve: Callable[[], Tensor]) -> Callable[[], None]:
        gradient = torch.ones_like(convolve())

        def both() -> None:
            torch.autograd.grad(convolve(), (x, taps), gradient)

        return both

    return passing(lambda: depthwise_image(x, taps, stride, dilation)), passing(
        lambda: F.conv2d(x, taps, None, stride, padding, dilation, channels)
    )
