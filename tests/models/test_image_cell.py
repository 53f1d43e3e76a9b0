"""Networks of image cells: published sizes to the last parameter, the law of models, and what training asks of them."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.errors import RequestError
from nasformer.models.build import build, outline
from nasformer.models.image_cell import NETWORKS, ImageSettings
from nasformer.models.size import core_flops, core_parameters, part_parameters, total_parameters
from nasformer.operators.image import BatchNorm, FactorisedReduction
from nasformer.operators.operator import reset
from nasformer.spaces.cell import Edge, ImageConvolution, SeparableConvolution, Skip
from nasformer.spaces.image_cell import ImageCells
from nasformer.spaces.known_cells import SPACES, cell, darts_v1, darts_v2, gdas_v1, nasbench201, nasbench_macro, s0
from nasformer.spaces.space import Choice
from nasformer.spaces.transformer import Zero
from nasformer.training.randomness import seeded

TABLE = Path(__file__).parents[3] / "shared" / "data" / "nas-tables" / "nas-bench-macro" / "cifar10.csv.gz"
TEN = ImageSettings(classes=10)
SMALL = {
    "s0": {"channels": 4, "cells": 3},
    "s1": {"channels": 4, "cells": 3},
    "s4": {"channels": 4, "cells": 4},
    "s5": {"channels": 4, "cells": 2},
    "nasbench201": {"channels": 4, "cells": 1},
    "nasbench201-two-inputs": {"channels": 4, "cells": 2},
    "nasbench-macro": {"channels": 4, "features": 16},
}


def small(name: str, seed: int = 1) -> Any:
    """A member of a named space with few channels."""
    return SPACES[name](**SMALL[name]).sample(Random(seed))  # type: ignore[operator]


def images(count: int = 8, size: int = 16, channels: int = 3, seed: int = 0) -> Tensor:
    """Random images (count, channels, size, size)."""
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def uniform(space: Any, label: str) -> Any:
    """The member with the same operator on every edge."""
    return space.close(lambda choice: choice.options.index(label))


def by_hand(architecture: ImageCells, classes: int = 10) -> int:
    """The parameters of DARTS' network, summed from the shapes of the released code's layers."""

    def edge(operator: Any, c: int, stride: int) -> int:
        k = getattr(operator, "kernel", 0)
        layer = k * k * c + c * c + 2 * c
        return {"separable_convolution": 2 * layer, "dilated_convolution": layer,
                "skip": (c * c + 2 * c) * (stride == 2)}.get(operator.kind, 0)  # fmt: skip

    c = architecture.channels
    before = last = 3 * c
    total = 27 * last + 2 * last
    for index in range(architecture.cells):
        reduction = index in (architecture.cells // 3, 2 * architecture.cells // 3)
        c *= 2 if reduction else 1
        total += before * c + last * c + 4 * c
        nodes = (architecture.reduction if reduction else architecture.normal).nodes
        total += sum(edge(e.operator, c, 2 if reduction and e.source < 2 else 1) for node in nodes for e in node.edges)
        before, last = last, 4 * c
    return total + (last + 1) * classes


@pytest.mark.parametrize(
    ("architecture", "parameters", "flops"),
    [
        (darts_v2(), 3_349_342, 528_353_280),  # 3.349342 M is the figure of the released code
        (darts_v1(), 3_169_414, 500_981_760),
        (gdas_v1(), 3_368_782, 519_422_976),
    ],
    ids=["darts-v2", "darts-v1", "gdas-v1"],
)
def test_the_known_networks(architecture: Any, parameters: int, flops: int) -> None:
    assert total_parameters(architecture, TEN) == parameters == by_hand(architecture)
    assert core_parameters(architecture) == parameters - 577 * 10
    assert core_flops(architecture) == 2 * flops
    assert sum(p.numel() for p in outline(architecture, TEN).parameters()) == parameters


def test_sizes_of_s0_by_hand() -> None:
    random = Random(3)
    for _ in range(10):
        member = s0(channels=6, cells=random.randint(1, 9)).sample(random)
        assert total_parameters(member, TEN) == by_hand(member)


def test_the_ends_of_nasbench201() -> None:
    """Its smallest and largest networks, and their published FLOPs without the classifier's 650."""
    for label, parameters, millions in (("image_convolution_3", 1_531_546, 220.11969), ("skip", 73_306, 7.78305)):
        member = uniform(nasbench201(), label)
        assert total_parameters(member, TEN) == parameters
        assert core_flops(member) / 2 == pytest.approx(millions * 1e6 - 650, abs=1)


