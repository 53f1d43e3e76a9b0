"""The operators of image cells: shapes, the released code's layers to the digit, noise, norms, drop-path."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from nasformer.errors import RequestError
from nasformer.measures.cost import saved_bytes
from nasformer.operators.image import (
    KEEPS_CHANNELS,
    AuxiliaryHead,
    BatchNorm,
    Classifier,
    FactorisedReduction,
    Identity,
    Noise,
    Pool,
    Projection,
    ResidualReduction,
    drop_path,
    image_operator,
)
from nasformer.operators.image import (
    SeparableConvolution as SeparableLayer,
)
from nasformer.operators.operator import reset
from nasformer.spaces.cell import (
    AveragePool,
    DilatedConvolution,
    Fourier,
    ImageConvolution,
    InvertedResidual,
    MaxPool,
    SeparableConvolution,
    Skip,
)
from nasformer.spaces.cell import Noise as NoiseValue
from nasformer.spaces.transformer import Zero
from nasformer.training.randomness import seeded

VALUES: list[Any] = [
    Zero(),
    Skip(),
    NoiseValue(),
    MaxPool(),
    AveragePool(),
    AveragePool(kernel=5),
    ImageConvolution(kernel=1),
    ImageConvolution(kernel=3),
    SeparableConvolution(kernel=3),
    SeparableConvolution(kernel=5),
    DilatedConvolution(kernel=3),
    DilatedConvolution(kernel=5),
    InvertedResidual(kernel=3, expansion=3),
    InvertedResidual(kernel=5, expansion=6),
]
LABELS = [value.label for value in VALUES]


def images(*shape: int, seed: int = 0) -> Tensor:
    """Random images in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(module: nn.Module, seed: int = 1) -> Any:
    """The module with its weights drawn, in float64."""
    reset(module, torch.Generator().manual_seed(seed))
    return module.double()


