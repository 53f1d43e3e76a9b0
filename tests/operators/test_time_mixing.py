"""The operators of sequence cells compute what they are defined to compute (docs/papers/rome.md §8)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nasformer.operators.attention import SelfAttention
from nasformer.operators.operator import reset
from nasformer.operators.time_mixing import AveragePool, DepthwiseConvolution, Fourier, Noise, Taps

DIM = 4


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _close(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=0, atol=1e-12)


@pytest.mark.parametrize("time", [1, 2, 7])
@pytest.mark.parametrize(("kernel", "causal"), [(3, False), (3, True), (5, True), (5, False)])
def test_average_pool_is_the_mean_of_the_real_positions_in_reach(kernel: int, causal: bool, time: int) -> None:
    x = _random(2, time, DIM)
    padding = torch.zeros(2, time, dtype=torch.bool)
    padding[0, : time // 2] = True
    found = AveragePool(kernel=kernel, causal=causal)(x, padding)
    for row in range(2):
        for t in range(time // 2 if row == 0 else 0, time):
            first, last = (t - kernel + 1, t) if causal else (t - kernel // 2, t + kernel // 2)
            seen = [s for s in range(max(first, 0), min(last, time - 1) + 1) if not padding[row, s]]
            assert _close(found[row, t], x[row, seen].mean(0))


@pytest.mark.parametrize("time", [1, 2, 5, 16])
def test_fourier_is_orthogonal_and_real_less_imaginary_part(time: int) -> None:
    x = _random(2, time, DIM)
    transform = torch.fft.fft(x, dim=1) / math.sqrt(time)
    found = Fourier()(x)
    assert _close(found, transform.real - transform.imag)
    assert _close(Fourier()(found), x)


def test_causal_fourier_is_at_each_position_the_last_row_of_what_it_has_seen() -> None:
    x = _random(2, 9, DIM)
    found = Fourier(causal=True)(x)
    for t in range(9):
        assert _close(found[:, t], Fourier()(x[:, : t + 1])[:, t])
    rows = Fourier(causal=True)(torch.eye(300, dtype=torch.float64).unsqueeze(0))[0]
    assert _close(rows.norm(dim=1), torch.ones(300, dtype=torch.float64))
    assert float((rows.diagonal().abs() * torch.arange(1, 301).sqrt()).min()) > 0.3


def test_fourier_in_half_precision_is_rounded_but_once() -> None:
    rows = torch.eye(300, dtype=torch.float64).unsqueeze(0)
    for causal in (False, True):
        found, exact = Fourier(causal=causal)(rows.bfloat16()).double(), Fourier(causal=causal)(rows)
        assert bool(((found - exact).abs() <= 2**-8 * exact.abs() + 1e-6).all())


def test_fourier_counts_the_real_positions_of_each_row() -> None:
    x, padding = _random(2, 8, DIM), torch.zeros(2, 8, dtype=torch.bool)
    padding[0, :3] = padding[1, 6:] = True
    for causal in (False, True):
        found = Fourier(causal=causal)(x, padding)
        assert _close(found[0, 3:], Fourier(causal=causal)(x[:1, 3:])[0])
        assert _close(found[1, :6], Fourier(causal=causal)(x[1:, :6])[0])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernel", [5, 9])
def test_depthwise_convolution_is_taps_and_a_linear_map(kernel: int, causal: bool) -> None:
    operator = DepthwiseConvolution(DIM, kernel=kernel, causal=causal).double()
    reset(operator, torch.Generator().manual_seed(1))
    x, taps = _random(2, 7, DIM), operator.taps.weight
    sums = torch.zeros_like(x)
    for t in range(7):
        for s in range(kernel):
            source = t - s + (0 if causal else kernel // 2)
            if 0 <= source < 7:
                sums[:, t] += taps[:, s] * x[:, source]
    assert _close(operator(x), F.linear(sums, operator.output.weight, operator.output.bias))
    assert abs(float(taps.detach().var()) * kernel - 1) < 0.5


def test_taps_have_one_form_on_a_cpu_and_another_elsewhere() -> None:
    taps, x = Taps(DIM, 5).double(), _random(2, 7, DIM)
    reset(taps, torch.Generator().manual_seed(1))
    padded = F.pad(x.transpose(1, 2), (4, 0))
    by_hand = F.conv1d(padded, taps.weight.flip(1).unsqueeze(1), groups=DIM).transpose(1, 2)
    assert _close(taps(x), by_hand)
    assert _close(taps.convolved(x), by_hand)


@pytest.mark.parametrize("causal", [False, True])
def test_local_attention_sees_a_window(causal: bool) -> None:
    whole, local = (SelfAttention(DIM, heads=2, causal=causal, window=window).double() for window in (None, 5))
    reset(whole, torch.Generator().manual_seed(1))
    local.load_state_dict(whole.state_dict())
    x = _random(1, 12, DIM)
    for t in (0, 6, 11):
        reach = range(max(0, t - 4), t + 1) if causal else range(max(0, t - 2), min(11, t + 2) + 1)
        near = x[:, list(reach)]
        assert _close(local(x)[:, t], whole(near)[:, t - reach[0]])
    short = x[:, :3]  # nothing lies out of reach
    assert _close(local(short), whole(short))
    with torch.device("meta"):  # the plain steps have the same mask
        assert SelfAttention(DIM, heads=2, causal=causal, window=5)(torch.empty(1, 12, DIM)).shape == x.shape


def test_noise_is_standard_fresh_and_blind_while_training() -> None:
    noise, x = Noise().train(), torch.zeros(20, 50, 40)
    state = torch.get_rng_state()
    first, second = noise(x), noise(x)
    torch.set_rng_state(state)
    assert torch.equal(noise(x + 7), first)
    assert abs(float(first.mean())) < 0.02
    assert abs(float(first.std()) - 1) < 0.02
    assert abs(float((first * second).mean())) < 0.02


def test_noise_of_evaluation_belongs_to_the_position() -> None:
    noise, x = Noise().eval(), _random(2, 9, DIM)
    state = torch.get_rng_state()
    whole = noise(x)
    assert torch.equal(noise(3 * x), whole)
    assert torch.equal(whole[0], whole[1])
    assert whole[0].unique().numel() == 9 * DIM
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[0, :4] = True
    padded = noise(x, padding)
    assert torch.equal(padded[0, 4:], whole[0, :5])
    cache: dict[str, Any] = {}
    steps = [noise(x[:, t : t + 1], padding[:, t : t + 1], cache) for t in range(9)]
    assert torch.equal(torch.cat(steps, dim=1)[~padding], padded[~padding])
    assert torch.equal(torch.get_rng_state(), state)
    table = noise(torch.zeros(1, 500, 40))
    assert abs(float(table.mean())) < 0.03
    assert abs(float(table.std()) - 1) < 0.03
