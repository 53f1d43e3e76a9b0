"""ROME: the laws of a strategy, what is sampled when, how gradients are gathered, and what is derived."""

from __future__ import annotations

import json
import math
from random import Random
from statistics import mean
from typing import Any

import pytest
import torch
from cell_landscape import SPACE, TASK, TRAINING, WIDER, Hill, Landscape, snapshot, to_the_end
from sealed import Sealed
from torch import Tensor

from nasformer.errors import RequestError, RunError
from nasformer.measures.memory import peak_bytes
from nasformer.models.size import core_parameters
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.cell import chosen_inputs, topologies
from nasformer.spaces.known_cells import s0
from nasformer.spaces.named import dartsformer_small
from nasformer.spaces.sequence_cell import CellDecoderOnly
from nasformer.spaces.sequence_spaces import t0, t2, t3
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import Attention
from nasformer.strategies.bilevel import BilevelSearch
from nasformer.strategies.objective import Objective
from nasformer.strategies.rome import Rome
from nasformer.strategies.rules import Logits
from nasformer.supernets.named import supernet_of
from nasformer.tasks.translation import TranslationTask
from nasformer.training.schedule import Cosine, InverseSquareRoot

ADAM = TRAINING.but(optimizer="adam", schedule=InverseSquareRoot(peak=0.01, warmup=1))
STRATEGY = Rome(training=TRAINING.but(clip=1.0), samples=2, epochs=3, logits=Logits(rate=0.05, betas=(0.5, 0.999)))


def begin(seed: int = 1, space: Space = SPACE, task: Any = TASK, **changes: Any) -> BilevelSearch:
    """A search on a supernet of its own."""
    objective = changes.pop("objective", Objective())
    supernet = supernet_of(space, task.model_settings(Dropout(residual=0.1)), seed=seed)
    return STRATEGY.but(**changes).begin(space, objective, task, supernet, seed)


def on_landscape(
    space: Space = SPACE, seed: int = 1, task: Hill | None = None, **changes: Any
) -> tuple[BilevelSearch, Landscape]:
    """A search without a network."""
    landscape: Any = Landscape(space, seed, torch.get_default_dtype())
    hill: Any = task or Hill()
    return STRATEGY.but(**changes).begin(space, Objective(), hill, landscape, seed), landscape


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["top", "pairs", "all"])
def test_saved_anywhere_and_loaded_it_goes_on_to_the_bit(topology: str) -> None:
    search = begin(topology=topology)
    saved, events = [], []
    while not search.finished():
        saved.append((snapshot(search), len(events)))
        events += [json.dumps(event) for event in search.step().events]
    end = snapshot(search)
    for (tensors, state), seen in saved[1::3]:
        fresh = begin(topology=topology)
        for weight in fresh.supernet.weights.values():
            weight.add_(1.0)
        fresh.load(tensors, json.loads(state))
        assert to_the_end(fresh) == events[seen:]
        assert snapshot(fresh)[1] == end[1]
        assert all(torch.equal(tensor, end[0][name]) for name, tensor in snapshot(fresh)[0].items())
        assert fresh.best() == search.best()


def test_the_same_seed_is_the_same_trajectory_and_the_test_split_stays_shut(tiny_task: TranslationTask) -> None:
    space = t2(dim=8, blocks=1, nodes=2, encoder=True, decoder_layers=1)
    state = torch.get_rng_state()
    made = [(tiny_task, 1), (Sealed(tiny_task), 1), (tiny_task, 2)]
    said = [to_the_end(begin(seed, space, task, training=TRAINING.but(updates=2))) for task, seed in made]
    assert said[0] == said[1] != said[2]
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["top", "pairs"])
def test_it_beats_chance_on_a_toy_landscape(topology: str) -> None:
    better = 0
    for seed in range(4):
        search, landscape = on_landscape(
            SPACE, seed, Hill(seed, noise=0.2), topology=topology, temperature=(1.0, 1.0),
            training=TRAINING.but(updates=40, record_every=40), logits=Logits(rate=0.15, betas=(0.5, 0.999)),
        )  # fmt: skip
        to_the_end(search)
        random = Random(seed)
        others = [landscape.found(SPACE.sample(random)) for _ in range(100)]
        better += landscape.found(search.best()) < sorted(others)[20]  # among the best fifth
    assert better >= 3


