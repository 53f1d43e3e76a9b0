"""The comparison as a table: for the terminal (rich) and for pages (Markdown)."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from nasformer.report.values import FOUND, REFERENCE, Comparison, Measured, Row

MISSING = "–"


def amount(value: float | None) -> str:
    """A count with three digits and a unit: `1.70 M`, `12.3 k`; a dash where it was not measured."""
    if value is None:
        return MISSING
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{_three(value / size)} {unit}"
    return str(round(value)) if value == round(value) else _three(value)


def _three(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 9.995 else f"{value:.1f}" if abs(value) < 99.95 else f"{value:.0f}"


def measured(value: Measured | None) -> str:
    """A quality with its interval: `32.1 (31.0–33.2)`. Values below ten keep three decimals."""
    if value is None:
        return MISSING
    text = quality_text(value.value)
    if value.low is None or value.high is None:
        return text
    digits = _digits(value.value)
    return f"{text} ({value.low:.{digits}f}–{value.high:.{digits}f})"


def quality_text(value: float) -> str:
    """A quality without its interval, with the decimals of `measured`."""
    return f"{value:.{_digits(value)}f}"


def difference_text(value: float | None, like: Measured | None) -> str:
    """A difference with its sign, with the decimals of the quality it belongs to."""
    return MISSING if value is None else f"{value:+.{_digits(like.value if like else value)}f}".replace("-", "−")


def _digits(value: float) -> int:
    return 1 if abs(value) >= 10 else 3


def header(comparison: Comparison) -> tuple[str, ...]:
    """The names of the columns."""
    qualities = (quality.label for quality in comparison.qualities)
    difference = f"Δ {comparison.main.label} to Transformer"
    return ("model", "core parameters", "total", "FLOPs", "updates", *qualities, difference)


def cells(comparison: Comparison, row: Row) -> tuple[str, ...]:
    """The texts of one row, in the order of `header`; the found one carries a star, one above the limit a dagger."""
    mark = " ★" if row.name == FOUND else ""
    over = " †" if comparison.above_limit(row) else ""
    difference = difference_text(comparison.difference(row), row.qualities.get(comparison.main.name))
    return (
        row.label + mark,
        amount(row.core_parameters) + over,
        amount(row.total_parameters),
        amount(row.flops),
        f"{amount(row.searched)} + {amount(row.trained)}" if row.searched else amount(row.updates),
        *(measured(row.qualities.get(quality.name)) for quality in comparison.qualities),
        "reference" if row.name == REFERENCE else difference,
    )


def limit_text(comparison: Comparison) -> str:
    """The limits of the search and the meaning of the marks, in a sentence or two."""
    names = {name: name.removeprefix("max_").replace("_", " ") for name in comparison.limits}
    limits = [f"{names[name]} ≤ {amount(value)}" for name, value in comparison.limits.items()]
    splits = sorted({row.split for row in comparison.rows if row.split})
    parts = [f"Limit: {', '.join(limits)}." if limits else "No limit was set."]
    parts += [f"Quality on the {' and '.join(splits)} split."] if splits else []
    parts += ["★ found by the search."] if comparison.row(FOUND) else []
    parts += ["† above the limit."] if any(map(comparison.above_limit, comparison.rows)) else []
    parts += ["Updates: of the search + of the model."] if any(row.searched for row in comparison.rows) else []
    return " ".join(parts)


def rich_table(comparison: Comparison) -> Table:
    """The comparison for a terminal; the found architecture in bold, the limit below."""
    table = Table(caption=Text(limit_text(comparison)), caption_justify="left")
    for number, name in enumerate(header(comparison)):
        table.add_column(Text(name), justify="right" if number else "left")
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
