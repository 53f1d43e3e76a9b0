"""Label-smoothed cross-entropy and its gradient are PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nasformer.tasks.cross_entropy import cross_entropy


def _random(rows: int = 9, vocabulary: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(rows, vocabulary, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, vocabulary, (rows,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("ignore", [0, 3])
def test_value_and_gradient_are_pytorchs(smoothing: float, ignore: int) -> None:
    logits, target = _random()
    target[2] = target[5] = ignore
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = cross_entropy(ours, target, smoothing=smoothing, ignore=ignore)
    expected = F.cross_entropy(theirs, target, reduction="sum", label_smoothing=smoothing, ignore_index=ignore)
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)
    (2.5 * found).backward()
    (2.5 * expected).backward()
    assert torch.allclose(ours.grad, theirs.grad, rtol=0, atol=1e-12)
    assert ours.grad[target == ignore].abs().sum() == 0
    assert ours.grad[target != ignore].abs().sum() > 0


def test_finite_differences() -> None:
    logits, target = _random(4, 5)
    target[1] = 0
    assert torch.autograd.gradcheck(
        lambda x: cross_entropy(x, target, smoothing=0.1, ignore=0), (logits[:4, :5].clone().requires_grad_(),)
    )


def test_all_ignored_is_zero() -> None:
    logits, target = _random()
    logits.requires_grad_()
    loss = cross_entropy(logits, torch.zeros_like(target), smoothing=0.1, ignore=0)
    loss.backward()
    assert float(loss) == 0
    assert logits.grad.abs().sum() == 0


def test_large_logits_and_small_types() -> None:
    logits, target = _random()
    loss = cross_entropy(logits * 1e4, target, ignore=0)
    assert torch.isfinite(loss)
    half = logits.to(torch.bfloat16).requires_grad_()
    loss = cross_entropy(half, target, smoothing=0.1, ignore=0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert half.grad.dtype == torch.bfloat16
