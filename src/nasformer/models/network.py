"""What a sequence-to-sequence network of any family offers: its two halves, and the map to the vocabulary."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from nasformer.models.transformer import ModelSettings
from nasformer.operators.attention import Memory
from nasformer.operators.operator import Cache


class SequenceToSequence(Protocol):
    """The parts that decoding, tasks and exported folders use (each family's network has them)."""

    architecture: Any
    settings: ModelSettings
    training: bool

    def train(self, mode: bool = True) -> Any:
        """Switch dropout on or off."""
        ...

    def encode(self, source: Tensor) -> Memory:
        """source (batch, source) → what the decoder sees."""
        ...

    def decode(self, target: Tensor, memory: Memory, cache: Cache | None = None) -> Tensor:
        """target (batch, target) → hidden states (batch, target, dim); with a cache, of the new positions."""
        ...

    def output(self, hidden: Tensor) -> Tensor:
        """hidden (…, dim) → logits (…, vocab)."""
        ...
