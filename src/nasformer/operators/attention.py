"""Multi-head attention: of a sequence to itself, causal or not, and of a decoder to the last encoder layers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.operators.dropout import dropout as drop
from nasformer.operators.normalization import HeadNorm
from nasformer.operators.operator import Cache, Linear
from nasformer.operators.projection_taps import ProjectionTaps


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    hidden: Tensor | None,
    *,
    causal: bool = False,
    window: int | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Scaled dot-product attention.

    query is (batch, heads, target, width), key and value are (batch, heads, source, width), or have fewer heads, each
    for a group of the query's; `hidden` is (batch, source), true where a key must not be seen. With `causal` or
    `window` the last query is aligned with the last key; a window is how many keys a query sees at most, its own and
    those around it, or (causal) before it. The fused kernel runs where it is fastest: on a GPU, and on a CPU without
    dropout (`benchmarks/attention_forms.py`); the three plain steps run otherwise, and on the meta device, where they
    are what is counted.
    """
    mask = _mask(query, key, hidden, causal, window)
    if (group := query.shape[1] // key.shape[1]) > 1:
        key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    if query.device.type == "cuda" or (query.device.type == "cpu" and dropout == 0.0):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores + mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    return drop(weights.to(value.dtype), dropout, training=dropout > 0) @ value


def _mask(query: Tensor, key: Tensor, hidden: Tensor | None, causal: bool, window: int | None) -> Tensor | None:
    """What is added to the scores, finite so that a row without any key to see gives numbers: (…, target, source)."""
    target, source = query.shape[-2], key.shape[-2]
    hide = None if hidden is None else hidden[:, None, None, :]
    everywhere = torch.ones(target, source, dtype=torch.bool, device=query.device)
    if (causal and target > 1) or (window is not None and not causal):
        ahead = everywhere.triu(source - target + 1 + (0 if causal or window is None else window // 2))
        hide = ahead if hide is None else ahead | hide
    if window is not None:
        behind = everywhere.tril(source - target - (window if causal else window // 2 + 1))
        hide = behind if hide is None else behind | hide
    if hide is None:
        return None
    lowest = -1e4 if query.dtype == torch.float16 else -1e9
    return torch.zeros(hide.shape, dtype=query.dtype, device=query.device).masked_fill_(hide, lowest)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, time, width) → (batch, heads, time, width / heads); heads own contiguous channels."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(batch, heads, time, width / heads) → (batch, time, width)."""
    return x.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Multi-head self-attention (docs/papers/operators.md §10); `width` channels of query, key and value (dim).

    With `key_value_heads`, so many keys and values are shared by groups of heads; their maps are then apart from the
    queries', as leading slices need it. With `query_key_norm` queries and keys are normalised head by head, and with
    `convolution` queries, keys and values are convolved over time before that, by so many taps. With `window`, an odd
    number, each position sees so many at most: itself and those around it, or (causal) before it.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        width: int | None = None,
        key_value_heads: int | None = None,
        query_key_norm: bool = False,
        convolution: int | None = None,
        window: int | None = None,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        width, gain = width or dim, 1 / math.sqrt(2)
        self.groups = key_value_heads or heads
        narrow = width // heads * self.groups
        if key_value_heads is None:
            self.projection = Linear(dim, width, maps=3, gain=gain)
        else:
            self.query = Linear(dim, width, gain=gain)
            self.key_value = Linear(dim, narrow, maps=2, gain=gain)
        self.output = Linear(width, dim)
        self.taps = ProjectionTaps(width, narrow, kernel=convolution, causal=causal) if convolution else None
        self.query_norm = HeadNorm(width) if query_key_norm else None
        self.key_norm = HeadNorm(narrow) if query_key_norm else None
        self.shared, self.widths = key_value_heads is not None, [width, narrow, narrow]
        self.heads, self.window, self.causal, self.dropout = heads, window, causal, dropout

    def _project(self, x: Tensor, padding: Tensor | None, cache: Cache | None) -> tuple[Tensor, Tensor, Tensor]:
        """x (batch, time, dim) → queries, keys and values, each (batch, its heads, time, channels of a head)."""
        projected = torch.cat([self.query(x), self.key_value(x)], dim=-1) if self.shared else self.projection(x)
        if self.taps is not None:
            projected = self.taps(projected, padding, cache)
        parts = zip(projected.split(self.widths, dim=-1), (self.heads, self.groups, self.groups), strict=True)
        query, key, value = (split_heads(part, heads) for part, heads in parts)
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        return query, key, value

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """x (batch, time, dim) → (batch, time, dim)."""
        query, key, value = self._project(x, padding, cache)
        if cache is not None:
            if padding is None and "hidden" in cache:
                padding = x.new_zeros(x.shape[:2], dtype=torch.bool)
            if "key" in cache:
                key = torch.cat([cache["key"], key], dim=2)
                value = torch.cat([cache["value"], value], dim=2)
                if padding is not None:
                    before = cache.get("hidden", padding.new_zeros(x.shape[0], cache["key"].shape[2]))
                    padding = torch.cat([before, padding], dim=1)
            cache["key"], cache["value"] = key, value
            if padding is not None:
                cache["hidden"] = padding
        dropout = self.dropout if self.training else 0.0
        ways: dict[str, Any] = {"causal": self.causal, "window": self.window, "dropout": dropout}
        return self.output(join_heads(attend(query, key, value, padding, **ways)))


class Memory:
    """What a decoder sees of an encoder: the outputs of its layers, newest first, and their padding.

    Args:
        outputs: tensors (batch, source, encoder dim), the last layer's first.
        padding: (batch, source), true where padded, or None.
    """

    def __init__(self, outputs: list[Tensor], padding: Tensor | None) -> None:
        self.outputs, self.padding = outputs, padding
        self._spans: dict[int, tuple[Tensor, Tensor | None]] = {}

    def span(self, layers: int) -> tuple[Tensor, Tensor | None]:
        """The last `layers` outputs one after the other along time, newest first, with the padding repeated."""
        if layers not in self._spans:
            padding = None if self.padding is None else self.padding.repeat(1, layers)
            self._spans[layers] = (torch.cat(self.outputs[:layers], dim=1) if layers > 1 else self.outputs[0], padding)
        return self._spans[layers]

    def select(self, rows: Tensor) -> Memory:
        """The memory of some rows of the batch, in the order given."""
        padding = None if self.padding is None else self.padding.index_select(0, rows)
        return Memory([output.index_select(0, rows) for output in self.outputs], padding)


class CrossAttention(nn.Module):
    """Attention from a decoder to the last `span` encoder layers at once (docs/papers/operators.md §4)."""

    def __init__(
        self,
        dim: int,
        memory_dim: int,
        *,
        heads: int,
        span: int = 1,
        width: int | None = None,
        query_key_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        gain = 1 / math.sqrt(2) if dim == memory_dim else 1.0
        self.query = Linear(dim, width or dim, gain=gain)
        self.projection = Linear(memory_dim, width or dim, maps=2, gain=gain)
        self.output = Linear(width or dim, dim)
        self.query_norm = HeadNorm(width or dim) if query_key_norm else None
        self.key_norm = HeadNorm(width or dim) if query_key_norm else None
        self.heads, self.span, self.dropout = heads, span, dropout

    def forward(self, x: Tensor, memory: Memory, cache: Cache | None = None) -> Tensor:
        """x (batch, target, dim), memory of outputs (batch, source, memory dim) → (batch, target, dim)."""
        if cache is not None and "key" in cache:
            key, value, hidden = cache["key"], cache["value"], cache.get("hidden")
        else:
            outputs, hidden = memory.span(self.span)
            key, value = (split_heads(part, self.heads) for part in self.projection(outputs).chunk(2, dim=-1))
            key = key if self.key_norm is None else self.key_norm(key)
            if cache is not None:
                cache["key"], cache["value"] = key, value
                if hidden is not None:
                    cache["hidden"] = hidden
        query = split_heads(self.query(x), self.heads)
        query = query if self.query_norm is None else self.query_norm(query)
        dropout = self.dropout if self.training else 0.0
        return self.output(join_heads(attend(query, key, value, hidden, dropout=dropout)))