def macro(code: str) -> Any:
    """A member of NAS-Bench-Macro from its digits."""
    return nasbench_macro().decode({f"blocks.{i}.nodes.0.edges.0.operator": int(digit) for i, digit in enumerate(code)})


def test_some_members_of_nasbench_macro() -> None:
    for code, parameters, flops in (("00000000", 387_882, 7_713_280), ("00000002", 1_219_370, 20_910_592)):
        assert total_parameters(macro(code), TEN) == parameters
        assert core_flops(macro(code)) // 2 + 12_800 == flops  # the table counts the classifier too


@pytest.mark.skipif(not TABLE.exists(), reason="the table of NAS-Bench-Macro is not here")
def test_nasbench_macro_against_its_table() -> None:
    with gzip.open(TABLE, "rt") as file:
        rows = list(csv.DictReader(file))
    for row in rows[::61]:
        assert total_parameters(macro(row["arch"]), TEN) == int(row["params"])
        assert core_flops(macro(row["arch"])) // 2 + 12_800 == int(row["flops"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s0", "s4", "nasbench201-two-inputs", "nasbench-macro"])
def test_a_hundred_members_build_and_are_as_large_as_told(name: str) -> None:
    space: Any = SPACES[name](**SMALL[name])  # type: ignore[operator]
    random = Random(2)

    def end(which: int) -> Any:
        def answer(choice: Choice) -> Any:
            options = range(len(choice.options))
            return options[which] if choice.count == 1 else tuple(options)[: choice.count]

        return space.close(answer)

    for member in [end(0), end(-1), *(space.sample(random) for _ in range(100))]:
        sizes = {key: parameter.numel() for key, parameter in outline(member, TEN).named_parameters()}
        assert total_parameters(member, TEN) == sum(sizes.values())
        assert core_parameters(member) == sum(n for key, n in sizes.items() if not key.startswith("classifier."))
    grey = ImageSettings(classes=7, input_channels=1, size=9)
    model = outline(end(0), grey)
    assert total_parameters(end(0), grey) == sum(parameter.numel() for parameter in model.parameters())
    assert model(torch.empty(2, 1, 9, 9, device="meta")).shape == (2, 7)


def test_thousands_of_members_are_counted_from_parts_that_are_counted_once() -> None:
    space = s0()
    random = Random(5)
    members = [space.sample(random) for _ in range(200)]
    before = part_parameters.cache_info().misses
    for member in members:
        core_parameters(member)
    every = 3 * 3 + 7 * (3 + 2) + 1  # at each of three widths: what prepares, seven operators, two of them halving too
    assert part_parameters.cache_info().misses - before <= every + 20


@pytest.mark.parametrize("searching", [False, True], ids=["plain", "searching"])
@pytest.mark.parametrize("name", SMALL)
def test_one_step_lowers_the_loss(name: str, searching: bool) -> None:
    member = small(name)
    model: Any = build(member, ImageSettings(classes=5, size=16, searching=searching), seed=1).train()
    x, y = images(), torch.arange(8) % 5

    def loss() -> Tensor:
        with seeded(1):  # S4's noise
            return F.cross_entropy(model(x), y)

    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = loss()
    before.backward()
    adam.step()
    assert float(loss().detach()) < float(before.detach())


