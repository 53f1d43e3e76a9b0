"""The verdict on a search of programs: what its controls are called, and what it says where nothing was searched."""

from __future__ import annotations

from dataclasses import replace

from nasformer.report.table import cells, limit_text
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


def test_several_random_architectures_count_by_their_mean() -> None:
    names = ("found", "random_architecture", "random_architecture_2", "random_architecture_3", "random_search")
    values = (50.0, 52.0, 44.0, 48.0, 49.0)
    rows = tuple(
        Row(name, name, {"accuracy": Measured(value, value - 1, value + 1)})
        for name, value in zip(names, values, strict=True)
    )
    comparison = Comparison(rows, (Quality("accuracy", "accuracy (%)", True, 2),), strategy="rome")
    assert comparison.difference_label == "Δ accuracy (%) to the mean of 3 random architectures"
    assert [comparison.difference(row) for row in rows] == [2.0, 4.0, -4.0, 0.0, 1.0]
    assert verdict(comparison) == (
        "The found architecture is 2.00 accuracy (%) better than the mean of 3 random architectures (which have 44.00 "
        "to 52.00)."
    )
    one = replace(comparison, rows=(*rows[:2], rows[4]))
    assert [one.difference(row) for row in one.rows] == [-2.0, None, -3.0]
    assert "2.00 accuracy (%) worse than the random architecture (the intervals overlap" in verdict(one)


def test_one_architecture_alone_was_not_found() -> None:
    rows = (Row("found", "darts-v2", {"accuracy": Measured(50.0, 49.0, 51.0)}, split="test"),)
    alone = Comparison(rows, (Quality("accuracy", "accuracy (%)", True, 2),), strategy="train")
    assert verdict(alone) == "One architecture was trained, and nothing searched."
    assert cells(alone, rows[0])[0] == "darts-v2"
    assert limit_text(alone) == "Quality on the test split."
    assert not [note for note in notes(alone) if "not run" in note]


def test_where_nothing_was_searched_the_start_is_not_found() -> None:
    said = verdict(comparison(1))
    assert said == (
        "No program but the start was tried, which stands here as the found architecture: it is 0.20 perplexity worse "
        "than Primer-EZ (the intervals overlap: this may be chance), and 0.50 perplexity worse than Primer with "
        "queries made head by head (the intervals do not overlap)."
    )
