"""The streams of a reversible pass: what is added to them can be taken away again, to the bit where they are exact.

(a + b) − b is a but for rounding, and what rounding takes away grows on the way back: where both nodes of a layer of
two splits are Identity, by 2.6 a layer. In exact streams the sums are float64, and nodes see them as float32, so that a
sum of what nodes gave is rounded only where one number is some 2²⁹ times the other. Some twenty layers of Identity do
that: so every sum is tried, and the elements that would not come back are kept, 16 bytes each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

Kept = tuple[Tensor, Tensor]
"""Flat indices (elements,) and values (elements,) of what subtracting alone would not bring back."""


class Streams:
    """The splits of a stream, each (batch, time, width).

    Args:
        sums: the splits.
        seen: the type that nodes see them in. In a wider type than that, sums are rebuilt to the bit.
    """

    def __init__(self, sums: Sequence[Tensor], seen: torch.dtype) -> None:
        self.sums = list(sums)
        self.exact = self.sums[0].dtype != seen
        self.seen = [part.to(seen) for part in self.sums] if self.exact else self.sums

    @classmethod
    def of(cls, x: Tensor, splits: int, *, exact: bool) -> Self:
        """x (batch, time, dim) cut into splits. There is nothing wider than float64, which never is exact."""
        return cls((x.to(torch.float64) if exact else x).chunk(splits, dim=-1), x.dtype)

    def joined(self) -> Tensor:
        """What nodes see, side by side (batch, time, dim)."""
        return torch.cat(self.seen, dim=-1)

    def add(self, k: int, value: Tensor) -> Kept | None:
        """Add a node's value to split k; returns what `subtract` will need."""
        before = self.sums[k]
        if not self.exact:
            self.sums[k] = before + value
            return None
        change = value.to(before.dtype)
        after = before + change
        self.sums[k], self.seen[k] = after, after.to(value.dtype)
        again = torch.sub(after, change, out=change)
        if again.is_meta or bool((again == before).all()):  # asked this way, imagined tensors lose nothing
            return None
        indices = ((again != before) & before.isfinite()).flatten().nonzero().squeeze(1)
        return indices, before.flatten()[indices]

    def subtract(self, k: int, value: Tensor, kept: Kept | None) -> None:
        """Take a node's value from split k, as it was added."""
        before = self.sums[k] - value
        if kept is not None:
            indices, values = kept
            before.view(-1)[indices] = values
        self.sums[k] = before
        if self.exact:
            self.seen[k] = before.to(value.dtype)
