"""A language task made of nothing, for searches of programs: bytes of which most follow from the one before."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.value import Value
from nasformer.tasks.windows import WindowBatch, Windows, WindowStream

VOCABULARY = 12


class TinyLanguage(Value):
    """Settings; a process that trains a model of depth `deadly_depth` kills itself, once for each file that can still
    be made in `deaths` (at every time where None)."""

    length: int = 12
    deadly_depth: int | None = None
    deaths: str | None = None

    def open(self, cache: Path | None = None) -> TinyTask:
        """The task."""
        return TinyTask(self)


class TinyTask:
    """As much of `nasformer.tasks.task.Task` as a search of programs uses."""

    def __init__(self, settings: TinyLanguage) -> None:
        self.settings = settings
        generator = np.random.default_rng(1)
        steps = np.where(generator.random(6_000) < 0.8, 3, generator.integers(0, VOCABULARY - 1, 6_000))
        tokens = 1 + np.cumsum(steps) % (VOCABULARY - 1)
        self.data = {"train": Windows(tokens[:5_000], settings.length, "train")}
        self.data["valid"] = Windows(tokens[5_000:], settings.length, "valid")

    def model_settings(self, dropout: Dropout) -> ModelSettings:
        """The vocabulary."""
        return ModelSettings(target_vocabulary=VOCABULARY, dropout=dropout)

    def stream(self, tokens: int, seed: int, part: tuple[float, float] = (0.0, 1.0)) -> WindowStream:
        """Training batches."""
        return WindowStream(self.data["train"], tokens, seed, self.data["train"].part(part, 1))

    def draw(self, tokens: int, generator: np.random.Generator) -> list[WindowBatch]:
        """Validation batches."""
        return self.data["valid"].draw(tokens, generator)

    def loss(self, model: Any, batch: WindowBatch) -> Tensor:
        """Nats per token; deadly where the settings say so."""
        deadly = self.settings.deadly_depth
        if deadly is not None and model.architecture.depth == deadly and self._dies():
            os.kill(os.getpid(), signal.SIGKILL)
        return F.cross_entropy(model(batch.input).flatten(0, 1), batch.target.flatten())

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: list[WindowBatch]) -> float:
        """Nats per token."""
        model.eval()
        losses = [float(F.cross_entropy(model(b.input).flatten(0, 1), b.target.flatten())) for b in batches]
        return sum(losses) / len(losses)

    def _dies(self) -> bool:
        if self.settings.deaths is None:
            return True
        try:
            (Path(self.settings.deaths) / "died").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True