def test_what_is_searched_has_the_shape_of_what_is_found() -> None:
    for topology in ("top", "pairs", "all"):
        search, landscape = on_landscape(WIDER, topology=topology)
        search.step()
        for selection in landscape.ran:
            edges = {c.name: len(selection[c.name].options) for c in topologies(WIDER)}
            assert all(number == (2 if topology != "all" else i + 2) for i, number in enumerate(edges.values()))
            ran = list(landscape.running(selection))
            assert len(ran) == sum(edges.values())  # one operator an edge
            assert all(own == weight == 1.0 for _, own, _, weight in ran)


def test_twenty_pairs_or_fourteen_edges_have_logits() -> None:
    space = s0()
    for topology, number in (("pairs", 20), ("top", 14), ("all", 0)):
        search = STRATEGY.but(topology=topology).begin(space, Objective(), Hill(), Landscape(space), 1)  # type: ignore[arg-type]
        sizes = [len(search.logits.get(choice.name, ())) for choice in topologies(space)]
        assert sum(sizes) == 2 * number


def test_every_pass_of_every_half_of_every_update_is_drawn_afresh() -> None:
    search, landscape = on_landscape(t0(dim=8, blocks=1, nodes=4), samples=3)
    drawn = set()
    for update in range(1, 3):
        search.path.updates = update
        for half in ("logits", "weights"):
            for number in range(3):
                for again in range(2):
                    one, same = (search.selection(half, number, again) for _ in range(2))  # type: ignore[arg-type]
                    assert {n: c.options for n, c in one.items()} == {n: c.options for n, c in same.items()}
                    drawn.add(tuple((name, chosen.options) for name, chosen in one.items()))
    assert len(drawn) == 2 * 2 * 3 * 2
    search.path.updates = 0
    search.step()
    ran = [tuple((name, chosen.options) for name, chosen in selection.items()) for selection in landscape.ran]
    assert len(set(ran)) == 6


@pytest.mark.parametrize("order", ["logits_first", "weights_first"])
def test_the_samples_of_a_half_share_a_batch_of_its_part_of_the_data(order: str) -> None:
    task = Hill()
    search, _ = on_landscape(task=task, order=order, samples_weights=3, samples_logits=2)
    search.step()
    weights, logits = [0.101] * 3, [-0.099] * 2
    assert task.met == pytest.approx(logits + weights if order == "logits_first" else weights + logits)


def test_each_half_touches_its_own() -> None:
    search = begin()
    search.path.updates = 1
    before = snapshot(search)[0]
    search._update_logits()
    between = snapshot(search)[0]
    changed = {name for name in before if not torch.equal(before[name], between[name])}
    assert changed == {f"{kind}.{name}" for kind in ("logits", "moments") for name in search.logits}
    search._update_weights()
    after = snapshot(search)[0]
    changed = {name for name in between if not torch.equal(between[name], after[name])}
    assert changed
    assert all(name.startswith(("weights.", "optimizer.")) for name in changed)
    assert all(parameter.grad is None for parameter in search.supernet.at(search.best()).parameters())


@pytest.mark.usefixtures("float64")
def test_a_sum_at_a_rate_is_a_mean_at_as_many_times_the_rate() -> None:
    found = []
    for how, peak in (("sum", 0.01), ("mean", 0.04)):
        training = TRAINING.but(schedule=Cosine(peak=peak))
        search, landscape = on_landscape(training=training, samples=4, gather_weights=how)
        to_the_end(search)
        found.append(landscape.weights)
    assert all(torch.allclose(weight, found[1][name], rtol=1e-10) for name, weight in found[0].items())


