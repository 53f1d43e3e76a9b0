"""A depthwise convolution of queries, keys and values over time: Primer's MDHA (arXiv 2109.08668, §4.2).

How ours differs: in an encoder it is centred, and the taps are kept in the order of their distance, the present first,
so that fewer taps are leading slices of more. As Primer's it has no bias and starts as 0.5 for the present and
0.5 / kernel for every other tap.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.operators.depthwise import filtered
from nasformer.operators.operator import Cache, with_past, zero_padding


class ProjectionTaps(nn.Module):
    """Taps for each channel of the queries (`width`) and of the keys and values (`narrow` each)."""

    def __init__(self, width: int, narrow: int, *, kernel: int, causal: bool) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(width, kernel))
        self.key = nn.Parameter(torch.empty(narrow, kernel))
        self.value = nn.Parameter(torch.empty(narrow, kernel))
        self.kernel, self.causal = kernel, causal

    def reset(self, generator: torch.Generator) -> None:
        """0.5 for the present, 0.5 / kernel for every other tap."""
        with torch.no_grad():
            for taps in (self.query, self.key, self.value):
                taps.fill_(0.5 / self.kernel)
                taps[:, 0] = 0.5

    def forward(self, x: Tensor, padding: Tensor | None, cache: Cache | None) -> Tensor:
        """Queries, keys and values side by side, (batch, time, width + 2 · narrow) → the same."""
        time, taps = x.shape[1], torch.cat([self.query, self.key, self.value]).to(x.dtype)
        x = with_past(zero_padding(x, padding), self.kernel, cache)
        if not self.causal:
            x = F.pad(x, (0, 0, 0, self.kernel // 2))
            taps = torch.stack([taps[:, place] for place in _latest_first(self.kernel)], dim=1)
        return filtered(x, taps)[:, -time:]


def _latest_first(kernel: int) -> list[int]:
    """Where the taps of a centred convolution, from the latest position to the earliest, stand in the order present,
    one before, one after, two before, two after, …"""
    reach = kernel // 2
    return [*range(2 * reach, 0, -2), *range(0, 1), *range(1, 2 * reach, 2)]
