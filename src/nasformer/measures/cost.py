"""What a network costs: parameters, memory kept for the backward pass, and time as a ratio."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasformer.errors import RequestError


@dataclass(frozen=True)
class TimeRatio:
    """How many times the second's time the first takes: median and quartiles of the paired ratios; median seconds."""

    ratio: float
    low: float
    high: float
    first_seconds: float
    second_seconds: float


def parameters(module: nn.Module) -> int:
    """The number of weights, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


class _Kept:
    """One saved tensor; it lives as long as the graph that saved it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()  # without its history, which would be a cycle


def saved_bytes(function: Callable[[], Any]) -> int:
    """Bytes that a forward pass keeps for its backward pass, each storage once and whole, parameters left out.

    The function does the forward pass only and returns what the backward pass would start from (the loss): what is
    not reachable from there is not kept. What a custom autograd function keeps without `save_for_backward` is not
    seen. Works on the meta device too.
    """
    kept: weakref.WeakSet[_Kept] = weakref.WeakSet()
    weights: set[int] = set()

    def pack(tensor: Tensor) -> _Kept:
        if isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter):
            weights.add(tensor.untyped_storage()._cdata)
        part = _Kept(tensor)
        kept.add(part)
        return part

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda part: part.tensor):
        result = function()
    storages = [part.tensor.untyped_storage() for part in kept]
    total = sum({storage._cdata: storage.nbytes() for storage in storages if storage._cdata not in weights}.values())
    del result  # until here, so that the graph and all it keeps were alive
    return total


def time_ratio(first: Callable[[], Any], second: Callable[[], Any], *, repeats: int = 20, warmup: int = 3) -> TimeRatio:
    """Times two callables in turn (A B A B …), since a shared machine's speed drifts: trust the ratio, not the seconds.

    Waits for the GPU where one is in use. Raises `RequestError` for fewer than one repeat.
    """
    if repeats < 1 or warmup < 0:
        raise RequestError(f"expected at least one repeat and no negative warmup, got {repeats} and {warmup}")
    for _ in range(warmup):
        _seconds(first)
        _seconds(second)
    pairs = np.array([(_seconds(first), _seconds(second)) for _ in range(repeats)])
    low, middle, high = np.quantile(pairs[:, 0] / pairs[:, 1], [0.25, 0.5, 0.75])
    seconds = np.median(pairs, axis=0)
    return TimeRatio(float(middle), float(low), float(high), float(seconds[0]), float(seconds[1]))


def _seconds(function: Callable[[], Any]) -> float:
    _wait()
    start = time.perf_counter()
    function()
    _wait()
    return max(time.perf_counter() - start, 1e-9)


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
