"""A differentiable search: its journal becomes small values, panels, notes and lines on a console."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console
from synthetic_run import architecture
from synthetic_search import DECODER, reversible, search_events, selections, write_search

from nasformer.commands.console import ConsoleDisplay, most_probable
from nasformer.report.blueprint import draw_architecture
from nasformer.report.compare import agreement, compare
from nasformer.report.diagram import read_diagram
from nasformer.report.differentiable import first_start, read_differentiable
from nasformer.report.draw import trains_supernet
from nasformer.report.figure import family, operator_colour, shade
from nasformer.report.gather import gather
from nasformer.report.page import architecture_caption, probabilities_caption, write_report
from nasformer.report.probabilities import draw_entropy, draw_probabilities, line_styles, panel_places, place_name
from nasformer.report.table import cells, limit_text
from nasformer.report.values import Differentiable, Probabilities
from nasformer.report.verdict import notes, search_notes, verdict

DARTS = {"kind": "darts", "zero": False, "restarts": 2}


def words(svg: str) -> str:
    """All words of a figure; fails where it is no well-formed SVG."""
    return " ".join("".join(ElementTree.fromstring(svg).itertext()).split())


def searched(events: list[dict[str, Any]], **changed: Any) -> Differentiable:
    found = read_differentiable(events, DARTS | changed)
    assert found is not None
    return found


def test_the_start_that_was_taken_is_shown() -> None:
    events = search_events()
    search = searched(events)
    assert [(start.stage, start.loss) for start in search.starts] == [("search", 4.6), ("search_2", 4.5)]
    assert (search.taken, search.decided, search.zero) == (1, True, False)
    last = [event for event in events if event["event"] == "selection" and event["stage"] == "search_2"][-1]
    for one in search.probabilities:
        table = last["probabilities"][one.choice]
        assert one.options == tuple(table)
        assert one.options[one.winner] == max(table, key=table.__getitem__)
        assert one.updates == tuple(range(10, 601, 10))
    mean = sum(one.entropies[-1] for one in search.probabilities) / len(search.probabilities)
    assert search.starts[1].entropies[-1] == pytest.approx(mean) == pytest.approx(last["entropy"])
    assert {one.architecture for one in search.derivations} == {"search_2 keeping zero", "search_2 passing over zero"}
    assert [(one.stage, one.updates, one.slower) for one in search.rewinds] == [("search_2", (307,), 0.5)]


def test_without_restarts_the_first_start_is_shown() -> None:
    search = searched([event for event in search_events() if event["event"] != "restarts"])
    assert (search.taken, search.decided) == (0, False)
    assert "not decided yet" in probabilities_caption(search, limited=False)
    assert searched(selections("search"), restarts=1).decided
    assert read_differentiable([*selections("plain_darts_search")], DARTS) is None
    assert read_differentiable([], DARTS) is None


def test_later_selections_of_an_update_count_and_broken_ones_do_not() -> None:
    first, second = selections("search", last=20)
    anew = second | {"entropy": 0.5}
    broken = [{"event": "selection", "stage": "search", "update": 30}, {"event": "selection", "probabilities": []}]
    search = searched([first, second, *broken, first, anew])
    assert search.starts[0].updates == (10, 20)
    assert search.starts[0].entropies[1] == 0.5


def test_every_start_is_a_supernet() -> None:
    assert first_start("plain_darts_search_12") == "plain_darts_search"
    assert all(map(trains_supernet, ("search", "search_2", "plain_darts_search_3", "spos_search")))
    assert not any(map(trains_supernet, ("random_search", "found", "transformer", "research_2")))


@pytest.mark.slow
def test_each_node_has_its_panel_and_names_its_winner() -> None:
    search = searched(search_events(layers=4, splits=2))
    assert len(search.probabilities) == 16
    drawn = words(draw_probabilities(search.probabilities))
    for one in search.probabilities:
        assert place_name(one.choice) in drawn
        share = f"{one.shares[one.winner][-1]:.0%}"
        assert f"{one.options[one.winner].replace('_', ' ')}: {share}" in drawn
    assert all(option.replace("_", " ") in drawn for option in DECODER)
    entropy = words(draw_entropy(search))
    assert all(word in entropy for word in ("mean of start 2 (taken)", "mean of start 1", "went back"))


def test_panels_stand_as_the_drawing_does() -> None:
    nodes = [f"{stack}.layers.{layer}.nodes.{node}" for stack in ("encoder", "decoder") for layer in (0, 1)
             for node in (0, 1)]  # fmt: skip
    assert panel_places(nodes) == [(1, 0), (1, 1), (0, 0), (0, 1), (1, 2), (1, 3), (0, 2), (0, 3)]
    wide = [f"{stack}.layers.0.nodes.{node}" for stack in ("encoder", "decoder") for node in range(4)]
    assert panel_places(wide) == [(1, 0), (1, 1), (1, 2), (1, 3), (0, 0), (0, 1), (0, 2), (0, 3)]
    assert panel_places(["encoder.layers.0.mixer", "decoder.layers.0.mixer"]) == [(0, 0), (0, 1)]
    assert panel_places([f"choice {number}" for number in range(5)])[-1] == (1, 0)
    assert place_name("decoder.layers.3.nodes.0") == "decoder, layer 3, split 1"


def test_larger_kernels_are_darker_and_no_two_options_look_alike() -> None:
    styles = line_styles(DECODER)
    brightness = [
        sum(int(styles[f"convolution_{k}"]["color"][i : i + 2], 16) for i in (1, 3, 5)) for k in (3, 5, 7, 11)
    ]
    assert brightness == sorted(brightness, reverse=True)
    assert len({(style["color"], str(style["linestyle"])) for style in styles.values()}) == len(DECODER)
    assert styles["attention"]["color"].lower() == operator_colour("attention").lower() == shade("#0072B2", 0, 1)
    kinds = ("convolution_11", "dynamic_convolution_3", "long_short_light", "my_own")
    assert [family(kind) for kind in kinds] == ["convolution", "dynamic_convolution", "long_short_light", "my_own"]


def test_edges_do_not_fail() -> None:
    alone = Probabilities("somewhere", ("attention",), (10,), ((1.0,),))
    assert alone.entropies == (0.0,)
    words(draw_probabilities([alone]))
    words(draw_probabilities([]))


def test_the_diagram_of_a_reversible_architecture() -> None:
    diagram = read_diagram(reversible(layers=2, splits=2, repeats=6))
    encoder, decoder = diagram.stacks
    assert (encoder.splits, decoder.splits, encoder.repeats, len(encoder.layers)) == (2, 3, 6, 2)
    assert (diagram.embedding_dim, diagram.pooling, diagram.final_norm) == (32, "max", True)
    assert [block.role for block in decoder.layers[0]] == ["split 1", "split 2", "split 3"]
    assert encoder.layers[1][0].text == "×4.0 = 192 wide, relu"
    drawn = draw_architecture(diagram)
    said = words(drawn)
    parts = ("encoder: 12 layers", "× 6", "split 3", "layer 1", "embedding 32 → 96 channels, 2 × 48", "3 × 32",
             "memory", "splits joined + LayerNorm", "identity", "gated linear", "cross attention")  # fmt: skip
    assert [part for part in parts if part not in said] == []
    caption = architecture_caption(diagram)
    assert "element-wise max" in caption
    assert "× counts how often" in caption


def test_a_language_model_has_one_stack_and_no_memory() -> None:
    stack = reversible(layers=1, repeats=1)["encoder"]
    diagram = read_diagram({"family": "reversible_decoder_only", "embedding_dim": 32, "pooling": "mean",
                            "final_norm": False, "decoder": stack})  # fmt: skip
    said = words(draw_architecture(diagram))
    assert "decoder: 1 layer" in said
    assert not any(part in said for part in ("memory", "× 1", "LayerNorm"))
    assert "× counts" not in architecture_caption(diagram)
    assert "A line leads from" in architecture_caption(read_diagram(architecture()))


def test_search_and_training_are_told_apart(tmp_path: Path) -> None:
    run = gather(write_search(tmp_path / "a"))
    said = notes(run.comparison)
    assert any("the found one for 1.20 k updates. The search before took 2.40 k updates" in note for note in said)
    assert "Uniform sampling searched for 2.40 k updates." in said
    assert not any("was not run" in note for note in said)
    assert not any("was trained for" in note or "Random search" in note for note in said)
    assert "strongest control, the random architecture (30.6 BLEU), the found arch" in verdict(run.comparison)
    found, transformer = run.comparison.rows[:2]
    assert cells(run.comparison, found)[4] == "2.40 k + 1.20 k"
    assert cells(run.comparison, transformer)[4] == "1.20 k"
    assert limit_text(run.comparison).endswith("Updates: of the search + of the model.")


def test_what_a_reader_must_know_of_the_search() -> None:
    starts, zero, rewound = search_notes(searched(search_events()), "the other row")
    assert "2 starts; start 2 was taken" in starts
    assert "(4.500; otherwise 4.600)" in starts
    assert zero.startswith("Zero was passed over")
    assert "90.0 k core parameters: search_2 keeping zero. It was trained too: see “the other row”." in zero
    assert "“search 2” went back to an earlier state once" in rewound
    assert "(at update 307). From then on its rates were 0.5" in rewound
    allowed = search_notes(searched(search_events(), zero=True))
    assert any("allowed to stay" in note and "search_2 passing over zero" in note for note in allowed)
    assert search_notes(None) == ()


def test_both_rules_may_agree() -> None:
    same = {"architecture": "A", "core_parameters": 5}
    derived = {"event": "derived", "stage": "search", "with_zero": same, "without_zero": same}
    (note,) = search_notes(searched([*selections("search"), derived], restarts=1))
    assert note.endswith("The other rule derives the same operators.")


def test_zero_in_front_is_explained() -> None:
    one = Probabilities("encoder.layers.0.nodes.0", ("attention", "zero"), (10,), ((0.3,), (0.7,)))
    search = Differentiable((), 0, True, (one,), (), (), zero=False)
    assert "Zero is passed over" in probabilities_caption(search, limited=False)
    assert "limits" in probabilities_caption(search, limited=True)
    assert "limits" not in probabilities_caption(search, limited=False)


@pytest.mark.slow
def test_the_page_of_a_search_is_whole(tmp_path: Path) -> None:
    text = write_report(write_search(tmp_path / "a")).read_text(encoding="utf-8")
    assert "Which operators win</h2>" in text
    assert "How decided the search is</h2>" in text
    assert "Start 2 of 2, which was taken." in text
    assert text.count("<svg ") == 5
    assert "went back to an earlier state" in text


@pytest.mark.slow
def test_an_unfinished_search_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"strategy": DARTS}), encoding="utf-8")
    lines = "".join(json.dumps(event) + "\n" for event in search_events()[:70])
    (tmp_path / "journal.jsonl").write_text(lines, encoding="utf-8")
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Unfinished" in text
    assert "Which operators win</h2>" in text


def shown(events: list[dict[str, Any]], total: int = 600) -> list[str]:
    """The lines that a person sees, but for those of how far a stage is."""
    text = io.StringIO()
    display = ConsoleDisplay(Console(file=text, width=1000))
    for fields in events:
        display.progress(fields["stage"], fields.get("update", total), total, "")
        display.event(fields["event"], {k: v for k, v in fields.items() if k not in ("event", "time")})
    return [line for line in text.getvalue().splitlines() if f"/{total}" not in line]


def test_the_console_tells_a_selection_now_and_then() -> None:
    events = selections("search")
    lines = shown(events)
    assert len(lines) == 7  # of 60: whenever an eighth of the 600 updates is over
    front = most_probable(events[-1]["probabilities"])
    assert any(line.endswith(f"in front {front}") for line in lines)
    assert lines[-1] == f"search: entropy {events[55]['entropy']:.2f} of 1; in front as before"
    both = {"encoder.layers.0.nodes.0": {"a": 0.9, "b": 0.1}, "encoder.layers.0.nodes.1": {"a": 0.2, "b": 0.8},
            "encoder.layers.1.nodes.0": {"a": 1.0}, "decoder.layers.0.mixer": {"c": 1.0}}  # fmt: skip
    assert most_probable(both) == "encoder a|b a, decoder c"


def test_the_console_tells_the_end_and_the_rewinds() -> None:
    lines = shown([event for event in search_events() if event["event"] in ("derived", "rewound", "restarts")])
    assert lines[1].startswith(
        "search_2: derived without Zero: search_2 passing over zero, 111,000 core parameters; with"
    )
    assert lines[2] == "search_2: the loss of update 307 was no number; back to update 300, with 0.5 of the set rates"
    assert lines[3] == "search: start 2 of 2 is taken (validation losses 4.600, 4.500)"
    same = {"architecture": "A [b]", "core_parameters": 5}
    derived = {"event": "derived", "stage": "search", "with_zero": same, "without_zero": same}
    assert shown([derived]) == ["search: derived without Zero and with Zero: A [b], 5 core parameters"]


@pytest.mark.parametrize("cells", [True, False])
def test_a_rule_for_zero_that_is_left_to_the_space_is_told(cells: bool) -> None:
    of_cells = [{"event": "cells", "stage": "search", "update": 1}] if cells else []
    assert searched([*search_events(), *of_cells], zero=None).zero is cells
    unknown = read_differentiable(search_events(), {"kind": "darts"})
    assert unknown is not None
    assert unknown.zero is None


def ranked(**tables: dict[str, float]) -> Differentiable:
    """A search that ended with these probabilities, by choice."""
    events = [{"event": "selection", "stage": "search", "update": 1, "entropy": 0.5, "probabilities": tables}]
    return searched(events, restarts=1)


def test_searches_agree_where_they_rank_options_alike() -> None:
    near = ranked(a={"x": 0.34, "y": 0.335, "z": 0.325}, b={"x": 0.2, "y": 0.3, "z": 0.5})
    sharp = ranked(a={"x": 0.9, "y": 0.09, "z": 0.01}, b={"x": 0.5, "y": 0.3, "z": 0.2}, c={"x": 0.1, "y": 0.9})
    third = ranked(a={"x": 0.5, "y": 0.2, "z": 0.3})
    assert "0.00 in the mean, −1.00 to 1.00;" in str(agreement([near, sharp]))  # a: 1, b: −1
    assert "0.25 in the mean, −1.00 to 1.00;" in str(agreement([near, sharp, third]))  # 1, −1, 0.5, 0.5


def test_agreement_needs_two_searches_that_prefer_something() -> None:
    flat = ranked(a={"x": 0.5, "y": 0.25, "z": 0.25})
    assert agreement([flat]) is None
    assert agreement([flat, ranked(a={"x": 1 / 3, "y": 1 / 3, "z": 1 / 3})]) is None
    assert agreement([flat, ranked(b={"x": 0.5, "y": 0.3, "z": 0.2})]) is None


def test_seeds_of_a_differentiable_search_tell_whether_they_agree(tmp_path: Path) -> None:
    folders = [write_search(tmp_path / name) for name in "ab"]
    assert "1.00 in the mean, 1.00 to 1.00; chance gives 0." in compare(folders)
