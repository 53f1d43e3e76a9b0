"""A selection says, for each choice, which options run (plain integers) and with what weight (a tensor).

An architecture is the selection with one option each. Methods share supernets and differ in how they draw selections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from nasformer.spaces.space import Code


@dataclass(frozen=True)
class Chosen:
    """The options of one choice that run, and their weights (options,), or None for weight one each."""

    options: tuple[int, ...]
    weights: Tensor | None = None


Selection = Mapping[str, Chosen]
"""What runs, by the name of the choice."""


def single(code: Code) -> dict[str, Chosen]:
    """The selection with one option (or one set of options) for each choice: an architecture."""
    return {name: Chosen((answer,) if isinstance(answer, int) else answer) for name, answer in code.items()}


def softmax(code: Code, logits: Mapping[str, Tensor]) -> dict[str, Chosen]:
    """`code`, with every choice that has logits (options,) running all options, weighted by softmax (DARTS)."""
    return mixed(code, {name: tensor.softmax(0) for name, tensor in logits.items()})


def mixed(code: Code, weights: Mapping[str, Tensor]) -> dict[str, Chosen]:
    """`code`, with every choice that has weights (options,) running all options with these."""
    return single(code) | {name: Chosen(tuple(range(len(tensor))), tensor) for name, tensor in weights.items()}