@pytest.mark.usefixtures("float64")
def test_the_clip_acts_on_what_was_gathered() -> None:
    found = []
    for how in ("sum", "mean"):
        training = TRAINING.but(updates=1, clip=1e-3)
        search, landscape = on_landscape(training=training, samples=4, gather_weights=how)
        before = {name: weight.clone() for name, weight in landscape.weights.items()}
        search.step()
        moved = torch.cat([weight - before[name] for name, weight in landscape.weights.items()])
        assert math.isclose(float(moved.norm()), 1e-3 * 0.05, rel_tol=1e-3)
        found.append(moved)
    assert torch.allclose(found[0], found[1], rtol=0, atol=1e-10)  # the direction is the same, and both are cut


@pytest.mark.usefixtures("float64")
def test_adam_does_not_see_whether_gradients_are_summed_or_averaged() -> None:
    found = []
    for how in ("sum", "mean"):
        search, landscape = on_landscape(training=ADAM, samples=4, gather_weights=how)
        to_the_end(search)
        found.append(landscape.weights)
    assert all(torch.allclose(weight, found[1][name], rtol=0, atol=1e-8) for name, weight in found[0].items())


@pytest.mark.slow
def test_the_scatter_of_the_logits_gradient_falls_as_one_over_the_samples() -> None:
    found = []
    for samples in (1, 5):
        search, _ = on_landscape(samples=samples, temperature=(1.0, 1.0))
        place, met = search.stream.state_dict(), []
        given: dict[str, Tensor] = {}
        search._adam = given.__setitem__  # type: ignore[method-assign, assignment]  # the logits stay, so do weights and batch
        for update in range(1, 201):
            search.path.updates = update
            search.stream.load_state_dict(place)
            search._update_logits()
            met.append(torch.cat([given[name] for name in search.logits]))
        found.append(math.log(float(torch.stack(met).double().var(0).sum())))
    assert abs((found[1] - found[0]) / math.log(5) + 1) < 0.1


@pytest.mark.parametrize(("topology", "expected"), [("top", {1: 0.082, 4: 0.285}), ("all", {1: 0.143, 4: 0.460})])
def test_what_share_of_operators_an_update_trains(topology: str, expected: dict[int, float]) -> None:
    space = s0()
    for samples, share in expected.items():
        search, _ = on_landscape(space, topology=topology, samples=1, logits=Logits(spread=0.0))
        assert search.watch is not None
        for update in range(1, 31):
            search.path.updates = update
            search.watch.trained([search.selection("weights", number) for number in range(samples)])
        shares = [value for edge in search.watch.shares().values() for value in edge.values()]
        assert abs(mean(shares) - share) < 0.02


def test_the_temperature_falls_by_epochs() -> None:
    search, _ = on_landscape(training=TRAINING.but(updates=10), epochs=4, temperature=(10.0, 1.0))
    found = []
    for update in range(1, 11):
        search.path.updates = update
        found.append((search.moment.epoch, search.moment.between(10.0, 1.0), search.moment.ends_epoch))
    assert [epoch for epoch, _, _ in found] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert {temperature for _, temperature, _ in found} == {10.0, 7.0, 4.0, 1.0}
    assert [update for update, (_, _, ends) in enumerate(found, 1) if ends] == [3, 5, 8, 10]
    search, _ = on_landscape(training=TRAINING.but(updates=3), epochs=50)
    search.path.updates = 3
    assert search.moment.between(10.0, 0.1) == pytest.approx(0.1)  # with fewer updates than epochs, too


def _set(search: BilevelSearch, edges: list[float] | None, operators: dict[int, list[float]], node: int = 1) -> None:
    """Logits of the edges of one node, and of the operators on them."""
    place = f"cell.nodes.{node}.edges"
    for logits in search.logits.values():
        logits.zero_()
    if edges is not None:
        search.logits[place][:] = torch.tensor(edges)
    for source, values in operators.items():
        search.logits[f"{place}.from_{source}.operator"][:] = torch.tensor(values)


def _node(member: Any, node: int = 1) -> list[tuple[int, str]]:
    return [(edge.source, edge.operator.kind) for edge in member.cell.nodes[node].edges]


