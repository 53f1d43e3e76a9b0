"""Several runs side by side: means and their intervals over seeds, for each row of the runs whose recipes agree."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from nasformer.measures.statistics import mean_interval, rank_correlation
from nasformer.report.evolution import law_of
from nasformer.report.evolved import Evolution
from nasformer.report.gather import gather
from nasformer.report.speed import law_text, speedup_text
from nasformer.report.table import MISSING, amount, decimals, difference_text, markdown
from nasformer.report.values import FOUND, Differentiable, Gathered, Probabilities, Quality, Row


def compare(folders: Iterable[Path]) -> str:
    """Markdown: one table for the runs of each recipe (seeds aside); unfinished runs are named and left out.

    Differences, to the Transformer (or to the start of a search over programs) and of the found architecture to each
    model, are taken within each run before the mean. ± is the 95 % Student interval over seeds.
    """
    runs = [(Path(folder), gather(folder)) for folder in folders]
    groups: dict[str, list[tuple[Path, Gathered]]] = {}
    for folder, run in runs:
        if run.finished:
            recipe = f"{run.provenance.recipe_name} {_without_seeds(run.provenance.recipe)}"
            groups.setdefault(recipe, []).append((folder, run))
    parts = [_group([run for _, run in group], [folder.name for folder, _ in group]) for group in groups.values()]
    if len(groups) > 1:
        parts.insert(0, f"The recipes differ in more than the seed: {len(groups)} tables, not to be averaged.")
    left_out = [folder.name for folder, run in runs if not run.finished]
    parts += budgets([(folder.name, run) for folder, run in runs if run.finished])
    parts += [f"Left out, as unfinished: {', '.join(left_out)}."] if left_out else []
    return "\n\n".join(parts or ["There is no run to compare."]) + "\n"


def _group(runs: Sequence[Gathered], names: Sequence[str]) -> str:
    first = runs[0].comparison
    seeds = ", ".join(run.provenance.seed or MISSING for run in runs)
    count = f"{len(runs)} run{'s' * (len(runs) != 1)}"
    title = f"**{runs[0].provenance.recipe_name or 'recipe'}**: {count} ({', '.join(names)}), seeds {seeds}"
    title += "; ± is the 95 % Student interval over seeds" if len(runs) > 1 else ""
    labels = [quality.label for quality in first.qualities]
    to_reference = [first.difference_label] if _have_reference(runs) else []
    header = ("model", "runs", "core parameters", *labels, *to_reference, f"Δ {first.main.label}, found − model")
    rows = dict.fromkeys(row.name for run in runs for row in run.comparison.rows)
    table = f"{title}\n\n{markdown(header, [_line(runs, name) for name in rows])}"
    searches = [run.differentiable for run in runs if run.differentiable is not None]
    agreed = agreement(searches)
    return f"{table}\n\n{agreed}" if agreed else table


def agreement(searches: Sequence[Differentiable]) -> str | None:
    """Whether differentiable searches from several seeds ranked the options of each choice alike: Spearman's
    correlation of the last probabilities between two searches, over choices and pairs; 0 is what chance gives.

    A softmax near uniform may still rank its options the same way in every seed, and a sharp one by chance. None where
    no two searches share a choice of three options or more in which both prefer some.
    """
    found = []
    for one, other in combinations(searches, 2):
        theirs = {p.choice: _last(p) for p in other.probabilities}
        for probabilities in one.probabilities:
            ours, known = _last(probabilities), theirs.get(probabilities.choice, {})
            both = [option for option in ours if option in known]
            if len(both) > 2:
                found.append(rank_correlation(*([p[o] for o in both] for p in (ours, known)), resamples=0).spearman)
    found = [correlation for correlation in found if not math.isnan(correlation)]
    if not found:
        return None
    mean, low, high = (f"{value:.2f}".replace("-", "−") for value in (_mean(found), min(found), max(found)))
    return (
        f"Two searches rank the options of a choice with a correlation (Spearman's) of {mean} in the mean, {low} to "
        f"{high}; chance gives 0."
    )


def _last(probabilities: Probabilities) -> dict[str, float]:
    return {option: row[-1] for option, row in zip(probabilities.options, probabilities.shares, strict=True)}


def budgets(runs: Sequence[tuple[str, Gathered]]) -> list[str]:
    """Markdown for searches over programs that begin with the same program on the same data: the speed-ups in each run,
    and each program's power law over the budgets of all of them; nothing where there is one budget."""
    groups: dict[str, list[tuple[str, Evolution]]] = {}
    for name, run in runs:
        if run.evolution is not None:
            key = json.dumps([run.evolution.start, run.task.get("path"), run.task.get("vocabulary")], default=str)
            groups.setdefault(key, []).append((name, run.evolution))
    return [_budgets(group) for group in groups.values() if len({e.budget for _, e in group}) > 1]


