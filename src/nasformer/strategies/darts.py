"""DARTS: Differentiable Architecture Search (Liu et al., arXiv 1806.09055), first order, on any supernet.

Every option of every choice runs, weighted by the softmax of the choice's logits. One update of the weights on one part
of the training data, one of the logits on the other part, in turn; in the end each choice keeps the option with the
largest logit. On a reversible supernet whose activations are rebuilt this is DARTSformer (Zhao et al., arXiv
2105.14669, Algorithm 2; docs/papers/dartsformer.md); on a Transformer supernet it is plain DARTS. How ours differs:
Zero may be kept or passed over in the end (both are recorded; our reading 18), limits hold for what is derived, and a
loss that is no number rewinds the search.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from nasformer.errors import RequestError, RunError
from nasformer.models.size import core_parameters
from nasformer.operators.reversible import Backward
from nasformer.spaces.space import Space
from nasformer.spaces.value import Value
from nasformer.strategies.objective import Objective, summary
from nasformer.strategies.single_path import SinglePath
from nasformer.strategies.strategy import Progress
from nasformer.supernets.selection import Chosen, mixed
from nasformer.supernets.supernet import Supernet
from nasformer.tasks.task import Task
from nasformer.training.loss_window import LossWindow
from nasformer.training.randomness import derive, seeded
from nasformer.training.trainer import Training

Rate = Annotated[float, Field(gt=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Logits(Value):
    """How logits are trained: Adam with a constant rate and L2 weight decay, from `spread` · N(0, 1) (reading 4)."""

    rate: Rate = 3e-4
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    betas: tuple[Beta, Beta] = (0.9, 0.98)
    spread: Annotated[float, Field(ge=0)] = 1e-3


class Darts(Value):
    """The settings of a differentiable search.

    `training.updates` counts updates of weights; there are as many of logits. `weight_part` of the training data serve
    the weights, the rest the logits. `zero`: whether Zero may be kept in the end. `restarts` searches are made from
    different starts and the derived architecture with the lowest validation loss on inherited weights is taken.
    `backward`, `one_at_a_time` and `exact` say how a reversible supernet differentiates, `micro_batches` in how many
    pieces a batch is worked on (with `objective.memory` all but `exact` are chosen by `nasformer.strategies.memory`).
    After a loss that is no number the search goes back to its last good state and halves its rate, at most `rewinds`
    times.
    """

    kind: Literal["darts"] = "darts"
    training: Training = Training(updates=30_000)
    logits: Logits = Logits()
    weight_part: Annotated[float, Field(gt=0, lt=1)] = 5 / 9
    zero: bool = False
    restarts: Annotated[int, Field(ge=1)] = 1
    backward: Backward = "rebuilt"
    one_at_a_time: bool = True
    exact: bool = False
    micro_batches: Annotated[int, Field(ge=1)] = 1
    rewinds: Annotated[int, Field(ge=0)] = 5

    def begin(self, space: Space, objective: Objective, task: Task, supernet: Supernet, seed: int) -> DartsSearch:
        """The search under way. Raises `RequestError` for a space with other choices than one operator of several,
        or a penalty instead of hard limits."""
        return DartsSearch(self, space, objective, task, supernet, seed)


class DartsSearch:
    """A differentiable search (see `Search`)."""

    def __init__(
        self, settings: Darts, space: Space, objective: Objective, task: Task, supernet: Supernet, seed: int
    ) -> None:
        for choice in space.choices:
            if not choice.operators or choice.count > 1:
                raise RequestError(
                    f"a differentiable search chooses one operator of several; the choice {choice.name} of the space "
                    f"{space.name!r} is another: fix it, or search with shrinknas"
                )
        if objective.penalty:
            raise RequestError(
                f"objective.penalty={objective.penalty:g} has nothing to be added to in a differentiable search, which "
                f"scores no architectures; expected 0 (hard limits on what is derived)"
            )
        self.settings, self.space, self.objective = settings, space, objective
        self.supernet, self.seed = supernet, seed
        self._code = space.encode(space.close(lambda _: 0))
        split = settings.weight_part
        self.path = SinglePath(
            supernet, task, settings.training, seed, part=(0.0, split), micro_batches=settings.micro_batches
        )
        tokens = settings.training.batch_tokens
        self.stream = task.stream(tokens, derive(seed, "logits batches"), (split, 1.0))
        generator = torch.Generator().manual_seed(derive(seed, "logits"))
        self.logits = {
            choice.name: settings.logits.spread * torch.randn(len(choice.options), generator=generator)
            for choice in space.choices
        }
        self.moments = {name: torch.zeros(2, len(logits)) for name, logits in self.logits.items()}
        self.window, self.logits_loss, self.slower, self.rewound, self.text = LossWindow(), math.nan, 1.0, 0, ""
        self._good = self._snapshot()

    def finished(self) -> bool:
        """Whether all updates are done."""
        return self.path.updates >= self.settings.training.updates

    def step(self) -> Progress:
        """One update of the weights, one of the logits."""
        training = self.settings.training
        losses = [self.path.update(self._selection(), self.slower)]
        if math.isfinite(losses[0][0]):
            losses.append(self._update_logits())
        if not all(math.isfinite(loss) for loss, _ in losses):
            return self._rewind()
        self.window.add(*losses[0])
        self.logits_loss = losses[1][0]
        update, events = self.path.updates, []
        if update % training.record_every == 0 or self.finished():
            events.append(("update", self.window.take(update, self.slower * training.schedule.rate(update))))
            events.append(("selection", self._recorded()))
            if all(bool(torch.isfinite(tensor).all()) for tensor in self._live().values()):
                self._good = self._snapshot()
            self.text = f"loss {self.window.last:.3f}  entropy {self._entropy():.3f}  {summary(self.best())}"
        if self.finished():
            both = {name: self.best(zero=zero) for name, zero in (("with_zero", True), ("without_zero", False))}
            derived = {
                name: {"architecture": summary(a), "core_parameters": core_parameters(a)} for name, a in both.items()
            }
            events.append(("derived", derived))
        return Progress(update, training.updates, self.text, tuple(events))

    def best(self, *, zero: bool | None = None) -> Any:
        """The architecture of the largest logits; with `zero` (by default as the settings say) Zero may be kept.

        While it is over a limit, the one choice is changed that lowers the excess at the least loss of logit for it;
        then every choice takes the option with the largest logit that the limits leave room for.
        """
        logits = {name: tensor.clone() for name, tensor in self.logits.items()}
        if not (self.settings.zero if zero is None else zero):
            for choice in self.space.choices:
                if "zero" in choice.options and len(choice.options) > 1:
                    logits[choice.name][choice.options.index("zero")] = -math.inf
        code = {name: int(tensor.argmax()) for name, tensor in logits.items()}
        while (excess := self._excess(code)) > 0:
            changes = [
                (float(tensor[code[name]] - tensor[option]) / (excess - other), name, option)
                for name, tensor in logits.items()
                for option in range(len(tensor))
                if math.isfinite(tensor[option]) and (other := self._excess(code | {name: option})) < excess
            ]
            if not changes:
                return self.objective.smallest(self.space, self.supernet.settings)
            _, name, option = min(changes)
            code[name] = option
        for name, tensor in logits.items():
            better = [option for option in range(len(tensor)) if tensor[option] > tensor[code[name]]]
            for option in sorted(better, key=lambda option: -float(tensor[option])):
                if self._excess(code | {name: option}) <= 0:
                    code[name] = option
                    break
        return self.space.decode(code)

    def _excess(self, code: dict[str, int]) -> float:
        if not self.objective.limited():
            return 0.0
        return self.objective.excess(self.space.decode(code), self.supernet.settings)

    def probabilities(self) -> dict[str, dict[str, float]]:
        """For each choice the probability of each option."""
        return {
            choice.name: dict(zip(choice.options, self.logits[choice.name].softmax(0).tolist(), strict=True))
            for choice in self.space.choices
        }

    def _weights(self) -> dict[str, Tensor]:
        """The softmax of the logits, on the device of the search."""
        return {name: logits.softmax(0).to(self.path.device.device) for name, logits in self.logits.items()}

    def _selection(self, weights: dict[str, Tensor] | None = None) -> dict[str, Chosen]:
        """All options of every choice, with these weights (options,), by default the softmax of the logits."""
        return mixed(self._code, self._weights() if weights is None else weights)

    def _update_logits(self) -> tuple[float, int]:
        """One update of the logits on the other part of the data; the weights stay."""
        device = self.path.device
        weights = {name: weight.requires_grad_() for name, weight in self._weights().items()}
        model = self.supernet.at(self._selection(weights))
        with _frozen(model), seeded(self.seed, "logits dropout", self.path.updates), device.autocast():
            loss, tokens = self.path.differentiate(model, self.stream)
        gradients = {name: weight.grad.cpu() for name, weight in weights.items() if weight.grad is not None}
        if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients.values()):
            return math.nan, tokens
        if math.isfinite(loss):
            for name, gradient in gradients.items():
                w = weights[name].detach().cpu()
                self._adam(name, w * (gradient - (w * gradient).sum()))
        return loss, tokens

    def _adam(self, name: str, gradient: Tensor) -> None:
        settings, (first, second), update = self.settings.logits, self.moments[name], self.path.updates
        gradient = gradient + settings.weight_decay * self.logits[name]
        first.lerp_(gradient, 1 - settings.betas[0])
        second.lerp_(gradient.square(), 1 - settings.betas[1])
        corrected = second / (1 - settings.betas[1] ** update)
        rate = self.slower * settings.rate / (1 - settings.betas[0] ** update)
        self.logits[name] -= rate * first / (corrected.sqrt() + 1e-8)

    def _entropy(self) -> float:
        """The mean entropy of the selections, as a share of the most there can be."""
        shares = [logits.softmax(0) for logits in self.logits.values() if len(logits) > 1]
        return sum(float(-(p * p.log()).sum()) / math.log(len(p)) for p in shares) / max(1, len(shares))

    def _recorded(self) -> dict[str, Any]:
        fields = {"update": self.path.updates, "loss": self.logits_loss, "entropy": self._entropy()}
        return fields | {"probabilities": self.probabilities()}

    def _rewind(self) -> Progress:
        """Back to the last good state at half the rate; the batches since then are not met again soon."""
        update = self.path.updates
        self.rewound += 1
        if self.rewound > self.settings.rewinds:
            raise RunError(
                f"the loss of the search was no number {self.rewound} times, last at update {update}; lower "
                f"strategy.training.schedule.peak or strategy.logits.rate"
            )
        tensors, state = self._good
        places = self.path.stream.state_dict(), self.stream.state_dict()
        self._take(tensors, state)
        self.path.stream.load_state_dict(places[0])
        self.stream.load_state_dict(places[1])
        self.slower /= 2
        fields = {"update": update, "to": self.path.updates, "slower": self.slower}
        return Progress(self.path.updates, self.settings.training.updates, "rewound", (("rewound", fields),))

    def _snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        kept = {name: tensor.detach().to("cpu", copy=True) for name, tensor in self._live().items()}
        return kept, self._counters()

    def _live(self) -> dict[str, Tensor]:
        logits = {f"logits.{name}": tensor for name, tensor in self.logits.items()}
        moments = {f"moments.{name}": tensor for name, tensor in self.moments.items()}
        return self.path.tensors() | logits | moments

    def _counters(self) -> dict[str, Any]:
        return {"path": self.path.state(), "logits_stream": self.stream.state_dict(), "window": self.window.state()}

    def _take(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self.path.load(tensors, state["path"])
        self.stream.load_state_dict(state["logits_stream"])
        self.window.load(state["window"])
        for name in self.logits:
            self.logits[name].copy_(tensors[f"logits.{name}"])
            self.moments[name].copy_(tensors[f"moments.{name}"])

    def tensors(self) -> dict[str, Tensor]:
        """Shared weights, logits and both optimisers, now and in the last good state."""
        return self._live() | {f"good.{name}": tensor for name, tensor in self._good[0].items()}

    def state(self) -> dict[str, Any]:
        """Counters and places in the streams, now and in the last good state."""
        own = {"slower": self.slower, "rewound": self.rewound, "logits_loss": self.logits_loss}
        return self._counters() | own | {"good": self._good[1]}

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go to where `tensors` and `state` were taken."""
        self._take(tensors, state)
        self.slower, self.rewound, self.logits_loss = state["slower"], state["rewound"], state["logits_loss"]
        good = {name.removeprefix("good."): tensor for name, tensor in tensors.items() if name.startswith("good.")}
        self._good = (good, state["good"])


@contextmanager
def _frozen(model: Any) -> Iterator[None]:
    """No gradients for the weights of a model inside."""
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