def test_names_of_parameters_and_places() -> None:
    member = s0(channels=4, cells=5).sample(Random(1))
    model: Any = outline(member, TEN)
    network = NETWORKS[member.family]
    places = network.places(member)
    assert [(p.index, p.cell, p.channels, p.reduction) for p in places] == [
        (0, "normal", 4, False),
        (1, "reduction", 8, True),
        (2, "normal", 8, False),
        (3, "reduction", 16, True),
        (4, "normal", 16, False),
    ]
    expected = set()
    for place in places:
        for number, node in enumerate(getattr(member, place.cell).nodes):
            for edge in node.edges:
                inside = network.edge(member, TEN, place, edge).named_parameters()
                expected |= {f"cells.{place.index}.nodes.{number}.from_{edge.source}.{name}" for name, _ in inside}
    assert {name for name, _ in model.named_parameters() if ".nodes." in name} == expected
    reduced = [isinstance(c.preprocess[0], FactorisedReduction) for c in model.cells]
    assert reduced == [False, False, True, False, True]


def test_a_network_runs_on_edges_that_are_lent() -> None:
    for name in SMALL:
        member = small(name)
        network, settings = NETWORKS[member.family], ImageSettings(classes=3)
        lent: list[nn.Module] = []

        def wire(place: Any, member: Any = member, network: Any = network, lent: Any = lent) -> Any:
            path = place.cell.split(".")
            inside = getattr(member, path[0])
            nodes = (inside[int(path[1])] if len(path) > 1 else inside).nodes
            made = [
                [(e.source, network.edge(member, ImageSettings(classes=3), place, e)) for e in n.edges] for n in nodes
            ]
            lent.extend(edge for node in made for _, edge in node)
            return made

        model = network(member, settings, wire)  # type: ignore[arg-type]
        reset(model, torch.Generator().manual_seed(1))
        assert set(lent) <= set(model.modules())
        with seeded(1):
            first = model.train()(images(size=8))
        with seeded(1):
            second = build(member, settings, seed=1).train()(images(size=8))
        assert torch.equal(first, second)


