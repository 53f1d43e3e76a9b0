"""The result in words: how far the found architecture is from its controls, and whether chance may explain it."""

from __future__ import annotations

from nasformer.report.figure import words
from nasformer.report.table import amount, decimals, measured, unsearched
from nasformer.report.values import (
    ALONE,
    CELLS,
    FOUND,
    REFERENCE,
    START,
    Comparison,
    Derivation,
    Differentiable,
    Rewinds,
    Row,
    mean_title,
)

_FIXED = ((REFERENCE, "the Transformer"), ("lite_transformer", "the Lite Transformer"))
CONTROLS = {
    "shrinknas": (*_FIXED, ("random_search", "random search")),
    "darts": (
        *_FIXED,
        ("random_architecture", "the random architecture"),
        ("uniform_sampling", "uniform sampling"),
        ("plain_darts", "DARTS on the plain Transformer"),
    ),
    "cells": (
        ("random_architecture", "the random architecture"),
        (REFERENCE, "the Transformer"),
        ("darts_v2", "the published cells of DARTS"),
        ("gdas_v1", "the published cells of GDAS"),
        ("gdas", "GDAS"),
        ("darts", "DARTS"),
        ("pc_darts", "PC-DARTS"),
        ("darts_minus", "DARTS−"),
        ("early_stopping", "R-DARTS"),
        ("spos", "SPOS"),
        ("table_best", "the best in the table"),
    ),
    "primer": (
        (START, "the start"),
        ("random_mutation", "random mutation"),
        ("transformer_plus_plus", "Transformer++"),
        ("primer_ez", "Primer-EZ"),
        ("primer", "Primer with queries made head by head"),
    ),
}
"""For each kind of strategy the rows that a verdict compares the found one with, and their names in a sentence."""
OTHER_ZERO = "other_zero"
"""The row of what the other rule for Zero derives."""


def verdict(comparison: Comparison) -> str:
    """One sentence: the difference to each control and whether the intervals overlap."""
    if comparison.strategy == ALONE:
        return "One architecture was trained, and nothing searched."
    found = comparison.row(FOUND)
    if found is None or comparison.main.name not in found.qualities:
        return "There is no verdict yet: the found architecture has not been scored."
    alone = unsearched(comparison, found)
    named = [(name, title) for name, title in _controls(comparison) if not (alone and name == START)]
    rows = [(row, title) for name, title in named if (row := comparison.row(name))]
    clauses = [clause for row, title in rows if (clause := _clause(comparison, found, row, title))]
    if not clauses:
        return "There is no verdict: no control was scored to compare the found architecture with."
    said = clauses[0] if len(clauses) == 1 else ", ".join(clauses[:-1]) + ", and " + clauses[-1]
    if alone:
        return f"No program but the start was tried, which stands here as the found architecture: it is {said}."
    return f"The found architecture is {said}."


def notes(comparison: Comparison) -> tuple[str, ...]:
    """What a fair reader must know beside the verdict: the value, unlike sizes and trainings, what was not run."""
    found = comparison.row(FOUND)
    if found is None or comparison.main.name not in found.qualities:
        return ()
    value = measured(found.qualities[comparison.main.name], comparison.main)
    where = f" on the {found.split} split" if found.split else ""
    said = [f"It scores {value} {comparison.main.label}{where} with {amount(found.core_parameters)} core parameters."]
    if comparison.note:
        said.append(comparison.note)
    if comparison.above_limit(found):
        said.append("The found architecture is above the limit: it does not answer what was asked.")
    by_cost = comparison.strategy == "primer"
    if by_cost:
        said += _program_notes(comparison)
    said += _searching(comparison, found)
    for name, title in _controls(comparison):
        row = comparison.row(name)
        subject = title[0].upper() + title[1:]
        if row is None or comparison.main.name not in row.qualities:
            said.append(f"{subject} was not {'run' if row is None else 'scored'}.")
            continue
        if comparison.above_limit(row):
            said.append(f"{subject} is above the limit ({amount(row.core_parameters)} core parameters).")
        if not by_cost and row.trained and found.trained and abs(row.trained / found.trained - 1) > 0.01:
            trained, ours = amount(row.trained), amount(found.trained)
            said.append(f"{subject} was trained for {trained} updates, the found one for {ours}.")
        if (
            row.core_parameters
            and found.core_parameters
            and abs(row.core_parameters / found.core_parameters - 1) > 0.05
        ):
            sizes = f"{amount(row.core_parameters)} core parameters, the found one {amount(found.core_parameters)}"
            said.append(f"{subject} has {sizes}: their difference mixes size and method.")
    if not by_cost and found.qualities[comparison.main.name].low is not None:
        said.append("An interval covers the choice of test examples, not the luck of training: compare several seeds.")
    return tuple(said)


def _program_notes(comparison: Comparison) -> list[str]:
    """How the models of a search over programs are trained, and what their intervals mean."""
    said = ["Every model is trained for the same cost, not for as many updates: a faster one makes more."]
    other = [row.label for row in comparison.rows if row.name.startswith(("longer", "wider"))]
    if other:
        said.append(f"Trained for longer or made wider, to be compared among themselves: {', '.join(other)}.")
    said.append("An interval covers the luck of several trainings of one model, not the choice of test examples.")
    return said


