"""The supernet of cells under its laws, for every family of cells, and what differentiable methods ask of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.errors import RequestError
from nasformer.models.build import FAMILIES
from nasformer.models.image_cell import ImageSettings
from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.operators.image import FactorisedReduction, Identity, SeparableConvolution, Zero
from nasformer.spaces.cell import (
    AveragePool,
    ImageConvolution,
    MaxPool,
    Skip,
    chosen_inputs,
    topologies,
)
from nasformer.spaces.cell import SeparableConvolution as Separable
from nasformer.spaces.image_cell import ImageCells
from nasformer.spaces.known_cells import nasbench201, nasbench201_two_inputs, nasbench_macro, s2
from nasformer.spaces.open import one_of
from nasformer.spaces.sequence_spaces import t0
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import Zero as NoEdge
from nasformer.supernets.cell import CellSupernet
from nasformer.supernets.gumbel import gumbel_noise, top
from nasformer.supernets.mixed import Mixed
from nasformer.supernets.named import supernet_of
from nasformer.supernets.selection import Chosen

IMAGES = ImageSettings(classes=3, size=8)
NONE = Dropout(residual=0.0, attention=0.0, weight=0.0)
TOKENS = ModelSettings(source_vocabulary=12, target_vocabulary=11, dropout=NONE)
OPERATORS = (NoEdge(), Skip(), Separable(kernel=3), AveragePool())
DOUBLE = torch.float64


def darts(operators: Any = OPERATORS, nodes: int = 3, cells: int = 3) -> Space:
    """Two-input cells, of which the second and the third reduce."""
    cell = chosen_inputs((operators,) * sum(range(2, 2 + nodes)), nodes=nodes)
    return Space(ImageCells(channels=4, cells=cells, normal=cell, reduction=cell), "tiny")


SPACES: dict[str, tuple[Callable[[], Space], Any]] = {
    "image_cells": (darts, IMAGES),
    "staged_cells": (lambda: nasbench201(channels=4, cells=1), IMAGES),
    "staged_cells, two inputs": (lambda: nasbench201_two_inputs(channels=4, cells=1), IMAGES),
    "block_chain": (lambda: nasbench_macro(channels=2, features=8), IMAGES),
    "cell_decoder_only": (lambda: t0(dim=8, nodes=3), TOKENS),
    "cell_encoder_decoder": (lambda: t0(dim=8, nodes=2, encoder=True, decoder_layers=1), TOKENS),
}


def inputs(space: Space, seed: int = 3) -> tuple[Tensor, ...]:
    """A batch for a network of the space."""
    generator = torch.Generator().manual_seed(seed)
    if "cell_" not in space.template.family:  # type: ignore[attr-defined]
        return (torch.randn(4, 3, 8, 8, generator=generator, dtype=DOUBLE),)
    tokens = torch.randint(1, 11, (2, 3, 6), generator=generator)
    tokens[:, 0, -2:] = 0
    return tuple(tokens[:1] if space.template.family == "cell_decoder_only" else tokens)  # type: ignore[attr-defined]


def doubled(space: Space, settings: Any, **ways: Any) -> CellSupernet:
    """A supernet in float64 whose every weight is random."""
    plain = supernet_of(space, settings, seed=1, **ways)
    generator = torch.Generator().manual_seed(5)
    drawn = {
        name: weight.double() + 0.2 * torch.randn(weight.shape, generator=generator, dtype=DOUBLE)
        for name, weight in plain.weights.items()
    }
    return CellSupernet(space, plain.settings, seed=1, weights=drawn, **ways)


@pytest.fixture(params=list(SPACES))
def supernet(request: pytest.FixtureRequest) -> CellSupernet:
    """A supernet of each family."""
    make, settings = SPACES[request.param]
    return doubled(make(), settings)


def members(space: Space, count: int, seed: int = 0) -> list[Any]:
    """Random members."""
    random = Random(seed)
    return [space.sample(random) for _ in range(count)]


def loss(model: nn.Module, *batch: Tensor) -> Tensor:
    """A loss that every output has a part in."""
    found = model(*batch)
    mask = torch.randn(found.shape, generator=torch.Generator().manual_seed(7), dtype=found.dtype)
    return (found * mask).sum() * 1e-1


def gradients(supernet: CellSupernet, selection: Any) -> dict[str, Tensor]:
    """The gradients of shared weights."""
    leaves = {parameter.source: parameter for parameter in supernet.at(selection).parameters()}
    value = loss(supernet.at(selection), *inputs(supernet.space))
    found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    return {name: gradient for name, gradient in zip(leaves, found, strict=True) if gradient is not None}


@contextmanager
def calls() -> Iterator[Counter[type]]:
    """How often modules of each type are called inside."""
    found: Counter[type] = Counter()
    handle = nn.modules.module.register_module_forward_pre_hook(lambda module, _: found.update([type(module)]))
    try:
        yield found
    finally:
        handle.remove()


def gumbel(space: Space, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Chosen]]:
    """Logits, noise, and the selection that they draw: sets of edges by Gumbel-Top-k, operators by Gumbel-Max."""
    generator = torch.Generator().manual_seed(seed)
    logits, noise, chosen = {}, {}, {}
    for choice in space.choices:
        size = len(choice.options)
        logits[choice.name] = torch.randn(size, generator=generator, dtype=DOUBLE).requires_grad_()
        noise[choice.name] = gumbel_noise(size, generator, DOUBLE)
        chosen[choice.name] = top(logits[choice.name], choice.count, 0.7, noise[choice.name])
    return logits, noise, chosen


@pytest.mark.slow
def test_what_is_lent_is_what_is_inherited(supernet: CellSupernet) -> None:
    batch = inputs(supernet.space)
    for member in members(supernet.space, 8):
        lent, own = supernet.at(member), supernet.inherit(member)
        assert type(lent) is type(own) is FAMILIES[member.family].network
        assert lent.architecture == own.architecture == member
        torch.testing.assert_close(lent(*batch), own(*batch), rtol=0, atol=1e-10)
        sources = supernet.sources(member)
        assert {name: (p.source, p.shape) for name, p in lent.named_parameters()} == {
            name: (sources[name], p.shape) for name, p in own.named_parameters()
        }
        for parameter in own.parameters():
            assert not hasattr(parameter, "source")
            assert all(parameter.data_ptr() != weight.data_ptr() for weight in supernet.weights.values())


def test_two_architectures_do_not_disturb_each_other(supernet: CellSupernet) -> None:
    batch = inputs(supernet.space)
    first, second = members(supernet.space, 2)
    expected = supernet.at(first)(*batch).detach()
    one_, two = supernet.at(first).train(), supernet.at(second).eval()
    assert all(part.training for part in one_.modules())
    assert not any(part.training for part in two.modules())
    again = one_(*batch)
    two(*batch)
    supernet.at(second).train()
    assert not any(part.training for part in two.modules())
    assert torch.equal(again, expected)
    again.sum().backward()
    found = {name: parameter.grad.clone() for name, parameter in one_.named_parameters() if parameter.grad is not None}
    for parameter in one_.parameters():
        parameter.grad = None
    fresh = supernet.at(first)
    fresh(*batch).sum().backward()
    assert found.keys() == {name for name, parameter in fresh.named_parameters() if parameter.grad is not None}
    assert all(torch.equal(found[name], fresh.get_parameter(name).grad) for name in found)  # type: ignore[arg-type]


def test_every_shared_weight_is_used_by_some_architecture(supernet: CellSupernet) -> None:
    space, used = supernet.space, set()
    sets = {choice.name: list(combinations(range(len(choice.options)), choice.count)) for choice in topologies(space)}
    for option in range(max(len(choice.options) for choice in space.choices)):
        for number in range(max([1, *map(len, sets.values())])):
            code = {choice.name: option % len(choice.options) for choice in space.choices}
            used |= set(
                supernet.sources(space.decode(code | {n: s[number % len(s)] for n, s in sets.items()})).values()
            )
    assert used == supernet.weights.keys()


def test_samples_add_their_gradients_up(supernet: CellSupernet) -> None:
    selections = [gumbel(supernet.space, seed)[2] for seed in range(3)]
    alone = [gradients(supernet, selection) for selection in selections]
    views = []
    for selection in [gumbel(supernet.space, seed)[2] for seed in range(3)]:
        views.append(supernet.at(selection))
        loss(views[-1], *inputs(supernet.space)).backward()
    together = {p.source: p.grad for view in views for p in view.parameters() if p.grad is not None}
    assert together.keys() == set().union(*alone)
    for name, gradient in together.items():
        expected = sum(own[name] for own in alone if name in own)
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["image_cells", "staged_cells, two inputs", "cell_decoder_only"])
def test_logits_get_the_gradients_of_the_closed_forms(name: str) -> None:
    """u_i = ⟨∂L/∂ node, what edge i brings⟩ over all cells of a wiring (docs/papers/rome.md §2.2)."""
    make, settings = SPACES[name]
    net = doubled(make(), settings)
    logits, noise, chosen = gumbel(net.space, 4)
    model, brought = net.at(chosen), {}

    def keep(where: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            output.retain_grad()
            brought[where] = output

        return hook

    for index, cell in enumerate(model.cells):
        for number, sources in enumerate(cell.nodes.sources):
            for source in sources:
                where = f"{index}.nodes.{number}.from_{source}"
                model.get_submodule(f"cells.{where}").register_forward_hook(keep(where))
    loss(model, *inputs(net.space)).backward()
    u: Counter[tuple[str, int, int]] = Counter()
    for where, output in brought.items():
        index, _, number, source = where.split(".")
        place = net._places[int(index)]
        if output.grad is not None:  # a node that no other reads has none
            product = float((output.grad * output).detach().sum())
            u[place.cell, int(number), int(source.removeprefix("from_"))] += product  # type: ignore[assignment]
    for edge in [edge for nodes in net._edges.values() for node in nodes for edge in node]:
        if edge.operator is not None:
            soft = ((logits[edge.operator] + noise[edge.operator]) / 0.7).softmax(0).detach()
            (option,) = chosen[edge.operator].options
            runs = edge.topology is None or edge.option in chosen[edge.topology].options
            own = (torch.arange(len(soft)) == option).double()
            expected = u[edge.cell, edge.node, edge.source] * soft[option] * (own - soft)
            assert runs or logits[edge.operator].grad is None
            found = torch.zeros_like(soft) if logits[edge.operator].grad is None else logits[edge.operator].grad
            torch.testing.assert_close(found, expected / 0.7, rtol=1e-8, atol=1e-10)
        if edge.topology is not None:
            soft = ((logits[edge.topology] + noise[edge.topology]) / 0.7).softmax(0).detach()
            own = (torch.arange(len(soft)) == edge.option).double()
            others = {e.option: u[e.cell, e.node, e.source] for e in net._edges[edge.cell][edge.node]}
            expected = sum(others[i] * soft[i] * (own[i] - soft[edge.option]) for i in chosen[edge.topology].options)
            torch.testing.assert_close(logits[edge.topology].grad[edge.option], expected / 0.7, rtol=1e-8, atol=1e-10)  # type: ignore[index]


def test_only_what_was_chosen_is_called_and_its_weight_is_one() -> None:
    net = doubled(darts((Skip(), Separable(kernel=3))), IMAGES)
    batch = inputs(net.space)
    for seed in range(4):
        _, _, chosen = gumbel(net.space, seed)
        convolutions = identities = reductions = 0
        for place in net._places:
            for node in net._edges[place.cell]:
                for edge in (node[i] for i in chosen[str(node[0].topology)].options):
                    separable = chosen[str(edge.operator)].options == (1,)
                    convolutions += separable
                    reductions += not separable and place.stride(edge.source) == 2
                    identities += not separable and place.stride(edge.source) == 1
        assert convolutions + reductions + identities == 3 * 3 * 2
        with calls() as called:
            found = net.at(chosen)(*batch)
        assert called[SeparableConvolution] == convolutions
        assert called[Identity] == identities
        assert called[FactorisedReduction] == reductions + 1  # and the preprocess after a reduction
        code = {c.name: chosen[c.name].options if c.count > 1 else chosen[c.name].options[0] for c in net.space.choices}
        torch.testing.assert_close(found, net.at(net.space.decode(code))(*batch), rtol=0, atol=0)


def test_no_operator_is_built_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    net = doubled(darts(), IMAGES)
    member = members(net.space, 1)[0]
    first = net.at(member)(*inputs(net.space))
    monkeypatch.setattr(FAMILIES["image_cells"].network, "edge", lambda *_: pytest.fail("built again"))
    monkeypatch.setattr(FAMILIES["image_cells"].network, "__init__", lambda *_, **__: pytest.fail("built again"))
    assert torch.equal(net.at(member)(*inputs(net.space)), first)


def everything(space: Space, weights: dict[str, Tensor]) -> dict[str, Chosen]:
    """All edges and all operators, with these weights."""
    return {c.name: Chosen(tuple(range(len(c.options))), weights.get(c.name)) for c in space.choices}


@pytest.mark.slow
def test_all_options_run_weighted_and_zero_is_not_computed(supernet: CellSupernet) -> None:
    space, batch = supernet.space, inputs(supernet.space)
    for member in members(space, 3, seed=5):
        hot = {}
        for name, answer in space.encode(member).items():
            size = len(next(choice for choice in space.choices if choice.name == name).options)
            hot[name] = torch.zeros(size, dtype=DOUBLE).index_fill(0, torch.tensor(answer), 1.0)
        rest = {c.name: torch.zeros(len(c.options), dtype=DOUBLE) for c in space.choices if c.name not in hot}
        with calls() as called:
            found = supernet.at(everything(space, hot | rest))(*batch)
        assert called[Zero] == 0
        torch.testing.assert_close(found, supernet.at(member)(*batch), rtol=0, atol=1e-9)
    logits = {c.name: torch.zeros(len(c.options), dtype=DOUBLE, requires_grad=True) for c in space.choices}
    soft = {name: tensor.softmax(0) for name, tensor in logits.items()}
    model = supernet.at(everything(space, soft))
    assert {p.source for p in model.parameters()} == supernet.weights.keys()
    loss(model, *batch).backward()
    for name, tensor in logits.items():
        assert tensor.grad is not None, name
        assert abs(tensor.grad.sum()) < 1e-9
        assert tensor.grad.abs().max() > 1e-9, name


def test_a_view_can_be_differentiated_again_over_leaf_weights() -> None:
    """So a batch can be worked on in pieces."""
    net = doubled(darts(), IMAGES)
    weights = {c.name: torch.full((len(c.options),), 0.3, dtype=DOUBLE, requires_grad=True) for c in net.space.choices}
    model = net.at(everything(net.space, weights))
    for seed in (1, 2):
        loss(model, *inputs(net.space, seed)).backward()
    assert all(tensor.grad is not None for tensor in weights.values())


def test_any_number_of_edges_may_run() -> None:
    net = doubled(darts((Separable(kernel=3), Skip())), IMAGES)
    names = [choice.name for choice in topologies(net.space)]
    sizes = {choice.name: len(choice.options) for choice in topologies(net.space)}
    ones = {name: Chosen(tuple(range(sizes[name])), torch.ones(sizes[name], dtype=DOUBLE)) for name in names}
    bare = {name: Chosen(tuple(range(sizes[name]))) for name in names}
    batch = inputs(net.space)
    assert torch.equal(net.at(ones)(*batch), net.at(bare)(*batch))
    assert [cell.nodes.sources for cell in net.at(bare).cells] == [[[0, 1], [0, 1, 2], [0, 1, 2, 3]]] * 3
    picked = {name: Chosen((sizes[name] - 1,)) for name in names}
    masked = {name: Chosen(tuple(range(sizes[name])), torch.eye(sizes[name], dtype=DOUBLE)[-1]) for name in names}
    torch.testing.assert_close(net.at(picked)(*batch), net.at(masked)(*batch), rtol=0, atol=1e-10)


def test_mixed_is_the_weighted_sum_whatever_the_options_give() -> None:
    x = torch.randn(3, 4, dtype=DOUBLE, requires_grad=True)
    options = [nn.Identity(), nn.ReLU(), nn.Identity()]
    weights = torch.tensor([0.5, -2.0, 0.25], dtype=DOUBLE, requires_grad=True)
    scale = torch.tensor(3.0, dtype=DOUBLE, requires_grad=True)
    for given, factor, expected in (
        (weights, scale, lambda: 3 * (0.75 * x - 2 * x.relu())),
        (None, scale, lambda: 3 * (2 * x + x.relu())),
        (weights, None, lambda: 0.75 * x - 2 * x.relu()),
        (None, None, lambda: 2 * x + x.relu()),
    ):
        found = Mixed(options, given, factor)(x)
        torch.testing.assert_close(found, expected(), rtol=0, atol=1e-12)
        torch.testing.assert_close(*(torch.autograd.grad((y**2).sum(), x)[0] for y in (found, expected())))
    halves = Mixed([nn.Identity(), nn.Module()], weights[:2])  # as under autocast: of two precisions the finer one
    halves.options[0].forward = lambda x: x.bfloat16()  # type: ignore[method-assign]
    halves.options[1].forward = lambda x: x  # type: ignore[method-assign]
    assert halves(x).dtype == DOUBLE
    (slope,) = torch.autograd.grad(Mixed(options, weights, scale)(x).sum(), weights)
    torch.testing.assert_close(slope, 3 * torch.stack([x.sum(), x.relu().sum(), x.sum()]).detach())


def test_partial_channels_pass_by_and_are_shuffled() -> None:
    operators = (Skip(), ImageConvolution(kernel=3), MaxPool())
    net = doubled(darts(operators, nodes=1), IMAGES, partial=2)
    place = net._places
    assert [p.channels for p in place] == [4, 8, 16]
    name = "nodes.0.from_1.image_convolution_3.convolution.weight"
    assert [tuple(net.weights[f"cells.{p.index}.{name}"].shape) for p in place] == [(n, n, 3, 3) for n in (2, 4, 8)]
    edge, soft = torch.tensor([0.4, 0.6], dtype=DOUBLE), torch.tensor([0.2, 0.5, 0.3], dtype=DOUBLE)
    weights = {c.name: edge if c.count == 2 else soft for c in net.space.choices}
    model, plain = net.at(everything(net.space, weights)), net.at(everything(net.space, {}))
    for index, stride in ((0, 1), (1, 2)):
        own, size = net._places[index].channels, 8
        x = torch.randn(4, own, size, size, generator=torch.Generator().manual_seed(index), dtype=DOUBLE)
        half = own // 2
        options = [net._option(net._places[index], net._edges["normal" if index == 0 else "reduction"][0][1], i)
                   for i in range(3)]  # fmt: skip
        through = sum(w * option(x[:, :half]) for w, option in zip(soft, options, strict=True))
        beside = x[:, half:] if stride == 1 else F.max_pool2d(x[:, half:], 2)
        expected = torch.stack([through, beside], 2).flatten(1, 2)  # channels of both in turn
        found = model.get_submodule(f"cells.{index}.nodes.0.from_1")(x)
        torch.testing.assert_close(found, 0.6 * expected, rtol=0, atol=1e-12)
        bare = torch.stack([sum(option(x[:, :half]) for option in options), beside], 2).flatten(1, 2)
        torch.testing.assert_close(plain.get_submodule(f"cells.{index}.nodes.0.from_1")(x), bare, rtol=0, atol=1e-12)
    single_path = net.at(gumbel(net.space, 1)[2])
    assert single_path(*inputs(net.space)).shape == (4, 3)
    with pytest.raises(RequestError, match="one channel of 2 fit no plain network"):
        net.inherit(members(net.space, 1)[0])
    with pytest.raises(RequestError, match=r"partial=4 leaves one of 4 channels in a cell that halves the resolution"):
        supernet_of(s2(channels=2, cells=2), IMAGES, seed=1, partial=4)
    with pytest.raises(RequestError, match=r"partial=3 does not divide the channels of every cell, \[4, 8, 16\]"):
        supernet_of(darts(), IMAGES, seed=1, partial=3)


def test_a_bypass_adds_the_input_to_every_edge_that_runs() -> None:
    make, settings = SPACES["staged_cells"]
    net = doubled(make(), settings, bypass=True)
    batch = inputs(net.space)
    zeros = {choice.name: Chosen((choice.options.index("zero"),)) for choice in net.space.choices}
    skips = {c.name: Chosen((c.options.index("skip"),), torch.tensor([0.7], dtype=DOUBLE)) for c in net.space.choices}
    torch.testing.assert_close(net.at(zeros, skip=0.7)(*batch), net.at(skips)(*batch), rtol=0, atol=1e-12)
    amount = torch.tensor(0.7, dtype=DOUBLE)
    assert torch.equal(net.at(zeros, skip=amount)(*batch), net.at(zeros, skip=0.7)(*batch))
    member = members(net.space, 1)[0]
    assert torch.equal(net.at(member)(*batch), net.inherit(member)(*batch))

    reducing = doubled(darts(), IMAGES, bypass=True)
    added = reducing.weights.keys() - doubled(darts(), IMAGES).weights.keys()
    assert {tuple(name.split(".")[:6:5]) for name in added} == {("cells", "bypass")}
    # Both reduction cells, three nodes, two inputs of the cell: two convolutions each.
    assert len(added) == 2 * 3 * 2 * 2
    all_edges = everything(reducing.space, {})
    value = loss(reducing.at(all_edges, skip=0.5), *inputs(reducing.space))
    value.backward()
    lent = {p.source: p for p in reducing.at(all_edges, skip=0.5).parameters()}
    assert all(lent[name].grad.abs().max() > 0 for name in added)
    with pytest.raises(RequestError, match="make the supernet with bypass=True"):
        doubled(darts(), IMAGES).at(member, skip=0.1)


def test_initial_weights_follow_from_the_seed() -> None:
    state = torch.get_rng_state()
    drawn = [supernet_of(darts(), IMAGES, seed=seed).weights for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    assert not any(torch.equal(drawn[0][name], drawn[2][name]) for name in drawn[0] if not name.endswith("bias"))
    assert len({weight.flatten()[0].item() for weight in drawn[0].values()}) == len(drawn[0])


def test_a_moved_supernet_lends_the_moved_weights() -> None:
    net = doubled(darts(), IMAGES)
    member = members(net.space, 1)[0]
    before = net.at(member)
    net.weights = {name: weight.clone() for name, weight in net.weights.items()}
    net.to(torch.device("cpu"))
    for parameter in net.at(member).parameters():
        assert parameter.data_ptr() == net.weights[parameter.source].data_ptr()  # type: ignore[attr-defined]
    assert all(parameter.data_ptr() != net.weights[parameter.source].data_ptr() for parameter in before.parameters())  # type: ignore[attr-defined]


def test_the_supernet_of_a_family_and_what_it_cannot_hold() -> None:
    net = supernet_of(darts(), IMAGES, seed=1, backward="stored", partial=2)
    assert net.settings == IMAGES.but(searching=True)
    assert net.partial == 2
    with pytest.raises(RequestError, match="settings need searching=true"):
        CellSupernet(darts(), IMAGES, seed=1)
    cell = chosen_inputs([OPERATORS] * 2, nodes=1)
    wide = Space(ImageCells(channels=one_of(4, 8), cells=3, normal=cell, reduction=cell), "wide")
    with pytest.raises(RequestError, match="the choice channels of the space 'wide' is another: fix it"):
        supernet_of(wide, IMAGES, seed=1)
    with pytest.raises(RequestError, match="not a member of the space"):
        net.at(members(darts((Separable(kernel=5), Skip())), 1)[0])
