"""Gather: a run folder, finished or not, becomes small frozen values. What is drawn is tested here first."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from nasformer.errors import RequestError
from nasformer.report.diagram import Diagram, read_diagram
from nasformer.report.values import (
    FOUND,
    QUALITIES,
    Comparison,
    Correlation,
    Divergence,
    Exploration,
    Gathered,
    Measured,
    Provenance,
    Round,
    Row,
    Scatter,
    SearchCurve,
    Shares,
)


def gather(run_folder: Path) -> Gathered:
    """All that there is to see in a run folder, at any time. Raises `RequestError` where the folder is no run."""
    folder = Path(run_folder)
    parts = ("recipe.json", "environment.json", "journal.jsonl", "result.json")
    if not any((folder / part).is_file() for part in parts):
        raise RequestError(f"expected a run folder (with {', '.join(parts)}); {folder} has none of these files")
    events, unreadable = read_journal(folder / "journal.jsonl")
    result = read_object(folder / "result.json")
    comparison = read_comparison(result or {})
    return Gathered(
        finished=result is not None,
        task=_object((result or {}).get("task")),
        last=events[-1] if events else None,
        unreadable=unreadable,
        comparison=comparison,
        curves=search_curves(events),
        rounds=rounds(events),
        explorations=explorations(events),
        shares=shares(events),
        divergence=divergence([*_objects((result or {}).get("divergence")), *_named(events, "divergence")]),
        scatter=Scatter(members(events), comparison, comparison.limits.get("max_core_parameters")),
        correlation=read_correlation((result or {}).get("correlation")),
        provenance=read_provenance(folder, result or {}),
        diagram=_best_diagram(folder, result or {}),
    )


def read_journal(path: Path) -> tuple[tuple[dict[str, Any], ...], int]:
    """The events of a journal and how many lines could not be read. A half-written last line is not counted."""
    if not path.is_file():
        return (), 0
    lines = path.read_bytes().split(b"\n")
    events: list[dict[str, Any]] = []
    unreadable = 0
    for number, line in enumerate(lines):
        event = _parse(line)
        if event is not None:
            events.append(event)
        elif line.strip() and number < len(lines) - 1:
            unreadable += 1
    return tuple(events), unreadable


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no such file or it is not (yet) whole."""
    return _parse(path.read_bytes()) if path.is_file() else None


def smooth(values: Sequence[float]) -> tuple[float, ...]:
    """A centred mean over about a fifteenth of the values.

    At the start, where losses fall fast, the window shrinks on both sides; at the end on its right side only.
    """
    reach, count = len(values) // 30, len(values)
    sums = [0.0, *accumulate(values)]
    left = [min(reach, place) for place in range(count)]
    right = [min(reach, place, count - 1 - place) for place in range(count)]
    return tuple((sums[i + right[i] + 1] - sums[i - left[i]]) / (left[i] + right[i] + 1) for i in range(count))


def search_curves(events: Sequence[Mapping[str, Any]]) -> tuple[SearchCurve, ...]:
    """One curve a stage, as the stages began. After a resume, the later event of an update counts."""
    stages = dict.fromkeys(
        str(event["stage"])
        for event in events
        if event.get("event") in ("update", "validation", "finished") and "stage" in event
    )
    return tuple(_curve(stage, [event for event in events if event.get("stage") == stage]) for stage in stages)


def _curve(stage: str, events: Sequence[Mapping[str, Any]]) -> SearchCurve:
    training = _by_update(_named(events, "update"))
    validation = _by_update(_named(events, "validation"))
    ends = _named(events, "finished")
    timed = [_number(event.get("seconds")) for event in ends or _named(events, "update")]
    losses = tuple(training.values())
    return SearchCurve(
        stage,
        tuple(training),
        losses,
        smooth(losses),
        tuple(validation),
        tuple(validation.values()),
        seconds=timed[-1] if timed else None,
        finished=bool(ends),
    )


def _by_update(events: Iterable[Mapping[str, Any]]) -> dict[int, float]:
    points = {int(event["update"]): _number(event.get("loss")) for event in events if _has(event, "update")}
    return {update: loss for update, loss in sorted(points.items()) if loss is not None}


def rounds(events: Sequence[Mapping[str, Any]]) -> tuple[Round, ...]:
    """The rounds of the search, in order."""
    found = {
        int(event["round"]): Round(int(event["round"]), int(event["update"]), event.get("members"))
        for event in _of_search(_named(events, "round"))
        if _has(event, "round") and _has(event, "update")
    }
    return tuple(found[number] for number in sorted(found))


def explorations(events: Sequence[Mapping[str, Any]]) -> tuple[Exploration, ...]:
    """Best and median score of every iteration of every exploration of the search, in order."""
    found: dict[tuple[int, int], Exploration] = {}
    for event in _of_search(_named(events, "exploration")):
        best, median = _number(event.get("best")), _number(event.get("median"))
        if best is not None and median is not None:
            place = (int(event.get("round", 0)), int(event.get("iteration", 0)))
            found[place] = Exploration(*place, best, median)
    return tuple(found[place] for place in sorted(found))


