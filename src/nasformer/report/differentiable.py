"""A differentiable search as its journal tells it: probabilities and entropies over time, starts, derivations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nasformer.report.reading import has, mapping, named, natural, number
from nasformer.report.values import Derivation, Differentiable, Probabilities, Rewinds, Start

Events = Sequence[Mapping[str, Any]]


def first_start(stage: str) -> str:
    """The stage of the first start of a search: `search_3` is the third start of `search`."""
    return re.sub(r"(?<=search)_\d+$", "", stage)


def read_differentiable(events: Events, strategy: Mapping[str, Any]) -> Differentiable | None:
    """The differentiable search of a run (of its controls only the rewinds); None where there is none."""
    selections = _by_stage(named(events, "selection"))
    stages = sorted((stage for stage in selections if first_start(stage) == "search"), key=start_number)
    if not stages:
        return None
    told = [event for event in named(events, "restarts") if "search" in (event.get("stage"), event.get("of"))]
    losses = told[-1].get("losses") if told else None
    losses = losses if isinstance(losses, list) and len(losses) == len(stages) else [None] * len(stages)
    best = number(told[-1].get("best")) if told else None
    taken = int(best) - 1 if best is not None and 1 <= best <= len(stages) else 0
    zero = strategy.get("zero")
    if zero is None and "zero" in strategy:  # in cells it may be kept, elsewhere not (`nasformer.strategies.darts`)
        zero = bool(named(events, "cells"))
    return Differentiable(
        starts=tuple(_start(stage, selections[stage], loss) for stage, loss in zip(stages, losses, strict=True)),
        taken=taken,
        decided=best is not None or strategy.get("restarts", 1) == 1,
        probabilities=_probabilities(selections[stages[taken]]),
        derivations=_derivations([event for event in events if event.get("stage") == stages[taken]]),
        rewinds=_rewinds(events),
        zero=zero if isinstance(zero, bool) else None,
        edges=_edges(selections[stages[taken]][-1]),
    )


def _edges(event: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """How probable the edges of each node are, by the choice of them."""
    tables = {choice: mapping(table) for choice, table in mapping(event.get("edges")).items()}
    return {choice: {edge: number(p) or 0.0 for edge, p in table.items()} for choice, table in tables.items()}


def start_number(stage: str) -> int:
    """Which start of a search a stage is, from 1."""
    found = re.search(r"(?<=search)_(\d+)$", stage)
    return int(found[1]) if found else 1


def _by_stage(events: Events) -> dict[str, list[Mapping[str, Any]]]:
    """Selections of each stage by update; after a resume or a rewind the later one of an update counts."""
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for event in events:
        if has(event, "update") and mapping(event.get("probabilities")):
            found.setdefault(str(event.get("stage")), {})[int(event["update"])] = event
    return {stage: [table[update] for update in sorted(table)] for stage, table in found.items()}


def _start(stage: str, events: Events, loss: Any) -> Start:
    known = [event for event in events if has(event, "entropy")]
    return Start(
        stage,
        tuple(int(event["update"]) for event in known),
        tuple(float(event["entropy"]) for event in known),
        number(loss),
    )


def _probabilities(events: Events) -> tuple[Probabilities, ...]:
    choices = dict.fromkeys(choice for event in events for choice in event["probabilities"])
    found = []
    for choice in sorted(choices, key=natural):
        points = [(int(e["update"]), mapping(e["probabilities"].get(choice))) for e in events]
        points = [(update, table) for update, table in points if table]
        options = tuple(dict.fromkeys(str(option) for _, table in points for option in table))
        shares = tuple(tuple(number(table.get(option)) or 0.0 for _, table in points) for option in options)
        if options:
            found.append(Probabilities(choice, options, tuple(update for update, _ in points), shares))
    return tuple(found)


def _derivations(events: Events) -> tuple[Derivation, ...]:
    told = named(events, "derived")
    found = []
    for name, zero in (("without_zero", False), ("with_zero", True)):
        entry = mapping(told[-1].get(name)) if told else {}
        if isinstance(entry.get("architecture"), str):
            found.append(Derivation(zero, entry["architecture"], number(entry.get("core_parameters"))))
    return tuple(found)


def _rewinds(events: Events) -> tuple[Rewinds, ...]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for event in named(events, "rewound"):
        if has(event, "update"):
            found.setdefault(str(event.get("stage")), []).append(event)
    return tuple(
        Rewinds(stage, tuple(int(event["update"]) for event in times), number(times[-1].get("slower")))
        for stage, times in found.items()
    )