def search_notes(search: Differentiable | None, other: str | None = None) -> tuple[str, ...]:
    """What a fair reader must know of a differentiable search: its starts, its rule for Zero, where it went back.

    `other` is the label of the row of what the other rule derives, where it was trained too.
    """
    if search is None:
        return ()
    said = []
    losses = [start.loss for start in search.starts]
    if len(losses) > 1 and search.decided:
        known = [loss for number, loss in enumerate(losses) if loss is not None and number != search.taken]
        ours = losses[search.taken]
        numbers = f" ({ours:.3f}; otherwise {', '.join(f'{loss:.3f}' for loss in known)})" if ours is not None else ""
        said.append(
            f"The search was made from {len(losses)} starts; start {search.taken + 1} was taken, for what it derived "
            f"has the lowest validation loss on inherited weights{numbers}."
        )
    return (*said, *_zero_notes(search, other), *map(_rewinds_note, search.rewinds))


def _zero_notes(search: Differentiable, other: str | None) -> list[str]:
    """Which rule for Zero was used, and what the other one derived."""
    if search.zero is None or len(search.derivations) < 2:
        return []
    used, rest = sorted(search.derivations, key=lambda one: one.zero != search.zero)
    rule = "Zero was allowed to stay." if search.zero else "Zero was passed over where a node preferred it."
    if _alike(used, rest):
        return [f"{rule} The other rule derives the same operators."]
    trained = f" It was trained too: see “{other}”." if other else ""
    size = f" with {amount(rest.core_parameters)} core parameters"
    return [f"{rule} The other rule derives another architecture{size}: {rest.architecture}.{trained}"]


def _alike(one: Derivation, other: Derivation) -> bool:
    return (one.architecture, one.core_parameters) == (other.architecture, other.core_parameters)


def _rewinds_note(rewinds: Rewinds) -> str:
    count, updates = len(rewinds.updates), ", ".join(map(str, rewinds.updates))
    times, at = ("once", f"update {updates}") if count == 1 else (f"{count} times", f"updates {updates}")
    rates = "" if rewinds.slower is None else f" From then on its rates were {rewinds.slower:g} of those set."
    return (
        f"The stage “{words(rewinds.stage)}” went back to an earlier state {times}, where a loss was no number "
        f"(at {at}).{rates}"
    )


def name_of_other(comparison: Comparison) -> str | None:
    """The label of the row of what the other rule for Zero derives, where there is one."""
    row = comparison.row(OTHER_ZERO)
    return row.label if row else None


def _controls(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    if comparison.strategy == ALONE:
        return ()
    if comparison.strategy in CELLS:  # which controls make sense is the recipe's to say: of those not run no word
        return tuple((name, title) for name, title in CONTROLS["cells"] if comparison.row(name))
    return CONTROLS.get(comparison.strategy, CONTROLS["shrinknas"])


def _searching(comparison: Comparison, found: Row) -> list[str]:
    """What was spent on searching, where the models do not inherit its weights."""
    if not found.searched:
        return []
    trained, searched = amount(found.trained), amount(found.searched)
    if not found.trained:  # looked up in a table
        said = [f"The search took {searched} passes of selections."]
    elif comparison.strategy in CELLS:
        said = [
            f"Every model is trained from scratch, the found one for {trained} updates. The search before took "
            f"{searched} passes of selections, of weights and of logits."
        ]
    else:
        said = [
            f"Every model is trained from scratch, the found one for {trained} updates. The search before took "
            f"{searched} updates of its own, of weights and of logits."
        ]
    for name, title in _controls(comparison):
        row = comparison.row(name)
        if row and row.searched:
            unit = "passes" if comparison.strategy in CELLS else "updates"
            said.append(f"{title[0].upper() + title[1:]} searched for {amount(row.searched)} {unit}.")
    return said


def _clause(comparison: Comparison, found: Row, row: Row, title: str) -> str | None:
    ours = found.qualities[comparison.main.name]
    alike = comparison.alike(row.name) or (row,)
    difference = comparison.difference(found, *alike)
    if difference is None:
        return None
    digits = decimals(ours.value, comparison.main)  # of the quality, not of the difference
    if len(alike) > 1:
        values = [one.qualities[comparison.main.name].value for one in alike]
        title = mean_title(len(values))
        doubt = f"which have {min(values):.{digits}f} to {max(values):.{digits}f}"
    else:
        doubt = {
            None: "no intervals to judge it by",
            True: "the intervals overlap: this may be chance",
            False: "the intervals do not overlap",
        }[ours.overlaps(row.qualities[comparison.main.name])]
    if difference == 0:
        return f"level with {title} ({doubt})"
    side = "better" if (difference > 0) == comparison.main.higher_is_better else "worse"
    return f"{abs(difference):.{digits}f} {comparison.main.label} {side} than {title} ({doubt})"