def test_weights_follow_from_the_seed_and_leave_the_global_generator_alone() -> None:
    state, member = torch.get_rng_state(), small("s0")
    drawn = [torch.cat([p.detach().flatten() for p in build(member, TEN, seed=s).parameters()]) for s in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("name", ["s0", "nasbench201", "nasbench-macro"])
def test_hidden_is_what_the_classifier_reads(name: str) -> None:
    model: Any = build(small(name), ImageSettings(classes=5), seed=1).eval()
    for size in (32, 9):
        hidden = model.hidden(images(size=size))
        assert hidden.shape == (8, model.classifier.weight.shape[1])
        assert torch.equal(model.classifier(hidden), model(images(size=size)))


def test_cells_read_the_two_before_them() -> None:
    """With skips alone, cell by cell against the definition."""
    skips = cell([(0, Skip()), (1, Skip())], [(1, Skip()), (2, Skip())])
    model: Any = build(ImageCells(channels=4, cells=4, normal=skips, reduction=skips), TEN, seed=1).eval()
    x = images(size=8)
    first = second = model.stem(x)
    shapes = []
    for place, each in zip(model.places(model.architecture), model.cells, strict=True):
        zero, one = each.preprocess[0](F.relu(first)), each.preprocess[1](F.relu(second))
        if place.reduction:
            two = each.nodes.get_submodule("0.from_0")(zero) + each.nodes.get_submodule("0.from_1")(one)
            three = each.nodes.get_submodule("1.from_1")(one) + two
        else:
            two, three = zero + one, one + (zero + one)
        first, second = second, torch.cat([two, three], dim=1)
        shapes.append(tuple(second.shape[1:]))
    assert shapes == [(8, 8, 8), (16, 4, 4), (32, 2, 2), (32, 2, 2)]
    assert torch.allclose(model.hidden(x), second.mean((2, 3)), atol=1e-5)


def test_the_auxiliary_head() -> None:
    settings = ImageSettings(classes=10, auxiliary=True)
    model: Any = outline(darts_v2(), settings)
    more = sum(p.numel() for p in model.auxiliary.parameters())
    assert more == 576 * 128 + 2 * 128 + 4 * 128 * 768 + 2 * 768 + 769 * 10
    assert sum(p.numel() for p in model.parameters()) == more + total_parameters(darts_v2(), settings)
    small_one: Any = build(s0(channels=4, cells=3).sample(Random(1)), settings, seed=1).train()
    logits, auxiliary = small_one(images(size=32))
    assert logits.shape == auxiliary.shape == (8, 10)
    auxiliary.sum().backward()
    assert small_one.classifier.weight.grad is None
    assert small_one.stem.convolution.weight.grad is not None
    assert isinstance(small_one.eval()(images(size=32)), Tensor)
    for size in (28, 64):
        with pytest.raises(RequestError, match=f"8 to 10 pixels, got {size // 4} after cell 13"):
            outline(darts_v2(), settings.but(size=size))
    for name in ("nasbench201", "nasbench-macro"):
        with pytest.raises(RequestError, match="has no auxiliary head"):
            outline(small(name), settings)


def test_drop_path_grows_with_progress_and_is_for_training() -> None:
    edges = cell([(0, SeparableConvolution(kernel=3)), (1, SeparableConvolution(kernel=3))])
    member = ImageCells(channels=4, cells=1, normal=edges, reduction=edges)
    model: Any = build(member, ImageSettings(classes=4, drop_path=0.5), seed=1)

    def run(progress: float, seed: int, training: bool = True) -> Tensor:
        model.train(training).progress = progress
        with seeded(seed), torch.no_grad():
            result: Tensor = model(images(size=8))
        return result

    assert torch.equal(run(0.0, 1), run(0.0, 2))
    assert torch.equal(run(1.0, 1), run(1.0, 1))
    assert not torch.equal(run(1.0, 1), run(1.0, 2))
    assert not torch.equal(run(1.0, 1), run(0.5, 1))
    assert torch.equal(run(1.0, 1, training=False), run(1.0, 2, training=False))


@pytest.mark.parametrize(("operator", "dropped"), [(Skip(), False), (ImageConvolution(kernel=1), True)])
def test_drop_path_in_normal_cells(operator: Any, dropped: bool) -> None:
    member = nasbench201(channels=4, cells=1).template.but(cell=cell([(0, operator)], inputs=1))
    model: Any = build(member, ImageSettings(classes=4, drop_path=0.5), seed=1).train()
    results = []
    for seed in (1, 2):
        with seeded(seed), torch.no_grad():
            results.append(model(images(size=8)))
    assert torch.equal(*results) != dropped


def test_searching_keeps_no_statistics() -> None:
    for name in ("s0", "nasbench201", "nasbench-macro"):
        model: Any = build(small(name), ImageSettings(classes=5, searching=True), seed=1)
        assert not list(model.buffers())
        assert all(part.weight is None for part in model.modules() if isinstance(part, BatchNorm))
        assert torch.equal(model.train()(images()), model.eval()(images()))


def test_a_network_of_nothing_still_learns_its_classifier() -> None:
    model: Any = build(uniform(nasbench201(channels=4, cells=1), Zero().label), ImageSettings(classes=3), seed=1)
    model(images()).sum().backward()
    assert model.classifier.bias.grad is not None


def test_a_supernets_place_gives_any_edge() -> None:
    """An edge that the architecture does not have is built too."""
    member = small("nasbench-macro")
    network = NETWORKS[member.family]
    place = network.places(member)[2]
    with torch.device("meta"):
        edge: Any = network.edge(member, TEN, place, Edge(source=0, operator=Skip()))
    assert edge(torch.empty(1, 8, 6, 6, device="meta")).shape == (1, 16, 3, 3)
