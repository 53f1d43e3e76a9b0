"""Every figure is well-formed SVG, the same for the same values, and holds together at the edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from synthetic_run import KINDS, architecture

from nasformer.report import draw
from nasformer.report.blueprint import draw_architecture
from nasformer.report.diagram import read_diagram
from nasformer.report.figure import OPERATOR_COLOURS, operator_colour, row_colour
from nasformer.report.gather import gather
from nasformer.report.values import Comparison, Divergence, Scatter, SearchCurve


def texts(svg: str) -> str:
    """All words of a figure; fails where it is no well-formed SVG."""
    return " ".join("".join(ElementTree.fromstring(svg).itertext()).split())


def test_each_figure_shows_what_was_gathered(run_folder: Path) -> None:
    run = gather(run_folder)
    curves = texts(draw.draw_curves(run.curves, run.rounds))
    assert all(word in curves for word in ("updates", "loss (nats)", "round 1", "lite transformer", "Supernets"))
    shares = texts(draw.draw_operator_shares(run.shares))
    assert all(word in shares for word in ("encoder", "decoder", "layer 5", "after round", "long short"))
    scatter = texts(draw.draw_scatter(run.scatter))
    assert all(word in scatter for word in ("core parameters", "limit 1.80 M", "Random <search>", "evaluated members"))
    assert "before the round" in texts(draw.draw_divergence(run.divergence))
    assert "median" in texts(draw.draw_exploration(run.explorations))
    assert run.diagram is not None
    drawn = draw_architecture(run.diagram)
    assert "last 3 encoder layers" in texts(drawn)
    assert all(operator_colour(kind).lower() in drawn for kind in KINDS)


def test_the_same_values_give_the_same_text(run_folder: Path) -> None:
    run = gather(run_folder)
    assert draw.draw_scatter(run.scatter) == draw.draw_scatter(run.scatter)


def test_ids_of_two_figures_do_not_meet(run_folder: Path) -> None:
    run = gather(run_folder)
    figures = (draw.draw_scatter(run.scatter), draw.draw_divergence(run.divergence))
    first, second = ({node.get("id") for node in ElementTree.fromstring(svg).iter()} - {None} for svg in figures)
    assert not first & second


def test_figures_without_points_do_not_fail() -> None:
    for svg in (
        draw.draw_curves([]),
        draw.draw_curves([SearchCurve("spos_search")]),
        draw.draw_exploration([]),
        draw.draw_operator_shares([]),
        draw.draw_scatter(Scatter((), Comparison(), None)),
        draw.draw_divergence([Divergence(1, None, 0.2)]),
    ):
        texts(svg)


@pytest.mark.parametrize(
    "data",
    [
        {"family": "decoder_only", "decoder": {"dim": 64, "layers": architecture()["encoder"]["layers"]}},
        {"family": "encoder_decoder", "encoder": {"dim": 64, "layers": []}, "decoder": {"layers": []}},
        {"family": "cell", "normal": {"nodes": [{"kind": "sep_conv", "inputs": [0, 1]}]}, "note": "a $ and <b>"},
        {"family": "program", "instructions": [{"kind": "add", "inputs": [number, 0]} for number in range(400)]},
        {},
    ],
)
def test_any_architecture_can_be_drawn(data: dict[str, Any]) -> None:
    assert draw_architecture(read_diagram(data)).startswith("<svg ")


def test_colours_belong_to_kinds() -> None:
    assert len({OPERATOR_COLOURS[kind] for kind in (*KINDS, "cross_attention", "feed_forward")}) == 6
    assert operator_colour("something_new") == operator_colour("something_new")
    assert row_colour("light_convolution") == operator_colour("light_convolution")
