"""The verdict on a search of programs: what its controls are called, and what it says where nothing was searched."""

from __future__ import annotations

from nasformer.report.values import Comparison, Measured, Quality, Row
from nasformer.report.verdict import notes, verdict

PERPLEXITY = Quality("perplexity", "perplexity", False, 2)


def comparison(programs: int) -> Comparison:
    """A search that tried so many programs, its start, and two known ones."""
    values = {"found": 9.0, "start": 9.1, "primer_ez": 8.8, "primer": 8.5}
    rows = (
        Row(name, name, {"perplexity": Measured(value, value - 0.1, value + 0.1)}, evaluations=programs)
        for name, value in values.items()
    )
    return Comparison(tuple(rows), (PERPLEXITY,), strategy="primer")


def test_primer_is_called_what_its_program_is() -> None:
    said = verdict(comparison(7))
    assert said.startswith("The found architecture is 0.10 perplexity better than the start (")
    assert "0.50 perplexity worse than Primer with queries made head by head (" in said
    without = Comparison(comparison(7).rows[:3], (PERPLEXITY,), strategy="primer")
    assert "Primer with queries made head by head was not run." in notes(without)


def test_where_nothing_was_searched_the_start_is_not_found() -> None:
    said = verdict(comparison(1))
    assert said == (
        "No program but the start was tried, which stands here as the found architecture: it is 0.20 perplexity worse "
        "than Primer-EZ (the intervals overlap: this may be chance), and 0.50 perplexity worse than Primer with "
        "queries made head by head (the intervals do not overlap)."
    )
