"""The watch over collapse: read right from a journal, drawn whatever is there, and warned of only when told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from synthetic_cells import WARNING, cell, cell_events, epoch_events, selection, space, write_cells

from nasformer.report.collapse import collapse_notes, collapse_warnings, read_watch
from nasformer.report.collapse_page import collapse_pictures
from nasformer.report.gather import gather
from nasformer.report.page import write_report
from nasformer.report.watch import Warned, Watch
from nasformer.strategies import collapse

BOX = '<p class="warning">'


def watched(events: list[dict[str, Any]], taken: str = "search") -> Watch:
    found = read_watch(events, taken)
    assert found is not None
    return found


def bare(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events without what is drawn as tables."""
    kept = [event for event in events if event["event"] != "selection"]
    return [{name: value for name, value in event.items() if name != "shares"} for event in kept]


def page(folder: Path, events: list[dict[str, Any]]) -> str:
    """The page of an unfinished run with this journal."""
    folder.mkdir(exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps({"strategy": {"kind": "rome"}}), encoding="utf-8")
    lines = "".join(json.dumps(event) + "\n" for event in events)
    (folder / "journal.jsonl").write_text(lines, encoding="utf-8")
    return write_report(folder).read_text(encoding="utf-8")


def test_what_the_watch_journals_is_what_is_read() -> None:
    own = collapse.Watch(space())
    counts = {"normal": collapse.counts(cell(1)).data()}
    event = {"event": "cells", "stage": "search", "update": 40, "epoch": 4, "cells": counts} | own.take()
    search = watched([event]).search
    assert search is not None
    (epoch,) = search.epochs
    assert (epoch.number, epoch.update, epoch.variance) == (4, 40, None)
    assert {one.cell: {"edges": one.edges, "skips": one.skips, "parameter_free": one.parameter_free}
            for one in epoch.cells} == counts  # fmt: skip
    assert len(search.shares) == 28
    assert search.shares[0].edge == "normal.nodes.0.from_0"
    assert search.shares[0].operators[2:4] == ("skip", "separable_convolution_3")
    assert search.coverage == 0.0


def test_epochs_and_entropies_are_in_order() -> None:
    watch = watched(cell_events(epochs=6))
    assert watch.search is not None
    assert [epoch.number for epoch in watch.search.epochs] == [1, 2, 3, 4, 5, 6]
    assert [epoch.variance for epoch in watch.search.epochs] == [0.01 * number for number in range(1, 7)]
    assert watch.search.operator_entropy[0] == (10, 0.9)
    assert watch.search.edge_entropy[-1] == (60, 0.7)
    assert [one.stage for one in watch.controls] == ["gdas_search"]
    assert watch.search.derived == (("topology", "normal A", 1000), ("joint", "normal B", 2000))


def test_what_is_told_again_after_a_resume_counts_once() -> None:
    first = [*epoch_events("search", 1, 2), *epoch_events("search", 2, 7, text=WARNING)]
    search = watched([*first, *epoch_events("search", 2, 3)]).search
    assert search is not None
    assert [[one.skips for one in epoch.cells] for epoch in search.epochs] == [[2, 1], [3, 1]]
    assert search.warnings == ()
    assert search.warned_before == ()
    again = watched([*first, *epoch_events("search", 2, 7, text=WARNING)]).search
    assert again is not None
    assert again.warnings == (Warned("normal", WARNING),)


def test_what_was_rewound_does_not_count_until_it_is_done_again() -> None:
    before = [selection("search", 10), *epoch_events("search", 1, 2), selection("search", 20)]
    before += epoch_events("search", 2, 7, text=WARNING)
    rewound = {"event": "rewound", "stage": "search", "update": 21, "to": 10, "slower": 0.5}
    search = watched([*before, rewound]).search
    assert search is not None
    assert [epoch.number for epoch in search.epochs] == [1]
    assert [update for update, _ in search.operator_entropy] == [10]
    assert search.warnings == ()


