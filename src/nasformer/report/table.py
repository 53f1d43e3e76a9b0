"""The comparison as a table: for the terminal (rich) and for pages (Markdown)."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from nasformer.report.values import ALONE, CELLS, FOUND, Comparison, Measured, Quality, Row

MISSING = "–"


def amount(value: float | None) -> str:
    """A count with three digits and a unit: `1.70 M`, `12.3 k`; a dash where it was not measured."""
    if value is None:
        return MISSING
    for size, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{_three(value / size)} {unit}"
    return str(round(value)) if value == round(value) else _three(value)


def _three(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 9.995 else f"{value:.1f}" if abs(value) < 99.95 else f"{value:.0f}"


def measured(value: Measured | None, quality: Quality) -> str:
    """A quality with its interval: `32.1 (31.0–33.2)`."""
    if value is None:
        return MISSING
    digits = decimals(value.value, quality)
    text = f"{value.value:.{digits}f}"
    return (
        text if value.low is None or value.high is None else f"{text} ({value.low:.{digits}f}–{value.high:.{digits}f})"
    )


def difference_text(value: float | None, like: Measured | None, quality: Quality) -> str:
    """A difference with its sign, with the decimals of the quality it belongs to."""
    if value is None:
        return MISSING
    return f"{value:+.{decimals(like.value if like else value, quality)}f}".replace("-", "−")


def decimals(value: float, quality: Quality) -> int:
    """How many decimals a quality is told with: its own, else one, or three where it is below ten."""
    return quality.decimals if quality.decimals is not None else 1 if abs(value) >= 10 else 3


def rate(value: float | None) -> str:
    """A learning rate with two digits: `5.7e-3`, `1e-2`."""
    if value is None:
        return MISSING
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"


def header(comparison: Comparison) -> tuple[str, ...]:
    """The names of the columns; what was not measured of any row, and differences to none, have no column."""
    qualities = (quality.label for quality in comparison.qualities)
    flops = "FLOPs of 32×32 pixels" if comparison.main.name == "accuracy" else "FLOPs"
    sizes = ("core parameters", "total", flops, "updates")
    costs = (name for name, _ in _costs(comparison, None))
    to_reference = [comparison.difference_label] if comparison.has_reference else []
    return ("model", *sizes, *costs, *qualities, *to_reference)


def cells(comparison: Comparison, row: Row) -> tuple[str, ...]:
    """The texts of one row, in the order of `header`; the found one carries a star, one above the limit a dagger."""
    mark = " ★" if row.name == FOUND and comparison.strategy != ALONE else ""
    over = " †" if comparison.above_limit(row) else ""
    main = comparison.main
    difference = difference_text(comparison.difference(row), row.qualities.get(main.name), main)
    return (
        row.label + mark,
        amount(row.core_parameters) + over,
        amount(row.total_parameters),
        amount(row.flops),
        f"{amount(row.searched)} + {amount(row.trained)}" if row.searched else amount(row.updates),
        *(text for _, text in _costs(comparison, row)),
        *(measured(row.qualities.get(quality.name), quality) for quality in comparison.qualities),
        *(["reference" if comparison.references == (row,) else difference] if comparison.has_reference else []),
    )


def _costs(comparison: Comparison, row: Row | None) -> list[tuple[str, str]]:
    """The columns that only some results have, with what they say of a row."""
    found = []
    if any(one.training_flops is not None for one in comparison.rows):
        found.append(("training FLOPs", amount(row.training_flops if row else None)))
    if any(one.peak is not None for one in comparison.rows):
        found.append(("peak rate", rate(row.peak if row else None)))
    return found


def unsearched(comparison: Comparison, found: Row) -> bool:
    """Whether a search of programs tried no program but its start."""
    return comparison.strategy == "primer" and found.evaluations == 1


def limit_text(comparison: Comparison) -> str:
    """The limits of the search and the meaning of the marks, in a sentence or two."""
    names = {name: name.removeprefix("max_").replace("_", " ") for name in comparison.limits}
    limits = [f"{names[name]} ≤ {amount(value)}" for name, value in comparison.limits.items()]
    splits = sorted({row.split for row in comparison.rows if row.split})
    parts = [f"Limit: {', '.join(limits)}." if limits else "No limit was set."]
    if comparison.strategy == ALONE:
        parts = []
    parts += [f"Quality on the {' and '.join(splits)} split."] if splits else []
    if comparison.rows and not comparison.main.higher_is_better:
        gain = ": a negative Δ is a gain" if comparison.has_reference else ""
        parts.append(f"Lower {comparison.main.label} is better{gain}.")
    found = comparison.row(FOUND)
    if found is not None and comparison.strategy != ALONE:
        parts.append("★ nothing was searched." if unsearched(comparison, found) else "★ found by the search.")
    parts += ["† above the limit."] if any(map(comparison.above_limit, comparison.rows)) else []
    if any(row.searched for row in comparison.rows):
        search = "passes of the search" if comparison.strategy in CELLS else "of the search"
        parts.append(f"Updates: {search} + {'updates ' * (comparison.strategy in CELLS)}of the model.")
    return " ".join(parts)


def rich_table(comparison: Comparison) -> Table:
    """The comparison for a terminal; the found architecture in bold, the limit below."""
    table = Table(caption=Text(limit_text(comparison)), caption_justify="left")
    for number, name in enumerate(header(comparison)):
        table.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    for row in comparison.rows:
        table.add_row(*map(Text, cells(comparison, row)), style="bold" if row.name == FOUND else None)
    return table


def markdown_table(comparison: Comparison) -> str:
    """The comparison as Markdown; the found architecture in bold, the limit below."""
    lines = []
    for row in comparison.rows:
        texts = cells(comparison, row)
        lines.append([f"**{text}**" for text in texts] if row.name == FOUND else texts)
    return f"{markdown(header(comparison), lines)}\n\n{limit_text(comparison)}\n"


def markdown(names: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Any table as Markdown, the first column to the left and the others to the right."""
    rule = [":--", *("--:" for _ in names[1:])]
    escaped = [[text.replace("|", "\\|") for text in line] for line in (names, rule, *lines)]
    return "\n".join("| " + " | ".join(line) + " |" for line in escaped)
