"""The result in words: how far the found architecture is from its controls, and whether chance may explain it."""

from __future__ import annotations

from nasformer.report.figure import words
from nasformer.report.roles import TUNED
from nasformer.report.table import amount, decimals, difference_text, measured, unsearched
from nasformer.report.values import (
    ALONE,
    CELLS,
    DIFFERENTIABLE,
    FOUND,
    RANDOM,
    REFERENCE,
    START,
    Comparison,
    Derivation,
    Differentiable,
    Rewinds,
    Row,
    mean_title,
)

TITLES = {
    REFERENCE: "the Transformer",
    "lite_transformer": "the Lite Transformer",
    START: "the start",
    RANDOM: "the random architecture",
    "random_search": "random search",
    "uniform_sampling": "uniform sampling",
    "plain_darts": "DARTS on the plain Transformer",
    "darts_v2": "the published cells of DARTS",
    "gdas_v1": "the published cells of GDAS",
    "gdas": "GDAS",
    "darts": "DARTS",
    "pc_darts": "PC-DARTS",
    "darts_minus": "DARTS−",
    "early_stopping": "R-DARTS",
    "spos": "SPOS",
    "table_best": "the best in the table",
    "random_mutation": "random mutation",
    "transformer_plus_plus": "Transformer++",
    "primer_ez": "Primer-EZ",
    "primer": "Primer with queries made head by head",
}
"""The rows that a verdict tells beside the strongest control, where they were run, and their names in a sentence."""
OF_PROGRAMS = (START, "random_mutation", "transformer_plus_plus", "primer_ez", "primer")
"""What a search of programs is always compared with: if not, a note says so."""
AS_LARGE = 1.03
"""A model whose parameters, those of its tables included, are at most so many times the found one's, is no larger."""
OTHER_ZERO = "other_zero"
"""The row of what the other rule for Zero derives."""


def verdict(comparison: Comparison) -> str:
    """The difference to the strongest control and whether chance may explain it; where that one is larger by its
    tables, to the strongest that is not; then to others that readers know."""
    if comparison.strategy == ALONE:
        return "One architecture was trained, and nothing searched."
    found, main = comparison.row(FOUND), comparison.main
    if found is None or main.name not in found.qualities:
        return "There is no verdict yet: the found architecture has not been scored."
    best = comparison.best(row for row in comparison.rows if main.name in row.qualities)
    if best and main.floor is not None and (value := best.qualities[main.name].value) < main.floor:
        return f"No verdict: nothing has learnt to translate (the best has {value:.2g} {main.label}); train longer."
    rivals = _rivals(comparison, found)
    strongest = comparison.best(rivals)
    if strongest is None:
        return "There is no verdict: no control was scored to compare the found architecture with."
    said = ["No program but the start was tried, which stands here as the found architecture."]
    said = said if unsearched(comparison, found) else []
    told, size = [strongest], ""
    if larger := _larger(comparison, found, strongest):
        ours, theirs = amount(found.total_parameters), amount(strongest.total_parameters)
        size = f"with {theirs} parameters in all, the found one {ours}"
    named, judged = _named(comparison, strongest, size), _judged(comparison, found, strongest)
    said.append(f"Against the strongest control, {named}, the found architecture is {judged}.")
    if larger:
        equal = comparison.best(row for row in rivals if not _larger(comparison, found, row))
        told += [equal] if equal else []
        said.append(_of_no_larger(comparison, found, equal))
    rows = (*rivals, *(row for row in comparison.rows if row.name == "table_best"))
    known = sorted((row for row in rows if row.name in TITLES), key=lambda row: list(TITLES).index(row.name))
    others = (_clause(comparison, found, row) for row in known if row not in told)
    clauses = [clause for clause in others if clause]
    if clauses:
        said.append(f"It is {clauses[0] if len(clauses) == 1 else ', '.join(clauses[:-1]) + ', and ' + clauses[-1]}.")
    return " ".join(said)


def _rivals(comparison: Comparison, found: Row) -> tuple[Row, ...]:
    """The controls; where nothing was searched without the start, which is the found one."""
    return tuple(row for row in comparison.controls if not (unsearched(comparison, found) and row.name == START))


def _larger(comparison: Comparison, found: Row, row: Row) -> bool:
    """Whether a limit on core parameters let a control be larger than the found one by its tables."""
    if "max_core_parameters" not in comparison.limits or row.name.endswith("_total"):
        return False
    ours, theirs = found.total_parameters, row.total_parameters
    return ours is not None and theirs is not None and theirs > AS_LARGE * ours


def _of_no_larger(comparison: Comparison, found: Row, row: Row | None) -> str:
    """The found one beside the strongest control that its tables do not make larger."""
    if row is None:
        return "No control of its total size was run."
    named, judged = _named(comparison, row), _judged(comparison, found, row)
    ours, theirs = found.total_parameters, row.total_parameters
    if row.name.endswith("_total") or (ours is not None and theirs is not None and ours <= AS_LARGE * theirs):
        return f"At equal total size, against {named}, it is {judged}."
    return f"At no larger total size, against {named}, it is {judged}."


