"""The learning rate: linear warm-up, then the inverse square root of the update number."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from nasformer.spaces.value import Count, Value


class InverseSquareRoot(Value):
    """`start` → `peak` over `warmup` updates, then peak · √(warmup / update) (docs/papers/operators.md §5)."""

    peak: Annotated[float, Field(gt=0)] = 5e-4
    warmup: Annotated[Count, Field(ge=1)] = 10_000
    start: Annotated[float, Field(ge=0)] = 1e-7

    def rate(self, update: int) -> float:
        """The learning rate of update 1, 2, …."""
        if update < self.warmup:
            return self.start + (self.peak - self.start) * update / self.warmup
        return self.peak * math.sqrt(self.warmup / update)
