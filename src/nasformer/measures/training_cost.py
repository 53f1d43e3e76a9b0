"""What training costs, in floating-point operations: the unit in which arms of an experiment are compared."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from nasformer.models.size import core_flops

PASSES = 3
"""An update is a forward pass and a backward pass of twice its cost."""
SENTENCE = 30
"""Tokens of the sentence for which passes are counted."""


@lru_cache(maxsize=65536)
def forward_flops(architecture: Any, settings: Any) -> float:
    """Of one forward pass over one sentence of 30 tokens (on both sides) or one image, the output map included."""
    core = core_flops(architecture)
    vocabulary = getattr(settings, "target_vocabulary", None)
    if vocabulary is None:
        return float(core)
    return float(core + 2 * SENTENCE * vocabulary * _width(architecture))


def _width(architecture: Any) -> int:
    """The channels that the map to the vocabulary reads."""
    stack = getattr(architecture, "decoder", architecture)
    return int(getattr(architecture, "embedding_dim", None) or getattr(stack, "dim", None) or stack.width)


def evaluation_flops(architecture: Any, settings: Any, tokens: int) -> float:
    """Of scoring on `tokens` target tokens (of an image task: images)."""
    return forward_flops(architecture, settings) * _items(settings, tokens)


def update_flops(architecture: Any, settings: Any, tokens: int) -> float:
    """Of one update on a batch of `tokens` tokens (of an image task: images)."""
    return PASSES * evaluation_flops(architecture, settings, tokens)


def _items(settings: Any, tokens: int) -> float:
    return tokens / SENTENCE if hasattr(settings, "target_vocabulary") else tokens
