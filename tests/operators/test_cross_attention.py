"""Attention to the last one, two or three encoder layers (papers/operators.md §4)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nasformer.operators.attention import CrossAttention, Memory

DIM, MEMORY, HEADS = 8, 12, 2


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _operator(span: int) -> CrossAttention:
    operator = CrossAttention(DIM, MEMORY, heads=HEADS, span=span).double().eval()
    for number, parameter in enumerate(operator.parameters()):
        parameter.data.copy_(_random(*parameter.shape, seed=number))
    return operator


def _outputs(time: int = 5) -> list[Tensor]:
    return [_random(2, time, MEMORY, seed=30 + layer) for layer in range(3)]


def plain(operator: CrossAttention, x: Tensor, memory: Tensor) -> Tensor:
    """Attention to one sequence, head by head."""
    (key_map, value_map), (key_bias, value_bias) = operator.projection.weight, operator.projection.bias
    query = operator.query(x)
    key, value = memory @ key_map.T + key_bias, memory @ value_map.T + value_bias
    width, parts = DIM // HEADS, []
    for head in range(HEADS):
        at = slice(head * width, (head + 1) * width)
        weights = (query[..., at] @ key[..., at].transpose(1, 2) / math.sqrt(width)).softmax(-1)
        parts.append(weights @ value[..., at])
    return operator.output(torch.cat(parts, dim=-1))


def test_the_last_layer_alone_is_plain_attention() -> None:
    operator, x, outputs = _operator(1), _random(2, 3, DIM, seed=9), _outputs()
    assert torch.allclose(operator(x, Memory(outputs, None)), plain(operator, x, outputs[0]), atol=1e-12)


@pytest.mark.parametrize("span", [2, 3])
def test_several_layers_are_one_after_the_other_along_time(span: int) -> None:
    operator, x, outputs = _operator(span), _random(2, 3, DIM, seed=9), _outputs()
    expected = plain(operator, x, torch.cat(outputs[:span], dim=1))
    assert torch.allclose(operator(x, Memory(outputs, None)), expected, atol=1e-12)
    assert not torch.allclose(expected, plain(operator, x, outputs[0]), atol=1e-3)


def test_equal_layers_make_every_span_the_same() -> None:
    x, output = _random(2, 3, DIM, seed=9), _outputs()[0]
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    found = [_operator(span)(x, Memory([output] * 3, padding)) for span in (1, 2, 3)]
    assert torch.allclose(found[0], found[1], atol=1e-12)
    assert torch.allclose(found[0], found[2], atol=1e-12)


def test_the_order_of_the_layers_does_not_matter() -> None:
    operator, x, outputs = _operator(3), _random(2, 3, DIM, seed=9), _outputs()
    padding = torch.tensor([[True] + [False] * 4, [False] * 5])
    turned = [outputs[2], outputs[0], outputs[1]]
    assert torch.allclose(operator(x, Memory(outputs, padding)), operator(x, Memory(turned, padding)), atol=1e-12)


@pytest.mark.parametrize("span", [1, 2, 3])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_of_the_source_changes_nothing(span: int, side: str) -> None:
    operator, x, outputs = _operator(span), _random(2, 3, DIM, seed=9), _outputs()
    expected = operator(x, Memory(outputs, None))
    garbage = 50 * _random(2, 2, MEMORY, seed=77)
    hidden, real = torch.ones(2, 2, dtype=torch.bool), torch.zeros(2, 5, dtype=torch.bool)
    parts = [(garbage, output) if side == "left" else (output, garbage) for output in outputs]
    padding = torch.cat((hidden, real) if side == "left" else (real, hidden), dim=1)
    memory = Memory([torch.cat(pair, dim=1) for pair in parts], padding)
    assert torch.allclose(operator(x, memory), expected, atol=1e-12)
    cache: dict = {}
    steps = [operator(x[:, t : t + 1], memory, cache) for t in range(3)]
    assert torch.allclose(torch.cat(steps, dim=1), expected, atol=1e-12)


def test_rows_of_a_memory_can_be_chosen() -> None:
    operator, x, outputs = _operator(2), _random(2, 3, DIM, seed=9), _outputs()
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    memory = Memory(outputs, padding)
    rows = torch.tensor([1, 1])
    assert torch.allclose(operator(x[rows], memory.select(rows)), operator(x, memory)[rows], atol=1e-12)
