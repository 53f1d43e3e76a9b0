"""All forms of a convolution compute the sum that papers/operators.md defines."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nasformer.operators.convolution import Form, convolve, convolve_dynamic, convolve_last, reach
from nasformer.operators.dynamic_convolution import DynamicConvolution, LightConvolution

HEADS, CHANNELS = 2, 6
KERNELS = (1, 3, 7)
LENGTHS = (1, 2, 4, 7, 12)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def definition(u: Tensor, taps: Tensor, causal: bool) -> Tensor:
    """The sum itself: u (batch, time, channels), taps (batch, time, heads, kernel)."""
    _batch, time, channels = u.shape
    heads, kernel = taps.shape[-2:]
    result = torch.zeros_like(u)
    left = kernel - 1 if causal else kernel // 2
    for t in range(time):
        for c in range(channels):
            for j in range(kernel):
                if 0 <= t - left + j < time:
                    result[:, t, c] += taps[:, t, c // (channels // heads), j] * u[:, t - left + j, c]
    return result


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("time", LENGTHS)
def test_all_forms_are_the_definition(time: int, kernel: int, causal: bool) -> None:
    u = _random(2, time, CHANNELS)
    static = _random(HEADS, kernel, seed=1).softmax(-1)
    dynamic = _random(2, time, HEADS, kernel, seed=2).softmax(-1)
    expected = definition(u, static.expand(2, time, HEADS, kernel), causal)
    forms: tuple[Form | None, ...] = ("band", "depthwise", "windows", None)
    for form in forms:
        assert torch.allclose(convolve(u, static, causal=causal, form=form), expected, rtol=0, atol=1e-12)
    expected = definition(u, dynamic, causal)
    for form in ("band", "windows", None):
        assert torch.allclose(convolve_dynamic(u, dynamic, causal=causal, form=form), expected, rtol=0, atol=1e-12)
    if causal:
        history = torch.cat([u.new_zeros(2, kernel - 1, CHANNELS), u], dim=1)
        assert torch.allclose(convolve_last(history, dynamic), expected, rtol=0, atol=1e-12)


def test_gradients_agree_between_forms() -> None:
    for function, forms in ((convolve, ("band", "depthwise", "windows")), (convolve_dynamic, ("band", "windows"))):
        shape = (HEADS, 5) if function is convolve else (2, 4, HEADS, 5)
        gradients = []
        for form in forms:
            u, taps = _random(2, 4, CHANNELS).requires_grad_(), _random(*shape, seed=1).requires_grad_()
            loss = (function(u, taps, causal=True, form=form) * _random(2, 4, CHANNELS, seed=3)).sum()
            gradients.append(torch.autograd.grad(loss, (u, taps)))
        for other in gradients[1:]:
            assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(gradients[0], other, strict=True))


@pytest.mark.parametrize("causal", [False, True])
def test_light_convolution_is_conv1d_with_softmax_rows(causal: bool) -> None:
    operator = LightConvolution(CHANNELS, heads=HEADS, kernel=5, causal=causal).double()
    for number, parameter in enumerate(operator.parameters()):
        parameter.data.copy_(_random(*parameter.shape, seed=number))
    x = _random(2, 8, CHANNELS)
    rows = operator.taps.softmax(-1).repeat_interleave(CHANNELS // HEADS, dim=0).unsqueeze(1)
    left, right = reach(5, causal)
    u = F.pad(operator.input(x).transpose(1, 2), (left, right))
    expected = operator.output(F.conv1d(u, rows, groups=CHANNELS).transpose(1, 2))
    assert torch.allclose(operator(x), expected, atol=1e-12)


def _plain(operator: LightConvolution | DynamicConvolution) -> LightConvolution | DynamicConvolution:
    """Linear layers that do nothing, so that only the convolution is left."""
    for linear in (operator.input.linear, operator.output):
        linear.weight.data.copy_(torch.eye(CHANNELS))
        linear.bias.data.zero_()
    return operator.double()


@pytest.mark.parametrize("family", [LightConvolution, DynamicConvolution])
def test_equal_taps_are_a_moving_average(family: type[LightConvolution] | type[DynamicConvolution]) -> None:
    operator = _plain(family(CHANNELS, heads=HEADS, kernel=3))
    operator.taps.data.zero_()
    x = _random(1, 6, CHANNELS)
    expected = (x[:, :-2] + x[:, 1:-1] + x[:, 2:]) / 3
    assert torch.allclose(operator(x)[:, 1:-1], expected, atol=1e-12)
    assert torch.allclose(operator(x)[:, 0], (x[:, 0] + x[:, 1]) / 3, atol=1e-12)  # not renormalised at the border


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("family", [LightConvolution, DynamicConvolution])
def test_one_tap_is_the_identity(family: type[LightConvolution] | type[DynamicConvolution], causal: bool) -> None:
    operator = _plain(family(CHANNELS, heads=HEADS, kernel=1, causal=causal))
    operator.taps.data.copy_(_random(*operator.taps.shape))
    x = _random(2, 4, CHANNELS)
    assert torch.allclose(operator(x), x, atol=1e-12)


@pytest.mark.parametrize("family", [LightConvolution, DynamicConvolution])
def test_a_shift_of_the_input_shifts_the_output(family: type[LightConvolution] | type[DynamicConvolution]) -> None:
    operator = family(CHANNELS, heads=HEADS, kernel=3).double()
    for number, parameter in enumerate(operator.parameters()):
        parameter.data.copy_(_random(*parameter.shape, seed=number))
    x = _random(1, 12, CHANNELS)
    moved = torch.roll(x, 2, dims=1)
    assert torch.allclose(operator(moved)[:, 4:-2], operator(x)[:, 2:-4], atol=1e-12)


@pytest.mark.parametrize("time", [2, 4, 9])
def test_dynamic_taps_are_a_softmax_over_the_whole_kernel(time: int) -> None:
    operator = _plain(DynamicConvolution(CHANNELS, heads=HEADS, kernel=7, causal=True))
    operator.taps.data.copy_(_random(*operator.taps.shape))
    x = _random(1, time, CHANNELS)
    logits = torch.einsum("btc,hkc->bthk", x, operator.taps)
    expected = definition(x, logits.softmax(-1), causal=True)
    assert torch.allclose(operator(x), expected, atol=1e-12)


def test_heads_own_contiguous_channels() -> None:
    taps = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    u = _random(1, 5, CHANNELS)
    found = convolve(u, taps, causal=False)
    assert torch.allclose(found[..., :3], u[..., :3])
    assert torch.allclose(found[:, 1:, 3:], u[:, :-1, 3:])


def test_light_weight_dropout_falls_on_the_kernel_once_a_batch() -> None:
    operator = _plain(LightConvolution(CHANNELS, heads=HEADS, kernel=3, dropout=0.5)).train()
    operator.taps.data.zero_()
    ones = torch.ones(3, 8, CHANNELS, dtype=torch.float64)
    found = operator(ones)[:, 1:-1]
    assert torch.allclose(found, found[:1, :1].expand_as(found))
