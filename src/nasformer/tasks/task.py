"""What every task promises: data, a loss, and what counts as good."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from nasformer.operators.catalogue import Dropout


class Stream(Protocol):
    """Training batches without end, resumable anywhere."""

    def next(self) -> Any:
        """The next batch."""
        ...

    def state_dict(self) -> dict[str, int]:
        """Where the stream stands."""
        ...

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to where a stream stood."""
        ...


class TaskSettings(Protocol):
    """The settings of a task, a frozen value with a `kind`."""

    @property
    def longest(self) -> int:
        """The most positions of a sequence that is trained on."""
        ...

    def check(self, architecture: Any) -> None:
        """Raises `RequestError` where models of an architecture (or space) cannot do the task."""
        ...

    def open(self, cache: Path | None = None) -> Task:
        """Read the data and make them ready; `cache` is a folder for what takes long to make."""
        ...

    def load(self, folder: Path, cache: Path | None = None) -> tuple[nn.Module, Task]:
        """The network of a folder that `Task.save` wrote, and the task as that model knows it."""
        ...


class Task(Protocol):
    """Data, loss and score. A task calls a model and does not know what made it."""

    def digests(self) -> dict[str, str]:
        """A SHA-256 of each split's data, by which a resumed run knows them."""
        ...

    def model_settings(self, dropout: Dropout) -> Any:
        """What a model for this task needs besides its architecture: `ModelSettings`, or for images `ImageSettings`."""
        ...

    def stream(self, tokens: int, seed: int, part: tuple[float, float] = (0.0, 1.0)) -> Stream:
        """Training batches of about `tokens` tokens, a function of the seed.

        `part` are two fractions: the training data between them, in an order of the data's own, so that streams of
        parts that do not overlap share nothing, whatever their seeds.
        """
        ...

    def for_search(self) -> Task:
        """This task as a search of cells sees it, without what is only for training what was found."""
        ...

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The training loss, in nats per predicted token."""
        ...

    def draw(self, tokens: int, generator: np.random.Generator) -> list[Any]:
        """A fresh random part of the validation split, as batches."""
        ...

    def evaluate(self, model: nn.Module, batches: list[Any]) -> float:
        """The loss without smoothing or dropout, in nats per predicted token, over batches."""
        ...

    def hidden(self, model: nn.Module, batch: Any) -> Tensor:
        """The last hidden states (positions, dim) of a batch's real target positions."""
        ...

    def validation_loss(self, model: nn.Module) -> float:
        """`evaluate` over the whole validation split."""
        ...

    def quality(self, model: nn.Module, split: str) -> dict[str, Any]:
        """The quality of a scorecard: the split, what the task measures on it, and the loss, as plain data."""
        ...

    def save(self, model: Any, folder: Path) -> None:
        """Write a model, and what it takes to use it, as a folder that `transformers` loads."""
        ...

    def facts(self) -> dict[str, Any]:
        """What a report tells of the data."""
        ...
