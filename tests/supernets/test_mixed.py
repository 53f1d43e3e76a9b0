"""Options side by side: a weight of exactly one is only differentiated, and right."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasformer.supernets.mixed import Mixed, weighted


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("value", [1.0, 0.7])
def test_a_weighted_output_differentiates_like_a_product(layout: torch.memory_format, value: float) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=generator).contiguous(memory_format=layout)
    x.requires_grad_()
    weight = torch.tensor(value, dtype=torch.float64, requires_grad=True)
    found = []
    for y in (weighted(weight, x), weight * x):
        first = torch.autograd.grad((y**3).sum(), (weight, x), create_graph=True)
        second = torch.autograd.grad(2 * first[0] + first[1].square().sum(), (weight, x))
        found.append((y, *first, *second))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=0)


def test_a_weight_of_one_copies_nothing() -> None:
    x = torch.randn(3)
    assert weighted(torch.ones((), requires_grad=True), x).data_ptr() == x.data_ptr()


def test_what_an_option_gave_is_not_written_to() -> None:
    kept = torch.arange(3.0)
    options = [nn.Identity(), nn.Identity()]
    weights = torch.tensor([1.0, 2.0], requires_grad=True)
    assert Mixed(options, weights)(kept).tolist() == [0.0, 3.0, 6.0]
    assert kept.tolist() == [0.0, 1.0, 2.0]
