"""The verdict on a search of programs: what its controls are called, and what it says where nothing was searched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nasformer.report.roles import role_of
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
    assert said.startswith(
        "Against the strongest control, Primer with queries made head by head (8.50 perplexity), the found "
        "architecture is worse: +0.50 perplexity, and the intervals do not overlap. It is 0.10 perplexity better than "
        "the start ("
    )
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
        "Against the strongest control, random search (49.00 accuracy (%)), the found architecture is level: +1.00 "
        "accuracy (%), the intervals overlap. It is 2.00 accuracy (%) better than the mean of 3 random architectures "
        "(which have 44.00 to 52.00)."
    )
    assert verdict(replace(comparison, rows=rows[:4])) == (
        "Against the strongest control, the mean of 3 random architectures (48.00 accuracy (%); each 44.00 to 52.00), "
        "the found architecture is level: +2.00 accuracy (%), the intervals overlap."
    )
    one = replace(comparison, rows=(*rows[:2], rows[4]))
    assert [one.difference(row) for row in one.rows] == [-2.0, None, -3.0]
    assert verdict(one).startswith(
        "Against the strongest control, the random architecture (52.00 accuracy (%)), the found architecture is level: "
        "−2.00 accuracy (%), the intervals overlap."
    )


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
        "No program but the start was tried, which stands here as the found architecture. Against the strongest "
        "control, Primer with queries made head by head (8.50 perplexity), the found architecture is worse: +0.50 "
        "perplexity, and the intervals do not overlap. It is 0.20 perplexity worse than Primer-EZ (the intervals "
        "overlap: this may be chance)."
    )


def scored(name: str, bleu: float, total: float = 3e6, **changed: Any) -> Row:
    """A row with an interval of half a point on both sides."""
    value = {"bleu": Measured(bleu, bleu - 0.5, bleu + 0.5)}
    return Row(name, name.replace("_", " "), value, 1e6, total, stated=role_of(name), **changed)


@pytest.mark.parametrize(
    ("found", "judged"),
    [
        (37.6, "better: +1.2 BLEU, and the intervals do not overlap."),
        (36.2, "level: −0.2 BLEU, the intervals overlap."),
        (35.0, "worse: −1.4 BLEU, and the intervals do not overlap."),
    ],
)
def test_the_strongest_control_is_judged_first(found: float, judged: str) -> None:
    variants = (scored("retrained", 39.0), scored("halving_fine_tuned", 38.0))
    controls = (scored("tuned_transformer", 30.0), scored("tuned_fixed", 36.4), scored("halving", 36.3))
    said = verdict(Comparison((scored("found", found), *variants, *controls)))
    assert said == f"Against the strongest control, tuned fixed (36.4 BLEU), the found architecture is {judged}"


def test_without_intervals_nothing_is_called_chance() -> None:
    rows = [Row(name, name, {"bleu": Measured(value)}) for name, value in (("found", 30.0), ("transformer", 29.0))]
    assert verdict(Comparison(tuple(rows))).endswith("is better: +1.0 BLEU, with no intervals to judge it by.")
    assert verdict(Comparison((rows[0], replace(rows[1], qualities=rows[0].qualities)))).endswith(
        "is level: +0.0 BLEU, with no intervals to judge it by."
    )


def test_a_control_with_larger_tables_is_named_with_its_size() -> None:
    limit = {"max_core_parameters": 1e6}
    found, large = scored("found", 36.0), scored("tuned_fixed", 37.5, 4e6)
    equal, small = scored("tuned_fixed_total", 34.0, 3.2e6), scored("halving", 33.0, 3.05e6)
    said = verdict(Comparison((found, large, small, equal), limits=limit))
    assert said == (
        "Against the strongest control, tuned fixed (37.5 BLEU; with 4.00 M parameters in all, the found one 3.00 M), "
        "the found architecture is worse: −1.5 BLEU, and the intervals do not overlap. At equal total size, against "
        "tuned fixed total (34.0 BLEU), it is better: +2.0 BLEU, and the intervals do not overlap."
    )
    assert "At equal total size, against halving (33.0 BLEU)" in verdict(
        Comparison((found, large, small), limits=limit)
    )
    tiny = scored("halving", 33.0, 2e6)
    assert "At no larger total size, against halving" in verdict(Comparison((found, large, tiny), limits=limit))
    assert "No control of its total size was run." in verdict(Comparison((found, large), limits=limit))
    for same in (Comparison((found, large, equal)), Comparison((found, replace(large, total_parameters=3e6)))):
        assert "total size" not in verdict(same)


@pytest.mark.parametrize(("value", "told"), [(0.02, "0.02"), (0.7, "0.7")])
def test_there_is_no_verdict_where_nothing_was_learnt(value: float, told: str) -> None:
    rows = (scored("found", value), scored("tuned_transformer", 0.0))
    assert verdict(Comparison(rows)) == (
        f"No verdict: nothing has learnt to translate (the best has {told} BLEU); train longer."
    )
    assert "No verdict" not in verdict(Comparison((*rows, scored("halving", 1.1))))
    chrf = Quality("chrf", "chrF", True, floor=12.0)
    low = tuple(replace(row, qualities={"chrf": Measured(11.0)}) for row in rows)
    assert verdict(Comparison(low, (chrf,))).startswith("No verdict: nothing has learnt to translate (the best has 11 ")


def test_one_note_says_that_no_control_was_tuned() -> None:
    rows = (scored("found", 30.0), scored("transformer", 29.0))
    (note,) = [note for note in notes(Comparison(rows)) if "tuned" in note]
    assert note.startswith("No control was tuned")
    assert not [note for note in notes(Comparison(rows)) if "not run" in note]
    for name in ("tuned_transformer", "tuned_fixed", "halving", "average"):
        assert not [note for note in notes(Comparison((*rows, scored(name, 28.0)))) if "No control was tuned" in note]


def test_what_both_sides_cost_is_told() -> None:
    found = scored("found", 30.0, updates=300, searched=100, training_flops=2e15)
    control = scored("halving", 29.0, updates=290, searched=90, training_flops=1.5e15)
    said = notes(Comparison((found, control)))
    assert "The found one is trained for 200 updates; 100 more went into finding it and its rate." in said
    assert "All that was run for it took 2.00 P training FLOPs, for the strongest control 1.50 P." in said


def test_differences_are_to_the_strongest_control_where_no_transformer_was_run() -> None:
    rows = (scored("found", 30.0), scored("retrained", 33.0), scored("halving", 31.0), scored("average", 29.0))
    comparison = Comparison(rows)
    assert comparison.difference_label == "Δ BLEU to the strongest control (halving)"
    assert [cells(comparison, row)[-1] for row in rows] == ["−1.0", "+2.0", "reference", "−2.0"]
    assert Comparison((*rows, scored("transformer", 20.0))).difference_label == "Δ BLEU to Transformer"
    assert not Comparison(tuple(replace(row, stated=None) for row in rows)).has_reference
