"""Label-smoothed cross-entropy that keeps only the logits for backward and writes its gradient in one buffer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, smoothing: float, ignore: int) -> Tensor:
        normaliser = logits.logsumexp(1)
        counted = target != ignore
        true = logits.gather(1, target.unsqueeze(1)).squeeze(1)
        losses = normaliser - (1 - smoothing) * true
        if smoothing:
            losses = losses - smoothing * logits.mean(1)
        ctx.save_for_backward(logits, normaliser, target, counted)
        ctx.smoothing = smoothing
        return losses.where(counted, 0.0).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        logits, normaliser, target, counted = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again: all of it from the logits, nothing in place
            hot = F.one_hot(target, logits.shape[1])
            result = logits.softmax(1) - (1 - ctx.smoothing) * hot - ctx.smoothing / logits.shape[1]
            return result * (gradient * counted).to(result.dtype).unsqueeze(1), None, None, None
        result = (logits - normaliser.unsqueeze(1)).exp_()
        if ctx.smoothing:
            result.sub_(ctx.smoothing / logits.shape[1])
        true = torch.full_like(normaliser, ctx.smoothing - 1).unsqueeze(1)
        result.scatter_add_(1, target.unsqueeze(1), true)
        return result.mul_((gradient * counted).to(result.dtype).unsqueeze(1)), None, None, None


def cross_entropy(logits: Tensor, target: Tensor, *, smoothing: float = 0.0, ignore: int) -> Tensor:
    """The sum over positions of the cross-entropy in nats, with ε = `smoothing` spread over the whole vocabulary.

    logits (positions, vocab), target (positions); positions whose target is `ignore` (a token of the vocabulary) do not
    count. Equals PyTorch's `cross_entropy(..., reduction="sum")`.
    """
    return _CrossEntropy.apply(logits.to(torch.promote_types(logits.dtype, torch.float32)), target, smoothing, ignore)
