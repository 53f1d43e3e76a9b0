"""What all differentiable searches share: weights on one part of the training data, logits on the other, in turn.

A search alternates one update of the shared weights and one of the logits (bi-level, first order). What tells methods
apart is their `Rules`: which logits there are, how a selection is drawn from them, how many are gathered in an update,
and what is derived in the end. A loss that is no number is tried again with other draws where draws are random, then
rewinds the search to its last good state; so do weights that are none. Everything that changes can be saved, loaded and
replayed to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from nasformer.errors import RunError
from nasformer.spaces.cell import searched_edges, topologies
from nasformer.spaces.space import Space
from nasformer.strategies.collapse import Watch, counted, entropy, warning
from nasformer.strategies.derivation import Derivation, told
from nasformer.strategies.objective import Objective, summary
from nasformer.strategies.rules import Half, Moment, Rules, Settings, refuse
from nasformer.strategies.single_path import SinglePath
from nasformer.strategies.strategy import Progress
from nasformer.supernets.gumbel import NotFinite
from nasformer.supernets.selection import Chosen, Selection
from nasformer.supernets.supernet import Supernet
from nasformer.tasks.task import Task
from nasformer.training.loss_window import LossWindow
from nasformer.training.randomness import derive, seeded

Unrolled = Callable[["BilevelSearch", Any, Any], Tensor]
"""(search, model, batch of the logits) → the loss after a step of the weights (DARTS, second order)."""


class BilevelSearch:
    """A differentiable search under way (see `Search`).

    Args:
        settings: length, data and trouble.
        rules: the method.
        space, objective, task, supernet, seed: what is searched, within what, on what, with what.
        unrolled: looks ahead one step of the weights; None is first order.
    """

    def __init__(
        self,
        settings: Settings,
        rules: Rules,
        space: Space,
        objective: Objective,
        task: Task,
        supernet: Supernet,
        seed: int,
        unrolled: Unrolled | None = None,
    ) -> None:
        refuse(space, objective)
        self.settings, self.rules, self.space, self.objective = settings, rules, space, objective
        self.supernet, self.seed, self.unrolled = supernet, seed, unrolled
        split = settings.weight_part
        self.path = SinglePath(
            supernet, task, settings.training, seed, part=(0.0, split), micro_batches=settings.micro_batches
        )
        tokens = settings.training.batch_tokens
        self.stream = task.stream(tokens, derive(seed, "logits batches"), (split, 1.0))
        generator = torch.Generator().manual_seed(derive(seed, "logits"))
        self.logits = {
            name: settings.logits.spread * torch.randn(size, generator=generator) for name, size in rules.sizes.items()
        }
        self.moments = {name: torch.zeros(2, len(logits)) for name, logits in self.logits.items()}
        self._topologies = {choice.name for choice in topologies(space)}
        self.watch = Watch(space) if searched_edges(space) else None
        self.window, self.logits_loss, self.slower, self.rewound, self.text = LossWindow(), math.nan, 1.0, 0, ""
        self._batch: Any = None
        self._again = 0
        self._good = self._snapshot()

    def finished(self) -> bool:
        """Whether all updates are done."""
        return self.path.updates >= self.settings.training.updates

    def step(self) -> Progress:
        """One update of the weights, one of the logits, in the order of the method."""
        training = self.settings.training
        self.path.updates += 1
        self._batch = None
        update, gathering = self.path.updates, self.rules.gathering
        halves: list[tuple[Half, Callable[[], tuple[float, int]]]] = [("weights", self._update_weights)]
        if update > self.settings.rests:
            halves.append(("logits", self._update_logits))
        found: dict[Half, tuple[float, int]] = {}
        events: list[tuple[str, dict[str, Any]]] = []
        for half, work in halves if gathering.first == "weights" else halves[::-1]:
            found[half] = work()
            if not math.isfinite(found[half][0]):
                return self._rewind()
            if self._again:
                events.append(("redrawn", {"update": update, "half": half, "tries": self._again}))
        self.window.add(*found["weights"])
        if "logits" in found:
            self.logits_loss = found["logits"][0]
        if update % training.record_every == 0 or self.finished():
            if not all(bool(torch.isfinite(tensor).all()) for tensor in self._live().values()):
                return self._rewind()
            self._keep()
            events.append(("update", self.window.take(update, self.slower * training.rate(update))))
            events.append(("selection", self._recorded()))
            self.text = f"loss {self.window.last:.3f}  entropy {self._entropy():.3f}  {summary(self.best())}"
        if self.watch is not None and self.moment.ends_epoch:
            events.extend(self._watched(self.watch))
        if self.finished():
            derived = {name: told(self.best(**rule)) for name, rule in self.rules.derivations().items()}
            events.append(("derived", derived))
        return Progress(update, training.updates, self.text, tuple(events))

    def best(self, **otherwise: Any) -> Any:
        """The architecture that the logits stand for, within the limits; `otherwise` is the method's."""
        return self.rules.best(self.logits, Derivation(self.space, self.objective, self.supernet.settings), **otherwise)

    def probabilities(self) -> dict[str, dict[str, float]]:
        """For each choice of an operator the probability of each option."""
        return {
            choice.name: dict(zip(choice.options, self.logits[choice.name].softmax(0).tolist(), strict=True))
            for choice in self.space.choices
            if choice.name not in self._topologies
        }

    @property
    def moment(self) -> Moment:
        """Where the search stands."""
        updates = self.settings.training.updates
        return Moment(self.path.updates, updates, min(self.settings.epochs, updates))

    def selection(
        self, half: Half = "weights", number: int = 0, again: int = 0, logits: Mapping[str, Tensor] | None = None
    ) -> Selection:
        """Selection `number` of a half of this update, drawn afresh for each try, on the device of the search."""
        seed = derive(self.seed, "selection", half, self.path.updates, number, again)
        return self.drawn(self.logits if logits is None else logits, seed)

    def drawn(self, logits: Mapping[str, Tensor], seed: int) -> Selection:
        """The selection that a seed draws from logits, on the device of the search."""
        drawn = self.rules.select(logits, self.moment, torch.Generator().manual_seed(seed))
        device = self.path.device.device
        return {
            name: Chosen(chosen.options, None if chosen.weights is None else chosen.weights.to(device))
            for name, chosen in drawn.items()
        }

    def weights_batch(self) -> Any:
        """This update's batch of the weights' part of the data."""
        if self._batch is None:
            self._batch = self.path.stream.next()
        return self._batch

    def _update_weights(self) -> tuple[float, int]:
        """One update of the weights along this update's selections; the logits stay."""
        gathering, batch = self.rules.gathering, self.weights_batch()
        ran: list[Selection] = []

        def models(again: int) -> Iterator[Any]:
            ran.clear()
            for number in range(gathering.weights):
                ran.append(self.selection("weights", number, again))
                yield self.rules.lend(self.supernet, ran[-1], self.moment)

        def gather(again: int) -> tuple[float, int]:
            return self.path.gather(models(again), batch, mean=gathering.mean, slower=self.slower, again=again)

        found = self._tried(gather)
        if self.watch is not None and math.isfinite(found[0]):
            self.watch.trained(ran)
        return found

    def _update_logits(self) -> tuple[float, int]:
        """One update of the logits along the mean gradient of this update's selections, on the other part of the data;
        the weights stay."""
        batch = self.stream.next()
        found: list[dict[str, Tensor]] = []

        def gather(again: int) -> tuple[float, int]:
            found.clear()
            losses = []
            tried = [again] if again else []
            with seeded(self.seed, "logits dropout", self.path.updates, *tried), self.path.device.autocast():
                for number in range(self.rules.gathering.logits):
                    loss, gradients = self._differentiate(batch, number, again)
                    losses.append(loss)
                    found.append(gradients)
            finite = all(bool(g.isfinite().all()) for gradients in found for g in gradients.values())
            return (sum(losses) / len(losses) if finite else math.nan), batch.tokens

        loss, tokens = self._tried(gather)
        if math.isfinite(loss):
            if self.watch is not None:
                self.watch.differentiated(found)
            for name in self.logits:
                total = sum((gradients[name] for gradients in found[1:]), found[0][name])
                self._adam(name, total / len(found))
        return loss, tokens

    def _differentiate(self, batch: Any, number: int, again: int) -> tuple[float, dict[str, Tensor]]:
        """The loss of one selection, and the gradient of every logit: zero where it had no part."""
        leaves = {name: logits.clone().requires_grad_() for name, logits in self.logits.items()}
        selection = self.selection("logits", number, again, leaves)
        if self.unrolled is None:
            loss = self._backward(selection, batch)
            gradients: Any = [leaf.grad for leaf in leaves.values()]
        else:
            value = self.unrolled(self, self.rules.lend(self.supernet, selection, self.moment), batch)
            gradients = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
            loss = float(value.detach())
        named = zip(leaves.items(), gradients, strict=True)
        return loss, {name: torch.zeros_like(leaf) if g is None else g for (name, leaf), g in named}

    def _backward(self, selection: Selection, batch: Any) -> float:
        """The loss of a selection, a batch perhaps in pieces; then the gradient of its weights goes to the logits."""
        weighted = {name: chosen.weights for name, chosen in selection.items() if chosen.weights is not None}
        cut = {name: weights.detach().requires_grad_() for name, weights in weighted.items()}
        run = {name: Chosen(chosen.options, cut.get(name)) for name, chosen in selection.items()}
        model = self.rules.lend(self.supernet, run, self.moment)
        with frozen(model):
            loss = self.path.differentiate(model, batch)
        met = [(weights, cut[name].grad) for name, weights in weighted.items() if cut[name].grad is not None]
        if met:
            torch.autograd.backward([weights for weights, _ in met], [gradient for _, gradient in met])
        return loss

    def _tried(self, work: Callable[[int], tuple[float, int]]) -> tuple[float, int]:
        """A half of an update, tried with other draws while its loss is no number."""
        found = math.nan, 0
        for again in range(self.rules.gathering.tries):
            self._again = again
            try:
                found = work(again)
            except NotFinite:
                return math.nan, 0
            if math.isfinite(found[0]):
                break
        return found

    def _adam(self, name: str, gradient: Tensor) -> None:
        settings, (first, second) = self.settings.logits, self.moments[name]
        update = self.path.updates - self.settings.rests
        gradient = gradient + settings.weight_decay * self.logits[name]
        first.lerp_(gradient, 1 - settings.betas[0])
        second.lerp_(gradient.square(), 1 - settings.betas[1])
        corrected = second / (1 - settings.betas[1] ** update)
        rate = self.slower * settings.rate / (1 - settings.betas[0] ** update)
        self.logits[name] -= rate * first / (corrected.sqrt() + 1e-8)

    def _entropy(self) -> float:
        """The mean entropy of the operators, as a share of the most there can be."""
        return entropy(logits for name, logits in self.logits.items() if name not in self._topologies)

    def _recorded(self) -> dict[str, Any]:
        loss = self.logits_loss if math.isfinite(self.logits_loss) else None
        fields: dict[str, Any] = {"update": self.path.updates, "loss": loss, "entropy": self._entropy()}
        fields |= {"probabilities": self.probabilities()}
        if edges := self.rules.edges(self.logits):
            own = [logits for name, logits in self.logits.items() if name in self._topologies]
            fields |= {"edges": edges, "topology_entropy": entropy(own)}
        return fields

    def _watched(self, watch: Watch) -> Iterator[tuple[str, dict[str, Any]]]:
        """The event of an epoch of a search of cells, and a warning where the derived cell looks collapsed."""
        best = self.best()
        found = counted(best)
        place = {"update": self.path.updates, "epoch": self.moment.epoch + 1}
        for name, number in found.items():
            if text := warning(name, number):
                yield "collapse", place | {"cell": name} | number.data() | {"text": text}
        cells = {"cells": {name: number.data() for name, number in found.items()}}
        yield "cells", place | cells | told(best) | watch.take()

    def _rewind(self) -> Progress:
        """Back to the last good state at half the rate; the batches since then are not met again soon."""
        update = self.path.updates
        self.rewound += 1
        if self.rewound > self.settings.rewinds:
            raise RunError(
                f"the loss of the search was no number {self.rewound} times, last at update {update}; start a new run "
                f"with a lower strategy.training.schedule.peak or strategy.logits.rate"
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

    def _keep(self) -> None:
        """This state is the last good one: written over the one before, so that there are never two copies."""
        kept, _ = self._good
        for name, tensor in self._live().items():
            kept[name].copy_(tensor.detach())
        self._good = kept, self._counters()

    def _live(self) -> dict[str, Tensor]:
        logits = {f"logits.{name}": tensor for name, tensor in self.logits.items()}
        moments = {f"moments.{name}": tensor for name, tensor in self.moments.items()}
        return self.path.tensors() | logits | moments

    def _counters(self) -> dict[str, Any]:
        watched = {} if self.watch is None else {"watch": self.watch.state()}
        places = {"path": self.path.state(), "logits_stream": self.stream.state_dict(), "window": self.window.state()}
        return places | watched

    def _take(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self.path.load(tensors, state["path"])
        self.stream.load_state_dict(state["logits_stream"])
        self.window.load(state["window"])
        if self.watch is not None:
            self.watch.load(state["watch"])
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
        """Go to where `tensors` and `state` were taken; nothing of `tensors` is kept."""
        good = {name.removeprefix("good."): tensor for name, tensor in tensors.items() if name.startswith("good.")}
        self._take(good, state["good"])
        self._keep()
        self._take(tensors, state)
        self.slower, self.rewound, self.logits_loss = state["slower"], state["rewound"], state["logits_loss"]


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """No gradients for the weights of a model inside."""
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
