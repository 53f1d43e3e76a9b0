"""What several benchmarks work on: a translation task, real batches of it, and training steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import nn

from nasformer.models.build import build
from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.space import Space
from nasformer.strategies.objective import Objective
from nasformer.supernets.adam import SliceAdam
from nasformer.supernets.transformer import TransformerSupernet
from nasformer.tasks.batching import Batch
from nasformer.tasks.translation import Translation, TranslationTask

RATE = 1e-4
VOCABULARY = 4_000


@lru_cache(maxsize=1)
def translation(data: Path | None) -> TranslationTask:
    """Text in the folder `data` or else the embedded corpus, with a vocabulary of about 4,000."""
    if data is not None:
        return Translation(path=str(data), vocabulary=VOCABULARY, lowercase=True).open()
    return Translation(vocabulary=VOCABULARY, embedded_pairs=20_000).open()


def corpus(data: Path | None) -> str:
    """The name of the text, for the sentence that says how a figure was measured."""
    return "the embedded corpus" if data is None else data.resolve().name


def batches(task: TranslationTask, tokens: int, count: int) -> list[Batch]:
    """The first training batches of a stream."""
    stream = task.stream(tokens, seed=1)
    return [stream.next() for _ in range(count)]


def adamw(model: nn.Module) -> torch.optim.AdamW:
    """PyTorch's own optimiser with the settings that nasformer trains with."""
    return torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)


def plain_step(task: TranslationTask, model: nn.Module, autocast: Any = None) -> Callable[[Batch], None]:
    """A training step of a plain model with `torch.optim.AdamW(fused=True)`."""
    optimiser = adamw(model.train())

    def step(batch: Batch) -> None:
        if autocast is None:
            loss = task.loss(model, batch)
        else:
            with autocast:
                loss = task.loss(model, batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


class SupernetSteps:
    """Training steps of a supernet: drawing the architecture, lending its slices, loss, gradients, Adam."""

    def __init__(self, task: TranslationTask, space: Space, residual: float) -> None:
        self.task, self.space = task, space
        self.supernet = TransformerSupernet(space, task.model_settings(Dropout(residual=residual)), seed=1)
        self.settings: ModelSettings = self.supernet.settings
        self.adam = SliceAdam(self.supernet.weights)
        self.random, self.objective = Random(1), Objective()

    def draw(self) -> Any:
        """An architecture, drawn as the search draws it."""
        return self.objective.sample(self.space, self.random, self.settings)

    def step(self, architecture: Any, batch: Batch) -> None:
        """One update of this architecture's slices."""
        model = self.supernet.at(architecture).train()
        self.task.loss(model, batch).backward()
        self.adam.step(model.parameters(), RATE)

    def draw_and_step(self, architecture: Any, batch: Batch) -> None:
        """As `step`, with the time of a drawing that is thrown away: both sides must run the same architecture."""
        self.draw()
        self.step(architecture, batch)

    def plain(self, architecture: Any) -> Callable[[Batch], None]:
        """A training step of the same architecture as a plain model."""
        return plain_step(self.task, build(architecture, self.settings, seed=1))
