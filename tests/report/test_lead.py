"""The found architecture and its strongest control, side by side while they are trained."""

from __future__ import annotations

import json
from pathlib import Path

from synthetic_run import row, write_run

from nasformer.report.draw import draw_lead
from nasformer.report.gather import gather
from nasformer.report.lead import follow, without_candidates
from nasformer.report.page import write_report
from nasformer.report.values import Comparison, Measured, Row, SearchCurve


def curve(stage: str, last: int, *, validated: bool = True) -> SearchCurve:
    """A training with validation losses every ten updates."""
    updates = tuple(range(10, last + 1, 10))
    losses = tuple(5.0 - update / 100 for update in updates)
    return SearchCurve(stage, updates, losses, losses, *((updates, losses) if validated else ()))


def comparison(*controls: tuple[str, float]) -> Comparison:
    """A found row, its two trainings, and controls."""
    rows = (("found", 30.0), ("fine_tuned", 30.0), ("retrained", 29.0), *controls)
    return Comparison(tuple(Row(name, f"label of {name}", {"bleu": Measured(value)}) for name, value in rows))


def test_candidates_that_were_given_up_are_left_out() -> None:
    stages = {"search": 60, "search_2": 60, "fine_tuned_1": 10, "fine_tuned_2": 40, "halving_1": 10, "halving_2": 30,
              "halving": 60, "average_1": 60, "average_2": 60, "spos_fine_tuned_1": 20, "tuned_fixed_1": 10,
              "retrained_1": 100, "retrained_2": 1600, "retrained_3": 400,
              "spos_retrained_1": 50, "spos_retrained_2": 90,
              "random_architecture": 60, "random_architecture_2": 60}  # fmt: skip
    left = [one.stage for one in without_candidates([curve(stage, last) for stage, last in stages.items()])]
    gone = ["fine_tuned_1", "halving_1", "halving_2", "retrained_1", "retrained_3", "spos_retrained_1"]
    assert left == [stage for stage in stages if stage not in gone]  # tuned_fixed is still among its candidates


def test_both_trainings_of_the_found_one_stand_beside_the_strongest_control() -> None:
    curves = [curve("fine_tuned_1", 10), curve("fine_tuned_2", 40), curve("retrained", 100), curve("halving", 100)]
    curves += [curve("tuned_fixed_3", 20), curve("tuned_fixed", 100)]
    shown = comparison(("halving", 20.0), ("tuned_fixed", 28.0))
    followed = follow(curves, shown, 60)
    assert [(one.stage, one.label, one.updates[0], one.updates[-1]) for one in followed] == [
        ("fine_tuned_2", "label of fine_tuned", 70, 100),
        ("retrained", "label of retrained", 10, 100),
        ("tuned_fixed", "label of tuned_fixed", 10, 100),
    ]
    searched = [curve("found", 100), curve("spos_fine_tuned_1", 40), curve("spos_retrained", 100)]
    assert [(one.label, one.updates[0]) for one in follow(searched, comparison(("spos", 28.0)), 60)] == [
        ("label of found", 10),
        ("label of spos, fine tuned", 70),
        ("label of spos, retrained", 10),
    ]


def test_one_side_alone_is_no_comparison() -> None:
    curves = [curve("retrained", 100), curve("halving", 100, validated=False)]
    assert follow(curves, comparison(("halving", 20.0)), 60) == ()
    assert follow(curves, comparison(), 60) == ()


def test_the_page_asks_whether_the_lead_lasts(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", rows=[row("found", "Found one", 32.0, 1e6), row("spos", "SPOS", 31.0, 1e6)])
    events = [{"event": "validation", "stage": stage, "update": update, "loss": 3.0}
              for stage in ("fine_tuned", "spos_fine_tuned") for update in (10, 20)]  # fmt: skip
    recipe = {"name": "shrinknas", "strategy": {"kind": "shrinknas", "training": {"updates": 900}}}
    (folder / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    (folder / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    lead = gather(folder).lead
    assert [one.updates for one in lead] == [(910, 920), (910, 920)]
    assert "SPOS, fine tuned" in draw_lead(lead)
    assert "Does the lead last</h2>" in write_report(folder).read_text(encoding="utf-8")
