"""One named part of a run, with checkpoints of its own: the search, fine-tuning, each control."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from nasformer.runs.checkpoints import Checkpoint, newest, save
from nasformer.runs.run import Run


class Display(Protocol):
    """Where a person watches: told of every event, and of how far a stage is."""

    def progress(self, stage: str, done: int, total: int, text: str) -> None:
        """`done` of `total` units of a stage are over."""
        ...

    def event(self, event: str, fields: dict[str, Any]) -> None:
        """Something was written into the journal."""
        ...


class Quiet:
    """A display that shows nothing."""

    def progress(self, stage: str, done: int, total: int, text: str) -> None:
        """Nothing."""

    def event(self, event: str, fields: dict[str, Any]) -> None:
        """Nothing."""


class Stage:
    """A named part of a run; every event carries its name, and a checkpoint knows how long the journal was.

    Args:
        run: the run that is written to.
        name: the stage's name and its folder under `checkpoints/`.
        display: where progress is shown.
        every: seconds between two checkpoints.
        settled: its outcome is written already, and it is opened for its weights alone: nothing of it is forgotten.
    """

    def __init__(
        self, run: Run, name: str, display: Display | None = None, every: float = 120.0, *, settled: bool = False
    ) -> None:
        self.run, self.name, self.every, self.settled = run, name, every, settled
        self.display = display or Quiet()
        self._folder = run.checkpoints / name
        self._saved_at = time.monotonic()
        self._seconds, self._started = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Working time of this stage so far, interruptions left out."""
        return self._seconds + time.monotonic() - self._started

    def record(self, event: str, **fields: Any) -> None:
        """Append an event to the journal."""
        self.run.record(event, stage=self.name, **fields)
        self.display.event(event, {"stage": self.name} | fields)

    def progress(self, done: int, total: int, text: str = "") -> None:
        """Show how far this stage is."""
        self.display.progress(self.name, done, total, text)

    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return time.monotonic() - self._saved_at >= self.every

    def save(self, step: int, tensors: Mapping[str, Tensor], state: dict[str, Any]) -> None:
        """Write a checkpoint."""
        stage = {"journal": self.run.journal_position(), "seconds": self.seconds}
        save(self._folder, step, tensors, {"stage": stage, "own": state})
        self._saved_at = time.monotonic()

    def restore(self) -> Checkpoint | None:
        """The newest valid checkpoint, if any; what this stage wrote into the journal after it is forgotten."""
        found = newest(self._folder)
        if not self.settled:
            self.run.forget(self.name, after=0 if found is None else found.state["stage"]["journal"])
        if found is None:
            return None
        self._seconds, self._started = found.state["stage"]["seconds"], time.monotonic()
        return Checkpoint(found.step, found.tensors, found.state["own"])
