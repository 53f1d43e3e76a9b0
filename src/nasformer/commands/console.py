"""What a person sees while work goes on: a progress bar with the time left, and a line for each thing worth telling."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nasformer.report.table import rate

TOLD_EVERY = 5.0
"""Seconds between two lines of a stage where there is no terminal to draw bars on; more in a long stage."""
SELECTIONS_TOLD = 8
"""How often the selection of a differentiable search is told in a stage."""
RULES = {
    "without_zero": "without Zero",
    "with_zero": "with Zero",
    "topology": "by edges",
    "joint": "jointly",
    "operators": "by operators",
}
"""The rules by which searches derive, in words."""


class ConsoleDisplay:
    """Progress bars (without a terminal now and then a line), one for each stage, and a line for what a person waits
    for: explorations, rounds, now and then a selection, what was derived, better programs, finished stages."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (TextColumn("{task.description:24}"), BarColumn(24), TextColumn("{task.completed}/{task.total}"))
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[text]}"))
        self.bars = Progress(*columns, *times, console=console, refresh_per_second=2, disable=not console.is_terminal)
        self._stages: dict[str, TaskID] = {}
        self._told, self._begun = 0.0, {"": (0.0, 0)}
        self._totals: dict[str, int] = {}
        self._selections: dict[str, tuple[int, str]] = {}
        self._warned: set[str] = set()

    def __enter__(self) -> ConsoleDisplay:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def progress(self, stage: str, done: int, total: int, text: str) -> None:
        """`done` of `total` units of a stage are over."""
        if new := stage not in self._stages:
            for other in self._stages.values():
                self.bars.stop_task(other)
            self._stages[stage] = self.bars.add_task(stage, total=total, text=text)
            self._begun[stage], self._told = (time.monotonic(), done), time.monotonic()
        self._totals[stage] = total
        self.bars.update(self._stages[stage], completed=done, total=total, text=text)
        now, (begun, first) = time.monotonic(), self._begun[stage]
        spent = now - begun
        if not self.console.is_terminal and (new or done == total or now - self._told > max(TOLD_EVERY, spent / 20)):
            self._told = now
            left = f", about {duration(spent / (done - first) * (total - done))} left" if first < done < total else ""
            self._say(f"{stage}: {done}/{total}{left}{', ' * bool(text)}{text}")

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
        elif event == "program" and fields["best"] == fields["number"]:
            told = f"loss {fields['fitness']:.4f}, {fields['change'] or 'the start'}"
            self._say(f"{stage}: program {fields['number']} is the best so far, {told}")
        elif event == "selection":
            self._tell_selection(stage, fields)
        elif event == "derived":
            self._say(f"{stage}: {derived({name: way for name, way in fields.items() if isinstance(way, dict)})}")
        elif event == "cells":
            self._tell_cells(stage, fields)
        elif event == "collapse" and stage not in self._warned:
            self._warned.add(stage)
            self._say(f"{stage}: warning at update {fields['update']}: {fields['text']}")
        elif event == "restarts":
            losses = ", ".join(f"{loss:.3f}" for loss in fields["losses"])
            self._say(
                f"{stage}: start {fields['best']} of {len(fields['losses'])} is taken (validation losses {losses})"
            )
        elif event == "sweep":
            self._say(f"{stage}: {swept(fields)}")
        elif event == "memory_plan":
            self._say(f"{stage}: {fields['text']}")
        elif event == "rewound":
            self._say(
                f"{stage}: the loss of update {fields['update']} was no number; back to update {fields['to']}, with "
                f"{fields['slower']:g} of the set rates"
            )
        elif event == "finished":
            self.console.print(f"{stage}: finished after {fields['seconds']:.0f} s")

    def _tell_selection(self, stage: str, fields: dict[str, Any]) -> None:
        """The entropy and the operators in front, a few times a stage."""
        if "edges" in fields or not any(".layers." in choice for choice in fields["probabilities"]):
            return  # cells have too many edges for a line
        update, (told, before) = fields["update"], self._selections.get(stage, (0, ""))
        if update - told < self._totals.get(stage, 0) / SELECTIONS_TOLD:
            return
        front = most_probable(fields["probabilities"])
        self._selections[stage] = (update, front)
        self._say(
            f"{stage}: entropy {fields['entropy']:.2f} of 1; in front {'as before' if front == before else front}"
        )

    def _tell_cells(self, stage: str, fields: dict[str, Any]) -> None:
        """The skips and parameter-free operators of the derived cells, a few times a stage."""
        update, (told, _) = fields["update"], self._selections.get(stage, (0, ""))
        if update - told < self._totals.get(stage, 0) / SELECTIONS_TOLD:
            return
        self._selections[stage] = (update, "")
        found = [
            f"{name}: {one['skips']} skips, {one['parameter_free']} without parameters, of {one['edges']} edges"
            for name, one in fields["cells"].items()
        ]
        self._say(f"{stage}: epoch {fields['epoch']}, {'; '.join(found)}")

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds for readers: `45 s`, `12 min`."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def swept(fields: dict[str, Any]) -> str:
    """The rate that a sweep chose, and the last loss at each rate that it tried."""
    if not fields["points"]:
        return f"rate {rate(fields['peak'])}, the middle of the grid (too short for a sweep)"
    last = {point["peak"]: point for point in sorted(fields["points"], key=lambda point: point["updates"])}
    losses = ((peak, last[peak]["loss"]) for peak in sorted(last))
    told = ", ".join(f"{rate(peak)}: {'NaN' if loss is None else f'{loss:.2f}'}" for peak, loss in losses)
    return f"rate {rate(fields['peak'])}, from a sweep of {fields['updates']} updates ({told})"


def operators(shares: dict[str, dict[str, float]]) -> str:
    """The mean share of each operator over all layers, largest first."""
    totals: dict[str, float] = {}
    layers = [options for name, options in shares.items() if name.endswith(".mixer")]
    for options in layers:
        for option, share in options.items():
            totals[option] = totals.get(option, 0.0) + share / len(layers)
    return ", ".join(f"{name} {share:.0%}" for name, share in sorted(totals.items(), key=lambda item: -item[1]))


def most_probable(probabilities: dict[str, dict[str, float]]) -> str:
    """The option of each choice with the largest probability: `encoder attention|identity zero|attention`, layers
    with a space between them and the nodes of a layer with |."""
    stacks: dict[str, dict[str, list[str]]] = {}
    for choice, options in probabilities.items():
        stack, _, place = choice.partition(".layers.")
        stacks.setdefault(stack, {}).setdefault(place.split(".")[0], []).append(max(options, key=options.__getitem__))
    lines = {stack: " ".join(map("|".join, layers.values())) for stack, layers in stacks.items()}
    return ", ".join(f"{stack} {line}" for stack, line in lines.items())


def derived(ways: dict[str, dict[str, Any]]) -> str:
    """What each rule of a method derives; once, where it is the same."""
    told = {name: f"{way['architecture']}, {way['core_parameters']:,} core parameters" for name, way in ways.items()}
    told = {name: told[name] for name in sorted(told, key=lambda name: list(RULES).index(name))}
    names = " and ".join(RULES[name] for name in told)
    if len(set(told.values())) == 1:
        return f"derived {names}: {next(iter(told.values()))}"
    return "derived " + "; ".join(f"{RULES[name]}: {line}" for name, line in told.items())