def _budgets(runs: Sequence[tuple[str, Evolution]]) -> str:
    finals = [final for _, evolution in runs for final in evolution.finals]
    arms = {arm.name: arm.label for _, evolution in runs for arm in evolution.arms}
    lines = []
    for name, label in arms.items():
        found = [next((arm for arm in evolution.arms if arm.name == name), None) for _, evolution in runs]
        texts = [speedup_text(arm.speedup) if arm and arm.speedup else MISSING for arm in found]
        lines.append((label, *texts, law_text(law_of(name, finals))))
    header = ("speed-up", *(f"{name}, {evolution.budget or 0:g} s" for name, evolution in runs), "final loss by budget")
    return f"**Budgets** (95 % intervals over fresh starts)\n\n{markdown(header, lines)}"


def _line(runs: Sequence[Gathered], name: str) -> tuple[str, ...]:
    found: list[tuple[Gathered, Row]] = [(run, row) for run in runs if (row := run.comparison.row(name)) is not None]
    sizes = [row.core_parameters for _, row in found if row.core_parameters is not None]
    qualities = []
    for quality in runs[0].comparison.qualities:
        values = [row.qualities[quality.name].value for _, row in found if quality.name in row.qualities]
        qualities.append(_quality(values, quality) if values else MISSING)
    main = runs[0].comparison.main
    like = next((row.qualities[main.name] for _, row in found if main.name in row.qualities), None)

    def mean_of(differences: Iterable[float | None]) -> str:
        known = [value for value in differences if value is not None]
        if not known or like is None:
            return MISSING
        return difference_text(_mean(known), like, main) + _half_width(known, decimals(like.value, main))

    to_reference = mean_of(run.comparison.difference(row) for run, row in found)
    of_found = mean_of(
        run.comparison.difference(best, row) for run, row in found if (best := run.comparison.row(FOUND)) is not None
    )
    size = amount(_mean(sizes)) if sizes else MISSING
    differences = (to_reference, of_found) if _have_reference(runs) else (of_found,)
    return (found[0][1].label, str(len(found)), size, *qualities, *differences)


def _have_reference(runs: Iterable[Gathered]) -> bool:
    return any(run.comparison.has_reference for run in runs)


def _mean(values: Sequence[float]) -> float:
    return mean_interval(values).value


def _quality(values: Sequence[float], quality: Quality) -> str:
    mean = _mean(values)
    return f"{mean:.{decimals(mean, quality)}f}" + _half_width(values, decimals(values[0], quality))


def _half_width(values: Sequence[float], digits: int) -> str:
    """` ± ` and half the width of the mean's interval; nothing for a single value."""
    interval = mean_interval(values)
    return "" if interval.high is None else f" ± {interval.high - interval.value:.{digits}f}"


def _without_seeds(recipe: str | None) -> str:
    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: strip(part) for name, part in value.items() if name != "seed"}
        return [strip(part) for part in value] if isinstance(value, list) else value

    return json.dumps(strip(json.loads(recipe or "null")), sort_keys=True)
