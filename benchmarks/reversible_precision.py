"""Claim: rebuilding the activations of 48 reversible layers in float32 costs at most 1e-4 of the gradient.

Rebuilding subtracts what was added, so its rounding grows with depth, unless streams are exact (as they are by
default). Against the gradients of float64 with stored activations: the error of float32 and of bfloat16 autocast,
rebuilt, and beside each what the same arithmetic errs when activations are stored. What rebuilding itself adds is the
difference of the two; where a rebuilt value falls on the other side of a ReLU's kink, it is a whole gradient entry.

Two kinds of networks: self-attention and feed-forward in turn; and layers of feed-forward between layers of Identity,
whose inverse amplifies what rounding took away by 2.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.figure import Figure, Options, figure
from nasformer.operators.attention import SelfAttention
from nasformer.operators.constant import Identity
from nasformer.operators.feedforward import FeedForward
from nasformer.operators.normalization import Sublayer
from nasformer.operators.operator import reset
from nasformer.operators.reversible import Node, ReversibleStack

DIM, SPLITS, HEADS, BATCH, TIME = 96, 2, 4, 4, 24
DEPTHS = (6, 12, 24, 48)
BAR = 1e-4
WAYS = ("rebuilt", "exact", "stored")
"""Rebuilt from float32 streams, rebuilt from exact streams, stored."""
DRAWS = {
    "": "self-attention and ReLU feed-forward in turn",
    "identity_": "layers of Identity and layers of ReLU feed-forward in turn",
}
"""The kinds of networks: in the names of figures, and in words."""
PRECISIONS: dict[str, Any] = {"float32": nullcontext, "bfloat16": lambda: torch.autocast("cpu", torch.bfloat16)}


def reversible_precision(options: Options) -> Iterator[Figure]:
    """Six figures for each draw and depth; the bar holds for float32, exact, at the greatest."""
    for draw in DRAWS:
        for depth in DEPTHS:
            yield from _figures(draw, depth, options.repeats(5))


def _figures(draw: str, depth: int, repeats: int) -> Iterator[Figure]:
    errors: dict[tuple[str, str], list[float]] = {}
    for seed in range(repeats):
        exact = _gradient(draw, depth, seed, torch.float64, "stored")
        for precision, autocast in PRECISIONS.items():
            for way in WAYS:
                with autocast():
                    found = _gradient(draw, depth, seed, torch.float32, way)
                error = float((found.double() - exact).norm() / exact.norm())
                errors.setdefault((precision, way), []).append(error)
    for (precision, way), found in errors.items():
        how = (
            f"norm of the error / norm of the gradient of input and weights, {precision}"
            f"{' autocast' if precision == 'bfloat16' else ''}, {way}, against float64 with stored activations; "
            f"{depth} layers of dim {DIM} in {SPLITS} splits, {DRAWS[draw]}, no dropout, {BATCH} x {TIME} tokens; "
            f"median of {repeats} draws of the weights"
        )
        bar = BAR if (precision, way, depth) == ("float32", "exact", DEPTHS[-1]) else None
        yield figure(f"reversible_precision_{draw}{precision}_{way}_{depth}", found, bar, how)


def _stack(draw: str, depth: int, seed: int) -> ReversibleStack:
    """Fresh weights; without Identity, layers and splits take self-attention and feed-forward in turn."""
    width = DIM // SPLITS

    def node(layer: int, k: int) -> Node:
        if draw and layer % 2 == 0:
            return Node([Identity()], "max")
        forward = draw or (layer + k) % 2
        operator: nn.Module = FeedForward(width, 4 * width) if forward else SelfAttention(width, heads=HEADS)
        return Node([Sublayer(operator, width, norm="post", residual=0.0)], "max")

    stack = ReversibleStack([[node(layer, k) for k in range(SPLITS)] for layer in range(depth)])
    reset(stack, torch.Generator().manual_seed(seed))
    return stack


def _gradient(draw: str, depth: int, seed: int, dtype: torch.dtype, way: str) -> Tensor:
    """The gradient of a loss of the normalised output, of the input and all weights in one vector."""
    generator = torch.Generator().manual_seed(1_000 + seed)
    x, target = (torch.randn(BATCH, TIME, DIM, generator=generator).to(dtype) for _ in range(2))
    stack = _stack(draw, depth, seed).to(dtype)
    y = stack(x.requires_grad_(), backward="stored" if way == "stored" else "rebuilt", exact=way == "exact")
    loss = (torch.nn.functional.layer_norm(y, [DIM]) * target).mean()
    return torch.cat([found.flatten() for found in torch.autograd.grad(loss, [x, *stack.parameters()])])
