"""Gather: a run folder, finished or not, becomes small frozen values. What is drawn is tested here first."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, get_args

from nasformer.errors import RequestError
from nasformer.report.collapse import read_watch
from nasformer.report.diagram import Diagram, read_diagram
from nasformer.report.differentiable import read_differentiable
from nasformer.report.evolution import read_evolution
from nasformer.report.lead import follow
from nasformer.report.reading import has, mapping, named, natural, number, objects
from nasformer.report.roles import Role
from nasformer.report.sweeps import read_sweeps
from nasformer.report.values import (
    ALONE,
    DIFFERENTIABLE,
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
    recipe = read_object(folder / "recipe.json") or {}
    comparison = read_comparison(result or {}, recipe)
    strategy, labels = mapping(recipe.get("strategy")), {row.name: row.label for row in comparison.rows}
    differentiable = read_differentiable(events, strategy)
    curves, before = search_curves(events), int(number(mapping(strategy.get("training")).get("updates")) or 0)
    return Gathered(
        finished=result is not None and result.get("complete", True) is not False,
        task=mapping((result or {}).get("task")),
        last=events[-1] if events else None,
        unreadable=unreadable,
        comparison=comparison,
        curves=curves,
        rounds=rounds(events),
        explorations=explorations(events),
        shares=shares(events),
        divergence=divergence([*objects((result or {}).get("divergence")), *named(events, "divergence")]),
        differentiable=differentiable,
        evolution=read_evolution(events, result or {}, strategy, labels),
        watch=read_watch(events, differentiable.starts[differentiable.taken].stage if differentiable else "search"),
        sweeps=read_sweeps(events, labels),
        lead=follow(curves, comparison, before),
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
    for place, line in enumerate(lines):
        event = _parse(line)
        if event is not None:
            events.append(event)
        elif line.strip() and place < len(lines) - 1:
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
    training = _by_update(named(events, "update"))
    validation = _by_update(named(events, "validation"))
    ends = named(events, "finished")
    timed = [number(event.get("seconds")) for event in ends or named(events, "update")]
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
    points = {int(event["update"]): number(event.get("loss")) for event in events if has(event, "update")}
    return {update: loss for update, loss in sorted(points.items()) if loss is not None}


def rounds(events: Sequence[Mapping[str, Any]]) -> tuple[Round, ...]:
    """The rounds of the search, in order."""
    found = {
        int(event["round"]): Round(int(event["round"]), int(event["update"]), event.get("members"))
        for event in _of_search(named(events, "round"))
        if has(event, "round") and has(event, "update")
    }
    return tuple(found[one] for one in sorted(found))


def explorations(events: Sequence[Mapping[str, Any]]) -> tuple[Exploration, ...]:
    """Best and median score of every iteration of every exploration of the search, in order."""
    found: dict[tuple[int, int], Exploration] = {}
    for event in _of_search(named(events, "exploration")):
        best, median = number(event.get("best")), number(event.get("median"))
        if best is not None and median is not None:
            place = (int(event.get("round", 0)), int(event.get("iteration", 0)))
            found[place] = Exploration(*place, best, median)
    return tuple(found[place] for place in sorted(found))


def shares(events: Sequence[Mapping[str, Any]]) -> tuple[Shares, ...]:
    """For each choice of the search, the share of each option after each round."""
    ends = [event for event in _of_search(named(events, "round")) if has(event, "round")]
    tables = {int(event["round"]): mapping(event.get("shares")) for event in ends}
    choices = dict.fromkeys(choice for one in sorted(tables) for choice in tables[one])
    return tuple(_shares(choice, tables) for choice in sorted(choices, key=natural))


def _shares(choice: str, tables: Mapping[int, Mapping[str, Any]]) -> Shares:
    numbers = tuple(one for one in sorted(tables) if choice in tables[one])
    options = tuple(dict.fromkeys(str(option) for one in numbers for option in tables[one][choice]))
    options = tuple(sorted(options, key=natural))
    table = tuple(tuple(number(tables[one][choice].get(o)) or 0.0 for o in options) for one in numbers)
    return Shares(choice, numbers, options, table)


def divergence(entries: Iterable[Mapping[str, Any]]) -> tuple[Divergence, ...]:
    """The divergence of the search before and after each round, from events or from the entries of a result."""
    found: dict[int, dict[str, float | None]] = {}
    for entry in _of_search(entries):
        if has(entry, "round"):
            found.setdefault(int(entry["round"]), {})[str(entry.get("when"))] = number(entry.get("variance"))
    return tuple(Divergence(one, whens.get("before"), whens.get("after")) for one, whens in sorted(found.items()))


def members(events: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, float], ...]:
    """(core parameters, validation loss) of the members scored in the last round of the search that tells them."""
    for event in reversed(_of_search(named(events, "round"))):
        pairs = [(number(pair[0]), number(pair[1])) for pair in event.get("scores") or () if len(pair) == 2]
        if pairs:
            return tuple((size, score) for size, score in pairs if size is not None and score is not None)
    return ()


def read_comparison(result: Mapping[str, Any], recipe: Mapping[str, Any] | None = None) -> Comparison:
    """The comparison that a `result.json` holds.

    After a differentiable search every model is trained from scratch, as long as the recipe's `fine_tune` says: where
    a row does not tell how many of its updates went into a search, it is the others.
    """
    rows = tuple(_row(entry) for entry in objects(result.get("rows")))
    strategy = str(mapping((recipe or {}).get("strategy")).get("kind", "shrinknas"))
    strategy = ALONE if (recipe or {}).get("kind") == "train" else strategy
    alone = number(mapping((recipe or {}).get("fine_tune")).get("updates"))
    if strategy in DIFFERENTIABLE and alone is not None:
        looked_up = (recipe or {}).get("table") is not None
        rows = tuple(
            replace(row, searched=row.updates - (0 if looked_up else alone))
            if row.updates and row.searched is None
            else row
            for row in rows
        )
    known = [quality for quality in QUALITIES if any(quality.name in row.qualities for row in rows)]
    if not known or known[0].name in ("bleu", "chrf"):
        known = list(QUALITIES[:2])
    if known[0].name == "perplexity":
        known = [quality for quality in known if quality.name != "loss"]  # the logarithm of the perplexity
    limits = {name: number(value) for name, value in mapping(result.get("limits")).items()}
    return Comparison(
        rows,
        tuple(known),
        {name: value for name, value in limits.items() if value is not None},
        strategy,
        result.get("note"),
    )


def _row(entry: Mapping[str, Any]) -> Row:
    card = mapping(entry.get("scorecard"))
    measured = {quality.name: _measured(card.get(quality.name)) for quality in QUALITIES}
    sizes = ("core_parameters", "total_parameters", "flops", "updates", "evaluations", "seconds", "training_flops")
    role = entry.get("role")
    return Row(
        name=str(entry.get("name")),
        label=str(entry.get("label") or entry.get("name")),
        qualities={name: value for name, value in measured.items() if value is not None},
        split=card.get("split"),
        searched=number(entry.get("searched")),
        peak=number(entry.get("peak")),
        stated=role if role in get_args(Role) else None,
        **{name: number(card.get(name)) for name in sizes},
    )


def _measured(entry: Any) -> Measured | None:
    if not isinstance(entry, Mapping):
        entry = {"value": entry}
    value = number(entry.get("value"))
    if value is None:
        return None
    return Measured(value, number(entry.get("low")), number(entry.get("high")), entry.get("signature"))


def read_correlation(entry: Any) -> Correlation | None:
    """The rank correlation of a `result.json`, where it was measured."""
    entry = mapping(entry)
    kendall, low, high, count = (number(entry.get(name)) for name in ("kendall", "low", "high", "members"))
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
    rows = [entry for entry in objects(result.get("rows")) if entry.get("name") == FOUND]
    kept = [entry["architecture"] for entry in rows if isinstance(entry.get("architecture"), dict)]
    architecture = kept[0] if kept else read_object(folder / "architectures" / "best.json")
    return None if architecture is None else read_diagram(architecture)


def _parse(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _of_search(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [entry for entry in entries if entry.get("stage", "search") == "search"]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
