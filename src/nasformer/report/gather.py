"""Gather: a run folder, finished or not, becomes small frozen values. What is drawn is tested here first."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasformer.errors import RequestError
from nasformer.report.diagram import Diagram, read_diagram

FOUND = "found"
"""The name of the row and of the stage of the architecture that the search found."""

REFERENCE = "transformer"
"""The name of the row that differences are taken to."""


@dataclass(frozen=True)
class Quality:
    """A number that says how good a model is: its field in a scorecard, its name for readers, and its better side."""

    name: str
    label: str
    higher_is_better: bool


QUALITIES = (
    Quality("bleu", "BLEU", True),
    Quality("chrf", "chrF", True),
    Quality("accuracy", "accuracy", True),
    Quality("bits_per_byte", "bits per byte", False),
    Quality("perplexity", "perplexity", False),
    Quality("loss", "loss", False),
)
"""The qualities that a report knows; the first one that a row has is the one that is compared."""


@dataclass(frozen=True)
class Measured:
    """A value with its interval, where one was measured."""

    value: float
    low: float | None = None
    high: float | None = None
    signature: str | None = None

    def overlaps(self, other: Measured) -> bool | None:
        """Whether the two intervals share a point; None where one of them is unknown."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return None
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Row:
    """One model of the comparison: its quality, its size and what it cost. None means not measured."""

    name: str
    label: str
    qualities: Mapping[str, Measured] = field(default_factory=dict)
    core_parameters: float | None = None
    total_parameters: float | None = None
    flops: float | None = None
    updates: float | None = None
    evaluations: float | None = None
    seconds: float | None = None
    split: str | None = None


@dataclass(frozen=True)
class Comparison:
    """The rows of a result, the qualities to show and the limits that the search obeyed."""

    rows: tuple[Row, ...] = ()
    qualities: tuple[Quality, ...] = QUALITIES[:2]
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def main(self) -> Quality:
        """The quality that decides: the first one shown."""
        return self.qualities[0]

    def row(self, name: str) -> Row | None:
        """The first row of that name."""
        return next((row for row in self.rows if row.name == name), None)

    def difference(self, row: Row, reference: Row | None = None) -> float | None:
        """The main quality of a row minus that of the reference (by default the Transformer's row)."""
        reference = reference or self.row(REFERENCE)
        if reference is None or row is reference:
            return None
        ours, theirs = row.qualities.get(self.main.name), reference.qualities.get(self.main.name)
        return ours.value - theirs.value if ours and theirs else None

    def above_limit(self, row: Row) -> bool:
        """Whether a row has more core parameters than the search was allowed."""
        limit = self.limits.get("max_core_parameters")
        return limit is not None and row.core_parameters is not None and row.core_parameters > limit


@dataclass(frozen=True)
class SearchCurve:
    """The training of one stage: loss by update, the same smoothed, and validation losses."""

    stage: str
    updates: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()
    smoothed: tuple[float, ...] = ()
    validation_updates: tuple[int, ...] = ()
    validation_losses: tuple[float, ...] = ()
    seconds: float | None = None
    finished: bool = False


@dataclass(frozen=True)
class Exploration:
    """The scores (losses: lower is better) of one iteration of one exploration round."""

    round: int
    iteration: int
    best: float
    median: float


@dataclass(frozen=True)
class Shares:
    """How often each option of one choice occurs in the sampled set: `shares[round][option]`, rounds in order."""

    choice: str
    rounds: tuple[int, ...]
    options: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]

    @property
    def is_operator(self) -> bool:
        """Whether the choice is between operators (and not between sizes)."""
        return self.choice.endswith(".mixer")

    @property
    def favourite(self) -> tuple[str, float]:
        """The most frequent option after the last round, and its share."""
        return max(zip(self.options, self.shares[-1], strict=True), key=lambda pair: pair[1])


@dataclass(frozen=True)
class Divergence:
    """How far sampled architectures disagree at one round, before and after it. None means not measured."""

    round: int
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Scatter:
    """Sizes against quality: (core parameters, validation loss) of evaluated members, the rows, and the limit."""

    members: tuple[tuple[float, float], ...]
    comparison: Comparison
    limit: float | None


@dataclass(frozen=True)
class Correlation:
    """Kendall's rank correlation between scores with inherited and with trained weights."""

    kendall: float
    low: float | None
    high: float | None
    members: int | None


@dataclass(frozen=True)
class Provenance:
    """What it takes to do it again: the command, the rest of the environment in the order it was written, the recipe."""

    command: str | None
    environment: tuple[tuple[str, str], ...]
    recipe: str | None
    recipe_name: str | None
    seed: str | None


@dataclass(frozen=True)
class Gathered:
    """All that a report shows of one run."""

    finished: bool
    task: Mapping[str, Any]
    last: Mapping[str, Any] | None
    unreadable: int
    comparison: Comparison
    curves: tuple[SearchCurve, ...]
    explorations: tuple[Exploration, ...]
    shares: tuple[Shares, ...]
    divergence: tuple[Divergence, ...]
    scatter: Scatter
    correlation: Correlation | None
    provenance: Provenance
    diagram: Diagram | None


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
    """An exponential moving average over about a fifteenth of the values, without a bias towards the first one."""
    keep = 1.0 - 2.0 / (max(1, len(values) // 15) + 1)
    total = weight = 0.0
    smoothed = []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1.0
        smoothed.append(total / weight)
    return tuple(smoothed)


def search_curves(events: Sequence[Mapping[str, Any]]) -> tuple[SearchCurve, ...]:
    """One curve a stage, in the order in which the stages began. After a resume, the later event of an update counts."""
    stages = dict.fromkeys(str(event["stage"]) for event in events
                           if event["event"] in ("update", "validation", "finished") and "stage" in event)  # fmt: skip
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
    points = {int(event["update"]): _number(event.get("loss")) for event in events if _number(event.get("update"))}
    return {update: loss for update, loss in sorted(points.items()) if loss is not None}


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
    rounds = {int(event["round"]): _object(event.get("shares")) for event in _of_search(_named(events, "round"))}
    choices = dict.fromkeys(choice for number in sorted(rounds) for choice in rounds[number])
    return tuple(_shares(choice, rounds) for choice in sorted(choices, key=_natural))


def _shares(choice: str, rounds: Mapping[int, Mapping[str, Any]]) -> Shares:
    numbers = tuple(number for number in sorted(rounds) if choice in rounds[number])
    options = tuple(dict.fromkeys(str(option) for number in numbers for option in rounds[number][choice]))
    options = tuple(sorted(options, key=_natural))
    table = tuple(tuple(_number(rounds[number][choice].get(o)) or 0.0 for o in options) for number in numbers)
    return Shares(choice, numbers, options, table)


def divergence(entries: Iterable[Mapping[str, Any]]) -> tuple[Divergence, ...]:
    """The divergence of the search before and after each round, from events or from the entries of a result."""
    found: dict[int, dict[str, float | None]] = {}
    for entry in _of_search(entries):
        if _number(entry.get("round")) is not None:
            found.setdefault(int(entry["round"]), {})[str(entry.get("when"))] = _number(entry.get("variance"))
    return tuple(Divergence(number, found[number].get("before"), found[number].get("after")) for number in sorted(found))


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
    kendall, count = _number(entry.get("kendall")), _number(entry.get("members"))
    if kendall is None:
        return None
    return Correlation(kendall, _number(entry.get("low")), _number(entry.get("high")), None if count is None else int(count))


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
