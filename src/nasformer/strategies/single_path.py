"""What single-path methods share: a supernet trained one architecture at a time, and rankings on inherited weights.

An update runs one architecture on its slices and changes nothing else (docs/papers/shrinknas.md §2.1). A ranking scores
members by validation loss plus penalty on one batch, drawn afresh for each ranking and shared by its members (§2.3, our
reading 14); it is done a few members at a time, so that it can be interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from random import Random
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.spaces.space import Space
from nasformer.strategies.objective import Objective
from nasformer.supernets.supernet import Supernet
from nasformer.tasks.task import Task
from nasformer.training.randomness import derive, seeded
from nasformer.training.sweep import validation
from nasformer.training.trainer import Training, fabric, make_optimizer, optimizer_state, total_norm

Scored = tuple[float, Any]
"""A score (lower is better) and the member that has it."""
CHUNK_TOKENS = 65_536
"""How many tokens are evaluated in one step of a ranking."""


class SinglePath:
    """A supernet under single-path training on a task.

    Args:
        supernet: the shared weights, changed in place.
        task: gives batches and losses.
        training: length and schedule of the supernet's training.
        seed: everything random is derived from it.
        part: two fractions; the training data between them are used.
        micro_batches: in how many pieces a batch is worked on, to save memory.
    """

    def __init__(
        self,
        supernet: Supernet,
        task: Task,
        training: Training,
        seed: int,
        *,
        part: tuple[float, float] = (0.0, 1.0),
        micro_batches: int = 1,
    ) -> None:
        self.task, self.training, self.seed, self.micro_batches = task, training, seed, micro_batches
        self.device = fabric(training.precision)
        self.supernet = supernet.to(self.device.device)
        self.optimizer = make_optimizer(training, supernet.weights)
        self.stream = task.stream(training.batch_tokens, derive(seed, "batches"), part)
        self.updates = 0

    def update(self, selection: Any, slower: float = 1.0) -> tuple[float, int]:
        """One update of what an architecture or selection runs; returns its loss and the number of target tokens.

        The learning rate is `slower` times the schedule's. Where the loss is no number nothing is changed.
        """
        self.updates += 1
        return self.gather([self.supernet.at(selection)], self.stream.next(), slower=slower)

    def gather(
        self, models: Iterable[Any], batch: Any, *, mean: bool = False, slower: float = 1.0, again: int = 0
    ) -> tuple[float, int]:
        """One step along the sum (or mean) of the gradients of several models on one batch; their mean loss.

        The models are made and differentiated one after the other, so that memory is that of one. `again` counts the
        tries of an update, each with its own dropout. Where a loss or a gradient is no number nothing is changed, and
        the mean is none either.
        """
        losses: list[float] = []
        parameters: dict[Any, None] = {}
        with seeded(self.seed, "dropout", self.updates, *([again] if again else [])), self.device.autocast():
            for model in models:
                losses.append(self.differentiate(model, batch))
                parameters |= dict.fromkeys(model.parameters())
                if not math.isfinite(losses[-1]):
                    break
        if all(map(math.isfinite, losses)) and self._apply(list(parameters), 1 / len(losses) if mean else 1.0, slower):
            return sum(losses) / len(losses), batch.tokens
        for parameter in parameters:
            parameter.grad = None
        return math.nan, batch.tokens

    def _apply(self, parameters: list[nn.Parameter], share: float, slower: float) -> bool:
        """Whether the gradients are numbers and the step is taken."""
        if share != 1:
            torch._foreach_mul_([parameter.grad for parameter in parameters if parameter.grad is not None], share)
        norm = total_norm(parameters)
        if not bool(norm.isfinite()):
            return False
        self.training.clip_gradients(parameters, norm)
        self.optimizer.step(parameters, slower * self.training.rate(self.updates))
        return True

    def differentiate(self, model: Any, batch: Any) -> float:
        """The loss of a batch; its gradients are added where they belong."""
        if self.micro_batches == 1:
            loss = self.task.loss(model, batch.to(self.device.device))
            loss.backward()
            return float(loss.detach())
        total = 0.0
        for part in batch.split(self.micro_batches):
            loss = self.task.loss(model, part.to(self.device.device)) * (part.tokens / batch.tokens)
            loss.backward()
            total += float(loss.detach())
        return total

    def divergence(self, sampler: Any, random: Random, *, members: int, tokens: int) -> dict[str, float]:
        """How much the outputs of different architectures differ for one fixed batch, dropout off.

        The variance over `members` sampled architectures of the decoder's last hidden state, averaged over positions
        and the channels that all of them have; `normalised` after normalising each output over those channels (papers/
        shrinknas.md, our reading 21).
        """
        batches = self.task.draw(tokens, np.random.default_rng(derive(self.seed, "divergence")))
        outputs = []
        for _ in range(members):
            model = self.supernet.at(sampler.sample(random))
            outputs.append([self.task.hidden(model, batch.to(self.device.device)) for batch in batches])
        width = min(hidden[0].shape[1] for hidden in outputs)
        common = torch.stack([torch.cat([part[:, :width] for part in hidden]) for hidden in outputs])
        normalised = F.layer_norm(common, (width,))
        return {"variance": float(common.var(0).mean()), "normalised": float(normalised.var(0).mean())}

    def tensors(self) -> dict[str, Tensor]:
        """Shared weights and optimiser state."""
        weights = {f"weights.{name}": weight for name, weight in self.supernet.weights.items()}
        return weights | {f"optimizer.{name}": tensor for name, tensor in self.optimizer.tensors().items()}

    def state(self) -> dict[str, Any]:
        """Updates done and the place in the stream of batches."""
        return {"updates": self.updates, "stream": self.stream.state_dict()}

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go to where `tensors` and `state` were taken."""
        for name, weight in self.supernet.weights.items():
            weight.copy_(tensors[f"weights.{name}"])
        self.optimizer.load(optimizer_state(tensors))
        self.updates = state["updates"]
        self.stream.load_state_dict(state["stream"])


