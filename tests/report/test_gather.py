"""A run folder gives the same small values, finished, resumed or cut off."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import architecture, result, row

from nasformer.errors import RequestError
from nasformer.report.diagram import Connection, read_diagram
from nasformer.report.gather import (
    divergence,
    gather,
    members,
    read_comparison,
    read_journal,
    search_curves,
    shares,
    smooth,
)
from nasformer.report.table import amount, cells, header, limit_text, markdown_table, rate, rich_table
from nasformer.report.values import Divergence, Measured
from nasformer.report.verdict import notes, verdict
from nasformer.tasks.scorecard import Scorecard


def update(number: int, loss: float | None, stage: str = "search") -> dict[str, Any]:
    return {"event": "update", "time": 0.0, "stage": stage, "update": number, "loss": loss, "seconds": number / 10}


def test_a_finished_run_gives_every_value(run_folder: Path) -> None:
    run = gather(run_folder)
    assert run.finished
    assert run.unreadable == 0
    stages = ["search", "found", "transformer", "lite_transformer", "random_search"]
    assert [curve.stage for curve in run.curves] == stages
    assert all(curve.finished for curve in run.curves)
    assert [one.number for one in run.rounds] == [1, 2, 3]
    assert len(run.explorations) == 9
    assert run.divergence[1] == Divergence(2, 0.25, 0.15)
    assert len(run.scatter.members) == 64
    assert run.scatter.limit == 1_800_000
    assert run.correlation is not None
    assert run.correlation.members == 20
    assert run.provenance.command == "nasformer search shrinknas seed=0 --run runs/seed0"
    assert dict(run.provenance.environment)["cpu_count"] == "8"


def test_only_a_half_written_last_line_goes_unmentioned(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(b'{"event":"a"}\nbroken\n[1]\n{"event":"b"}\n{"event":"upd\xc3')
    events, unreadable = read_journal(journal)
    assert [event["event"] for event in events] == ["a", "b"]
    assert unreadable == 2


def test_after_a_resume_the_later_event_of_an_update_counts() -> None:
    (curve,) = search_curves([update(1, 5.0), update(2, 4.0), update(3, 3.0), update(2, 4.5), update(4, None)])
    assert curve.updates == (1, 2, 3)
    assert curve.losses == (5.0, 4.5, 3.0)
    assert not curve.finished
    assert curve.seconds == 0.4


def test_smoothing_keeps_lines_and_flattens_noise() -> None:
    line = [float(value) for value in range(90)]
    assert smooth(line)[:-3] == pytest.approx(line[:-3])
    assert max(smooth([0.0, 1.0] * 50)[5:-5]) < 0.7
    assert smooth([]) == ()


def test_shares_are_ordered_as_readers_count() -> None:
    first = {"encoder.layers.10.mixer": {"attention": 1.0}, "encoder.layers.9.mixer": {"attention": 1.0}}
    second = {**first, "encoder.dim": {"160": 0.25, "48": 0.75}}
    events = [{"event": "round", "stage": "search", "round": number, "update": 9 * number, "shares": table}
              for number, table in ((2, second), (1, first))]  # fmt: skip
    size, ninth, tenth = shares(events)
    assert (size.choice, size.rounds, size.options, size.favourite) == (
        "encoder.dim",
        (2,),
        ("48", "160"),
        ("48", 0.75),
    )
    assert ninth.choice == "encoder.layers.9.mixer"
    assert ninth.is_operator
    assert tenth.shares == ((1.0,), (1.0,))


def test_what_is_not_measured_stays_unknown() -> None:
    assert divergence([{"round": 1, "when": "after", "variance": 0.2}]) == (Divergence(1, None, 0.2),)
    assert members([]) == ()
    comparison = read_comparison({"rows": [{"name": "found", "scorecard": None}, {"name": "other"}]})
    assert comparison.row("found") is not None
    assert cells(comparison, comparison.rows[1]) == ("other", "–", "–", "–", "–", "–", "–")
    assert "no verdict" in verdict(comparison)


def test_a_folder_that_is_no_run_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="expected a run folder"):
        gather(tmp_path)


def test_the_diagram_knows_layers_settings_and_spans() -> None:
    diagram = read_diagram(architecture())
    encoder, decoder = diagram.stacks
    assert (encoder.dim, len(encoder.layers), len(decoder.layers)) == (160, 6, 4)
    assert [block.kind for block in decoder.layers[1]] == ["light_convolution", "cross_attention", "feed_forward"]
    assert encoder.layers[1][1].text == "×1.5 = 240 wide, relu, gated"
    assert decoder.layers[1][1].text == "2 heads, last 2 encoder layers"
    assert [line for line in diagram.connections if line.decoder_layer == 1] == [Connection(4, 1), Connection(5, 1)]


@pytest.mark.parametrize("data", [{}, {"family": "cell", "nodes": [{"kind": "skip", "inputs": [0, 2]}, 3]},
                                  {"family": "decoder_only", "decoder": {"layers": "many"}}])  # fmt: skip
def test_an_unknown_family_becomes_boxes(data: dict[str, Any]) -> None:
    diagram = read_diagram(data)
    assert diagram.box is not None
    assert diagram.stacks == ()


def test_the_table_marks_the_found_and_what_is_above_the_limit() -> None:
    comparison = read_comparison(result())
    assert header(comparison)[5:] == ("BLEU", "chrF", "Δ BLEU to Transformer")
    assert cells(comparison, comparison.rows[0])[:2] == ("ShrinkNAS (found) ★", "1.70 M")
    assert cells(comparison, comparison.rows[0])[5:] == ("32.1 (31.3–32.9)", "54.2 (53.4–55.0)", "+1.9")
    assert cells(comparison, comparison.rows[4])[1] == "1.95 M †"
    assert limit_text(comparison).startswith("Limit: core parameters ≤ 1.80 M.")
    assert "| **ShrinkNAS (found) ★** | **1.70 M** |" in markdown_table(comparison)
    assert rich_table(comparison).row_count == 5


def test_without_a_reference_there_is_no_column_of_differences() -> None:
    whole = read_comparison(result())
    comparison = replace(whole, rows=tuple(row for row in whole.rows if row.name != whole.reference))
    assert header(comparison)[5:] == ("BLEU", "chrF")
    assert cells(comparison, comparison.rows[0])[5:] == ("32.1 (31.3–32.9)", "54.2 (53.4–55.0)")


def test_roles_are_stated_or_told_by_name() -> None:
    names = ("found", "fine_tuned", "random_search_retrained", "spos_fine_tuned", "longer_start", "start", "halving")
    rows = [{"name": name} for name in names]
    roles = [one.role for one in read_comparison({"rows": rows}).rows]
    assert roles == ["found", "variant", "variant", "variant", "variant", "control", "control"]
    (stated,) = read_comparison({"rows": [{"name": "halving", "role": "variant"}]}).rows
    (unknown,) = read_comparison({"rows": [{"name": "halving", "role": 3}]}).rows
    assert (stated.role, unknown.role) == ("variant", "control")


def test_rate_cost_and_search_of_a_row_are_shown_where_they_are_told() -> None:
    told = row("found", "F", 30.0, 1.0, training_flops=1.5e15) | {"peak": 0.0057, "searched": 400}
    comparison = read_comparison({"rows": [told, row("transformer", "T", 29.0, 1.0)]})
    assert header(comparison)[4:8] == ("updates", "training FLOPs", "peak rate", "BLEU")
    assert cells(comparison, comparison.rows[0])[4:7] == ("400 + 800", "1.50 P", "5.7e-3")
    assert cells(comparison, comparison.rows[1])[4:7] == ("1.20 k", "–", "–")
    recipe = {"strategy": {"kind": "darts"}, "fine_tune": {"updates": 500}}
    found, other = read_comparison({"rows": [told, row("transformer", "T", 29.0, 1.0)]}, recipe).rows
    assert (found.searched, other.searched) == (400, 700)


@pytest.mark.parametrize(("value", "text"), [(0.01, "1e-2"), (0.0057, "5.7e-3"), (1.2e-4, "1.2e-4"), (None, "–")])
def test_rates(value: float | None, text: str) -> None:
    assert rate(value) == text


def test_other_tasks_show_their_own_quality() -> None:
    cost = dict.fromkeys(("core_parameters", "total_parameters", "flops", "updates", "evaluations"), 5)
    quality = {"split": "test", "bits_per_byte": {"value": 1.234, "low": 1.2, "high": 1.27}, "loss": 2.5}
    card = Scorecard(quality=quality, **cost, seconds=1.0).data()
    assert card == quality | cost | {"seconds": 1.0, "training_flops": None}
    rows = [{"name": name, "scorecard": card} for name in ("found", "transformer")]
    comparison = read_comparison({"rows": rows})
    assert [quality.name for quality in comparison.qualities] == ["bits_per_byte", "loss"]
    assert "the Transformer (1.234 bits per byte), the found architecture is level: +0.000" in verdict(comparison)


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0, "0"), (999, "999"), (1_700_000, "1.70 M"),
                                             (999_999, "1.00 M"), (12_345, "12.3 k"), (1.5e12, "1.50 T")])  # fmt: skip
def test_amounts(value: float | None, text: str) -> None:
    assert amount(value) == text


def test_the_verdict_is_honest_about_chance_and_defeat() -> None:
    said = verdict(read_comparison(result()))
    assert said.startswith(
        "Against the strongest control, random search (31.9 BLEU), the found architecture is level: +0.2 BLEU, the "
        "intervals overlap."
    )
    assert "It is 1.9 BLEU better than the Transformer (the intervals do not overlap)" in said
    assert "1.1 BLEU better than the Lite Transformer (the intervals overlap: this may be chance)" in said
    lost = {"rows": [row("found", "F", 30.0, 1.0), row("transformer", "T", 32.0, 1.0)]}
    assert "the found architecture is worse: −2.0 BLEU, and the intervals do not" in verdict(read_comparison(lost))
    assert any(note.startswith("No control was tuned") for note in notes(read_comparison(lost)))
    unfair = notes(read_comparison(result()))
    assert any("trained for 900 updates" in note for note in unfair)


def test_less_is_better_for_losses() -> None:
    rows = [{"name": "found", "scorecard": {"loss": 2.0}}, {"name": "transformer", "scorecard": {"loss": 2.25}}]
    said = verdict(read_comparison({"rows": rows}))
    assert "the found architecture is better: −0.250 loss, with no intervals to judge it by." in said


def test_overlap_needs_both_intervals() -> None:
    assert Measured(1.0, 0.5, 1.5).overlaps(Measured(2.0, 1.5, 2.5)) is True
    assert Measured(1.0, 0.5, 1.4).overlaps(Measured(2.0, 1.5, 2.5)) is False
    assert Measured(1.0).overlaps(Measured(2.0, 1.5, 2.5)) is None


def test_a_damaged_result_means_unfinished(run_folder: Path) -> None:
    (run_folder / "result.json").write_text(json.dumps(result())[:-20], encoding="utf-8")
    run = gather(run_folder)
    assert not run.finished
    assert run.diagram is not None


def test_a_result_without_its_last_controls_means_unfinished(run_folder: Path) -> None:
    (run_folder / "result.json").write_text(json.dumps(result() | {"complete": False}), encoding="utf-8")
    run = gather(run_folder)
    assert not run.finished
    assert run.comparison.rows
    (run_folder / "result.json").write_text(json.dumps(result() | {"complete": True}), encoding="utf-8")
    assert gather(run_folder).finished
