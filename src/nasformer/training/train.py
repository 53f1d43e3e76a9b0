"""The only loop that trains a plain model.

Update by update: a batch, the loss, the optimiser (`nasformer.training.trainer`). Stopped anywhere and started again it
goes on from the last checkpoint as if nothing had happened, to the bit on a CPU: dropout is a function of the seed and
the update, batches of the seed and the position in the stream.
"""

from __future__ import annotations

import torch
from torch import nn

from nasformer.runs.stage import Stage
from nasformer.tasks.task import Task
from nasformer.training.batch_statistics import measure_statistics
from nasformer.training.loss_window import LossWindow
from nasformer.training.randomness import derive
from nasformer.training.trainer import Optimizer, Trainer, Training


def train(
    model: nn.Module,
    task: Task,
    settings: Training,
    stage: Stage,
    *,
    seed: int,
    updates_before: int = 0,
    optimizer: Optimizer | None = None,
    until: int | None = None,
) -> nn.Module:
    """Train `model` in place and return it with averaged weights; where they are the mean of several snapshots, running
    statistics of batch normalisation are measured for them, otherwise they are those of the last update.

    `updates_before` continues a schedule (fine-tuning after a search), with the optimiser state in `optimizer`. With
    `until` the training stops after so many of its updates, with the weights as they are then; called again it goes on.
    Raises `RunError` when the loss is no longer a number.
    """
    trainer = Trainer(model, task, settings, seed, updates_before=updates_before, optimizer=optimizer)
    model = trainer.model
    average = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in trainer.weights.items()}
    taken, window = 0, LossWindow()
    if found := stage.restore():
        trainer.load(found.tensors, found.state)
        taken = found.state["taken"]
        window.load(found.state["window"])
        for name, mean in average.items():
            mean.copy_(found.tensors[f"average.{name}"])
    snapshots = settings.snapshots()
    last = min(settings.updates, until or settings.updates)
    model.train()
    while trainer.updates < last:
        loss, tokens = trainer.update()
        update = trainer.updates
        window.add(loss, tokens)
        if update in snapshots:
            taken += 1
            for name, weight in trainer.weights.items():
                average[name] += (weight - average[name]) / taken
        if update % settings.record_every == 0 or update == settings.updates:
            stage.record("update", seconds=stage.seconds, **window.take(update, trainer.rate))
        if settings.validate_every and update % settings.validate_every == 0:
            stage.record("validation", update=update, loss=task.validation_loss(model))
            model.train()
        if stage.due() or update == last:
            tensors = trainer.tensors() | {f"average.{name}": mean for name, mean in average.items()}
            stage.save(update, tensors, trainer.state() | {"taken": taken, "window": window.state()})
        stage.progress(update, last, f"loss {window.told:.3f}")
    if last < settings.updates:
        return model.eval()
    with torch.no_grad():
        for name, weight in trainer.weights.items():
            weight.copy_(average[name])
    if len(snapshots) > 1:
        measure_statistics(model, task, settings.batch_tokens, derive(seed, "statistics"))
    return model.eval()