@pytest.mark.slow
@pytest.mark.parametrize("searching", [False, True], ids=["plain", "searching"])
@pytest.mark.parametrize("value", VALUES, ids=LABELS)
def test_shapes_and_costs(value: Any, searching: bool) -> None:
    for inputs, outputs, stride in ((8, 8, 1), (8, 8, 2), (4, 8, 2), (4, 8, 1)):
        if inputs != outputs and value.kind in KEEPS_CHANNELS:
            with pytest.raises(RequestError, match="as many channels"):
                image_operator(value, inputs, outputs, stride, searching=searching)
            continue
        with torch.device("meta"):
            outline = image_operator(value, inputs, outputs, stride, searching=searching)
        for size in (8, 7, 1):
            with FlopCounterMode(display=False) as counter:
                result = outline(torch.empty(3, inputs, size, size + 1, device="meta"))
            assert result.shape == (3, outputs, -(-size // stride), -(-(size + 1) // stride))
            assert (counter.get_total_flops() > 0) == any(True for _ in outline.parameters())
        norms = [part for part in outline.modules() if isinstance(part, BatchNorm)]
        assert bool(norms) != (isinstance(outline, Identity) or value.kind in ("zero", "noise") or (
            value.kind in ("max_pool", "average_pool") and not searching))  # fmt: skip
        assert all((norm.weight is None and norm.running_mean is None) == searching for norm in norms)
        assert not searching or not list(outline.buffers())


def depthwise(channels: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    """ReLU, depthwise, pointwise and norm, as the released code has them."""
    padding = dilation * (kernel - 1) // 2
    first = nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
    return [nn.ReLU(), first, nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)]


def reference(value: Any, c: int, stride: int) -> nn.Module:
    """The layers of DARTS', NAS-Bench-201's and NAS-Bench-Macro's released code, from PyTorch's own."""
    k = getattr(value, "kernel", 0)
    if value.kind == "separable_convolution":
        return nn.Sequential(*depthwise(c, k, stride), *depthwise(c, k, 1))
    if value.kind == "dilated_convolution":
        return nn.Sequential(*depthwise(c, k, stride, dilation=2))
    if value.kind == "image_convolution":
        return nn.Sequential(nn.ReLU(), nn.Conv2d(c, c, k, stride, k // 2, bias=False), nn.BatchNorm2d(c))
    if value.kind == "max_pool":
        return nn.MaxPool2d(3, stride, 1)
    if value.kind == "average_pool":
        return nn.AvgPool2d(k, stride, k // 2, count_include_pad=False)
    inner = c * value.expansion
    between = [nn.BatchNorm2d(inner), nn.ReLU()]
    middle = nn.Conv2d(inner, inner, k, stride, k // 2, groups=inner, bias=False)
    return nn.Sequential(nn.Conv2d(c, inner, 1, bias=False), *between, middle, nn.BatchNorm2d(inner), nn.ReLU(),
                         nn.Conv2d(inner, c, 1, bias=False), nn.BatchNorm2d(c))  # fmt: skip


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("value", VALUES[3:], ids=LABELS[3:])
def test_layers_are_those_of_the_released_code(value: Any, stride: int) -> None:
    ours, theirs = drawn(image_operator(value, 6, 6, stride)), reference(value, 6, stride).double()
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert mine.shape == other.shape
            other.copy_(mine.add_(0.1 * images(*mine.shape)))
    x = images(4, 6, 9, 8)
    for training in (True, False):
        expected = theirs.train(training)(x)
        if value.kind == "inverted_residual" and stride == 1:
            expected = expected + x
        assert torch.allclose(ours.train(training)(x), expected, rtol=0, atol=1e-12)


def test_a_factorised_reduction_reads_even_and_odd_pixels() -> None:
    operator = drawn(FactorisedReduction(2, 5))
    assert [part.weight.shape[0] for part in (operator.first, operator.second)] == [2, 3]
    x = images(2, 2, 6, 6)
    expected = torch.cat(
        [F.conv2d(F.relu(x)[:, :, start::2, start::2], layer.weight)
         for start, layer in enumerate((operator.first, operator.second))],
        dim=1,
    )  # fmt: skip
    norm = F.batch_norm(expected, None, None, training=True)
    assert torch.allclose(operator(x), norm, rtol=0, atol=1e-12)
    operator = drawn(FactorisedReduction(2, 4, searching=True))
    odd = operator(x[:, :, :5, :5])
    assert torch.equal(odd, operator(F.pad(x[:, :, :5, :5], (0, 1, 0, 1))))


def test_a_residual_reduction_is_that_of_nasbench201() -> None:
    block = drawn(ResidualReduction(3, 6, searching=True))

    def branch(layer: Any, y: Tensor, stride: int) -> Tensor:
        return F.batch_norm(F.conv2d(F.relu(y), layer.convolution.weight, None, stride, 1), None, None, training=True)

    x = images(2, 3, 8, 8)
    expected = branch(block.second, branch(block.first, x, 2), 1) + F.conv2d(F.avg_pool2d(x, 2), block.shortcut.weight)
    assert torch.allclose(block(x), expected, rtol=0, atol=1e-12)
    assert block(x[:, :, :7, :5]).shape == (2, 6, 4, 3)


def test_pools_of_a_supernet_are_normalised() -> None:
    x = images(8, 3, 6, 6)
    for value in (MaxPool(), AveragePool()):
        pooled = image_operator(value, 3, 3)(x)
        expected = F.batch_norm(pooled, None, None, training=True)
        assert torch.equal(image_operator(value, 3, 3, searching=True).eval()(x), expected)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [7, 8])
def test_pools_are_those_of_pytorch_and_keep_little(average: bool, stride: int, size: int) -> None:
    def plain(x: Tensor) -> Tensor:
        if average:
            return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
        return F.max_pool2d(x, 3, stride, 1)

    pool = Pool(4, 3, stride, average=average)
    generator = torch.Generator().manual_seed(1)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(3, 4, size, size, generator=generator, dtype=torch.float64).to(memory_format=layout)
        x.requires_grad_()
        ours, theirs = pool(x), plain(x)
        gradient = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
        first, second = (torch.autograd.grad(found, x, gradient)[0] for found in (ours, theirs))
        assert torch.equal(ours, theirs)
        assert torch.equal(first, second)
        assert first.stride() == second.stride()
        assert torch.autograd.gradgradcheck(pool, x[:1, :2].detach().requires_grad_())
    kept, before = (saved_bytes(lambda made=made: made(x.detach().requires_grad_())) for made in (pool, plain))
    assert kept == (0 if average else 2 * ours.numel())
    assert before >= 8 * x.numel()


def test_a_searching_norm_always_uses_the_batch() -> None:
    plain, searching = BatchNorm(3), BatchNorm(3, searching=True).double()
    drawn(plain)
    x = 5 + images(16, 3, 4, 4)
    assert torch.equal(searching.train()(x), searching.eval()(x))
    assert abs(float(searching(x).mean())) < 1e-12
    assert float(plain.eval()(x).detach().mean()) > 4
    plain.train()(x)
    assert torch.allclose(plain.running_mean, 0.1 * x.mean((0, 2, 3)))
    plain.reset(torch.Generator())
    assert float(plain.running_mean.abs().sum()) == 0.0


def test_noise_is_fresh_follows_the_seed_and_ignores_its_input() -> None:
    noise, x = Noise(stride=2), images(16, 8, 16, 16).requires_grad_()
    with seeded(3, "step"):
        first, second = noise(x), noise(x)
    with seeded(3, "step"):
        again = noise(torch.zeros_like(x))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not first.requires_grad
    assert abs(float(first.mean())) < 0.05
    assert abs(float(first.std()) - 1) < 0.05
    assert float(image_operator(Zero(), 8, 8, 2)(x).abs().sum()) == 0.0


def test_drop_path_takes_whole_images_and_keeps_the_mean() -> None:
    x = torch.ones(4000, 2, 2, 2)
    with seeded(1):
        dropped = drop_path(x, 0.25)
    assert set(dropped.flatten(1).std(1).tolist()) == {0.0}
    assert torch.equal(dropped.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert abs(float(dropped.mean()) - 1) < 0.05
    assert drop_path(x, 0.0) is x


@pytest.mark.parametrize("value", VALUES, ids=LABELS)
def test_every_operator_but_the_skip_is_dropped(value: Any) -> None:
    operator, x = drawn(image_operator(value, 4, 4)), images(64, 4, 5, 5)
    residual = x if value.kind == "inverted_residual" else torch.zeros_like(x)
    with seeded(1):
        result = operator(x, 0.5) - residual
    gone = int((result.flatten(1).abs().sum(1) == 0).sum())
    expected = {"skip": 0, "zero": 64}.get(value.kind)
    assert gone == expected if expected is not None else 16 < gone < 48
    if value.kind == "skip":
        assert operator(x, 0.5) is x
        with seeded(1):
            assert 16 < int((drawn(image_operator(value, 4, 4, 2))(x, 0.5).flatten(1).abs().sum(1) == 0).sum()) < 48


def test_weights_are_drawn_as_pytorch_draws_them() -> None:
    state = torch.get_rng_state()
    head = drawn(AuxiliaryHead(16, 10)).requires_grad_(False)
    for parameter, fan_in in (
        (head.narrow.convolution.weight, 16),
        (head.whole, 512),
        (head.classifier.weight, 768),
        (drawn(Classifier(4, 5000)).bias.detach(), 4),
        (drawn(SeparableLayer(900, 900, 5)).first.depthwise.weight.detach(), 25),
    ):
        assert 0.98 * fan_in**-0.5 < float(parameter.abs().max()) <= fan_in**-0.5
        assert abs(float(parameter.var()) * 3 * fan_in - 1) < 0.1
    assert torch.equal(torch.get_rng_state(), state)
    one, other = (drawn(Projection(3, 8, 3), seed).convolution.weight for seed in (1, 2))
    assert torch.equal(one, drawn(Projection(3, 8, 3), 1).convolution.weight)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("value", VALUES, ids=LABELS)
@pytest.mark.parametrize("stride", [1, 2])
def test_channels_last_stays_and_changes_nothing(value: Any, stride: int) -> None:
    operator, x = drawn(image_operator(value, 4, 4, stride)), images(3, 4, 8, 8)
    with seeded(1):
        plain = operator(x)
    with seeded(1):
        last = operator(x.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert value.kind == "noise" or torch.allclose(last, plain, rtol=0, atol=1e-12)


class _Strides(TorchDispatchMode):
    """Remembers the kernels and strides of all convolutions, backward ones too."""

    def __init__(self) -> None:
        super().__init__()
        self.met: set[tuple[int, int]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        place = {torch.ops.aten.convolution.default: 1, torch.ops.aten.convolution_backward.default: 2}.get(func)
        if place is not None:
            self.met.add((args[place].shape[-1], args[place + 2][0]))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("channels", "strides"), [(4, {(1, 1), (3, 2)}), (16, {(1, 2), (3, 2)})])
def test_no_convolution_of_one_tap_and_few_channels_has_a_stride(channels: int, strides: set[tuple[int, int]]) -> None:
    with _Strides() as found:
        for layer in (FactorisedReduction(channels, 4), Projection(channels, 2, 1, 2), Projection(channels, 4, 3, 2)):
            drawn(layer)(images(2, channels, 8, 8).contiguous(memory_format=torch.channels_last)).sum().backward()
    assert found.met == strides


def test_other_operators_are_told_apart() -> None:
    with pytest.raises(RequestError, match="fourier is no operator on images"):
        image_operator(Fourier(), 4, 4)
