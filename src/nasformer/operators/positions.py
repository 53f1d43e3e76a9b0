"""Sinusoidal positions in interleaved sine–cosine pairs, so that every even leading slice keeps whole pairs."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def sinusoids(length: int, width: int, dim: int) -> Tensor:
    """Positions 0 … length − 1 as (length, dim): the first `dim` channels of a table of `width` channels.

    Channel 2i is sin(t · 10000^(−2i / width)), channel 2i + 1 the cosine (our reading 5 of docs/papers/operators.md).
    An odd `dim` ends with a sine.
    """
    time = torch.arange(length, dtype=torch.float64).unsqueeze(1)
    frequency = torch.pow(10000.0, -torch.arange(0, dim, 2, dtype=torch.float64) / width)
    angle = time * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :dim]


@lru_cache(maxsize=64)
def _table(length: int, width: int, dim: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return sinusoids(length, width, dim).to(device=device, dtype=dtype)


def position_table(length: int, width: int, dim: int, like: Tensor) -> Tensor:
    """`sinusoids` of at least `length` positions on the device and in the type of `like`, kept for the next call."""
    # Special tensors (imagined ones, to count memory) must not stay behind for others.
    table = _table if type(like) is Tensor else _table.__wrapped__
    return table(max(64, 1 << (length - 1).bit_length()), width, dim, like.device, like.dtype)


def positions(padding: Tensor | None, time: int, offset: Tensor | int = 0) -> Tensor | None:
    """Which position each token has, counting real tokens only: (batch, time), or None where they simply count up.

    padding is (batch, time), true where padded; `offset` (batch, 1) counts the real tokens of earlier calls.
    """
    if padding is None:
        return None if isinstance(offset, int) else torch.arange(time, device=offset.device) + offset
    return ((~padding).cumsum(dim=1) - 1).clamp(min=0) + offset
