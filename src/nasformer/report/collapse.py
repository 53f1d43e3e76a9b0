"""What the watch over collapse told: counts of skips, entropies, scatter and shares of training, search by search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nasformer.report.differentiable import Events, first_start, start_number
from nasformer.report.reading import has, mapping, named, number
from nasformer.report.watch import CellCounts, EdgeShares, Epoch, Warned, Watch, WatchedSearch


def read_watch(events: Events, taken: str = "search") -> Watch | None:
    """The watch over a run, whose found cells the stage `taken` derived; None where nothing was watched."""
    stages = dict.fromkeys(str(event.get("stage")) for event in named(events, "cells"))
    found = [_search(stage, [event for event in events if event.get("stage") == stage]) for stage in stages]
    watched = [one for one in found if one is not None]
    own = [one for one in watched if first_start(one.stage) == "search"]
    own.sort(key=lambda one: start_number(one.stage))
    search = next((one for one in own if one.stage == taken), None)
    starts = tuple(one for one in own if one is not search)
    controls = tuple(one for one in watched if one not in own)
    return Watch(search, starts, controls) if watched else None


def _search(stage: str, events: Events) -> WatchedSearch | None:
    """What is told twice, after a resume or a rewind, counts as it was told last; what was rewound and not done again
    does not count, nor what comes after the cell that a search which stops takes. A warning belongs to the epoch that
    is told after it."""
    epochs: dict[int, Mapping[str, object]] = {}
    points: dict[int, Mapping[str, object]] = {}
    warned: dict[int, tuple[Warned, ...]] = {}
    waiting: dict[tuple[float | None, str], Warned] = {}
    for event in events:
        kind = event.get("event")
        back = number(event.get("taken" if kind == "eigenvalue" else "to"))
        if kind in ("rewound", "eigenvalue") and back is not None:
            epochs = {one: told for one, told in epochs.items() if _update(told) <= back}
            points = {update: told for update, told in points.items() if update <= back}
        elif kind == "selection" and has(event, "update"):
            points[int(event["update"])] = event
        elif kind == "collapse" and isinstance(event.get("text"), str):
            cell = str(event.get("cell"))
            waiting[number(event.get("update")), cell] = Warned(cell, event["text"])
        elif kind == "cells" and has(event, "epoch") and has(event, "update"):
            place = int(event["epoch"])
            epochs[place] = event
            warned[place] = tuple(one for (update, _), one in waiting.items() if update == event["update"])
            waiting = {}
    if not epochs:
        return None
    last = epochs[max(epochs)]
    return WatchedSearch(
        stage,
        tuple(_epoch(one, epochs[one], warned[one]) for one in sorted(epochs)),
        _line(points, "entropy"),
        _line(points, "topology_entropy"),
        tuple(_shares(edge, mapping(shares)) for edge, shares in mapping(last.get("shares")).items()),
        number(last.get("coverage")),
        number(last.get("unevenness")),
        _derived(events),
    )


def _derived(events: Events) -> tuple[tuple[str, str, float | None], ...]:
    told = named(events, "derived")
    entries = {rule: mapping(entry) for rule, entry in told[-1].items()} if told else {}
    return tuple(
        (rule, entry["architecture"], number(entry.get("core_parameters")))
        for rule, entry in entries.items()
        if isinstance(entry.get("architecture"), str)
    )


def _update(event: Mapping[str, object]) -> float:
    return number(event.get("update")) or 0


def _epoch(place: int, event: Mapping[str, object], warnings: tuple[Warned, ...]) -> Epoch:
    counts = []
    for cell, table in mapping(event.get("cells")).items():
        known = [number(mapping(table).get(name)) for name in ("edges", "skips", "parameter_free")]
        if all(value is not None for value in known):
            counts.append(CellCounts(cell, *(int(value or 0) for value in known)))
    return Epoch(place, int(_update(event)), tuple(counts), number(event.get("gradient_variance")), warnings)


def _line(points: Mapping[int, Mapping[str, object]], name: str) -> tuple[tuple[int, float], ...]:
    values = ((update, number(points[update].get(name))) for update in sorted(points))
    return tuple((update, value) for update, value in values if value is not None)


def _shares(edge: str, table: Mapping[str, object]) -> EdgeShares:
    known = {operator: number(share) for operator, share in table.items()}
    usable = {operator: share for operator, share in known.items() if share is not None}
    return EdgeShares(edge, tuple(usable), tuple(usable.values()))


def collapse_warnings(watch: Watch | None) -> tuple[str, ...]:
    """What to warn of at the top of a page: the derived cells of the search as they are now."""
    if watch is None or watch.search is None or not watch.search.warnings:
        return ()
    last = watch.search.epochs[-1]
    return tuple(f"At epoch {last.number} of the search, {one.text}." for one in watch.search.warnings)


def collapse_notes(watch: Watch | None, labels: Mapping[str, str]) -> tuple[str, ...]:
    """Which cells are of searches that collapsed, those of controls too; `labels` are what reports call the rows."""
    if watch is None:
        return ()
    said = []
    if watch.search and not watch.search.warnings and watch.search.warned_before:
        said.append(
            f"The search went through collapsed cells (a warning at {_epochs(watch.search.warned_before)}), but did "
            f"not end there."
        )
    for search in watch.controls:
        name = first_start(search.stage).removesuffix("_search")
        label = labels.get(name, name.replace("_", " "))
        said += [f"The search of “{label}” ended collapsed: {one.text}." for one in search.warnings]
    return tuple(said)


def _epochs(numbers: Sequence[int]) -> str:
    return f"epoch {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} epochs, the last of them {numbers[-1]}"
