"""What a person sees while work goes on: a progress bar with the time left, and a line for each thing worth telling."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ConsoleDisplay:
    """Progress bars, one for each stage, and a line for each exploration, round and finished stage."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (TextColumn("{task.description:24}"), BarColumn(24), TextColumn("{task.completed}/{task.total}"))
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[text]}"))
        self.bars = Progress(*columns, *times, console=console, refresh_per_second=2, disable=not console.is_terminal)
        self._stages: dict[str, TaskID] = {}
        self._told, self._begun = 0.0, {"": 0.0}

    def __enter__(self) -> ConsoleDisplay:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def progress(self, stage: str, done: int, total: int, text: str) -> None:
        """`done` of `total` units of a stage are over."""
        if stage not in self._stages:
            for other in self._stages.values():
                self.bars.stop_task(other)
            self._stages[stage] = self.bars.add_task(stage, total=total, text=text)
            self._begun[stage], self._told = time.monotonic(), time.monotonic()
        self.bars.update(self._stages[stage], completed=done, total=total, text=text)
        if not self.console.is_terminal and time.monotonic() - self._told > 60:
            self._told = time.monotonic()
            left = (self._told - self._begun[stage]) / max(done, 1) * (total - done)
            self.console.print(f"{stage}: {done}/{total}, about {left / 60:.0f} min left, {text}", markup=False)

    def event(self, event: str, fields: dict[str, Any]) -> None:
        """Print the events that a person waits for."""
        stage = fields["stage"]
        if event == "exploration":
            self.console.print(
                f"{stage}: best {fields['best']:.3f} of {fields['members']}: {fields['best_architecture']}"
            )
        elif event == "round":
            self.console.print(
                f"{stage}: round {fields['round']}, {fields['members']} members. {operators(fields['shares'])}"
            )
        elif event == "divergence":
            self.console.print(
                f"{stage}: divergence {fields['when']} round {fields['round']}: {fields['variance']:.4f}"
            )
        elif event == "finished":
            self.console.print(f"{stage}: finished after {fields['seconds']:.0f} s")


def operators(shares: dict[str, dict[str, float]]) -> str:
    """The mean share of each operator over all layers, largest first."""
    totals: dict[str, float] = {}
    layers = [options for name, options in shares.items() if name.endswith(".mixer")]
    for options in layers:
        for option, share in options.items():
            totals[option] = totals.get(option, 0.0) + share / len(layers)
    return ", ".join(f"{name} {share:.0%}" for name, share in sorted(totals.items(), key=lambda item: -item[1]))