class SampledMembers:
    """A supernet at one rate of a sweep, trained on sampled members (see `nasformer.training.sweep.Trainee`): its loss
    is the mean over `count` members that every rate is measured with."""

    def __init__(self, path: SinglePath, draw: Callable[[Random], Any], seed: int, tokens: int, count: int = 8) -> None:
        self.path, self.draw, self.failed = path, draw, False
        self.random = Random(derive(seed, "sweep"))
        fixed = Random(derive(seed, "sweep members"))
        self.members = [draw(fixed) for _ in range(count)]
        self.batches = validation(path.task, seed, tokens, path.device.device)

    def train(self, until: int) -> None:
        """Go on until so many updates are done, or until a loss is NaN."""
        while self.path.updates < until and not self.failed:
            self.failed = not math.isfinite(self.path.update(self.draw(self.random))[0])

    def loss(self) -> float:
        """The mean validation loss of the members now."""
        if self.failed:
            return math.nan
        return fmean(self.path.task.evaluate(self.path.supernet.at(one), self.batches) for one in self.members)


class Ranking:
    """One validation run: members scored on one batch that all share, some at a time.

    Args:
        path: the supernet that lends the weights.
        objective: adds penalties.
        members: what is ranked, each once.
        number: which ranking of the search this is; with the seed it decides the batch.
        tokens: target tokens of the batch.
    """

    def __init__(
        self, path: SinglePath, objective: Objective, members: Sequence[Any], number: int, tokens: int
    ) -> None:
        self.path, self.objective, self.number = path, objective, number
        self.members = list(dict.fromkeys(members))
        self.scores: list[float] = []
        generator = np.random.default_rng(derive(path.seed, "ranking", number))
        self.batches = [batch.to(path.device.device) for batch in path.task.draw(tokens, generator)]
        self._chunk = max(1, CHUNK_TOKENS // tokens)

    def advance(self) -> None:
        """Score the next few members."""
        done = len(self.scores)
        for member in self.members[done : done + self._chunk]:
            excess = self.objective.excess(member, self.path.supernet.settings) if self.objective.penalty else 0.0
            loss = self.path.task.evaluate(self.path.supernet.at(member), self.batches)
            self.scores.append(loss + self.objective.penalty * excess)

    def finished(self) -> bool:
        """Whether every member has a score."""
        return len(self.scores) == len(self.members)

    def best_first(self) -> list[Scored]:
        """Members with scores, the lowest loss first; a loss that is no number comes last."""
        key = [(score if math.isfinite(score) else math.inf, i) for i, score in enumerate(self.scores)]
        return [(self.scores[i], self.members[i]) for _, i in sorted(key)]

    def state(self) -> dict[str, Any]:
        """Members and scores so far, as plain data."""
        space = self.path.supernet.space
        return {"number": self.number, "members": [packed(space, m) for m in self.members], "scores": self.scores}


def packed(space: Space, member: Any) -> list[Any]:
    """A member as the bare list of its answers, in the order of the walk."""
    return list(space.encode(member).values())


def unpacked(space: Space, answers: Sequence[Any]) -> Any:
    """The member whose answers `packed` gave."""
    rest = iter(answers)
    return space.close(lambda _: tuple(answer) if isinstance(answer := next(rest), list) else answer)


def random_state(random: Random) -> list[Any]:
    """A generator's state as plain data."""
    version, numbers, gauss = random.getstate()
    return [version, list(numbers), gauss]


def set_random_state(random: Random, state: Sequence[Any]) -> None:
    """Put a generator where `random_state` was taken."""
    version, numbers, gauss = state
    random.setstate((version, tuple(numbers), gauss))
