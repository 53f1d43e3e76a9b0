"""Whether a lead lasts: the validation losses of the found architecture and of its strongest control, update by
update."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nasformer.report.values import Comparison, SearchCurve

_MEMBERS = ("random_architecture", "average")
"""Controls of which every numbered training counts."""


@dataclass(frozen=True)
class Followed:
    """A training as readers compare it: its stage, its row's label, and validation losses by update, those of the
    supernet included whose weights it goes on with."""

    stage: str
    label: str
    updates: tuple[int, ...]
    losses: tuple[float, ...]


def without_candidates(curves: Sequence[SearchCurve]) -> tuple[SearchCurve, ...]:
    """The trainings that were not given up: of the numbered finalists of a search the longest, of the candidates of a
    control none where the training of the best from scratch is there."""
    stages = {curve.stage for curve in curves}

    def last(curve: SearchCurve) -> int:
        return max((*curve.updates, *curve.validation_updates), default=0)

    longest: dict[str, SearchCurve] = {}
    for curve in curves:
        base = _base(curve.stage)
        if base.endswith(("fine_tuned", "retrained")) and (base not in longest or last(curve) > last(longest[base])):
            longest[base] = curve

    def stays(curve: SearchCurve) -> bool:
        base = _base(curve.stage)
        if base == curve.stage or base.endswith("search") or base in _MEMBERS:
            return True
        return longest[base] is curve if base in longest else base not in stages

    return tuple(curve for curve in curves if stays(curve))


def follow(curves: Sequence[SearchCurve], comparison: Comparison, before: int) -> tuple[Followed, ...]:
    """The trainings of the found architecture and of its strongest control that recorded validation losses; `before`
    are the updates of the supernet from which fine-tuning goes on. Nothing where one of the two recorded none."""
    strongest = comparison.strongest
    if strongest is None:
        return ()
    found = _trainings(curves, comparison, "found", ("found", "fine_tuned", "retrained"), before)
    name = strongest.name
    control = _trainings(curves, comparison, name, (name, f"{name}_fine_tuned", f"{name}_retrained"), before)
    return (*found, *control) if found and control else ()


def _trainings(
    curves: Sequence[SearchCurve], comparison: Comparison, name: str, stages: Sequence[str], before: int
) -> tuple[Followed, ...]:
    """The trainings of one row that recorded validation losses."""
    followed = []
    for curve in without_candidates([curve for curve in curves if _base(curve.stage) in stages]):
        if curve.validation_updates:
            base = _base(curve.stage)
            shift = before if base.endswith("fine_tuned") else 0
            updates = tuple(update + shift for update in curve.validation_updates)
            followed.append(Followed(curve.stage, _label(comparison, name, base), updates, curve.validation_losses))
    return tuple(followed)


def _label(comparison: Comparison, name: str, stage: str) -> str:
    """The label of a stage's own row, else that of the arm and which of its trainings it is."""
    if own := comparison.row(stage):
        return own.label
    arm = comparison.row(name)
    return f"{arm.label if arm else name}, {stage.removeprefix(f'{name}_').replace('_', ' ')}"


def _base(stage: str) -> str:
    return re.sub(r"_\d+$", "", stage)