def test_what_comes_after_the_cell_that_a_search_takes_when_it_stops_does_not_count() -> None:
    events = [*epoch_events("search", 1, 2), *epoch_events("search", 2, 7, text=WARNING)]
    measured = {"event": "eigenvalue", "stage": "search", "update": 20, "eigenvalue": 3.0}
    for other in (measured, measured | {"taken": "soon"}, {"event": "rewound", "stage": "search", "to": "back"}):
        assert len(watched([*events, other]).search.warnings) == 1  # type: ignore[union-attr]
    search = watched([*events, measured | {"stopped": True, "taken": 10}]).search
    assert search is not None
    assert [epoch.number for epoch in search.epochs] == [1]
    assert search.warnings == ()


def test_a_warning_without_its_epoch_is_not_yet_one() -> None:
    half = epoch_events("search", 2, 7, text=WARNING)[:1]  # cut off between the two events
    watch = watched([*epoch_events("search", 1, 2), *half])
    assert collapse_warnings(watch) == ()
    watch = watched([*epoch_events("search", 1, 2), *half, *epoch_events("search", 3, 2)])
    assert collapse_warnings(watch) == ()


def test_the_start_that_was_taken_is_the_search() -> None:
    events = [*epoch_events("search", 1, 7, text=WARNING), *epoch_events("search_2", 1, 2)]
    watch = watched(events, "search_2")
    assert watch.search is not None
    assert (watch.search.stage, [one.stage for one in watch.starts]) == ("search_2", ["search"])
    assert collapse_warnings(watch) == ()
    assert collapse_warnings(watched(events, "search")) == (f"At epoch 1 of the search, {WARNING}.",)


def test_notes_name_controls_that_collapsed_and_only_those() -> None:
    watch = watched(cell_events(collapsed=("gdas_search",)))
    assert collapse_notes(watch, {"gdas": "GDAS"}) == (f"The search of “GDAS” ended collapsed: {WARNING}.",)
    assert collapse_notes(watched(cell_events(collapsed=())), {}) == ()
    passing = [*epoch_events("search", 1, 7, text=WARNING), *epoch_events("search", 2, 2)]
    (note,) = collapse_notes(watched(passing), {})
    assert note.startswith("The search went through collapsed cells (a warning at epoch 1)")
    assert collapse_notes(None, {}) == ()


@pytest.mark.slow
@pytest.mark.parametrize("change", [
    {"cells": None}, {"cells": {"normal": {"edges": "many"}}}, {"shares": [1]}, {"shares": {"odd": {"a": "b"}}},
    {"gradient_variance": None}, {"epoch": None}, {"update": "x"},
])  # fmt: skip
def test_broken_events_are_passed_over(change: dict[str, Any]) -> None:
    (whole,) = bare(epoch_events("search", 1, 2))
    watch = read_watch([whole | change])
    if watch is not None:
        list(collapse_pictures(watch))
    assert read_watch([]) is None


@pytest.mark.slow
def test_the_box_stands_at_the_top_only_when_the_search_collapsed(tmp_path: Path) -> None:
    calm = page(tmp_path / "a", bare(cell_events(collapsed=("gdas_search",))))
    assert BOX not in calm
    text = page(tmp_path / "b", bare(cell_events(collapsed=("search", "gdas_search"))))
    assert text.count(BOX) == 1
    assert text.index(BOX) < text.index("<h2>")
    assert f"At epoch 6 of the search, {WARNING}." in text


@pytest.mark.slow
def test_a_finished_run_shows_all_of_it(tmp_path: Path) -> None:
    folder = write_cells(tmp_path / "a")
    text = write_report(folder).read_text(encoding="utf-8")
    titles = ("Does the search collapse?", "How decided and how steady the search is", "What was trained",
              "Ways to derive", "Which operators win")  # fmt: skip
    assert [title for title in titles if f"{title}</h2>" not in text] == []
    assert "How decided the search is</h2>" not in text
    assert "all 8 edges" in text
    assert "fewer is not better" in text
    assert "The search of “GDAS, equal passes” ended collapsed" in text
    assert "gdas search" in text
    assert "\\mathdefault" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    search = gather(folder).differentiable
    assert search is not None
    assert search.edges["normal.nodes.3.edges"]["from_4"] == pytest.approx(0.4)


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_unfinished_run_shows_what_is_there(tmp_path: Path, count: int) -> None:
    text = page(tmp_path / "a", cell_events()[:count])
    assert "Unfinished" in text
    assert ("Does the search collapse?</h2>" in text) == (count > 1)
    assert ("Which operators win</h2>" in text) == (count > 0)
    assert BOX not in text
