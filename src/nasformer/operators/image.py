"""The operators of image cells on (batch, channels, height, width) (docs/papers/rome.md §3.1; DARTS' released code).

An operator is an `nn.Module` with `forward(x, drop=0.0) -> x`:

- x is (batch, inputs, height, width), the result (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉) for odd kernels;
  odd sizes are filled with zeros (or, in pools, with nothing) at the right and at the bottom.
- `drop` is the probability of drop-path: that the result is zero for an image; the others are scaled by
  1 / (1 − drop). A skip with stride 1 is never dropped (DARTS' released code).
- With `searching` every batch norm is without gain and bias and uses the statistics of the batch in evaluation too, and
  pools are followed by such a norm; without it, norms are ordinary and pools are bare.
- `reset(generator)` of each layer draws weights uniformly in ±1/√(fan in): what PyTorch's convolutions and linear maps
  start from (Kaiming uniform with a = √5), on which DARTS' code relies. Constructors draw nothing.

Random masks and noise come from PyTorch's generator in use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.errors import RequestError, nearest
from nasformer.operators.depthwise_image import depthwise_image

BLOCK = 16
"""Below so many channels a 1×1 convolution with a stride takes every second pixel itself: oneDNN would write past its
memory below a block of channels (its issue 6035; 8 measured with AVX2, 16 is the largest block). It is faster above."""


def drop_path(x: Tensor, probability: float) -> Tensor:
    """x (batch, channels, height, width) with whole images set to zero with this probability, the others scaled up."""
    if probability <= 0.0:
        return x
    kept = torch.empty(x.shape[0], 1, 1, 1, dtype=x.dtype, device=x.device).bernoulli_(1.0 - probability)
    return x * kept.div_(1.0 - probability)


def side_by_side(images: Sequence[Tensor]) -> Tensor:
    """Several (batch, channels, height, width) with their channels one after another.

    Each gets its gradient as a tensor of its own: on a CPU a batch norm differentiates a slice of a wider gradient six
    times as slowly.
    """
    return torch.cat([_OwnGradient.apply(x) if x.device.type == "cpu" else x for x in images], dim=1)


class _OwnGradient(torch.autograd.Function):
    """The input itself; its gradient is laid out anew."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous(memory_format=torch.channels_last)


def _uniform(parameter: Tensor, fan_in: int, generator: torch.Generator) -> None:
    bound = 1.0 / math.sqrt(fan_in)
    with torch.no_grad():
        parameter.uniform_(-bound, bound, generator=generator)


