"""A plain model under training: the settings, and the one update that everything that trains a plain model shares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from nasformer.spaces.value import Count, Value
from nasformer.supernets.adam import SliceAdam
from nasformer.supernets.sgd import SliceSgd
from nasformer.tasks.task import Task
from nasformer.training.randomness import derive, seeded
from nasformer.training.schedule import ConstantThenDecay, Schedule

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Precision = Literal["32-true", "bf16-mixed"]
Optimizer = SliceAdam | SliceSgd
"""What turns gradients into updates of weights."""
MOMENTUM = 0.9
"""Of SGD."""


class Training(Value):
    """How a model is trained.

    `updates` of batches of about `batch_tokens` tokens (of an image task: images); Adam (0.9, 0.98) with decoupled
    `weight_decay`, or SGD with momentum 0.9 (with `nesterov`, Nesterov's) and coupled `weight_decay`; gradients longer
    than `clip` (the norm over all of them) are cut to it. The result is the mean of `averaged` snapshots of the
    weights, evenly spaced over the last `averaged_part` of the updates (docs/papers/shrinknas.md, our reading 18); 1
    takes the last weights.
    """

    updates: Annotated[Count, Field(ge=1)] = 30_000
    batch_tokens: Annotated[Count, Field(ge=16)] = 4096
    optimizer: Literal["adam", "sgd"] = "adam"
    nesterov: bool = False
    schedule: Schedule = ConstantThenDecay()
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    clip: Annotated[float, Field(gt=0)] | None = None
    averaged: Annotated[int, Field(ge=1)] = 1
    averaged_part: Annotated[float, Field(gt=0, le=1)] = 0.25
    precision: Precision = "32-true"
    record_every: Annotated[int, Field(ge=1)] = 50
    validate_every: Annotated[Count, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _check_momentum(self) -> Self:
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError("nesterov is a kind of SGD's momentum; set optimizer=sgd too")
        return self

    def at(self, peak: float) -> Self:
        """This training with a peak that is known."""
        return self.but(schedule=self.schedule.but(peak=peak))

    def rate(self, update: int, before: int = 0) -> float:
        """The learning rate of update 1, 2, … where `before` updates of other training came first."""
        return self.schedule.rate(before + update, before + self.updates)

    def clip_gradients(self, parameters: Iterable[nn.Parameter], norm: Tensor | None = None) -> None:
        """Cut the gradients of all parameters together to the norm `clip`; nothing where that is None. `norm` is what
        they have, where it is known."""
        if self.clip is not None:
            parameters = list(parameters)
            nn.utils.clip_grads_with_norm_(parameters, self.clip, total_norm(parameters) if norm is None else norm)

    def snapshots(self) -> set[int]:
        """After which updates the weights enter the average."""
        span = max(1, round(self.updates * self.averaged_part))
        count = min(self.averaged, span)
        return {self.updates - (span * i) // count for i in range(count)}


def total_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The norm of the gradients of all parameters together, shape (); no number where one of them is none."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def fabric(precision: Precision) -> Fabric:
    """The device (a CUDA GPU where there is one, else the CPU) and the precision of the work."""
    from lightning_fabric import Fabric  # takes seconds to import, with PyTorch's compiler

    return Fabric(accelerator="cuda" if torch.cuda.is_available() else "cpu", devices=1, precision=precision)


def make_optimizer(training: Training, weights: dict[str, Tensor]) -> Optimizer:
    """The optimiser of a training, of these named weights, at its beginning."""
    if training.optimizer == "sgd":
        return SliceSgd(weights, momentum=MOMENTUM, weight_decay=training.weight_decay, nesterov=training.nesterov)
    return SliceAdam(weights, weight_decay=training.weight_decay)


def optimizer_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The optimiser's part of a checkpoint's tensors; checkpoints from before there was SGD call it `adam`."""
    named = ((name.partition("."), tensor) for name, tensor in tensors.items())
    return {rest: tensor for (first, _, rest), tensor in named if first in ("optimizer", "adam")}


def borrow(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a plain model by name, each parameter marked with its own name for its
    optimiser."""
    for name, parameter in model.named_parameters():
        parameter.source = name  # type: ignore[attr-defined]
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def statistics(model: nn.Module) -> dict[str, Tensor]:
    """The buffers of a plain model that are saved with it, by name: running statistics of batch normalisation."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    state = model.state_dict(keep_vars=True)
    return {name: buffer.detach() for name, buffer in state.items() if name not in parameters}


class Trainer:
    """A plain model under training, update by update; dropout is a function of the seed and the update, batches of the
    seed and the position in the stream. A model with an attribute `progress` (drop-path) is told at each update which
    share of its training is done with it.

    Args:
        model: trained in place, on the device of the work.
        task: gives batches and losses.
        training: batches, optimiser and schedule; how long is the caller's to say.
        seed: everything random is derived from it.
        updates_before: continues a schedule.
        optimizer: an optimiser state to go on with, of the model's own weights.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        training: Training,
        seed: int,
        *,
        updates_before: int = 0,
        optimizer: Optimizer | None = None,
    ) -> None:
        self.task, self.training, self.seed, self.updates_before = task, training, seed, updates_before
        self.device = fabric(training.precision)
        self.model = model.to(self.device.device)
        self.weights = borrow(self.model)
        self.buffers = statistics(self.model)
        self.optimizer = optimizer or make_optimizer(training, self.weights)
        self.stream = task.stream(training.batch_tokens, derive(seed, "batches"))
        self.updates = 0

    @property
    def rate(self) -> float:
        """The learning rate of the newest update."""
        return self.training.rate(self.updates, self.updates_before)

    def update(self) -> tuple[float, int]:
        """One batch, its gradients, a step of the optimiser; the loss and the number of tokens that it counts."""
        found = self.differentiate()
        self.apply()
        return found

    def differentiate(self) -> tuple[float, int]:
        """The first half of an update: the next batch's loss and tokens; its gradients are with the parameters."""
        self.updates += 1
        model: Any = self.model
        if hasattr(model, "progress"):
            model.progress = self.updates / self.training.updates
        with seeded(self.seed, "dropout", self.updates), self.device.autocast():
            batch = self.stream.next().to(self.device.device)
            loss = self.task.loss(model, batch)
            loss.backward()
        return float(loss.detach()), batch.tokens

    def apply(self) -> None:
        """The second half: a step of the optimiser along the gradients, which are dropped."""
        self.training.clip_gradients(self.model.parameters())
        self.optimizer.step(self.model.parameters(), self.rate)

    def tensors(self) -> dict[str, Tensor]:
        """Weights, buffers and optimiser state, for a checkpoint."""
        tensors = {f"model.{name}": tensor for name, tensor in (self.weights | self.buffers).items()}
        return tensors | {f"optimizer.{name}": tensor for name, tensor in self.optimizer.tensors().items()}

    def state(self) -> dict[str, Any]:
        """Updates done and the place in the stream of batches."""
        return {"update": self.updates, "stream": self.stream.state_dict()}

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go to where `tensors` and `state` were taken."""
        for name, tensor in (self.weights | self.buffers).items():
            tensor.copy_(tensors[f"model.{name}"])
        self.optimizer.load(optimizer_state(tensors))
        self.updates = state["update"]
        self.stream.load_state_dict(state["stream"])
