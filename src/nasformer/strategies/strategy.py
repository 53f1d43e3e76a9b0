"""What every search promises. A strategy is frozen settings; its `begin` gives the search under way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """What one step did: how far the search is, a line for the person who watches, and events for the journal."""

    done: int
    total: int
    text: str = ""
    events: tuple[tuple[str, dict[str, Any]], ...] = field(default=())


class Search(Protocol):
    """A method under way. Everything that changes is in `tensors` and `state`, so it can be stopped and resumed."""

    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        ...

    def step(self) -> Progress:
        """Do a little: one update, or a few evaluations."""
        ...

    def best(self) -> Any:
        """The architecture found."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """The state that is tensors, for a checkpoint."""
        ...

    def state(self) -> dict[str, Any]:
        """The rest of the state, as plain data."""
        ...

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go to where `tensors` and `state` were taken."""
        ...
