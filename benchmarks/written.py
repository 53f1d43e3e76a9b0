"""The known programs as an engineer would write them by hand: what a program is held against, in numbers and in time.

One product for the maps that read the same input, fused norms, a fused causal softmax in attention. Frame and start of
the weights are those of `nasformer.models.program`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.models.program import ProgramModel
from nasformer.models.transformer import Embedding
from nasformer.operators.depthwise import depthwise
from nasformer.operators.normalization import LayerNorm

EPSILON = 0.0
"""Norms have no epsilon, as those of the programs have none."""


def _empty(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape))


class Attention(nn.Module):
    """Causal multi-head attention with one fused projection; multi-dconv-head attention where `convolved`."""

    def __init__(self, width: int, heads: int, *, convolved: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.projections = _empty(3 * width, width)
        self.taps = _empty(3 * width, 3) if convolved else None
        self.output = _empty(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) → (batch, time, width)."""
        qkv = F.linear(x, self.projections)
        if self.taps is not None:
            qkv = depthwise(qkv, self.taps)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return F.linear(_merged(F.scaled_dot_product_attention(q, k, v, is_causal=True)), self.output)


class SharedAttention(nn.Module):
    """Primer's attention: the query is a map of the key, across all heads as in T5, or of each head by itself."""

    def __init__(self, width: int, heads: int, *, by_head: bool = False) -> None:
        super().__init__()
        self.heads, self.by_head = heads, by_head
        self.projections = _empty(2 * width, width)
        self.taps = _empty(2 * width, 3)
        self.query = _empty(heads, width // heads, width // heads) if by_head else _empty(width, width)
        self.output = _empty(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) → (batch, time, width)."""
        both = depthwise(F.linear(x, self.projections), self.taps)
        if self.by_head:
            k, v = both.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
            q = k @ self.query.transpose(-2, -1)
        else:
            q = F.linear(both[..., : x.shape[-1]], self.query)
            q, k, v = torch.cat([q, both], dim=-1).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return F.linear(_merged(F.scaled_dot_product_attention(q, k, v, is_causal=True)), self.output)


def _merged(x: Tensor) -> Tensor:
    """(batch, heads, time, width of a head) → (batch, time, width)."""
    return x.transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
    """Two maps with a function between them."""

    def __init__(self, width: int, inner: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.into, self.out = _empty(inner, width), _empty(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) → (batch, time, width)."""
        return F.linear(self.activation(F.linear(x, self.into)), self.out)


class SwiGLU(nn.Module):
    """silu(x W) · x V, mapped back; W and V in one product."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.into, self.out = _empty(2 * inner, width), _empty(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) → (batch, time, width)."""
        gate, value = F.linear(x, self.into).chunk(2, dim=-1)
        return F.linear(F.silu(gate) * value, self.out)


class Norm(nn.Module):
    """Layer normalisation, or with `rms` division by the root of the mean square and a gain alone."""

    def __init__(self, width: int, *, rms: bool = False) -> None:
        super().__init__()
        self.gain = _empty(width)
        self.bias = None if rms else _empty(width)

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) → (…, width)."""
        if self.bias is None:
            return F.rms_norm(x, x.shape[-1:], self.gain, EPSILON)
        return F.layer_norm(x, x.shape[-1:], self.gain, self.bias, EPSILON)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)), or with `after` x + norm(feed-forward(x))."""

    def __init__(
        self, attention: nn.Module, feed_forward: nn.Module, norms: tuple[Norm, Norm], *, after: bool = False
    ) -> None:
        super().__init__()
        self.attention, self.feed_forward, self.after = attention, feed_forward, after
        self.first, self.second = norms

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) → (batch, time, width)."""
        x = x + self.attention(self.first(x))
        return x + (self.second(self.feed_forward(x)) if self.after else self.feed_forward(self.second(x)))


class WrittenModel(nn.Module):
    """Embeddings with sinusoids, the block `depth` times, a final norm, the output tied to the embeddings."""

    def __init__(self, vocabulary: int, width: int, depth: int, block: Callable[[], Block]) -> None:
        super().__init__()
        self.embedding = Embedding(vocabulary, width, width, 0.0)
        self.blocks = nn.ModuleList(block() for _ in range(depth))
        self.norm = LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (batch, time) → logits (batch, time, vocab)."""
        x = self.embedding(tokens, None)
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight)


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)²."""
    return F.relu(x).square()


def block(name: str, width: int, heads: int, inner: int, *, by_head: bool = True) -> Block:
    """The hand-written block of a known program; `by_head` says how Primer makes its query."""
    kind = name.removeprefix("program-")
    convolved = kind in ("convolved", "primer-ez")
    shared = kind == "primer"
    attention = (
        SharedAttention(width, heads, by_head=by_head) if shared else Attention(width, heads, convolved=convolved)
    )
    activations: dict[str, Callable[[Tensor], Tensor]] = {
        "gelu": partial(F.gelu, approximate="tanh"),
        "squared-relu": squared_relu,
        "primer-ez": squared_relu,
        "primer": squared_relu,
    }
    plus = kind == "transformer-plus-plus"
    feed_forward = SwiGLU(width, inner) if plus else FeedForward(width, inner, activations.get(kind, F.relu))
    return Block(attention, feed_forward, (Norm(width, rms=plus), Norm(width, rms=plus)), after=shared)


def written(
    name: str,
    vocabulary: int,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    inner: float = 4,
    *,
    by_head: bool = True,
) -> WrittenModel:
    """The hand-written twin of `PROGRAMS[name](width, depth, heads, inner)`, its weights not yet drawn."""
    columns = round((2 * inner / 3 if name == "program-transformer-plus-plus" else inner) * width)
    return WrittenModel(vocabulary, width, depth, lambda: block(name, width, heads, columns, by_head=by_head))


def copy_weights(program: ProgramModel, twin: WrittenModel) -> None:
    """Give a twin the weights of the program's model."""
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(twin.norm, name).copy_(getattr(program.norm, name))
        twin.embedding.weight.copy_(program.embedding.weight)
        for ours, theirs in zip(program.blocks, twin.blocks, strict=True):
            given = list(ours.parameters())[::-1]
            for group in _in_program_order(theirs):
                parts = [given.pop() for _ in group]
                for target, part in zip(group, parts, strict=True):
                    target.copy_(
                        _across_heads(part) if math.prod(part.shape) != target.numel() else part.reshape(target.shape)
                    )
            assert not given


def _in_program_order(block: Block) -> list[list[Tensor]]:
    """Places in the twin's weights, in the order in which the program has them."""
    attention: Attention | SharedAttention = block.attention
    shared = isinstance(attention, SharedAttention)
    maps = attention.projections.chunk(2 if shared else 3)
    taps = (None,) * len(maps) if attention.taps is None else attention.taps.chunk(len(maps))
    projections = [[part for part in pair if part is not None] for pair in zip(maps, taps, strict=True)]
    if shared:
        projections.insert(1, [attention.query])
    feed = block.feed_forward
    feeds = [*(feed.into.chunk(2) if isinstance(feed, SwiGLU) else [feed.into]), feed.out]
    norms = [[n.gain] if n.bias is None else [n.gain, n.bias] for n in (block.first, block.second)]
    second = [feeds, norms[1]] if block.after else [norms[1], feeds]
    return [norms[0], *projections, [attention.output], *second]


def _across_heads(weight: Tensor) -> Tensor:
    """A map for each head (heads, out, in) as one map across all: its block diagonal."""
    return torch.block_diag(*weight)
