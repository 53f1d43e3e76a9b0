"""Dropout whose random numbers cost little on a CPU.

PyTorch draws one number for each element, which takes a seventh of a small model's training step; here one 64-bit
number serves eight elements. The probability is kept to the nearest 1/256, and the scale is exact for it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """x of any shape with elements set to zero with this probability, the others scaled by 1 / (1 − probability)."""
    if not training or probability == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, probability, training=True)
    return x * _kept(x, probability).mul_(_scale(probability))


def add_dropout(x: Tensor, branch: Tensor, probability: float, training: bool) -> Tensor:
    """x + dropout(branch), in one pass where the mask is ours."""
    if training and probability > 0.0 and x.device.type == "cpu" and x.dtype == branch.dtype:
        return torch.addcmul(x, branch, _kept(branch, probability), value=_scale(probability))
    return x + dropout(branch, probability, training)


def _threshold(probability: float) -> int:
    return max(1, 256 - round(256 * probability))


def _scale(probability: float) -> float:
    return 256 / _threshold(probability)


def _kept(x: Tensor, probability: float) -> Tensor:
    """1 where an element is kept, 0 where it is dropped, in the type of x."""
    numbers = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    # Compared as whole numbers: in bytes a threshold of 256 would wrap.
    return (numbers.view(torch.uint8)[: x.numel()].view(x.shape) <= _threshold(probability) - 1).to(x.dtype)
