"""Cells as pictures: every edge has its label where nothing covers it, on the page and in one line."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from synthetic_cells import OPERATORS, cell, space
from synthetic_cells import write_cells as write_run_of_cells

from nasformer.report.blueprint import draw_architecture
from nasformer.report.cell import _arrange, draw_cells, title
from nasformer.report.diagram import read_diagram
from nasformer.report.edge_table import edge_place, edge_tables
from nasformer.report.page import architecture_caption, write_report
from nasformer.report.probabilities import draw_probabilities, on_edges
from nasformer.report.values import Probabilities
from nasformer.report.wiring import Wiring, operator_words, read_wirings
from nasformer.spaces.cell import Cell, InvertedResidual, LocalAttention, SeparableConvolution, Skip
from nasformer.spaces.image_cell import BlockChain, ImageCells
from nasformer.spaces.known_cells import nasbench201
from nasformer.spaces.sequence_spaces import t0
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import Attention, FeedForward


def texts(svg: str) -> list[str]:
    """The lines of words in a drawing of cells, in the order in which they were drawn."""
    whole = ElementTree.fromstring(svg)
    return ["".join(part.itertext()).strip() for part in whole.iter("{http://www.w3.org/2000/svg}text")]


def wirings(normal: Cell, reduction: Cell) -> tuple[Wiring, ...]:
    """Both cells as they are drawn."""
    return read_wirings(ImageCells(normal=normal, reduction=reduction).data())


def test_every_edge_is_read() -> None:
    architecture = ImageCells(normal=cell(1), reduction=cell(2, deepest=True))
    normal, reduction = read_wirings(architecture.data())
    assert (normal.name, reduction.name) == ("normal", "reduction")
    for wiring, part in ((normal, architecture.normal), (reduction, architecture.reduction)):
        edges = [(edge.source, 2 + number, edge.operator.kind)
                 for number, node in enumerate(part.nodes) for edge in node.edges]  # fmt: skip
        assert [(arrow.source, arrow.target, arrow.kind) for arrow in wiring.arrows] == edges
        assert wiring.output == (2, 3, 4, 5)
    assert reduction.columns == (0, 0, 1, 2, 3, 4)
    assert {arrow.kind for arrow in normal.arrows if arrow.parameter_free} <= {"skip", "max_pool", "average_pool"}


def test_the_last_node_alone_is_the_output_of_a_staged_cell() -> None:
    member = nasbench201().close(lambda choice: 0)
    (wiring,) = read_wirings(member.data())
    assert (wiring.inputs, wiring.output, len(wiring.arrows)) == (1, (3,), 6)


def test_what_cannot_be_read_is_drawn_as_boxes() -> None:
    broken = ImageCells(normal=cell(1), reduction=cell(2)).data()
    broken["normal"]["nodes"][0]["edges"][0]["operator"]["kind"] = "of another version"
    assert read_wirings(broken) == ()
    diagram = read_diagram(broken)
    assert diagram.cells == ()
    assert diagram.box is not None
    assert read_wirings({"family": "odd", "nodes": [{"edges": 3}]}) == ()
    assert read_wirings({"nodes": "none"}) == ()


@pytest.mark.parametrize("seed", range(8))
def test_no_two_labels_and_no_point_lie_on_each_other(seed: int) -> None:
    wiring, _ = wirings(cell(seed, deepest=seed == 0), cell(0))
    lines = [(arrow.source, arrow.target) for arrow in wiring.arrows] + [(node, None) for node in wiring.output]
    columns = wiring.columns
    lanes, places = _arrange(columns, lines)
    spans = [(columns[source], max(columns) if end is None else columns[end]) for source, end in lines]
    for one, other in combinations(range(len(lines)), 2):
        if spans[one][0] < spans[other][1] and spans[other][0] < spans[one][1]:
            assert lanes[one] != lanes[other]
    assert all(place % 1 == 0.5 for place in places)  # half-way between two lanes
    assert len(set(zip(columns, places, strict=True))) == len(places)
    assert set(lanes) == set(range(max(lanes) + 1))


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """The frames of the labels: left, right, top, bottom."""
    found = []
    for shape in re.findall(r'<path d="([^"]*z)\s*" clip-path', svg):
        numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", shape)]
        xs, ys = numbers[::2], numbers[1::2]
        found.append((min(xs), max(xs), min(ys), max(ys)))
    return found


def test_labels_of_all_edges_are_apart_at_four_nodes_and_eight_edges() -> None:
    for seed in range(2):
        pair = wirings(cell(seed), cell(seed + 50, deepest=True))
        svg = draw_cells(pair)
        said = texts(svg)
        wanted = sorted(word for one in pair for arrow in one.arrows for word in [arrow.text.split()[-1]])
        ends = sorted(text.split()[-1] for text in said if text.split()[-1] in {*"35", "skip"} and not text.isdecimal())
        assert ends == wanted
        assert [text for text in said if text.endswith(" cell")] == ["normal cell", "reduction cell"]
        assert said.count("output") == 2
        frames = boxes(svg)
        assert len(frames) >= 16
        for one, other in combinations(frames, 2):
            assert one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]


def test_skips_look_different_from_what_learns() -> None:
    one, _ = wirings(cell(1), cell(2))
    dashed = draw_cells([one]).count("stroke-dasharray")
    free = sum(arrow.parameter_free for arrow in one.arrows)
    assert 0 < free < 8
    assert dashed == 2 * free  # the line and the frame of its words


def test_operators_have_words() -> None:
    named = {Skip(): "skip", SeparableConvolution(kernel=5): "separable convolution 5",
             InvertedResidual(kernel=5, expansion=6): "inverted residual ×6, kernel 5",
             Attention(heads=1): "attention, 1 head", FeedForward(ratio=2.0): "feed forward ×2",
             LocalAttention(heads=4, window=9): "local attention, 4 heads, window 9"}  # fmt: skip
    assert {operator: operator_words(operator) for operator in named} == named
    assert [title(path) for path in ("normal", "cell", "encoder.cell", "blocks.3")] == [
        "normal cell", "cell", "encoder cell", "block 3"]  # fmt: skip


def test_a_chain_is_a_row_of_blocks() -> None:
    operators = [Skip(), InvertedResidual(kernel=3, expansion=3)] * 4
    block = Cell.read({"inputs": 1, "nodes": [{"edges": [{"source": 0, "operator": {"kind": "skip"}}]}]})
    chain = BlockChain(blocks=tuple(block for _ in operators)).data()
    for part, operator in zip(chain["blocks"], operators, strict=True):
        part["nodes"][0]["edges"][0]["operator"] = operator.data()
    diagram = read_diagram(chain)
    said = texts(draw_architecture(diagram))
    assert said.count("skip") == 4
    assert sum("kernel 3" in text for text in said) == 4
    assert [text for text in said if text.startswith("stage")] == ["stage 0", "stage 1", "stage 2"]
    assert "stages 2 + 3 + 3" in architecture_caption(diagram)


def test_an_encoder_of_cells_stands_with_its_decoder() -> None:
    member = t0(encoder=True).close(lambda choice: 0 if choice.count == 1 else (0, 1))
    diagram = read_diagram(member.data())
    drawn = draw_architecture(diagram)
    assert drawn.count("<svg ") == 2
    assert "encoder cell" in drawn
    assert "decoder: 2 layers" in drawn
    caption = architecture_caption(diagram)
    assert "Encoder (dim 48, blocks 2, output linear, final norm), decoder (dim 48)" in caption


def shares(of: Space) -> dict[str, dict[str, float]]:
    known = {choice.name: choice.options for choice in of.choices if choice.operators and choice.count == 1}
    return {name: {o: i / 100 for i, o in enumerate(options)} for name, options in known.items()
            if edge_place(name) is not None}  # fmt: skip


def test_tables_of_edges_keep_every_probability_in_its_place() -> None:
    found = shares(space())
    edges = {f"{path}.nodes.{node}.edges": {f"from_{source}": source / 10 for source in range(2 + node)}
             for path in ("normal", "reduction") for node in range(4)}  # fmt: skip
    assert len(found) == 28
    for table in edge_tables(found, edges):
        assert [row for row, _ in table.rows][:5] == ["0 → 2", "1 → 2", "0 → 3", "1 → 3", "2 → 3"]
        assert len(table.rows) == 14
        assert table.columns == ("the edge itself", *(operator.label for operator in OPERATORS))
        assert all(row[1:] == tuple(i / 100 for i in range(7)) for row in table.shares)
        assert [row[0] for row in table.shares][:5] == [0.0, 0.1, 0.0, 0.1, 0.2]
    (staged,) = edge_tables(shares(nasbench201()))
    assert [row for row, _ in staged.rows][:3] == ["edge 0 of 1", "edge 0 of 2", "edge 1 of 2"]
    assert staged.apart == 0


def test_edges_without_an_operator_are_left_empty() -> None:
    found = {"cell.nodes.0.from_0": {"skip": 1.0}, "cell.nodes.0.from_1": {"attention": 0.25}}
    (table,) = edge_tables(found)
    assert table.shares == ((1.0, None), (None, 0.25))
    rows = edge_tables({f"blocks.{n}.nodes.0.edges.0.operator": {"skip": n / 10} for n in (10, 2)})[0].rows
    assert rows == (("2", 2), ("10", 10))


def test_many_edges_are_drawn_as_tables() -> None:
    found = [Probabilities(name, tuple(table), (10, 20), tuple((0.1, p) for p in table.values()))
             for name, table in shares(space()).items()]  # fmt: skip
    assert on_edges(found)
    said = texts(draw_probabilities(found, {"normal.nodes.0.edges": {"from_0": 0.55}}))
    assert said.count("separable convolution 3") == 2
    assert said.count("55") == 1
    assert said.count("3 → 5") == 2
    assert not on_edges([Probabilities("encoder.layers.0.mixer", ("a",), (1,), ((1.0,),))])
    assert not on_edges([])


def test_the_page_draws_the_cells_that_were_found(tmp_path: Path) -> None:
    folder = write_run_of_cells(tmp_path / "a")
    (folder / "journal.jsonl").unlink()
    text = write_report(folder).read_text(encoding="utf-8")
    found = text[text.index("The found architecture</h2>") :]
    assert "normal cell" in found
    assert "Channels 36, cells 20, stem 3." in found
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
