"""Dropout: the rate, the scale, and the random numbers that it takes."""

from __future__ import annotations

import pytest
import torch

from nasformer.operators.dropout import dropout


@pytest.mark.parametrize("probability", [0.1, 0.2, 0.375, 0.5, 0.9])
def test_rate_and_scale(probability: float) -> None:
    torch.manual_seed(1)
    size = 200_003
    found = dropout(torch.ones(size, dtype=torch.float64), probability, training=True)
    rate = round(256 * probability) / 256
    dropped = float((found == 0).double().mean())
    assert abs(rate - probability) <= 1 / 512
    assert abs(dropped - rate) < 5 * (rate * (1 - rate) / size) ** 0.5
    assert torch.allclose(found[found != 0], torch.tensor(1 / (1 - rate), dtype=torch.float64), atol=1e-12)
    assert abs(float(found.mean()) - 1) < 5 * (rate / (1 - rate) / size) ** 0.5


@pytest.mark.parametrize("probability", [0.0, 1e-4, 0.0019])
def test_next_to_nothing_drops_nothing(probability: float) -> None:
    x = torch.randn(1000)
    assert torch.equal(dropout(x, probability, training=True), x)


def test_next_to_everything_keeps_a_little() -> None:
    found = dropout(torch.ones(100_000), 0.9999, training=True)
    assert 0 < float((found != 0).float().mean()) < 0.01


def test_nothing_happens_outside_training() -> None:
    x = torch.randn(3, 5)
    state = torch.get_rng_state()
    assert dropout(x, 0.5, training=False) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_seed_drops_the_same() -> None:
    x = torch.randn(7, 11, 13)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(dropout(x, 0.3, training=True))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_elements_are_dropped_apart() -> None:
    torch.manual_seed(3)
    kept = (dropout(torch.ones(4000, 16), 0.5, training=True) != 0).double()
    correlation = torch.corrcoef(kept.T) - torch.eye(16)
    assert float(correlation.abs().max()) < 0.1


def test_the_gradient_is_the_mask() -> None:
    x = torch.randn(1000, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(4)
    found = dropout(x, 0.25, training=True)
    found.sum().backward()
    assert torch.equal(x.grad * x, found)


def test_the_type_and_the_layout_are_kept() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.ones(4, 6, 8, dtype=dtype).transpose(0, 2)
        found = dropout(x, 0.5, training=True)
        assert found.dtype == dtype
        assert found.shape == x.shape
