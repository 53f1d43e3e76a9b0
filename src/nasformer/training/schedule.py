"""The learning rate: warm-up and then a decay; its peak may be left to a sweep (`nasformer.training.sweep`).

A warm-up is a share of the updates unless it is given in updates, so that a schedule fits a training of any length.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag

from nasformer.errors import RequestError
from nasformer.spaces.value import Count, Value, whole

AUTO: Literal["auto"] = "auto"
"""In place of a peak: the rate is searched for."""


def _peak(value: Any) -> Any:
    if isinstance(value, str) and value != AUTO:
        with suppress(ValueError):
            value = float(value)  # as YAML reads 2e-3
    if value == AUTO or (isinstance(value, int | float) and not isinstance(value, bool) and value > 0):
        return value
    raise ValueError(f"expected a learning rate above 0, or auto, got {value!r}")


def _warmup(value: Any) -> Any:
    value = whole(value)
    if isinstance(value, float) and 0 <= value < 1:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError(f"expected a number of updates from 1 on, or a share of them from 0 to below 1, got {value!r}")


Peak = Annotated[float | Literal["auto"], BeforeValidator(_peak)]
"""The largest learning rate, or `auto`."""
Warmup = Annotated[int | float, BeforeValidator(_warmup)]
"""How long the rate grows: updates where it is a whole number, below 1 a share of all updates."""


class _Schedule(Value):
    """What every schedule has: a peak, and a warm-up that is made whole for a training of a known length."""

    peak: Peak = AUTO
    warmup: Warmup = 0.125

    def warmup_updates(self, updates: int | None) -> int:
        """The warm-up of a training of `updates`, in updates."""
        if isinstance(self.warmup, int):
            return self.warmup
        assert updates is not None, "a warm-up that is a share needs to know how long the training is"
        return round(self.warmup * updates)

    def fitted(self, updates: int) -> Self:
        """This schedule for a training of `updates`: a warm-up in updates where there is one.

        Raises `RequestError` where the warm-up is longer than the training.
        """
        warmup = self.warmup_updates(updates)
        if warmup > updates:
            raise RequestError(
                f"schedule.warmup is {warmup:,} updates, and the training has {updates:,}; expected a shorter warm-up, "
                f"or a share of the updates such as 0.125"
            )
        return self.but(warmup=warmup) if warmup else self

    def shortened(self, updates: int, whole: int) -> Self:
        """The same shape for a training of `updates` instead of `whole`: the warm-up has the same share."""
        share = self.warmup_updates(whole) / whole
        return self.but(warmup=max(1, round(share * updates))) if share else self

    def largest(self) -> float:
        """The peak, which must be known by now."""
        assert self.peak != AUTO, "the peak is searched for before the training begins"
        return float(self.peak)


class InverseSquareRoot(_Schedule):
    """`start` → `peak` over `warmup`, then peak · √(warmup / update) (docs/papers/operators.md §5)."""

    kind: Literal["inverse_square_root"] = "inverse_square_root"
    start: Annotated[float, Field(ge=0)] = 1e-7

    def rate(self, update: int, updates: int | None = None) -> float:
        """The learning rate of update 1, 2, … of a training of `updates`, which only a warm-up in shares needs."""
        peak, warmup = self.largest(), max(1, self.warmup_updates(updates))
        if update < warmup:
            return self.start + (peak - self.start) * update / warmup
        return peak * math.sqrt(warmup / update)


class _Ending(_Schedule):
    """A schedule that ends: with the training, or after `updates` where that is given."""

    updates: Annotated[Count, Field(ge=1)] | None = None

    def fitted(self, updates: int) -> Self:
        """This schedule for a training of `updates`, over which it goes."""
        return super().fitted(updates).but(updates=self.updates or updates)

    def shortened(self, updates: int, whole: int) -> Self:
        """The same shape for a training of `updates` instead of `whole`."""
        return super().shortened(updates, self.updates or whole).but(updates=updates)

    def length(self, updates: int | None) -> int:
        """After how many updates it ends, in a training of `updates`."""
        total = self.updates or updates
        assert total is not None, "a schedule that ends needs to know how long the training is"
        return total


class Cosine(_Ending):
    """`peak` → `end` along half a cosine over the whole training, or over `updates` where that is given (as where a
    search and the fine-tuning after it share one schedule). Update by update what PyTorch's CosineAnnealingLR gives:
    the first update has the peak, the end is what the update after the last would have (Loshchilov and Hutter,
    arXiv 1608.03983, without restarts). With a `warmup` the rate grows from 0 before, and the cosine takes the rest."""

    kind: Literal["cosine"] = "cosine"
    warmup: Warmup = 0.0
    end: Annotated[float, Field(ge=0)] = 0.0

    def rate(self, update: int, updates: int | None = None) -> float:
        """The learning rate of update 1, 2, … of a training of `updates`; the end after the last one."""
        total = self.length(updates)
        peak, warmup = self.largest(), self.warmup_updates(total)
        if update <= warmup:
            return peak * update / warmup
        done = min(1.0, (update - 1 - warmup) / (total - warmup)) if total > warmup else 1.0
        return self.end + (peak - self.end) * (1 + math.cos(math.pi * done)) / 2


class ConstantThenDecay(_Ending):
    """0 → `peak` over `warmup`, the peak, then in a straight line to 0 over the last part `decay` of the training
    (Hägele et al., arXiv 2405.18392), or of `updates` where that is given: a search at the peak and a fine-tuning that
    decays share one schedule."""

    kind: Literal["constant_then_decay"] = "constant_then_decay"
    decay: Annotated[float, Field(gt=0, le=1)] = 0.4

    def rate(self, update: int, updates: int | None = None) -> float:
        """The learning rate of update 1, 2, … of a training of `updates`; 0 after the last one."""
        total = self.length(updates)
        peak, warmup = self.largest(), self.warmup_updates(total)
        if update <= warmup:
            return peak * update / warmup
        return peak * max(0.0, min(1.0, (total - update + 1) / (self.decay * total)))


def _kind(value: Any) -> Any:
    """The kind of a schedule; one without is the inverse square root, as in recipes from before there were others."""
    return value.get("kind", "inverse_square_root") if isinstance(value, dict) else getattr(value, "kind", None)


Schedule = Annotated[
    Annotated[InverseSquareRoot, Tag("inverse_square_root")]
    | Annotated[Cosine, Tag("cosine")]
    | Annotated[ConstantThenDecay, Tag("constant_then_decay")],
    Discriminator(_kind),
]
"""How the learning rate goes."""

SCHEDULES: dict[str, type[Value]] = {
    "inverse_square_root": InverseSquareRoot,
    "cosine": Cosine,
    "constant_then_decay": ConstantThenDecay,
}
"""By kind."""
