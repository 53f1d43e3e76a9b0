"""How well a language model predicts a text, from its summed loss in nats."""

from __future__ import annotations

import math

from nasformer.errors import RequestError


def perplexity(nats: float, tokens: int) -> float:
    """e to the mean loss per token (`inf` where that is too large). Raises `RequestError` without tokens."""
    _check(tokens, "token")
    try:
        return math.exp(nats / tokens)
    except OverflowError:
        return math.inf


def bits_per_byte(nats: float, bytes: int) -> float:
    """The summed loss in bits per byte of UTF-8 text: comparable across vocabularies. Raises `RequestError` without."""
    _check(bytes, "byte")
    return nats / math.log(2) / bytes


def _check(count: int, unit: str) -> None:
    if count < 1:
        raise RequestError(f"expected at least one {unit} to average over, got {count}")
