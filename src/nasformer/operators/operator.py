"""What every operator promises, and the two layers with learned weights that operators are made of.

An operator is an `nn.Module` with `forward(x, padding=None, cache=None) -> x`:

- `x` is (batch, time, dim) and keeps its shape; `padding` is (batch, time), true where padded, or None for no padding.
- Padding changes nothing at real positions; a causal operator's output at t is a function of inputs at ≤ t.
- `cache` is a dict that the operator fills during step-wise decoding: calling it with one new position at a time and
  the same dict gives what one call with all positions gives. Every tensor in it has the batch as first axis.
- Its weights are leading slices of a wider operator's weights: cut every axis of the wide parameter and it fits.
- `reset(generator)` of each layer draws the initial weights; constructors draw nothing, so meta builds cost nothing.
- The linear map that ends it, where one does, is called `output` (`scale_output`).

Cross-attention takes the encoder's `Memory` in place of padding.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Cache = dict[str, Any]
"""State of step-wise decoding: tensors with the batch first, or further caches, by name."""


def reorder(cache: Cache, rows: Tensor) -> None:
    """Keep the given rows (beams) of every tensor in the cache, in place."""
    for name, entry in cache.items():
        if isinstance(entry, Tensor):
            cache[name] = entry.index_select(0, rows.to(entry.device))
        else:
            reorder(entry, rows)


def reset(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the initial weights of every layer inside, in the order of the modules."""
    for part in module.modules():
        draw: Any = getattr(part, "reset", None)
        if draw is not None:
            draw(generator)


def xavier(weight: Tensor, generator: torch.Generator, gain: float = 1.0) -> None:
    """Fill a (out, in) or (several, out, in) weight uniformly in ±gain·√(6/(in + out))."""
    bound = gain * math.sqrt(6.0 / (weight.shape[-1] + weight.shape[-2]))
    with torch.no_grad():
        weight.uniform_(-bound, bound, generator=generator)


def scale_output(operator: nn.Module, factor: float) -> None:
    """Let the initial weights of the maps that end an operator, those called `output`, be `factor` times as large.

    An operator that ends otherwise starts as ever.
    """
    for name, part in operator.named_modules():
        if name.rpartition(".")[2] == "output" and isinstance(part, Linear):
            part.gain *= factor


class Linear(nn.Module):
    """x W^T + b, one or several maps from one input side by side: weight (maps, out, in) gives `maps` outputs.

    Several maps in one weight keep each map's leading slice a leading slice of the whole.
    """

    def __init__(self, inputs: int, outputs: int, *, maps: int = 0, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__()
        leading = (maps,) if maps else ()
        self.weight = nn.Parameter(torch.empty(*leading, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(*leading, outputs)) if bias else None
        self.gain = gain

    def reset(self, generator: torch.Generator) -> None:
        """Xavier uniform weights for each map, zero biases."""
        xavier(self.weight, generator, self.gain)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out), or (…, maps · out)."""
        weight = self.weight.flatten(0, -2)
        return F.linear(x, weight, None if self.bias is None else self.bias.flatten())


def with_past(x: Tensor, kernel: int, cache: Cache | None) -> Tensor:
    """x (batch, time, channels), in step-wise decoding behind the kernel − 1 positions that came before it."""
    if cache is None:
        return x
    past = cache.get("past", x.new_zeros(x.shape[0], kernel - 1, x.shape[-1]))
    x = torch.cat([past, x], dim=1)
    cache["past"] = x[:, x.shape[1] - (kernel - 1) :]
    return x


def zero_padding(x: Tensor, padding: Tensor | None) -> Tensor:
    """x (batch, time, channels) with padded positions set to zero."""
    return x if padding is None else x.masked_fill(padding.unsqueeze(-1), 0.0)