def test_edges_are_taken_by_their_own_logits_or_jointly() -> None:
    search, _ = on_landscape()
    _set(search, [0.3, 0.2, 0.0], {0: [5.0, 0.0], 1: [0.0, 0.1], 2: [0.0, 5.0]})
    assert _node(search.best()) == [(0, "skip"), (1, "attention")]
    assert _node(search.best(derive="joint")) == [(0, "skip"), (2, "attention")]
    pairs, _ = on_landscape(topology="pairs")
    _set(pairs, [0.0, 0.3, 0.1], {0: [5.0, 0.0], 1: [5.0, 0.0]})  # the pairs 01, 02, 12
    assert [source for source, _ in _node(pairs.best())] == [0, 2]
    assert [source for source, _ in _node(pairs.best(derive="joint"))] == [0, 1]
    every, _ = on_landscape(topology="all")
    _set(every, None, {0: [5.0, 4.9], 1: [0.5, 0.0], 2: [0.0, 1.0]})
    # the two largest (edge, operator) pairs could both be of one edge; each edge is taken once, by its best operator
    assert _node(every.best()) == [(1, "skip"), (2, "attention")]
    assert every.rules.edges(every.logits) == {}


def test_zero_is_refused_or_passed_over_in_the_end() -> None:
    space = t3(dim=8, blocks=1, nodes=2)
    with pytest.raises(RequestError, match=r"from_0 may be zero in the space 't3'.*strategy\.zero=search_only"):
        on_landscape(space)
    search, landscape = on_landscape(space, zero="search_only", samples=9)
    search.step()
    kinds = {edge.operators[option].kind for run in landscape.ran for edge, _, option, _ in landscape.running(run)}
    assert "zero" in kinds
    for logits in search.logits.values():
        logits[:] = torch.arange(len(logits), 0, -1)  # zero comes first
    assert {edge.operator.kind for node in search.best().cell.nodes for edge in node.edges} == {"skip"}


