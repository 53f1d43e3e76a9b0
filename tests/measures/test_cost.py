"""Costs against numbers counted by hand; no clock is trusted."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nasformer.errors import RequestError
from nasformer.measures import cost
from nasformer.measures.cost import parameters, saved_bytes, time_ratio


def test_shared_weights_count_once() -> None:
    first, second = nn.Linear(4, 8, bias=False), nn.Linear(4, 8)
    assert parameters(nn.Sequential(first, second)) == 32 + 32 + 8
    second.weight = first.weight
    assert parameters(nn.Sequential(first, second)) == 32 + 8


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_saved_bytes_leaves_out_weights_and_counts_each_storage_once(device: str) -> None:
    layer = nn.Linear(4, 8, device=device)
    x = torch.ones(3, 4, device=device, requires_grad=True)
    assert saved_bytes(lambda: layer(x)) == 3 * 4 * 4  # its input; the weight, saved turned, does not count
    assert saved_bytes(lambda: (x * 1.0).exp()) == 3 * 4 * 4  # its output
    assert saved_bytes(lambda: (x.sin(), x.cos(), layer(x), x[1:].sin())) == 3 * 4 * 4  # x, four times
    assert saved_bytes(lambda: x * layer.weight[:3]) == 3 * 4 * 4  # x, not the leading slice of the weight
    gain = nn.Parameter(torch.ones(4, device=device))
    assert saved_bytes(lambda: x * gain) == 3 * 4 * 4  # x, not the weight itself
    assert saved_bytes(lambda: x + 1) == 0


def test_saved_bytes_counts_what_is_alive_at_the_end() -> None:
    x = torch.ones(1000, requires_grad=True)
    assert saved_bytes(lambda: [x.exp() for _ in range(5)]) == 5 * 4000
    assert saved_bytes(lambda: [x.exp() for _ in range(5)].pop()) == 4000


def test_a_saved_graph_still_works_backward() -> None:
    x = torch.ones(3, requires_grad=True)

    def forward_and_back() -> Tensor:
        y = (x.exp() * x).sum()
        y.backward()
        return y

    saved_bytes(forward_and_back)
    assert x.grad is not None
    assert torch.allclose(x.grad, 2 * torch.e * torch.ones(3))


def test_saved_bytes_sees_what_checkpointing_saves() -> None:
    layers = nn.Sequential(*(nn.Sequential(nn.Linear(16, 16), nn.Tanh()) for _ in range(6)))
    x = torch.ones(8, 16, requires_grad=True)

    def thin() -> Tensor:
        y = x
        for layer in layers:
            y = checkpoint(layer, y, use_reentrant=False)
        return y

    assert saved_bytes(lambda: layers(x)) == 7 * 8 * 16 * 4
    assert saved_bytes(thin) == 6 * 8 * 16 * 4


def test_time_ratio_interleaves_and_reports_median_and_quartiles(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = [0.0], ""
    durations = iter([2.0, 1.0, 4.0, 1.0, 6.0, 1.0, 8.0, 1.0, 100.0, 1.0])

    def named(name: str) -> None:
        nonlocal calls
        calls += name
        if len(calls) > 4:  # after two warm-up rounds
            now[0] += next(durations)

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    found = time_ratio(lambda: named("a"), lambda: named("b"), repeats=5, warmup=2)
    assert calls == "ab" * 7
    assert (found.low, found.ratio, found.high) == (4, 6, 8)
    assert (found.first_seconds, found.second_seconds) == (6, 1)
    assert cost.time.perf_counter() == now[0]
    with pytest.raises(RequestError, match="at least one repeat"):
        time_ratio(lambda: None, lambda: None, repeats=0)
