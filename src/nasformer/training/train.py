"""The only loop that trains a plain model.

Update by update: a batch, the loss, Adam. Stopped anywhere and started again it goes on from the last checkpoint as if
nothing had happened, to the bit on a CPU: dropout is a function of the seed and the update, batches of the seed and
the position in the stream.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from lightning_fabric import Fabric
from pydantic import Field
from torch import Tensor, nn

from nasformer.runs.stage import Stage
from nasformer.spaces.value import Count, Value
from nasformer.supernets.adam import SliceAdam
from nasformer.tasks.task import Task
from nasformer.training.loss_window import LossWindow
from nasformer.training.randomness import derive, seeded
from nasformer.training.schedule import InverseSquareRoot

Precision = Literal["32-true", "bf16-mixed"]


class Training(Value):
    """How a model is trained.

    `updates` of batches of about `batch_tokens` tokens; Adam (0.9, 0.98) with decoupled `weight_decay`; the result is
    the mean of `averaged` snapshots of the weights, evenly spaced over the last `averaged_part` of the updates
    (docs/papers/shrinknas.md, our reading 18).
    """

    updates: Annotated[Count, Field(ge=1)] = 30_000
    batch_tokens: Annotated[Count, Field(ge=16)] = 4096
    schedule: InverseSquareRoot = InverseSquareRoot()
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    averaged: Annotated[int, Field(ge=1)] = 10
    averaged_part: Annotated[float, Field(gt=0, le=1)] = 0.25
    precision: Precision = "32-true"
    record_every: Annotated[int, Field(ge=1)] = 50
    validate_every: Annotated[Count, Field(ge=1)] | None = None

    def snapshots(self) -> set[int]:
        """After which updates the weights enter the average."""
        span = max(1, round(self.updates * self.averaged_part))
        count = min(self.averaged, span)
        return {self.updates - (span * i) // count for i in range(count)}


def fabric(precision: Precision) -> Fabric:
    """The device (a CUDA GPU where there is one, else the CPU) and the precision of the work."""
    return Fabric(accelerator="cuda" if torch.cuda.is_available() else "cpu", devices=1, precision=precision)


def train(
    model: nn.Module,
    task: Task,
    settings: Training,
    stage: Stage,
    *,
    seed: int,
    updates_before: int = 0,
    adam: SliceAdam | None = None,
) -> nn.Module:
    """Train `model` in place and return it with averaged weights.

    `updates_before` continues a schedule (fine-tuning after a search), with the optimiser state in `adam`.
    Raises `RunError` when the loss is no longer a number.
    """
    device = fabric(settings.precision)
    model = model.to(device.device)
    weights = borrow(model)
    adam = adam or SliceAdam(weights, weight_decay=settings.weight_decay)
    stream = task.stream(settings.batch_tokens, derive(seed, "batches"))
    average = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in weights.items()}
    update, taken, window = 0, 0, LossWindow()
    if found := stage.restore():
        update, taken = found.state["update"], found.state["taken"]
        window.load(found.state["window"])
        stream.load_state_dict(found.state["stream"])
        _load(weights, found.tensors, "model")
        _load(average, found.tensors, "average")
        adam.load({name.removeprefix("adam."): t for name, t in found.tensors.items() if name.startswith("adam.")})
    snapshots = settings.snapshots()
    model.train()
    while update < settings.updates:
        update += 1
        rate = settings.schedule.rate(updates_before + update)
        with seeded(seed, "dropout", update), device.autocast():
            batch = stream.next().to(device.device)
            loss = task.loss(model, batch)
            loss.backward()
        adam.step(model.parameters(), rate)
        window.add(float(loss.detach()), batch.tokens)
        if update in snapshots:
            taken += 1
            for name, weight in weights.items():
                average[name] += (weight - average[name]) / taken
        if update % settings.record_every == 0 or update == settings.updates:
            stage.record("update", seconds=stage.seconds, **window.take(update, rate))
        if settings.validate_every and update % settings.validate_every == 0:
            stage.record("validation", update=update, loss=task.validation_loss(model))
            model.train()
        if stage.due() or update == settings.updates:
            tensors = {f"model.{name}": weight for name, weight in weights.items()}
            tensors |= {f"average.{name}": mean for name, mean in average.items()}
            tensors |= {f"adam.{name}": tensor for name, tensor in adam.tensors().items()}
            state = {"update": update, "taken": taken, "stream": stream.state_dict(), "window": window.state()}
            stage.save(update, tensors, state)
        stage.progress(update, settings.updates, f"loss {window.last:.3f}")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(average[name])
    return model.eval()


def borrow(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a plain model by name, each parameter marked with its own name for `SliceAdam`."""
    for name, parameter in model.named_parameters():
        parameter.source = name  # type: ignore[attr-defined]
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def _load(into: dict[str, Tensor], tensors: dict[str, Tensor], prefix: str) -> None:
    for name, tensor in into.items():
        tensor.copy_(tensors[f"{prefix}.{name}"])
