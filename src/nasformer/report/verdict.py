"""The result in words: how far the found architecture is from its controls, and whether chance may explain it."""

from __future__ import annotations

from nasformer.report.table import amount, measured, quality_text
from nasformer.report.values import FOUND, REFERENCE, Comparison, Row

CONTROLS = (
    (REFERENCE, "the Transformer"),
    ("lite_transformer", "the Lite Transformer"),
    ("random_search", "random search"),
)
"""The rows that a verdict compares the found one with, and their names in a sentence."""


def verdict(comparison: Comparison) -> str:
    """One sentence: the difference to each control and whether the intervals overlap."""
    found = comparison.row(FOUND)
    if found is None or comparison.main.name not in found.qualities:
        return "There is no verdict yet: the found architecture has not been scored."
    rows = [(row, words) for name, words in CONTROLS if (row := comparison.row(name))]
    clauses = [clause for row, words in rows if (clause := _clause(comparison, found, row, words))]
    if not clauses:
        return "There is no verdict: no control was scored to compare the found architecture with."
    said = clauses[0] if len(clauses) == 1 else ", ".join(clauses[:-1]) + ", and " + clauses[-1]
    return f"The found architecture is {said}."


def notes(comparison: Comparison) -> tuple[str, ...]:
    """What a fair reader must know beside the verdict: the value, unlike sizes and trainings, what was not run."""
    found = comparison.row(FOUND)
    if found is None or comparison.main.name not in found.qualities:
        return ()
    value = measured(found.qualities[comparison.main.name])
    where = f" on the {found.split} split" if found.split else ""
    said = [f"It scores {value} {comparison.main.label}{where} with {amount(found.core_parameters)} core parameters."]
    if comparison.above_limit(found):
        said.append("The found architecture is above the limit: it does not answer what was asked.")
    for name, words in CONTROLS:
        row = comparison.row(name)
        subject = words[0].upper() + words[1:]
        if row is None or comparison.main.name not in row.qualities:
            said.append(f"{subject} was not {'run' if row is None else 'scored'}.")
            continue
        if comparison.above_limit(row):
            said.append(f"{subject} is above the limit ({amount(row.core_parameters)} core parameters).")
        if row.updates and found.updates and abs(row.updates / found.updates - 1) > 0.01:
            trained, ours = amount(row.updates), amount(found.updates)
            said.append(f"{subject} was trained for {trained} updates, the found one for {ours}.")
        if (
            row.core_parameters
            and found.core_parameters
            and abs(row.core_parameters / found.core_parameters - 1) > 0.05
        ):
            sizes = f"{amount(row.core_parameters)} core parameters, the found one {amount(found.core_parameters)}"
            said.append(f"{subject} has {sizes}: their difference mixes size and method.")
    said.append("An interval covers the choice of test examples, not the luck of training: compare several seeds.")
    return tuple(said)


def _clause(comparison: Comparison, found: Row, row: Row, words: str) -> str | None:
    difference = comparison.difference(found, row)
    if difference is None:
        return None
    ours, theirs = found.qualities[comparison.main.name], row.qualities[comparison.main.name]
    overlap = ours.overlaps(theirs)
    doubt = {
        None: "no intervals to judge it by",
        True: "the intervals overlap: this may be chance",
        False: "the intervals do not overlap",
    }[overlap]
    if difference == 0:
        return f"level with {words} ({doubt})"
    side = "better" if (difference > 0) == comparison.main.higher_is_better else "worse"
    digits = len(quality_text(ours.value).partition(".")[2])  # the decimals of the quality, not of the difference
    return f"{abs(difference):.{digits}f} {comparison.main.label} {side} than {words} ({doubt})"
