"""The mean training loss between two journal entries."""

from __future__ import annotations

import math
from typing import Any

from nasformer.errors import DivergedError


class LossWindow:
    """The mean loss since the last journal entry, the tokens since the beginning; `last` is the mean written last."""

    def __init__(self) -> None:
        self.total, self.count, self.tokens, self.last = 0.0, 0, 0, math.nan

    @property
    def told(self) -> float:
        """What to show meanwhile: the mean written last, before that the mean so far."""
        return self.total / self.count if math.isnan(self.last) and self.count else self.last

    def add(self, loss: float, tokens: int) -> None:
        """One more update; raises `DivergedError` where its loss is no number."""
        if not math.isfinite(loss):
            raise DivergedError(
                f"the training loss became {loss}; lower the peak learning rate or lengthen the warm-up"
            )
        self.total, self.count, self.tokens = self.total + loss, self.count + 1, self.tokens + tokens

    def take(self, update: int, rate: float) -> dict[str, Any]:
        """The fields of an `update` event; the window begins anew."""
        self.last = self.total / self.count
        fields = {"update": update, "loss": self.last, "learning_rate": rate, "tokens": self.tokens}
        self.total, self.count = 0.0, 0
        return fields

    def state(self) -> list[float]:
        """The window as plain data."""
        return [self.total, self.count, self.tokens, self.last]

    def load(self, state: list[Any]) -> None:
        """Take over what `state` gave."""
        self.total, self.count, self.tokens, self.last = state
