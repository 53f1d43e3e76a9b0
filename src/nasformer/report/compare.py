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
from nasformer.report.values import FOUND, Comparison, Differentiable, Gathered, Probabilities, Quality, Row


def compare(folders: Iterable[Path]) -> str:
    """Markdown: one table for the runs of each recipe (seeds aside), above it the strongest control; unfinished runs
    are named and left out.

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
    sizes = ("core parameters", "total", *(["training FLOPs"] if _have_flops(runs) else []))
    header = ("model", "runs", *sizes, *labels, *to_reference, f"Δ {first.main.label}, found − model")
    rows = dict.fromkeys(row.name for run in runs for row in run.comparison.rows)
    said = strongest_control([run.comparison for run in runs])
    table = "\n\n".join([title, *([said] if said else []), markdown(header, [_line(runs, name) for name in rows])])
    searches = [run.differentiable for run in runs if run.differentiable is not None]
    agreed = agreement(searches)
    return f"{table}\n\n{agreed}" if agreed else table


def strongest_control(comparisons: Sequence[Comparison]) -> str | None:
    """Which control is the best in the mean over the seeds in which it and the found architecture were scored, among
    those of the most seeds, and how far the found one is from it, seed by seed; None without any."""
    main = comparisons[0].main
    pairs: dict[str, list[tuple[Row, Row]]] = {}
    for comparison in comparisons:
        found = comparison.row(FOUND)
        if found is None or main.name not in found.qualities:
            continue
        for row in comparison.controls:
            pairs.setdefault(row.name, []).append((found, row))
    if not pairs:
        return None
    most = max(map(len, pairs.values()))
    side = 1 if main.higher_is_better else -1

    def values(name: str) -> list[tuple[float, float]]:
        return [(found.qualities[main.name].value, row.qualities[main.name].value) for found, row in pairs[name]]

    whole = [name for name in pairs if len(pairs[name]) == most]
    best = max(whole, key=lambda name: side * _mean([theirs for _, theirs in values(name)]))
    quality, label = [theirs for _, theirs in values(best)], pairs[best][0][1].label
    differences, like = [ours - theirs for ours, theirs in values(best)], pairs[best][0][1].qualities[main.name]
    digits = decimals(like.value, main)
    difference = difference_text(_mean(differences), like, main) + _half_width(differences, digits)
    over, interval = ("1 seed", "") if most == 1 else (f"{most} seeds", " (95 % Student interval over seeds, paired)")
    told = f"{_mean(quality):.{digits}f}{_half_width(quality, digits)} {main.label}"
    return f"Strongest control over {over}: {label}, {told}; found − it: {difference}{interval}"


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
    columns = ("core_parameters", "total_parameters", *(["training_flops"] if _have_flops(runs) else []))
    sizes = [_mean_amount([getattr(row, column) for _, row in found]) for column in columns]
    differences = (to_reference, of_found) if _have_reference(runs) else (of_found,)
    return (found[0][1].label, str(len(found)), *sizes, *qualities, *differences)


def _mean_amount(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return amount(_mean(known)) if known else MISSING


def _have_reference(runs: Iterable[Gathered]) -> bool:
    """Whether there is a row to take differences to that is the same in all runs; the strongest control may be another
    in each."""
    return any(run.comparison.has_fixed_reference for run in runs)


def _have_flops(runs: Iterable[Gathered]) -> bool:
    return any(row.training_flops is not None for run in runs for row in run.comparison.rows)


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
