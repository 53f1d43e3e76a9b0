"""A landscape on a space of cells for searches by gradients: every operator of every edge has a loss of its own, and a
weight that is trained; smooth, without a network, and told of every selection that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tiny_language import TinyLanguage, TinyTask
from torch import Tensor, nn

from nasformer.models.transformer import ModelSettings
from nasformer.spaces.cell import SearchedEdge, searched_edges
from nasformer.spaces.sequence_spaces import t2
from nasformer.spaces.space import Space
from nasformer.supernets.selection import Chosen, Selection, single
from nasformer.training.schedule import Cosine
from nasformer.training.trainer import Training

SPACE = t2(dim=8, blocks=1, nodes=2)
WIDER = t2(dim=8, blocks=1, nodes=3)
TRAINING = Training(
    updates=6, batch_tokens=32, record_every=2, optimizer="sgd", schedule=Cosine(peak=0.05), weight_decay=0.0
)
TASK = TinyTask(TinyLanguage(length=8))


class Landscape:
    """A supernet: Σ over the edges that run, edge weight · Σ over options, weight · (loss + (w − shift)² + sin w)."""

    def __init__(self, space: Space, seed: int = 1, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.space, self.edges = space, searched_edges(space)
        self.settings = ModelSettings(target_vocabulary=1)
        self.losses = {edge.name: torch.rand(len(edge.operators), generator=generator).to(dtype) for edge in self.edges}
        self.weights = {
            f"{edge.name}.{option}": torch.rand(1, generator=generator).to(dtype)
            for edge in self.edges
            for option in range(len(edge.operators))
        }
        self.parameters = {name: self._lent(name) for name in self.weights}
        self.ran: list[Selection] = []
        self.skips: list[float | None] = []
        self.bypass = True

    def _lent(self, name: str) -> nn.Parameter:
        parameter: Any = nn.Parameter(self.weights[name])
        parameter.source = name
        return parameter

    def to(self, device: torch.device) -> Landscape:
        """Itself."""
        return self

    def at(self, selection: Any, skip: float | None = None) -> nn.Module:
        """A model of what the selection runs."""
        selection = selection if isinstance(selection, dict) else single(self.space.encode(selection))
        self.ran.append(selection)
        self.skips.append(skip)
        return _Model(self, selection)

    def running(self, selection: Selection) -> Iterator[tuple[SearchedEdge, Any, int, Any]]:
        """Every option that runs: edge, the edge's weight, option, the option's weight."""
        for edge in self.edges:
            chosen = selection[edge.topology] if edge.topology else Chosen((edge.option,))
            if edge.option in chosen.options:
                own = 1.0 if chosen.weights is None else chosen.weights[chosen.options.index(edge.option)]
                options = selection[str(edge.operator)]
                weights = [1.0] * len(options.options) if options.weights is None else options.weights.unbind()
                for option, weight in zip(options.options, weights, strict=True):
                    yield edge, own, option, weight

    def found(self, member: Any) -> float:
        """The loss of a member with ideal weights."""
        code = single(self.space.encode(member))
        return sum(float(self.losses[edge.name][option]) for edge, _, option, _ in self.running(code))


class _Model(nn.Module):
    def __init__(self, landscape: Landscape, selection: Selection) -> None:
        super().__init__()
        self.landscape, self.selection = landscape, selection
        for edge, _, option, _ in landscape.running(selection):
            name = f"{edge.name}.{option}"
            self.register_parameter(name.replace(".", "/"), landscape.parameters[name])

    def value(self, shift: float) -> Tensor:
        """The loss; `shift` moves the targets of the weights."""
        total: Any = 0.0
        for edge, own, option, weight in self.landscape.running(self.selection):
            held = getattr(self, f"{edge.name}.{option}".replace(".", "/"))[0]
            total = total + own * weight * (
                self.landscape.losses[edge.name][option] + (held - shift).square() + held.sin()
            )
        return total


@dataclass
class Hill:
    """A task on a landscape: its loss times a noisy factor, on batches that shift the targets; `broken` are the calls
    at which it is no number, `steep` those at which its gradient is none in one weight."""

    seed: int = 1
    noise: float = 0.0
    broken: frozenset[int] = frozenset()
    steep: frozenset[int] = frozenset()
    calls: int = 0
    met: list[float] = field(default_factory=list)

    def stream(self, tokens: int, seed: int, part: tuple[float, float] = (0.0, 1.0)) -> HillStream:
        """Batches of a part."""
        return HillStream(seed, part)

    def draw(self, tokens: int, generator: np.random.Generator) -> list[HillBatch]:
        """A batch that shifts nothing."""
        return [HillBatch(0.0)]

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: list[HillBatch]) -> float:
        """The landscape's loss without noise."""
        return sum(float(model.value(batch.shift)) for batch in batches) / len(batches)  # type: ignore[operator]

    def loss(self, model: Any, batch: HillBatch) -> Tensor:
        """The landscape's loss."""
        self.calls += 1
        self.met.append(batch.shift)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.calls)
        factor = 1 + self.noise * float(torch.randn((), generator=generator))
        value: Tensor = model.value(batch.shift) * factor
        if self.calls in self.steep:
            weight = next(model.parameters())
            value = value + 0.0 * (weight - weight.detach()).sqrt().sum()
        return value * float("nan") if self.calls in self.broken else value


@dataclass(frozen=True)
class HillBatch:
    """A batch: how far it shifts the targets."""

    shift: float
    tokens: int = 1

    def to(self, device: Any) -> HillBatch:
        """Itself."""
        return self


@dataclass
class HillStream:
    """Batches whose shift tells the part they are of: about 0.1 for the first, −0.1 for the second."""

    seed: int
    part: tuple[float, float]
    number: int = 0

    def next(self) -> HillBatch:
        """The next batch."""
        self.number += 1
        return HillBatch((0.1 if self.part[0] == 0 else -0.1) + 0.001 * self.number)

    def state_dict(self) -> dict[str, int]:
        """Its number."""
        return {"number": self.number}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go there."""
        self.number = state["number"]


def snapshot(search: Any) -> tuple[dict[str, Tensor], str]:
    """Everything that a checkpoint keeps, copied."""
    return {name: tensor.clone() for name, tensor in search.tensors().items()}, json.dumps(search.state())


def to_the_end(search: Any) -> list[str]:
    """The events of the remaining steps."""
    events = []
    while not search.finished():
        events += [json.dumps(event) for event in search.step().events]
    return events
