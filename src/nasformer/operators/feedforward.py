"""The feed-forward operator: two linear layers, an activation between, plain or gated (docs/papers/operators.md §7)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.operators.operator import Cache, Linear


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)² (Primer, arXiv 2109.08668)."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,  # slope 0.01
    "swish": F.silu,
    "gelu": F.gelu,
    "squared_relu": squared_relu,
}
"""Every activation that an architecture can name."""


class FeedForward(nn.Module):
    """W_2 · activation(W_1 x), or gated: W_2 · (activation(W_1 x) · V x) (GLU variants, arXiv 2002.05202)."""

    def __init__(self, dim: int, inner: int, *, activation: str = "relu", gated: bool = False) -> None:
        super().__init__()
        self.input = Linear(dim, inner, maps=2 if gated else 0)
        self.output = Linear(inner, dim)
        self.activation, self.gated = activation, gated

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """x (batch, time, dim) → (batch, time, dim); padding and cache are not needed."""
        act = ACTIVATIONS[self.activation]
        if not self.gated:
            return self.output(act(self.input(x)))
        inside, gate = self.input(x).chunk(2, dim=-1)
        return self.output(act(inside) * gate)
