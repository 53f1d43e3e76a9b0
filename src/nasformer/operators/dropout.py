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
    kept = max(1, 256 - round(256 * probability))
    if kept == 256:
        return x
    numbers = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    keep = numbers.view(torch.uint8)[: x.numel()].view(x.shape) < kept
    return x * keep.to(x.dtype).mul_(256 / kept)
