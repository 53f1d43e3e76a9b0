"""The watch over collapse: counts on known cells, scatter and shares by hand, and what a search says."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from cell_landscape import Hill, Landscape

from nasformer.spaces.cell import AveragePool, Cell, Edge, Node, SeparableConvolution, Skip
from nasformer.spaces.known_cells import SPACES, darts_v1, gdas_v1
from nasformer.spaces.sequence_spaces import t0, t2
from nasformer.strategies.collapse import Counts, Watch, counted, counts, entropy, scatter, warning
from nasformer.strategies.objective import Objective
from nasformer.strategies.rome import Rome
from nasformer.supernets.selection import Chosen
from nasformer.training.schedule import Cosine
from nasformer.training.trainer import Training

LEARNED = SeparableConvolution(kernel=3)


def cell(skips: int, pools: int = 0) -> Cell:
    """A cell of 4 nodes and 8 edges with so many skips and pools."""
    operators: list[Any] = [Skip()] * skips + [AveragePool()] * pools
    operators += [LEARNED] * (8 - len(operators))
    return Cell(
        nodes=tuple(
            Node(edges=(Edge(source=0, operator=operators[2 * n]), Edge(source=1, operator=operators[2 * n + 1])))
            for n in range(4)
        )
    )


@pytest.mark.parametrize("skips", range(9))
def test_skips_are_counted_and_from_six_of_eight_on_warned_of(skips: int) -> None:
    found = counts(cell(skips))
    assert found == Counts(8, skips, skips)
    assert (warning("normal", found) is not None) == (skips >= 6)
    assert warning("reduction", found) is None


def test_the_published_tables_of_collapsed_cells() -> None:
    """Skips in the normal cells of RobustDARTS' searches (docs/papers/rome.md §6.2) by weight decay."""
    table = {
        "S1, CIFAR-10": [(7, 7, 7), (8, 8, 7), (5, 8, 6), (2, 2, 2), (1, 2, 0)],
        "S3, SVHN": [(8, 8, 8), (8, 8, 7), (4, 3, 4), (0, 2, 0)],
    }
    warned = {
        name: [sum(warning("normal", counts(cell(skips))) is not None for skips in runs) for runs in rows]
        for name, rows in table.items()
    }
    assert warned == {"S1, CIFAR-10": [3, 3, 2, 0, 0], "S3, SVHN": [3, 3, 0, 0]}


def test_pools_count_as_free_of_parameters_and_the_warning_says_which() -> None:
    found = counts(cell(3, pools=3))
    assert found == Counts(8, 3, 6)
    assert "6 operators without parameters on 8 edges" in str(warning("normal", found))
    assert "the derived cell has 7 skips on 8 edges" in str(warning("cell", counts(cell(7))))
    assert "the derived encoder.cell has 7 skips" in str(warning("encoder.cell", counts(cell(7))))
    assert "the derived row of cells has 7 skips" in str(warning("blocks", counts(cell(7))))


def test_the_cells_of_the_papers() -> None:
    assert counted(gdas_v1())["normal"].skips == 4
    assert counted(darts_v1())["normal"].edges == 8
    chain = SPACES["nasbench-macro"]()
    member = chain.close(lambda _: 0)  # identity everywhere
    assert counted(member) == {"blocks": Counts(8, 8, 8)}


def test_scatter_and_entropy_by_hand() -> None:
    samples = [{"a": torch.tensor([1.0, 0.0])}, {"a": torch.tensor([3.0, 0.0])}, {"a": torch.tensor([2.0, 3.0])}]
    assert math.isclose(scatter(samples), 1.0 + 3.0)
    assert math.isnan(scatter(samples[:1]))
    assert math.isclose(entropy([torch.zeros(4), torch.tensor([100.0, 0.0])]), 0.5, rel_tol=1e-5)
    assert entropy([torch.tensor([200.0, 0.0])]) == 0  # a probability too small for a number


def test_every_operator_that_ran_is_counted_once_an_update() -> None:
    space = t0(dim=8, blocks=1, nodes=2)  # has two attentions, told apart by their heads
    watch = Watch(space)
    first = {"cell.nodes.0.edges": Chosen((0, 1)), "cell.nodes.1.edges": Chosen((0, 2))}
    first |= {edge.operator: Chosen((3,)) for edge in watch.edges if edge.operator}
    second = first | {"cell.nodes.0.edges.from_0.operator": Chosen((4,))}
    watch.trained([first, first])
    watch.trained([second])
    shares = watch.shares()
    assert shares["cell.nodes.0.from_0"]["attention_2"] == 0.5 == shares["cell.nodes.0.from_0"]["attention_4"]
    assert shares["cell.nodes.0.from_1"]["attention_2"] == 1.0
    assert set(shares["cell.nodes.1.from_1"].values()) == {0.0}
    assert watch.passes["cell.nodes.0.from_0"][3:5] == [2, 1]
    again = Watch(space)
    again.load(json.loads(json.dumps(watch.state())))
    assert again.take() == watch.take()


def test_a_search_warns_while_it_collapses() -> None:
    space = t2(dim=8, blocks=1, nodes=4)
    training = Training(updates=4, batch_tokens=16, record_every=4, optimizer="sgd", schedule=Cosine(peak=0.01))
    strategy = Rome(training=training, samples=1, epochs=2)
    landscape: Any = Landscape(space)
    hill: Any = Hill()
    search = strategy.begin(space, Objective(), hill, landscape, 1)
    for name, logits in search.logits.items():
        if name.endswith("operator"):
            logits[0] = 3.0
    events = [event for _ in range(4) for event in search.step().events]
    (first, second) = [fields for name, fields in events if name == "collapse"]
    assert (first["epoch"], first["skips"], first["edges"]) == (1, 8, 8)
    assert "random cells of its size" in second["text"]
