"""Convolutions over time whose taps are shared by the channels of a head, in the forms that machines run fastest.

All forms compute the same sum (docs/papers/operators.md §1)

    v_t[c] = Σ_j taps[head of c, j] · u_{t − P + j}[c],   zeros outside the sequence,

with P = kernel // 2 (centred, odd kernels) or kernel − 1 (causal). Which form runs is chosen by measurement
(`benchmarks/convolution_forms.py`): a banded matrix for sentences, depthwise convolution or windows for long sequences,
and windows on the meta device, where the operations counted are those that the definition needs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Form = Literal["band", "depthwise", "windows"]


def reach(kernel: int, causal: bool) -> tuple[int, int]:
    """How many positions to the left and to the right of its own a convolution reads."""
    return (kernel - 1, 0) if causal else (kernel // 2, kernel // 2)


def static_form(x: Tensor, kernel: int) -> Form:
    """The fastest form of a convolution with the same taps everywhere, for u (batch, time, channels)."""
    # The band's time grows with the length, the others' with the taps (benchmarks/convolution_forms.py).
    if x.device.type == "cpu" and x.shape[1] <= 128 + 12 * kernel:
        return "band"
    return "depthwise"


def dynamic_form(x: Tensor, kernel: int) -> Form:
    """The fastest form of a convolution with taps of each position, for u (batch, time, channels)."""
    if x.device.type != "meta" and x.shape[1] <= 256 + 16 * kernel:  # benchmarks/convolution_forms.py
        return "band"
    return "windows"


def convolve(u: Tensor, taps: Tensor, *, causal: bool, form: Form | None = None) -> Tensor:
    """u (batch, time, channels) with the same taps (heads, kernel) at every position → (batch, time, channels)."""
    heads, kernel = taps.shape
    form = form or static_form(u, kernel)
    left, right = reach(kernel, causal)
    if form == "depthwise":
        weight = taps.repeat_interleave(u.shape[-1] // heads, dim=0).unsqueeze(1)
        return F.conv1d(F.pad(u.transpose(1, 2), (left, right)), weight, groups=u.shape[-1]).transpose(1, 2)
    if form == "windows":
        return _over_windows(u, taps.expand(u.shape[0], u.shape[1], heads, kernel), left, right)
    time = u.shape[1]
    diagonals = F.pad(taps, (time - 1 - left, time - 1 - right))  # (heads, 2·time − 1); negative padding cuts
    band = diagonals.unfold(-1, time, 1).flip(1)  # (heads, target, source)
    by_head = u.unflatten(-1, (heads, -1)).permute(2, 1, 0, 3)  # (heads, source, batch, channels of a head)
    return torch.bmm(band, by_head.flatten(2)).view(by_head.shape).permute(2, 1, 0, 3).flatten(2)


def convolve_dynamic(u: Tensor, taps: Tensor, *, causal: bool, form: Form | None = None) -> Tensor:
    """u (batch, time, channels) with taps (batch, time, heads, kernel) of each position → (batch, time, channels)."""
    form = form or dynamic_form(u, taps.shape[-1])
    left, right = reach(taps.shape[-1], causal)
    if form == "windows":
        return _over_windows(u, taps, left, right)
    batch, time, heads, kernel = taps.shape
    # Skew: give each row one column more than the result has, and every following row starts one further to the right.
    skewed = F.pad(taps.transpose(1, 2), (0, time)).flatten(2)[..., : time * (time + kernel - 1)]
    band = skewed.view(batch, heads, time, time + kernel - 1)[..., left : left + time]
    by_head = u.unflatten(-1, (heads, -1)).transpose(1, 2)  # (batch, heads, source, channels of a head)
    return (band @ by_head).transpose(1, 2).flatten(2)


def convolve_last(history: Tensor, taps: Tensor) -> Tensor:
    """The causal convolution at the last positions only.

    history is (batch, kernel − 1 + new, channels), taps are (batch, new, heads, kernel) → (batch, new, channels).
    """
    return _sum_windows(history.unfold(1, taps.shape[-1], 1), taps)


def _over_windows(u: Tensor, taps: Tensor, left: int, right: int) -> Tensor:
    return _sum_windows(F.pad(u, (0, 0, left, right)).unfold(1, taps.shape[-1], 1), taps)


def _sum_windows(windows: Tensor, taps: Tensor) -> Tensor:
    """windows (batch, time, channels, kernel) · taps (batch, time, heads, kernel) → (batch, time, channels)."""
    by_head = windows.unflatten(2, (taps.shape[2], -1))
    return (by_head @ taps.unsqueeze(-1)).squeeze(-1).flatten(2)
