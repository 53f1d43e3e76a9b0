"""A plain model under training: the settings, and the one update that everything that trains a plain model shares."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from lightning_fabric import Fabric
from pydantic import Field
from torch import Tensor, nn

from nasformer.spaces.value import Count, Value
from nasformer.supernets.adam import SliceAdam
from nasformer.tasks.task import Task
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


def borrow(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a plain model by name, each parameter marked with its own name for `SliceAdam`."""
    for name, parameter in model.named_parameters():
        parameter.source = name  # type: ignore[attr-defined]
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


class Trainer:
    """A plain model under training, update by update; dropout is a function of the seed and the update, batches of the
    seed and the position in the stream.

    Args:
        model: trained in place, on the device of the work.
        task: gives batches and losses.
        training: batches, schedule and weight decay; how long is the caller's to say.
        seed: everything random is derived from it.
        updates_before: continues a schedule.
        adam: an optimiser state to go on with, of the model's own weights.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        training: Training,
        seed: int,
        *,
        updates_before: int = 0,
        adam: SliceAdam | None = None,
    ) -> None:
        self.task, self.training, self.seed, self.updates_before = task, training, seed, updates_before
        self.device = fabric(training.precision)
        self.model = model.to(self.device.device)
        self.weights = borrow(self.model)
        self.adam = adam or SliceAdam(self.weights, weight_decay=training.weight_decay)
        self.stream = task.stream(training.batch_tokens, derive(seed, "batches"))
        self.updates = 0

    @property
    def rate(self) -> float:
        """The learning rate of the newest update."""
        return self.training.schedule.rate(self.updates_before + self.updates)

    def update(self) -> tuple[float, int]:
        """One batch, its gradients, a step of Adam; the loss and the number of tokens that it counts."""
        found = self.differentiate()
        self.apply()
        return found

    def differentiate(self) -> tuple[float, int]:
        """The first half of an update: the next batch's loss and tokens; its gradients are with the parameters."""
        self.updates += 1
        with seeded(self.seed, "dropout", self.updates), self.device.autocast():
            batch = self.stream.next().to(self.device.device)
            loss = self.task.loss(self.model, batch)
            loss.backward()
        return float(loss.detach()), batch.tokens

    def apply(self) -> None:
        """The second half: a step of Adam along the gradients, which are dropped."""
        self.adam.step(self.model.parameters(), self.rate)

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimiser state, for a checkpoint."""
        tensors = {f"model.{name}": weight for name, weight in self.weights.items()}
        return tensors | {f"adam.{name}": tensor for name, tensor in self.adam.tensors().items()}

    def state(self) -> dict[str, Any]:
        """Updates done and the place in the stream of batches."""
        return {"update": self.updates, "stream": self.stream.state_dict()}

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go to where `tensors` and `state` were taken."""
        for name, weight in self.weights.items():
            weight.copy_(tensors[f"model.{name}"])
        self.adam.load({name.removeprefix("adam."): t for name, t in tensors.items() if name.startswith("adam.")})
        self.updates = state["update"]
        self.stream.load_state_dict(state["stream"])