def test_what_is_derived_is_within_the_limits() -> None:
    space = t0(dim=8, blocks=1, nodes=2)
    free = begin(space=space)
    for logits in free.logits.values():
        logits[:] = torch.linspace(0, 1, len(logits))
    largest = core_parameters(free.best())
    for limit in (largest - 100, largest // 2):
        bound = begin(space=space, objective=Objective(max_core_parameters=limit))
        for name, logits in free.logits.items():
            bound.logits[name].copy_(logits)
        assert limit * 0.7 < core_parameters(bound.best()) <= limit


@pytest.mark.parametrize(
    ("space", "changes", "said"),
    [
        (dartsformer_small(), {}, "has none: expected a space of cells"),
        (SPACE, {"objective": Objective(max_core_parameters=9, penalty=2.0)}, "has nothing to be added to"),
    ],
)
def test_what_it_cannot_search_is_refused(space: Space, changes: dict[str, Any], said: str) -> None:
    objective = changes.pop("objective", Objective())
    with pytest.raises(RequestError, match=said):
        STRATEGY.begin(space, objective, TASK, None, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("call", [5, 8], ids=["logits", "weights"])
def test_a_loss_that_is_no_number_is_drawn_again(call: int) -> None:
    search, landscape = on_landscape(task=Hill(broken=frozenset({call})))
    to_the_end(search)
    assert search.rewound == 0
    assert len(landscape.ran) > 6 * 4
    assert all(bool(weight.isfinite().all()) for weight in landscape.weights.values())
    assert search.watch is not None
    assert search.watch.updates == 6
    assert sum(map(sum, search.watch.passes.values())) == 6 * 2 * 4  # what failed is not counted


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_no_number_is_drawn_again(clip: float | None) -> None:
    search, landscape = on_landscape(task=Hill(steep=frozenset({8})), training=TRAINING.but(clip=clip))
    events = [json.loads(event) for event in to_the_end(search)]
    assert [fields for name, fields in events if name == "redrawn"] == [{"update": 2, "half": "weights", "tries": 1}]
    assert search.rewound == 0
    assert all(bool(weight.isfinite().all()) for weight in landscape.weights.values())


def test_weights_that_are_no_numbers_rewind_though_they_do_not_run() -> None:
    twin, told = on_landscape(t0(dim=8, blocks=1, nodes=2))
    twin.step()
    told.ran.clear()
    twin.step()
    ran = {f"{edge.name}.{option}" for selection in told.ran for edge, _, option, _ in told.running(selection)}
    search, landscape = on_landscape(t0(dim=8, blocks=1, nodes=2))
    search.step()
    landscape.weights[next(name for name in landscape.weights if name not in ran)].fill_(math.nan)
    assert search.step().events == (("rewound", {"update": 2, "to": 0, "slower": 0.5}),)
    assert all(bool(weight.isfinite().all()) for weight in landscape.weights.values())


def test_a_loss_that_stays_no_number_rewinds_and_then_ends_with_a_reason() -> None:
    search, _ = on_landscape(task=Hill(broken=frozenset(range(9, 18))))
    events = [json.loads(event) for event in to_the_end(search)]
    rewound = [fields for name, fields in events if name == "rewound"]
    assert rewound[0] == {"update": 3, "to": 2, "slower": 0.5}
    assert search.path.updates == 6
    search, _ = on_landscape(task=Hill(broken=frozenset(range(9, 999))), rewinds=2)
    with pytest.raises(RunError, match="no number 3 times"):
        to_the_end(search)


def test_logits_that_are_no_numbers_rewind() -> None:
    search, _ = on_landscape()
    search.step()
    search.step()
    search.logits["cell.nodes.0.edges.from_0.operator"][0] = math.nan
    (event,) = search.step().events
    assert event == ("rewound", {"update": 3, "to": 2, "slower": 0.5})
    assert all(bool(logits.isfinite().all()) for logits in search.logits.values())


def test_what_is_journalled_of_a_search_of_cells() -> None:
    search = begin()
    events = [json.loads(event) for event in to_the_end(search)]
    names = [name for name, _ in events]
    assert names.count("cells") == 3
    told = [fields for name, fields in events if name == "cells"]
    assert [(fields["epoch"], fields["update"]) for fields in told] == [(1, 2), (2, 4), (3, 6)]
    assert all(fields["gradient_variance"] > 0 and 0 < fields["coverage"] < 1 for fields in told)
    assert told[0]["cells"]["cell"]["edges"] == 4
    selection = next(fields for name, fields in events if name == "selection")
    assert selection["edges"]["cell.nodes.0.edges"] == pytest.approx({"from_0": 1.0, "from_1": 1.0})
    assert math.isclose(sum(selection["edges"]["cell.nodes.1.edges"].values()), 2, rel_tol=1e-5)
    (derived,) = [fields for name, fields in events if name == "derived"]
    assert derived.keys() == {"topology", "joint"}


@pytest.mark.slow
def test_the_memory_of_an_update_does_not_grow_with_the_samples() -> None:
    cell = chosen_inputs(((Attention(heads=2), Attention(heads=4)),) * 14)  # alike in memory
    space = Space(CellDecoderOnly(dim=8, blocks=2, cell=cell), "attentions")
    peaks = {}
    for topology, samples in (("top", 1), ("top", 4), ("all", 1)):
        search = begin(space=space, topology=topology, samples=samples, training=TRAINING.but(batch_tokens=512))
        search.step()
        search.path.updates, search._batch = 2, None
        peaks[topology, samples] = peak_bytes(search._update_weights)
    weights = sum(4 * weight.numel() for weight in search.supernet.weights.values())
    assert weights < 0.2 * peaks["top", 1]
    # what is more are gradients of more operators, and what the optimiser makes of them
    assert peaks["top", 4] - peaks["top", 1] < 2 * weights
    assert 8 / 14 < peaks["top", 1] / peaks["all", 1] < 1


@pytest.mark.parametrize("change", [{"derive": "joint"}, {"zero": "search_only"}], ids=str)
def test_what_does_nothing_without_logits_of_edges_is_refused(change: Any) -> None:
    with pytest.raises(RequestError, match="with topology=all edges have no logits of their own"):
        Rome(topology="all", **change)
