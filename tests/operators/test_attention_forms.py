"""Grouped keys and values, normalised queries and keys, and a convolution of them: what each computes, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.operators.attention import SelfAttention
from nasformer.operators.operator import reset
from nasformer.operators.projection_taps import ProjectionTaps

DIM, HEADS = 16, 4


def _attention(**more: Any) -> Any:
    attention: nn.Module = SelfAttention(DIM, heads=HEADS, **more)
    reset(attention, torch.Generator().manual_seed(1))
    return attention.double().eval()


def _input(time: int = 7, channels: int = DIM) -> Tensor:
    return torch.randn(2, time, channels, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def _copy(target: Any, source: Any) -> None:
    with torch.no_grad():
        target.copy_(source)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_group_of_heads_shares_a_key_and_a_value(groups: int) -> None:
    grouped, plain = _attention(key_value_heads=groups), _attention()
    shared = grouped.key_value.weight.unflatten(1, (groups, -1))
    repeated = shared.repeat_interleave(HEADS // groups, dim=1).flatten(1, 2)
    _copy(plain.projection.weight, torch.cat([grouped.query.weight[None], repeated]))
    _copy(plain.output.weight, grouped.output.weight)
    x = _input()
    assert torch.allclose(grouped(x), plain(x), rtol=0, atol=1e-12)
    cache: dict[str, Any] = {}
    grouped(x, None, cache)
    assert cache["key"].shape == cache["value"].shape == (2, groups, 7, DIM // HEADS)


def test_the_size_of_queries_and_keys_does_not_matter_where_they_are_normalised() -> None:
    for more in ({}, {"key_value_heads": 2}):
        attention, x = _attention(query_key_norm=True, **more), _input()
        before = attention(x)
        with torch.no_grad():
            for weight in (attention.projection.weight[:2],) if not more else (attention.query.weight,):
                weight.mul_(50)
        assert torch.allclose(attention(x), before, rtol=0, atol=1e-3)
        with torch.no_grad():
            attention.key_norm.weight.mul_(3)
        assert not torch.allclose(attention(x), before, rtol=0, atol=1e-3)


def test_queries_and_keys_have_the_root_mean_square_of_their_gains_in_each_head() -> None:
    attention = _attention(query_key_norm=True)
    _copy(attention.query_norm.weight, torch.arange(1.0, DIM + 1))
    query, key, _ = attention._project(_input(), None, None)
    gains = torch.arange(1.0, DIM + 1, dtype=torch.float64).view(HEADS, 1, -1)
    for normed in (query / gains, key):
        assert torch.allclose(normed.square().mean(-1), torch.ones(()).double(), atol=1e-3)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_taps_are_kept_from_the_present_outwards(kernel: int, causal: bool) -> None:
    taps = ProjectionTaps(2, 1, kernel=kernel, causal=causal).double()
    generator = torch.Generator().manual_seed(3)
    for weight in taps.parameters():
        _copy(weight, torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    x, found = _input(6, 4), taps(_input(6, 4), None, None)
    weights = torch.cat([taps.query, taps.key, taps.value])
    distances = range(kernel) if causal else [(-1) ** s * ((s + 1) // 2) for s in range(kernel)]  # 0, −1, 1, −2, …
    expected = torch.zeros_like(x)
    for number, distance in enumerate(distances):
        back = distance if causal else -distance
        moved = F.pad(x, (0, 0, back, 0))[:, :6] if back >= 0 else F.pad(x, (0, 0, 0, -back))[:, -back:]
        expected += weights[:, number] * moved
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_taps_start_as_primers() -> None:
    taps = ProjectionTaps(4, 2, kernel=3, causal=True)
    reset(taps, torch.Generator())
    for weight in taps.parameters():
        assert torch.allclose(weight, torch.tensor([0.5, 1 / 6, 1 / 6]).expand_as(weight))


def test_a_convolution_of_one_tap_of_one_changes_nothing() -> None:
    for causal in (False, True):
        convolved, plain = _attention(convolution=3, causal=causal), _attention(causal=causal)
        for weight in convolved.taps.parameters():
            _copy(weight, torch.tensor([1.0, 0.0, 0.0]).expand_as(weight))
        assert torch.allclose(convolved(_input()), plain(_input()), rtol=0, atol=1e-12)