class Convolution(nn.Module):
    """A convolution without bias whose padding keeps the size at stride 1; depthwise with `groups` = inputs."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.padding = dilation * (kernel // 2)

    def reset(self, generator: torch.Generator) -> None:
        """Uniform in ±1/√(fan in)."""
        _uniform(self.weight, self.weight[0].numel(), generator)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, height, width) → (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉)."""
        if self.groups > 1:
            return depthwise_image(x, self.weight, self.stride, self.dilation)
        if self.stride > 1 and self.weight.shape[-1] == 1 and x.shape[1] < BLOCK:
            return F.conv2d(x[:, :, :: self.stride, :: self.stride], self.weight)
        return F.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation of each channel (epsilon 1e-5; running statistics with momentum 0.1).

    With `searching` it has neither weights nor running statistics and always uses those of the batch.
    """

    def __init__(self, channels: int, *, searching: bool = False) -> None:
        super().__init__(channels, affine=not searching, track_running_stats=not searching)

    def reset(self, generator: torch.Generator) -> None:
        """Gain 1, bias 0, running mean 0 and variance 1."""
        self.reset_parameters()


class Classifier(nn.Module):
    """A linear map from features to classes, weights and bias uniform in ±1/√features."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, features))
        self.bias = nn.Parameter(torch.empty(classes))

    def reset(self, generator: torch.Generator) -> None:
        """Uniform in ±1/√features."""
        for parameter in (self.weight, self.bias):
            _uniform(parameter, self.weight.shape[1], generator)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features) → (batch, classes)."""
        return F.linear(x, self.weight, self.bias)


class Zero(nn.Module):
    """Zeros in the shape of the output."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor, drop: float = 0.0) -> Tensor:
        """(batch, channels, height, width) → zeros."""
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Noise(nn.Module):
    """Fresh N(0, 1) noise in the shape of the output, whatever the input, in evaluation too (RobustDARTS' S4)."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor, drop: float = 0.0) -> Tensor:
        """(batch, channels, height, width) → noise."""
        return drop_path(torch.randn_like(x[:, :, :: self.stride, :: self.stride]), drop)


class Identity(nn.Module):
    """The input itself, never dropped."""

    def forward(self, x: Tensor, drop: float = 0.0) -> Tensor:
        """x → x."""
        return x


class FactorisedReduction(nn.Module):
    """A skip with stride 2: ReLU (unless the input comes from one), two 1×1 convolutions of stride 2, the second one
    pixel further on, batch norm.

    Odd sizes are filled with zeros at the right and at the bottom, as GDAS' released code does (DARTS' fails there).
    """

    def __init__(self, inputs: int, outputs: int, relu: bool = True, *, searching: bool = False) -> None:
        super().__init__()
        self.relu = relu
        self.first = Convolution(inputs, outputs // 2, 1, stride=2)
        self.second = Convolution(inputs, outputs - outputs // 2, 1, stride=2)
        self.norm = BatchNorm(outputs, searching=searching)

    def forward(self, x: Tensor, drop: float = 0.0) -> Tensor:
        """(batch, inputs, height, width) → (batch, outputs, ⌈height / 2⌉, ⌈width / 2⌉)."""
        x = F.relu(x) if self.relu else x
        height, width = x.shape[2:]
        further = F.pad(x, (0, width % 2, 0, height % 2)) if width % 2 or height % 2 else x
        both = torch.cat([self.first(x), self.second(further[:, :, 1:, 1:])], dim=1)
        return drop_path(self.norm(both), drop)


class Pool(nn.Module):
    """The maximum or the mean over a window, what is padded not counted; when searching, then an affine-free norm."""

    def __init__(self, channels: int, kernel: int, stride: int, *, average: bool, searching: bool = False) -> None:
        super().__init__()
        self.kernel, self.stride, self.average = kernel, stride, average
        self.norm = BatchNorm(channels, searching=True) if searching else None

    def forward(self, x: Tensor, drop: float = 0.0) -> Tensor:
        """(batch, channels, height, width) → (batch, channels, ⌈height / stride⌉, ⌈width / stride⌉)."""
        pooled: Tensor = (_AveragePool if self.average else _MaxPool).apply(x, self.kernel, self.stride)
        return drop_path(pooled if self.norm is None else self.norm(pooled), drop)


class _MaxPool(torch.autograd.Function):
    """The maximum over windows of x (batch, channels, height, width).

    PyTorch's keeps the input for its shape and the places of the maxima as int64; this keeps the places in 2 bytes
    (of images above 32,767 pixels in 4), a sixth.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int, stride: int) -> Tensor:
        found, places = F.max_pool2d(x, kernel, stride, kernel // 2, return_indices=True)
        ctx.save_for_backward(places.to(torch.int16 if x[0, 0].numel() < 2**15 else torch.int32))
        ctx.like, ctx.window = _like(x), (kernel, stride)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (places,), (kernel, stride) = ctx.saved_tensors, ctx.window
        sides = [[one, one] for one in (kernel, stride, kernel // 2, 1)]
        x = ctx.like(gradients[0])
        back = torch.ops.aten.max_pool2d_with_indices_backward
        return back(gradients[0], x, *sides, False, places.to(torch.int64)), None, None


class _AveragePool(torch.autograd.Function):
    """The mean over windows of x (batch, channels, height, width), what is padded not counted. PyTorch's keeps the
    input for its shape, this keeps nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int, stride: int) -> Tensor:
        ctx.like, ctx.window = _like(x), (kernel, stride)
        return F.avg_pool2d(x, kernel, stride, kernel // 2, count_include_pad=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        kernel, stride = ctx.window
        sides = [[one, one] for one in (kernel, stride, kernel // 2)]
        x = ctx.like(gradients[0])
        return torch.ops.aten.avg_pool2d_backward(gradients[0], x, *sides, False, False, None), None, None


def _like(x: Tensor) -> Callable[[Tensor], Tensor]:
    """What makes a tensor of this shape and layout, of unknown values, beside another."""
    shape, layout = x.shape, x.stride()
    return lambda beside: beside.new_empty_strided(shape, layout)


class ImageConvolution(nn.Module):
    """ReLU, convolution, batch norm (NAS-Bench-201)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, searching: bool = False) -> None:
        super().__init__()
        self.convolution = Convolution(inputs, outputs, kernel, stride=stride)
        self.norm = BatchNorm(outputs, searching=searching)

    def forward(self, x: Tensor, drop: float = 0.0) -> Tensor:
        """(batch, inputs, height, width) → (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉)."""
        return drop_path(self.norm(self.convolution(F.relu(x))), drop)


class DilatedConvolution(nn.Module):
    """ReLU, depthwise convolution, 1×1 convolution, batch norm; the dilation is 2 unless said otherwise."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, dilation: int = 2, searching: bool = False
    ) -> None:
        super().__init__()
        self.depthwise = Convolution(inputs, inputs, kernel, stride=stride, dilation=dilation, groups=inputs)
        self.pointwise = Convolution(inputs, outputs, 1)
        self.norm = BatchNorm(outputs, searching=searching)

    def forward(self, x: Tensor, drop: float = 0.0) -> Tensor:
        """(batch, inputs, height, width) → (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉)."""
        return drop_path(self.norm(self.pointwise(self.depthwise(F.relu(x)))), drop)


class SeparableConvolution(nn.Module):
    """Twice ReLU, depthwise convolution, 1×1 convolution, batch norm; the stride is the first one's."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, searching: bool = False) -> None:
        super().__init__()
        self.first = DilatedConvolution(inputs, inputs, kernel, stride, dilation=1, searching=searching)
        self.second = DilatedConvolution(inputs, outputs, kernel, dilation=1, searching=searching)

    def forward(self, x: Tensor, drop: float = 0.0) -> Tensor:
        """(batch, inputs, height, width) → (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉)."""
        return drop_path(self.second(self.first(x)), drop)


class Projection(nn.Module):
    """A convolution and its batch norm, and a ReLU where asked for: stems, and skips that change the channels."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        relu: bool = False,
        *,
        groups: int = 1,
        searching: bool = False,
    ) -> None:
        super().__init__()
        self.convolution = Convolution(inputs, outputs, kernel, stride=stride, groups=groups)
        self.norm = BatchNorm(outputs, searching=searching)
        self.relu = relu

    def forward(self, x: Tensor, drop: float = 0.0) -> Tensor:
        """(batch, inputs, height, width) → (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉)."""
        x = self.norm(self.convolution(x))
        return drop_path(F.relu(x) if self.relu else x, drop)


class InvertedResidual(nn.Module):
    """1×1 convolution to `expansion` times the channels, depthwise convolution, 1×1 convolution, each with batch norm,
    ReLU after the first two; the input is added where shapes allow (NAS-Bench-Macro's released code)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, expansion: int, searching: bool = False
    ) -> None:
        super().__init__()
        inner = expansion * inputs
        self.expand = Projection(inputs, inner, relu=True, searching=searching)
        self.depthwise = Projection(inner, inner, kernel, stride, groups=inner, relu=True, searching=searching)
        self.contract = Projection(inner, outputs, searching=searching)
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor, drop: float = 0.0) -> Tensor:
        """(batch, inputs, height, width) → (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉)."""
        result = drop_path(self.contract(self.depthwise(self.expand(x))), drop)
        return x + result if self.residual else result


class ResidualReduction(nn.Module):
    """Half the resolution: two ReLU–3×3 convolution–norm, beside a 2×2 mean and a 1×1 convolution (NAS-Bench-201)."""

    def __init__(self, inputs: int, outputs: int, *, searching: bool = False) -> None:
        super().__init__()
        self.first = ImageConvolution(inputs, outputs, 3, 2, searching=searching)
        self.second = ImageConvolution(outputs, outputs, 3, searching=searching)
        self.shortcut = Convolution(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, height, width) → (batch, outputs, ⌈height / 2⌉, ⌈width / 2⌉)."""
        beside: Tensor = self.shortcut(F.avg_pool2d(x, 2, ceil_mode=True))
        return beside + self.second(self.first(x))


class AuxiliaryHead(nn.Module):
    """DARTS' second classifier: ReLU, mean over 5×5 with stride 3, 1×1 convolution to 128, 2×2 to 768, linear map.

    It takes features of 8×8 to 10×10 pixels, which the mean makes 2×2.
    """

    def __init__(self, inputs: int, classes: int, *, searching: bool = False) -> None:
        super().__init__()
        self.narrow = Projection(inputs, 128, relu=True, searching=searching)
        self.whole = nn.Parameter(torch.empty(768, 128, 2, 2))
        self.norm = BatchNorm(768, searching=searching)
        self.classifier = Classifier(768, classes)

    def reset(self, generator: torch.Generator) -> None:
        """The 2×2 convolution uniform in ±1/√(fan in)."""
        _uniform(self.whole, self.whole[0].numel(), generator)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, height, width) → logits (batch, classes)."""
        x = self.narrow(F.avg_pool2d(F.relu(x), 5, 3))
        logits: Tensor = self.classifier(F.relu(self.norm(F.conv2d(x, self.whole))).flatten(1))
        return logits


def _skip(value: Any, inputs: int, outputs: int, stride: int, searching: bool) -> nn.Module:
    if stride == 1:
        return Identity() if inputs == outputs else Projection(inputs, outputs, searching=searching)
    return FactorisedReduction(inputs, outputs, searching=searching)


def _pool(value: Any, inputs: int, outputs: int, stride: int, searching: bool) -> nn.Module:
    return Pool(inputs, value.kernel, stride, average=value.kind == "average_pool", searching=searching)


def _inverted_residual(value: Any, inputs: int, outputs: int, stride: int, searching: bool) -> nn.Module:
    return InvertedResidual(inputs, outputs, value.kernel, stride, expansion=value.expansion, searching=searching)


def _convolution(operator: Callable[..., nn.Module]) -> Builder:
    return lambda value, inputs, outputs, stride, searching: operator(
        inputs, outputs, value.kernel, stride, searching=searching
    )


Builder = Callable[[Any, int, int, int, bool], nn.Module]
"""(the operator's value, input channels, output channels, stride, searching) → the operator."""
OPERATORS: dict[str, Builder] = {
    "zero": lambda value, inputs, outputs, stride, searching: Zero(stride),
    "skip": _skip,
    "noise": lambda value, inputs, outputs, stride, searching: Noise(stride),
    "max_pool": _pool,
    "average_pool": _pool,
    "image_convolution": _convolution(ImageConvolution),
    "separable_convolution": _convolution(SeparableConvolution),
    "dilated_convolution": _convolution(DilatedConvolution),
    "inverted_residual": _inverted_residual,
}
"""Every operator of an image cell's edge, by the `kind` of its value."""
KEEPS_CHANNELS = ("zero", "noise", "max_pool", "average_pool")
"""The kinds whose output has as many channels as their input."""


def image_operator(value: Any, inputs: int, outputs: int, stride: int = 1, *, searching: bool = False) -> nn.Module:
    """The operator that a value of an architecture names; raises `RequestError` where it cannot be had."""
    if value.kind not in OPERATORS:
        raise RequestError(f"{value.kind} is no operator on images; {nearest(value.kind, OPERATORS)}")
    if inputs != outputs and value.kind in KEEPS_CHANNELS:
        raise RequestError(f"{value.kind} gives as many channels as it gets; expected {outputs}, got {inputs}")
    return OPERATORS[value.kind](value, inputs, outputs, stride, searching)
