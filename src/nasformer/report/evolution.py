"""A search over programs as its journal and its result tell it; each value may be missing while the run goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nasformer.errors import RequestError
from nasformer.measures.speedup import PowerLaw, common_curves, frontier_law
from nasformer.measures.statistics import Interval, mean_interval
from nasformer.report.evolved import Arm, Candidate, Change, Effect, Evolution, Failure, Final, Noise, Step, Walk
from nasformer.report.reading import has, mapping, named, number, objects
from nasformer.report.values import FOUND, START
from nasformer.strategies.hurdles import hurdle_times

Events = Sequence[Mapping[str, Any]]
CONTROL = "random_mutation_search"
"""The stage of the walk that mutates without selection."""


def read_evolution(
    events: Events, result: Mapping[str, Any], strategy: Mapping[str, Any], labels: Mapping[str, str]
) -> Evolution | None:
    """The search over programs of a run; None where there is none. `labels` are what reports call the arms."""
    told = mapping(result.get("evolution"))
    search = _walk([event for event in events if event.get("stage") == "search"])
    if not told and not search.programs:
        return None
    budget = number(told.get("budget")) or number(strategy.get("budget"))
    hurdles = tuple(value for value in map(number, _list(told.get("hurdles"))) if value is not None)
    if not hurdles and budget and has(strategy, "hurdles"):
        hurdles = hurdle_times(budget, int(strategy["hurdles"]))
    texts = mapping(told.get("texts"))
    lineage = tuple(_step(entry) for entry in objects(told.get("lineage")) if has(entry, "number"))
    finals = tuple(_trainings(told))
    return Evolution(
        search=search,
        control=_walk([event for event in events if event.get("stage") == CONTROL]),
        budget=budget,
        hurdles=hurdles,
        lineage=lineage or _line_to_best(search),
        changes=tuple(_change(entry) for entry in objects(told.get("changes")) if _text(entry.get("change"))),
        start_loss=_final(result, told, START),
        found_loss=_final(result, told, FOUND),
        start=_text(texts.get("start")) or (search.programs[0].text if search.programs else None),
        found=_text(texts.get("found")) or (search.winner.text if search.winner else None),
        failures=_failures(events, mapping(told.get("failures"))),
        arms=_arms(told, labels, finals),
        finals=finals,
        noise=_noise(mapping(told.get("noise"))),
    )


def _walk(events: Events) -> Walk:
    """After a resume, the later event of a number counts."""
    programs = {int(event["number"]): _candidate(event) for event in named(events, "program") if has(event, "number")}
    return Walk(tuple(programs[one] for one in sorted(programs)))


def _candidate(event: Mapping[str, Any]) -> Candidate:
    parent, fitness = number(event.get("parent")), number(event.get("fitness"))
    passed = int(number(event.get("hurdles", event.get("passed"))) or 0)
    curve = event.get("curve")
    return Candidate(
        int(event["number"]),
        None if parent is None else int(parent),
        _text(event.get("mutation")),
        _text(event.get("change")),
        fitness,
        _text(event.get("cause")) or _text(event.get("reason")),
        len(curve) if isinstance(curve, list) else passed + (fitness is not None),
        passed,
        number(event.get("cost")) if event.get("equal_to") is None else None,
        _text(event.get("program")),
    )


def _step(entry: Mapping[str, Any]) -> Step:
    made = _candidate(entry)
    return Step(made.number, made.mutation, made.change, made.fitness, _interval(entry.get("retrained")))


def _change(entry: Mapping[str, Any]) -> Change:
    return Change(str(entry["change"]), _effect(entry.get("inserted")), _effect(entry.get("ablated")))


def _effect(entry: Any) -> Effect | None:
    return Effect(_interval(entry), _text(entry.get("reason"))) if isinstance(entry, dict) else None


def _final(result: Mapping[str, Any], told: Mapping[str, Any], name: str) -> Interval | None:
    """The last validation loss of an arm over its fresh starts; by its row where its curves are not there."""
    ends = [_list(_list(run)[-1:]) for run in _list(mapping(told.get("curves")).get(name))]
    losses = [number(end[0][1]) for end in ends if end and len(_list(end[0])) == 2]
    known = [loss for loss in losses if loss is not None]
    if known:
        return mean_interval(known)
    row = next((row for row in objects(result.get("rows")) if row.get("name") == name), {})
    return _interval(row.get("validation_loss"))


def _line_to_best(search: Walk) -> tuple[Step, ...]:
    """From the start to the best program so far, while nothing is decided yet."""
    programs = {one.number: one for one in search.programs}
    at = search.winner
    line: list[Step] = []
    while at is not None and len(line) < len(programs):
        line.append(Step(at.number, at.mutation, at.change, at.fitness))
        at = None if at.parent is None else programs.get(at.parent)
    return tuple(reversed(line))


def _failures(events: Events, totals: Mapping[str, Any]) -> tuple[Failure, ...]:
    """From the journal, the most frequent first; from the totals of the result where the journal tells of none."""
    mutations, programs = Counter[str](), Counter[str]()
    of_search = [event for event in named(events, "program") if event.get("stage") == "search"]
    for event in {event["number"]: event for event in of_search if has(event, "number")}.values():
        for reason, count in mapping(event.get("rejected")).items():
            mutations[reason] += int(number(count) or 0)
        if number(event.get("fitness")) is None:
            programs[_candidate(event).reason or "no reason recorded"] += 1
    if not mutations and not programs:
        programs.update({reason: int(number(count) or 0) for reason, count in totals.items()})
    reasons = dict.fromkeys([*mutations, *programs])
    found = [Failure(reason, mutations[reason], programs[reason]) for reason in reasons]
    return tuple(sorted(found, key=lambda one: -one.mutations - one.programs))


def _trainings(told: Mapping[str, Any]) -> Iterator[Final]:
    for entry in objects(told.get("trainings")):
        program, budget = _text(entry.get("program")), number(entry.get("budget"))
        losses = tuple(loss for loss in map(number, _list(entry.get("losses"))) if loss is not None)
        if program and budget and losses:
            yield Final(program, budget, losses)


def _arms(told: Mapping[str, Any], labels: Mapping[str, str], finals: Sequence[Final]) -> tuple[Arm, ...]:
    curves, speedups = (mapping(told.get(name)) for name in ("curves", "speedups"))
    found = []
    for name in dict.fromkeys([*curves, *speedups]):
        label, law = labels.get(name, name.replace("_", " ")), law_of(name, finals)
        found.append(Arm(name, label, speedup=_interval(speedups.get(name)), law=law, **_curve(curves.get(name))))
    return tuple(found)


def law_of(program: str, finals: Sequence[Final]) -> PowerLaw | None:
    """The power law of a program over the budgets at which it was trained."""
    return frontier_law([(one.budget, one.losses) for one in finals if one.program == program])


def _curve(runs: Any) -> dict[str, Any]:
    """What an arm knows of its curve; nothing where it cannot be read."""
    pairs = [[(number(p[0]), number(p[1])) for p in _list(run) if len(_list(p)) == 2] for run in _list(runs)]
    usable = [
        [(cost, loss) for cost, loss in run if cost and loss is not None] for run in pairs
    ]  # at no cost no logarithm
    try:
        costs, losses = common_curves([([cost for cost, _ in run], [loss for _, loss in run]) for run in usable if run])
    except RequestError:
        return {}
    lines = {"costs": costs, "means": losses.mean(0), "lows": losses.min(0), "highs": losses.max(0)}
    return {name: tuple(line.tolist()) for name, line in lines.items()} | {"seeds": len(losses)}


def _noise(entry: Mapping[str, Any]) -> Noise | None:
    mean, spread, runs = (number(entry.get(name)) for name in ("mean", "spread", "runs"))
    return None if mean is None or spread is None else Noise(mean, spread, None if runs is None else int(runs))


def _interval(entry: Any) -> Interval | None:
    entry = entry if isinstance(entry, dict) else {"value": entry}
    value = number(entry.get("value"))
    return None if value is None else Interval(value, number(entry.get("low")), number(entry.get("high")))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
