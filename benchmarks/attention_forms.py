"""Claim: on a CPU three plain steps are no slower than `scaled_dot_product_attention` at the lengths of sentences."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.figure import Figure, Options, clock_name, figure, in_turn
from nasformer.operators.attention import attend

TIMES = (16, 32, 64, 128, 256, 512)
TOKENS, CHANNELS, HEADS = 2_048, 256, 4


def attention_forms(options: Options) -> Iterator[Figure]:
    """Forward and backward at each length, without a mask and with a causal and padding mask."""
    for time in TIMES:
        batch, width = TOKENS // time, CHANNELS // HEADS
        generator = torch.Generator().manual_seed(1)
        projected = torch.randn(3, batch, time, CHANNELS, generator=generator, requires_grad=True)
        upstream = torch.randn(batch, time, CHANNELS, generator=generator)
        padding = torch.zeros(batch, time, dtype=torch.bool)
        padding[::2, -max(1, time // 20) :] = True
        future = torch.ones(time, time, dtype=torch.bool).triu(1)

        def ours(masked: bool, x: Tensor = projected, up: Tensor = upstream, hidden: Tensor = padding) -> None:
            query, key, value = x.unflatten(-1, (HEADS, -1)).transpose(2, 3).unbind(0)
            attend(query, key, value, hidden if masked else None, causal=masked).transpose(1, 2).flatten(2).backward(up)
            x.grad = None

        def fused(masked: bool, x: Tensor = projected, up: Tensor = upstream, hidden: Tensor = padding) -> None:
            query, key, value = x.unflatten(-1, (HEADS, -1)).transpose(2, 3).unbind(0)
            seen = ~(future | hidden[:, None, None, :]) if masked else None  # noqa: B023
            found = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
            found.transpose(1, 2).flatten(2).backward(up)
            x.grad = None

        for masked in (False, True):
            calls = [lambda m=masked: ours(m), lambda m=masked: fused(m)]  # type: ignore[misc]
            times = in_turn(calls, options.repeats(15))
            mask = "a causal and padding mask" if masked else "no mask"
            how = (
                f"attend / scaled_dot_product_attention, forward and backward, {batch} × {time} positions, {HEADS} "
                f"heads of {width}, {mask}; {clock_name()}"
            )
            name = f"attention_forms_{time}{'_masked' if masked else ''}"
            yield figure(name, times[:, 0] / times[:, 1], 1.0, how)
