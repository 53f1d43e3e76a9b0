"""The running statistics of batch normalisation, measured anew for weights that were never trained as they are.

A mean of weights has other activations than any of those it is the mean of, so their running statistics do not fit it;
they are measured on training batches instead (Izmailov et al., arXiv 1803.05407, §3.2). Ours differ: the mean over a
fixed number of batches, and dropout and drop-path are off, as where the model is used.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasformer.tasks.task import Task
from nasformer.training.randomness import seeded

BATCHES = 100
"""The mean is over so many batches."""


@torch.no_grad()
def measure_statistics(model: nn.Module, task: Task, tokens: int, seed: int, batches: int = BATCHES) -> None:
    """Replace the running statistics of every normalisation that has them by their mean over `batches` training
    batches of `tokens`, a function of the seed; the model is left in evaluation mode, and one without such a
    normalisation as it is. What does not run in evaluation (an auxiliary head) keeps its statistics."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    model.eval()
    if not norms:
        return
    kept = [(norm.momentum, {name: buffer.clone() for name, buffer in norm.named_buffers()}) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches since the reset
        norm.train()
    device = next(model.parameters()).device
    stream = task.stream(tokens, seed)
    with seeded(seed, "statistics"):
        for _ in range(batches):
            task.loss(model, stream.next().to(device))
    for norm, (momentum, before) in zip(norms, kept, strict=True):
        norm.momentum = momentum
        if not norm.num_batches_tracked:
            for name, buffer in norm.named_buffers():
                buffer.copy_(before[name])
    model.eval()
