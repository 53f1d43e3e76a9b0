"""The learning rate: warm-up and the inverse square root of the update number, or half a cosine to the end."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from nasformer.spaces.value import Count, Value


class InverseSquareRoot(Value):
    """`start` → `peak` over `warmup` updates, then peak · √(warmup / update) (docs/papers/operators.md §5)."""

    kind: Literal["inverse_square_root"] = "inverse_square_root"
    peak: Annotated[float, Field(gt=0)] = 5e-4
    warmup: Annotated[Count, Field(ge=1)] = 10_000
    start: Annotated[float, Field(ge=0)] = 1e-7

    def rate(self, update: int, updates: int | None = None) -> float:
        """The learning rate of update 1, 2, …; how many `updates` the training has makes no difference."""
        if update < self.warmup:
            return self.start + (self.peak - self.start) * update / self.warmup
        return self.peak * math.sqrt(self.warmup / update)


class Cosine(Value):
    """`peak` → `end` along half a cosine over the whole training, or over `updates` where that is given (as where a
    search and the fine-tuning after it share one schedule). Update by update what PyTorch's CosineAnnealingLR gives:
    the first update has the peak, the end is what the update after the last would have (Loshchilov and Hutter,
    arXiv 1608.03983, without restarts)."""

    kind: Literal["cosine"] = "cosine"
    peak: Annotated[float, Field(gt=0)] = 0.025
    end: Annotated[float, Field(ge=0)] = 0.0
    updates: Annotated[Count, Field(ge=1)] | None = None

    def rate(self, update: int, updates: int | None = None) -> float:
        """The learning rate of update 1, 2, … of a training of `updates`; the end after the last one."""
        total = self.updates or updates
        assert total is not None, "a cosine needs to know how long the training is"
        done = min(1.0, (update - 1) / total)
        return self.end + (self.peak - self.end) * (1 + math.cos(math.pi * done)) / 2


def _kind(value: Any) -> Any:
    """The kind of a schedule; one without is the inverse square root, as in recipes from before there were others."""
    return value.get("kind", "inverse_square_root") if isinstance(value, dict) else getattr(value, "kind", None)


Schedule = Annotated[
    Annotated[InverseSquareRoot, Tag("inverse_square_root")] | Annotated[Cosine, Tag("cosine")], Discriminator(_kind)
]
"""How the learning rate goes."""

SCHEDULES: dict[str, type[Value]] = {"inverse_square_root": InverseSquareRoot, "cosine": Cosine}
"""By kind."""
