"""Sweeps of the learning rate: read from a journal as small values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasformer.report.reading import named, number, objects


@dataclass(frozen=True)
class Tried:
    """A rate, the updates that it was tried for, and the validation loss then; None where training failed."""

    peak: float
    updates: int
    loss: float | None


@dataclass(frozen=True)
class RateSweep:
    """What was swept (a stage, and for readers), the peak that was chosen, the updates that it took, and every point;
    none where the training was too short to tell rates apart."""

    stage: str
    label: str
    peak: float
    updates: int
    points: tuple[Tried, ...] = ()

    @property
    def arm(self) -> str:
        """The arm that the sweep is part of: controls sweep for each kind of their candidates."""
        return re.sub(r"_rate_\d+$", "", self.stage)

    def by_length(self) -> tuple[tuple[Tried, ...], ...]:
        """The points of each length of training, the shortest first, each by rate."""
        lengths = sorted({point.updates for point in self.points})
        return tuple(
            tuple(sorted((p for p in self.points if p.updates == length), key=lambda p: p.peak)) for length in lengths
        )


def read_sweeps(events: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> tuple[RateSweep, ...]:
    """The sweeps of a run in the order of the journal; `labels` are those of the rows. The later of two that tell of
    the same stage counts."""
    found: dict[str, RateSweep] = {}
    for event in named(events, "sweep"):
        peak, stage = number(event.get("peak")), event.get("of")
        if peak is not None and peak > 0 and isinstance(stage, str):
            found[stage] = RateSweep(
                stage, _label(stage, labels), peak, int(number(event.get("updates")) or 0), _points(event)
            )
    return tuple(found.values())


def _points(event: Mapping[str, Any]) -> tuple[Tried, ...]:
    found = []
    for point in objects(event.get("points")):
        peak, updates = number(point.get("peak")), number(point.get("updates"))
        if peak is not None and peak > 0 and updates is not None:
            found.append(Tried(peak, int(updates), number(point.get("loss"))))
    return tuple(found)


def _label(stage: str, labels: Mapping[str, str]) -> str:
    """A sweep for a kind of candidates by the label of its control and its number."""
    arm, _, kind = stage.partition("_rate_")
    label = labels.get(arm, arm.replace("_", " "))
    return f"{label}, candidates of kind {kind}" if kind else label