def _title(row: Row) -> str:
    """What a control is called in a sentence."""
    return row.label if row.label.startswith("the mean of ") else TITLES.get(row.name, row.label)


def _named(comparison: Comparison, row: Row, more: str = "") -> str:
    """A control with its quality, and more in the same brackets."""
    main, value = comparison.main, row.qualities[comparison.main.name]
    digits = decimals(value.value, main)
    parts = [f"{value.value:.{digits}f} {main.label}"]
    if len(comparison.alike(row.name)) > 1:
        parts.append(f"each {value.low:.{digits}f} to {value.high:.{digits}f}")
    return f"{_title(row)} ({'; '.join([*parts, *([more] if more else [])])})"


def _judged(comparison: Comparison, found: Row, row: Row) -> str:
    """Better, level or worse than a control, by how much: level where the intervals overlap."""
    main = comparison.main
    ours, theirs = found.qualities[main.name], row.qualities[main.name]
    difference, overlap = ours.value - theirs.value, ours.overlaps(theirs)
    told = f"{difference_text(difference, ours, main)} {main.label}"
    if overlap or difference == 0:
        return f"level: {told}, {'the intervals overlap' if overlap else 'with no intervals to judge it by'}"
    side = "better" if (difference > 0) == main.higher_is_better else "worse"
    doubt = "with no intervals to judge it by" if overlap is None else "and the intervals do not overlap"
    return f"{side}: {told}, {doubt}"


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
    said += _cost_notes(comparison, found)
    for row in comparison.controls:
        subject = _subject(row)
        if comparison.above_limit(row):
            said.append(f"{subject} is above the limit ({amount(row.core_parameters)} core parameters).")
        if not by_cost and row.trained and found.trained and abs(row.trained / found.trained - 1) > 0.01:
            trained, ours = amount(row.trained), amount(found.trained)
            said.append(f"{subject} was trained for {trained} updates, the found one for {ours}.")
        if (
            not row.name.endswith("_total")
            and row.core_parameters
            and found.core_parameters
            and abs(row.core_parameters / found.core_parameters - 1) > 0.05
        ):
            sizes = f"{amount(row.core_parameters)} core parameters, the found one {amount(found.core_parameters)}"
            said.append(f"{subject} has {sizes}: their difference mixes size and method.")
    said += _not_run(comparison)
    if not by_cost and found.qualities[comparison.main.name].low is not None:
        said.append("An interval covers the choice of test examples, not the luck of training: compare several seeds.")
    return tuple(said)


def _subject(row: Row) -> str:
    """A control at the beginning of a sentence."""
    return _title(row)[:1].upper() + _title(row)[1:]


def _cost_notes(comparison: Comparison, found: Row) -> list[str]:
    """What was spent on the found one and on its strongest control, where it was counted."""
    strongest = comparison.strongest
    if strongest is None or found.training_flops is None or strongest.training_flops is None:
        return []
    ours, theirs = amount(found.training_flops), amount(strongest.training_flops)
    return [f"All that was run for it took {ours} training FLOPs, for the strongest control {theirs}."]


def _not_run(comparison: Comparison) -> list[str]:
    """Which controls were not scored, and which a fair comparison lacks."""
    if comparison.strategy == ALONE:
        return []
    rows = [row for row in comparison.rows if row.role == "control"]
    said = [f"{_subject(row)} was not scored." for row in rows if comparison.main.name not in row.qualities]
    names = {row.name for row in rows}
    if comparison.strategy == "primer":
        missing = (TITLES[name] for name in OF_PROGRAMS if name not in names)
        return [*said, *(f"{title[:1].upper()}{title[1:]} was not run." for title in missing)]
    if comparison.strategy in CELLS or names & TUNED:
        return said
    return [*said, "No control was tuned: the comparison is with networks whose depth and rate nobody searched for."]


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


def _searching(comparison: Comparison, found: Row) -> list[str]:
    """What was spent on searching, where the models do not inherit its weights, and on rates and candidates."""
    if not found.searched:
        return []
    trained, searched = amount(found.trained), amount(found.searched)
    if not found.trained:  # looked up in a table
        return [f"The search took {searched} passes of selections."]
    alone = "Every model is trained from scratch, the found one for"
    if comparison.strategy in CELLS:
        said = [
            f"{alone} {trained} updates. The search before took {searched} passes of selections, of weights and of "
            f"logits."
        ]
    elif found.stated or comparison.strategy not in DIFFERENTIABLE:
        begin = alone if comparison.strategy in DIFFERENTIABLE else "The found one is trained for"
        said = [f"{begin} {trained} updates; {searched} more went into finding it and its rate."]
    else:
        said = [
            f"{alone} {trained} updates. The search before took {searched} updates of its own, of weights and of "
            f"logits."
        ]
    for row in comparison.controls:
        if row.searched and row.name in TITLES and not row.stated:
            unit = "passes" if comparison.strategy in CELLS else "updates"
            said.append(f"{_subject(row)} searched for {amount(row.searched)} {unit}.")
    return said


def _clause(comparison: Comparison, found: Row, row: Row) -> str | None:
    title, ours = TITLES[row.name], found.qualities[comparison.main.name]
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