def shares(events: Sequence[Mapping[str, Any]]) -> tuple[Shares, ...]:
    """For each choice of the search, the share of each option after each round."""
    ends = [event for event in _of_search(_named(events, "round")) if _has(event, "round")]
    tables = {int(event["round"]): _object(event.get("shares")) for event in ends}
    choices = dict.fromkeys(choice for number in sorted(tables) for choice in tables[number])
    return tuple(_shares(choice, tables) for choice in sorted(choices, key=_natural))


def _shares(choice: str, tables: Mapping[int, Mapping[str, Any]]) -> Shares:
    numbers = tuple(number for number in sorted(tables) if choice in tables[number])
    options = tuple(dict.fromkeys(str(option) for number in numbers for option in tables[number][choice]))
    options = tuple(sorted(options, key=_natural))
    table = tuple(tuple(_number(tables[number][choice].get(o)) or 0.0 for o in options) for number in numbers)
    return Shares(choice, numbers, options, table)


def divergence(entries: Iterable[Mapping[str, Any]]) -> tuple[Divergence, ...]:
    """The divergence of the search before and after each round, from events or from the entries of a result."""
    found: dict[int, dict[str, float | None]] = {}
    for entry in _of_search(entries):
        if _has(entry, "round"):
            found.setdefault(int(entry["round"]), {})[str(entry.get("when"))] = _number(entry.get("variance"))
    return tuple(Divergence(number, whens.get("before"), whens.get("after")) for number, whens in sorted(found.items()))


def members(events: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, float], ...]:
    """(core parameters, validation loss) of the members scored in the last round of the search that tells them."""
    for event in reversed(_of_search(_named(events, "round"))):
        pairs = [(_number(pair[0]), _number(pair[1])) for pair in event.get("scores") or () if len(pair) == 2]
        if pairs:
            return tuple((size, score) for size, score in pairs if size is not None and score is not None)
    return ()


def read_comparison(result: Mapping[str, Any]) -> Comparison:
    """The comparison that a `result.json` holds."""
    rows = tuple(_row(entry) for entry in _objects(result.get("rows")))
    known = [quality for quality in QUALITIES if any(quality.name in row.qualities for row in rows)]
    if not known or known[0].name in ("bleu", "chrf"):
        known = list(QUALITIES[:2])
    limits = {name: _number(value) for name, value in _object(result.get("limits")).items()}
    return Comparison(rows, tuple(known), {name: value for name, value in limits.items() if value is not None})


def _row(entry: Mapping[str, Any]) -> Row:
    card = _object(entry.get("scorecard"))
    measured = {quality.name: _measured(card.get(quality.name)) for quality in QUALITIES}
    sizes = ("core_parameters", "total_parameters", "flops", "updates", "evaluations", "seconds")
    return Row(
        name=str(entry.get("name")),
        label=str(entry.get("label") or entry.get("name")),
        qualities={name: value for name, value in measured.items() if value is not None},
        split=card.get("split"),
        **{name: _number(card.get(name)) for name in sizes},
    )


def _measured(entry: Any) -> Measured | None:
    if not isinstance(entry, Mapping):
        entry = {"value": entry}
    value = _number(entry.get("value"))
    if value is None:
        return None
    return Measured(value, _number(entry.get("low")), _number(entry.get("high")), entry.get("signature"))


def read_correlation(entry: Any) -> Correlation | None:
    """The rank correlation of a `result.json`, where it was measured."""
    entry = _object(entry)
    kendall, low, high, count = (_number(entry.get(name)) for name in ("kendall", "low", "high", "members"))
    return None if kendall is None else Correlation(kendall, low, high, None if count is None else int(count))


def read_provenance(folder: Path, result: Mapping[str, Any]) -> Provenance:
    """The command, the environment and the recipe of a run folder."""
    environment = read_object(folder / "environment.json") or {}
    recipe = read_object(folder / "recipe.json")
    command = environment.get("command")
    seed = environment.get("seed", (recipe or {}).get("seed"))
    name = result.get("recipe") or (recipe or {}).get("name")
    return Provenance(
        command=shlex.join(map(str, command)) if isinstance(command, list) else command and str(command),
        environment=tuple((key, _plain(value)) for key, value in environment.items() if key != "command"),
        recipe=None if recipe is None else json.dumps(recipe, indent=2, ensure_ascii=False),
        recipe_name=name if isinstance(name, str) else None,
        seed=None if seed is None else str(seed),
    )


def _best_diagram(folder: Path, result: Mapping[str, Any]) -> Diagram | None:
    rows = [entry for entry in _objects(result.get("rows")) if entry.get("name") == FOUND]
    kept = [entry["architecture"] for entry in rows if isinstance(entry.get("architecture"), dict)]
    architecture = kept[0] if kept else read_object(folder / "architectures" / "best.json")
    return None if architecture is None else read_diagram(architecture)


def _parse(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _number(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if number else None


def _has(event: Mapping[str, Any], name: str) -> bool:
    return _number(event.get(name)) is not None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _named(events: Iterable[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    return [event for event in events if event.get("event") == name]


def _of_search(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [entry for entry in entries if entry.get("stage", "search") == "search"]


def _natural(text: str) -> tuple[tuple[bool, float, str], ...]:
    """A key that sorts `layers.10` behind `layers.9` and `1.5` behind `1`."""
    parts = []
    for part in [text] if _is_number(text) else text.split("."):
        parts.append((False, float(part), "") if _is_number(part) else (True, 0.0, part))
    return tuple(parts)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
