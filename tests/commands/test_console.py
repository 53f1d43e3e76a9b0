"""What a person sees while work goes on, where there is no terminal to draw bars on."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from nasformer.commands.console import ConsoleDisplay


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the display sees; they move where a test moves them."""
    now = [0.0]
    monkeypatch.setattr("nasformer.commands.console.time.monotonic", lambda: now[0])
    return now


def test_a_stage_speaks_when_it_begins_every_few_seconds_and_at_its_end(clock: list[float]) -> None:
    text = io.StringIO()
    display = ConsoleDisplay(Console(file=text, width=200))
    for done in range(26):
        clock[0] = 3.0 * done
        display.progress("search", done, 25, f"best {4 - done / 25:.2f}")
    lines = text.getvalue().splitlines()
    assert lines[0] == "search: 0/25, best 4.00"
    assert lines[1] == "search: 2/25, about 69 s left, best 3.92"
    assert lines[-1] == "search: 25/25, best 3.00"
    assert len(lines) == 14
    display.progress("found", 0, 2, "training")
    assert text.getvalue().splitlines()[-1] == "found: 0/2, training"


def test_what_was_there_at_the_beginning_says_nothing_of_the_time_left(clock: list[float]) -> None:
    text = io.StringIO()
    display = ConsoleDisplay(Console(file=text, width=200))
    for done in (40, 41):
        display.progress("search", done, 50, "")
        clock[0] += 20.0
    assert text.getvalue().splitlines() == ["search: 40/50", "search: 41/50, about 3 min left"]


def test_a_long_stage_speaks_less_often(clock: list[float]) -> None:
    text = io.StringIO()
    display = ConsoleDisplay(Console(file=text, width=200))
    for done in range(3600):
        clock[0] = 8.0 * done
        display.progress("search", done, 3600, "")
    lines = text.getvalue().splitlines()
    assert 60 < len(lines) < 200
    assert lines[-1].endswith("min left")


def test_better_programs_are_told(clock: list[float]) -> None:
    text = io.StringIO()
    display = ConsoleDisplay(Console(file=text, width=60))
    fields: dict[str, Any] = {"stage": "search", "fitness": 2.5, "change": ""}
    display.event("program", fields | {"number": 0, "best": 0})
    display.event("program", fields | {"number": 1, "best": 0, "fitness": None})
    display.event(
        "program", fields | {"number": 2, "best": 2, "change": "inserted RESIDUAL: s2 = RED_MEAN(s0) ~ s1 d4"}
    )
    assert text.getvalue().splitlines() == [
        "search: program 0 is the best so far, loss 2.5000, the start",
        "search: program 2 is the best so far, loss 2.5000, inserted RESIDUAL: s2 = RED_MEAN(s0) ~ s1 d4",
    ]


def test_a_sweep_is_told_in_a_line(clock: list[float]) -> None:
    text = io.StringIO()
    display = ConsoleDisplay(Console(file=text, width=60))
    tried = ((6e-3, 9, 5.9), (3e-3, 9, 6.09), (1.2e-2, 9, None), (6e-3, 18, 5.764))
    points = [{"peak": peak, "updates": updates, "loss": loss} for peak, updates, loss in tried]
    display.event("sweep", {"stage": "retrained", "peak": 0.0057, "updates": 54, "points": points})
    display.event("sweep", {"stage": "halving", "peak": 0.012, "updates": 0, "points": []})
    assert text.getvalue().splitlines() == [
        "retrained: rate 5.7e-3, from a sweep of 54 updates (3e-3: 6.09, 6e-3: 5.76, 1.2e-2: NaN)",
        "halving: rate 1.2e-2, the middle of the grid (too short for a sweep)",
    ]
