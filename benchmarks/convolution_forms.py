"""Claim: `static_form` and `dynamic_form` pick a formulation within 10 % of the fastest one.

Forward and backward of light and dynamic convolution in each form, and the bytes that forward keeps, at 2,048 tokens ×
256 channels and 4 heads. One row a size: `ratio` to the reference's time (depthwise or windows), and `bytes` kept in
units of the input. `shift_add` (one multiply-add for each tap) is measured, not adopted; with `--compiled` also under
`torch.compile`, which takes most of a minute.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.figure import Figure, Options, clock_name, in_turn
from nasformer.measures.cost import saved_bytes
from nasformer.operators.convolution import convolve, convolve_dynamic, dynamic_form, reach, static_form

TIMES = (16, 32, 64, 128, 256, 512)
KERNELS = (3, 7, 31)
TOKENS, CHANNELS, HEADS = 2_048, 256, 4
COMPILED = {(32, 7), (32, 31), (512, 7), (512, 31)}


def shift_add(u: Tensor, taps: Tensor) -> Tensor:
    """Centred convolution of u (batch, time, channels); taps (heads, kernel) or (batch, time, heads, kernel)."""
    kernel, heads = taps.shape[-1], taps.shape[-2]
    left, right = reach(kernel, causal=False)
    padded = F.pad(u, (0, 0, left, right)).unflatten(-1, (heads, -1))
    shifted = [padded[:, j : j + u.shape[1]] * taps[..., j].unsqueeze(-1) for j in range(kernel)]
    return sum(shifted[1:], shifted[0]).flatten(2)


def convolution_forms(options: Options) -> Iterator[Figure | str]:
    """The tables, and whether the choice is right."""
    worst = {"static": [], "dynamic": []}  # type: dict[str, list[tuple[float, str]]]
    for time in TIMES:
        for kernel in KERNELS:
            for kind in worst:
                row, excess = _row(kind, time, kernel, options)
                worst[kind].append((excess, f"{row['chosen']} at {time} positions and {kernel} taps"))
                yield json.dumps(row)
    for kind, rows in worst.items():
        excesses = [excess for excess, _ in rows]
        where = ", ".join(f"{place} ({excess:.2f})" for excess, place in rows if excess > 1.1) or "nowhere"
        how = (
            f"time of the form that {kind}_form picks / of the fastest of its forms, forward and backward, worst of "
            f"{len(rows)} sizes (the spread: best and median); over 1.1: {where}; {clock_name()}"
        )
        spread = (min(excesses), float(np.median(excesses)))
        yield Figure(f"convolution_forms_{kind}", max(excesses), 1.1, spread, how)


def _row(kind: str, time: int, kernel: int, options: Options) -> tuple[dict[str, Any], float]:
    batch = TOKENS // time
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(batch, time, CHANNELS, generator=generator, requires_grad=True)
    shape = (HEADS, kernel) if kind == "static" else (batch, time, HEADS, kernel)
    taps = torch.randn(shape, generator=generator).softmax(-1).requires_grad_()
    upstream = torch.randn(u.shape, generator=generator)
    forms = _forms(kind, options.compiled and (time, kernel) in COMPILED)

    def both(form: Callable[[Tensor, Tensor], Tensor]) -> None:
        form(u, taps).backward(upstream)
        u.grad = taps.grad = None

    times = in_turn([lambda f=form: both(f) for form in forms.values()], options.repeats(9))  # type: ignore[misc]
    reference = list(forms).index("depthwise" if kind == "static" else "windows")
    ratios = dict(zip(forms, np.median(times / times[:, [reference]], axis=0).tolist(), strict=True))
    kept = {name: saved_bytes(lambda f=form: f(u, taps)) / u.nbytes for name, form in forms.items()}  # type: ignore[misc]
    chosen = static_form(u, kernel) if kind == "static" else dynamic_form(u, kernel)
    own = {name: ratio for name, ratio in ratios.items() if not name.startswith("shift_add")}
    row = {
        "benchmark": "convolution_forms",
        "convolution": kind,
        "time": time,
        "kernel": kernel,
        "chosen": chosen,
        "ratio": {name: round(ratio, 2) for name, ratio in ratios.items()},
        "bytes": {name: round(size, 1) for name, size in kept.items()},
    }
    return row, own[chosen] / min(own.values())


def _forms(kind: str, compiled: bool) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    convolution: Any = convolve if kind == "static" else convolve_dynamic
    names = ("band", "depthwise", "windows") if kind == "static" else ("band", "windows")
    forms: dict[str, Any] = {
        name: lambda u, taps, form=name: convolution(u, taps, causal=False, form=form) for name in names
    }
    forms["shift_add"] = shift_add
    if compiled:
        forms["shift_add_compiled"] = torch.compile(shift_add, dynamic=False)
    return forms
