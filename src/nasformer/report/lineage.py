"""Draw the line of programs from the start to the winner: a box a mutation, with what it changed and what it gave."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nasformer.measures.statistics import Interval
from nasformer.report.evolved import Step
from nasformer.report.figure import INK, QUIET, svg
from nasformer.report.listing import MONOSPACED
from nasformer.report.shapes import canvas, frame

_WIDTH, _LINE, _GAP = 8.6, 0.175, 0.2
_LETTERS = 104
"""The letters of a line of a change, which is set in a monospaced face."""
_MOST = 40
KINDS = {
    "start": "the start",
    "delete": "an instruction deleted",
    "insert": "an instruction inserted",
    "delete and insert": "an instruction deleted, another inserted",
    "field": "an argument or operation changed",
    "swap": "two instructions swapped",
    "bank": "a shared value changed",
}
"""The kinds of mutations in words."""


def draw_lineage(steps: Sequence[Step]) -> str:
    """One box a program, from the start at the top to the winner; of a very long line the middle is left out."""
    before = dict(zip([step.number for step in steps[1:]], [step.fitness for step in steps], strict=False))
    shown: list[Step | int] = list(steps)
    if len(steps) > _MOST:
        shown = [*steps[: _MOST // 2], len(steps) - _MOST, *steps[-(_MOST // 2) :]]
    texts = [_lines(step) for step in shown]
    heights = [0.42 + _LINE * len(lines) for lines in texts]
    height = sum(heights) + _GAP * (len(shown) - 1) + 0.2 if shown else 0.6

    def draw(figure: Figure) -> None:
        axes = canvas(figure, _WIDTH, height)
        top = height - 0.1
        for place, (step, lines, size) in enumerate(zip(shown, texts, heights, strict=True)):
            if place:
                axes.annotate("", (0.4, top), (0.4, top + _GAP), arrowprops={"arrowstyle": "->", "color": INK})
            if isinstance(step, int):
                axes.text(0.6, top - size / 2, f"… {step} more mutations …", fontsize=9, color=QUIET, va="center")
            else:
                last = place == len(shown) - 1
                _draw_step(axes, step, before.get(step.number), lines, top, size, last=last)
            top -= size + _GAP

    return svg("lineage", "The mutations from the start to the winner", (_WIDTH, height), draw)


def _lines(step: Step | int) -> list[str]:
    change = None if isinstance(step, int) else step.change
    return textwrap.wrap(change, _LETTERS, subsequent_indent="  ") if change else []


def _draw_step(
    axes: Axes, step: Step, before: float | None, lines: list[str], top: float, size: float, *, last: bool
) -> None:
    frame(axes, 0.1, top - size, _WIDTH - 0.2, size, "#EEF5FA" if last else "#FAFAFA", INK if last else "#9A9A9A")
    middle = top - 0.2
    kind = step.mutation or "start"
    title = f"{step.number}: {KINDS.get(kind, kind)}" + (" ★" if last and kind != "start" else "")
    axes.text(0.25, middle, title, fontsize=9.5, fontweight="bold", color=INK, va="center")
    axes.text(_WIDTH - 0.25, middle, outcome(step, before), fontsize=9, color=INK, va="center", ha="right")
    for place, line in enumerate(lines):
        below = top - 0.42 - _LINE * place
        axes.text(0.25, below, line, fontsize=8.5, family=MONOSPACED, color=INK, va="center")


def outcome(step: Step, before: float | None) -> str:
    """What a mutation gave: `2.412 → 2.398 (−0.014)`, and the loss after training again where it was."""
    if step.fitness is None:
        said = "no fitness"
    elif before is None:
        said = f"loss {step.fitness:.3f}"
    else:
        said = f"loss {before:.3f} → {step.fitness:.3f} ({step.fitness - before:+.3f})".replace("-", "−")
    return said if step.retrained is None else f"{said}; trained again {interval_text(step.retrained)}"


def interval_text(value: Interval, digits: int = 3) -> str:
    """A number with its bounds, where it has some: `2.401 (2.390–2.412)`."""
    if value.low is None or value.high is None:
        return f"{value.value:.{digits}f}"
    return f"{value.value:.{digits}f} ({value.low:.{digits}f}–{value.high:.{digits}f})"
