"""Sweeps of rates: the journal becomes small values, a plot and a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from nasformer.report.figure import row_colour
from nasformer.report.gather import gather
from nasformer.report.page import write_report
from nasformer.report.sweeps import RateSweep, Tried, read_sweeps
from nasformer.report.sweeps_page import draw_sweeps, sweep_pictures


def swept(of: str, peak: float = 5.7e-3, updates: int = 54, points: tuple[Any, ...] | None = None) -> dict[str, Any]:
    """An event of a sweep."""
    tried = ((6e-3, 9, 5.9), (3e-3, 9, 6.09), (1.2e-2, 9, None), (6e-3, 18, 5.76)) if points is None else points
    told = [{"peak": rate, "updates": length, "loss": loss} for rate, length, loss in tried]
    return {"event": "sweep", "time": 0.0, "of": of, "peak": peak, "updates": updates, "points": told}


def words(svg: str) -> str:
    """All words of a figure; fails where it is no well-formed SVG."""
    return " ".join("".join(ElementTree.fromstring(svg).itertext()).split())


def test_a_journal_gives_every_sweep_once_with_the_label_of_its_arm() -> None:
    broken: list[dict[str, Any]] = [{"event": "sweep", "of": "halving"}, {"event": "sweep", "of": 3, "peak": 1.0}]
    events = [swept("retrained", 1.0), *broken, swept("tuned_fixed_rate_2"), swept("retrained"), swept("supernet")]
    retrained, kind, supernet = read_sweeps(events, {"retrained": "found, from scratch", "tuned_fixed": "fixed"})
    assert (retrained.label, retrained.peak, retrained.updates) == ("found, from scratch", 5.7e-3, 54)
    assert (kind.label, kind.arm, supernet.label) == ("fixed, candidates of kind 2", "tuned_fixed", "supernet")
    assert retrained.by_length() == (
        (Tried(3e-3, 9, 6.09), Tried(6e-3, 9, 5.9), Tried(1.2e-2, 9, None)),
        (Tried(6e-3, 18, 5.76),),
    )


def test_the_plot_names_each_arm_once_and_marks_the_chosen_rate() -> None:
    sweeps = read_sweeps([swept("halving_rate_1"), swept("halving"), swept("retrained")], {"halving": "random members"})
    drawn = draw_sweeps(sweeps)
    said = words(drawn)
    assert said.count("random members") == 1
    assert "retrained" in said
    assert "peak rate" in said
    assert "1e-2" in said
    one = draw_sweeps(sweeps[1:2])
    marks = [use.get("style") or "" for use in ElementTree.fromstring(one).iter("{http://www.w3.org/2000/svg}use")]
    coloured = [style for style in marks if row_colour("halving").lower() in style]
    assert len(coloured) == 6  # three points in two lines, a cross, a triangle, and the legend's point
    words(draw_sweeps([RateSweep("halving", "halving", 0.01, 9, (Tried(0.01, 9, None),))]))


def test_what_took_no_updates_has_no_plot() -> None:
    (picture,) = sweep_pictures(read_sweeps([swept("retrained", 0.012, 0, ())], {}))
    assert picture.svg is None
    assert picture.sheet is not None
    assert picture.sheet.rows == (("retrained", "1.2e-2", "0"),)
    assert picture.caption.startswith("Where a sweep took no updates")
    assert list(sweep_pictures(())) == []


def test_the_page_shows_rates(run_folder: Path) -> None:
    before = write_report(run_folder).read_text(encoding="utf-8")
    assert "Rates</h2>" not in before
    with (run_folder / "journal.jsonl").open("a", encoding="utf-8") as journal:
        journal.write(json.dumps(swept("transformer")) + "\n" + json.dumps(swept("search", 0.012, 0, ())) + "\n")
    assert [one.label for one in gather(run_folder).sweeps] == ["Transformer", "search"]
    text = write_report(run_folder).read_text(encoding="utf-8")
    assert text.count("<svg ") == before.count("<svg ") + 1
    assert "<tr><td>Transformer</td><td>5.7e-3</td><td>54</td></tr>" in text
    assert "<tr><td>search</td><td>1.2e-2</td><td>0</td></tr>" in text
