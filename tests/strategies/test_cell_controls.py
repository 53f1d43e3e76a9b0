"""What stands beside ROME on the same supernet: DARTS in both orders, GDAS, PC-DARTS, DARTS−, early stopping, uniform
single paths and random search."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from cell_landscape import SPACE, TASK, TRAINING, WIDER, Hill, HillBatch, Landscape, snapshot, to_the_end
from sealed import Sealed
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from nasformer.commands.console import derived
from nasformer.errors import RequestError
from nasformer.models.image_cell import ImageSettings
from nasformer.operators.catalogue import Dropout
from nasformer.operators.depthwise import depthwise
from nasformer.spaces.cell import topologies
from nasformer.spaces.known_cells import nasbench201, s2
from nasformer.spaces.named import dartsformer_small
from nasformer.spaces.sequence_spaces import t0, t2, t3
from nasformer.spaces.space import Space
from nasformer.strategies.darts import Darts, Softmax, mixture
from nasformer.strategies.darts_minus import DartsMinus
from nasformer.strategies.early_stopping import EarlyStopping, dominant_eigenvalue, moving_means
from nasformer.strategies.gdas import Gdas
from nasformer.strategies.objective import Objective
from nasformer.strategies.pc_darts import PcDarts
from nasformer.strategies.random_search import RandomSearch
from nasformer.strategies.rome import Rome
from nasformer.strategies.rules import CELL_LOGITS, Logits, Moment
from nasformer.strategies.shrinknas import Exploration, ShrinkNas
from nasformer.strategies.spos import spos
from nasformer.strategies.unrolled import looked_ahead, loss_with
from nasformer.supernets.named import supernet_of
from nasformer.supernets.selection import Chosen
from nasformer.tasks.cross_entropy import cross_entropy
from nasformer.tasks.translation import TranslationTask

SHORT = TRAINING.but(updates=4)
FAST = Logits(rate=0.05, betas=(0.5, 0.999))
STRATEGIES: dict[str, Any] = {
    "darts": Darts(training=SHORT, logits=FAST, epochs=2),
    "second_order": Darts(training=SHORT, logits=FAST, epochs=2, second_order=True, backward="stored"),
    "gdas": Gdas(training=SHORT, logits=FAST, epochs=2),
    "darts_minus": DartsMinus(training=SHORT, logits=FAST, epochs=2),
    "pc_darts": PcDarts(training=SHORT, logits=FAST, epochs=2, partial=1),
    "early_stopping": EarlyStopping(darts=Darts(training=SHORT, logits=FAST, epochs=2), every=2),
}


def begin(name: str, seed: int = 1, space: Space = SPACE, task: Any = TASK) -> Any:
    """A search on a supernet of its own."""
    strategy = STRATEGIES[name]
    supernet = supernet_of(space, task.model_settings(Dropout(residual=0.1)), seed=seed, **strategy.ways)
    return strategy.begin(space, Objective(), task, supernet, seed)


def on_landscape(strategy: Any, space: Space = SPACE, task: Hill | None = None, **how: Any) -> tuple[Any, Landscape]:
    """A search without a network."""
    landscape = Landscape(space, **how)
    return strategy.begin(space, Objective(), task or Hill(), landscape, 1), landscape


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_the_laws_of_a_strategy_hold(name: str) -> None:
    search = begin(name)
    events = [json.dumps(event) for event in search.step().events]
    tensors, state = snapshot(search)
    rest = to_the_end(search)
    fresh = begin(name)
    fresh.load(tensors, json.loads(state))
    assert to_the_end(fresh) == rest  # resumed
    assert all(torch.equal(tensor, fresh.tensors()[key]) for key, tensor in search.tensors().items())
    assert to_the_end(begin(name)) == events + rest != to_the_end(begin(name, seed=2))  # a function of the seed
    assert search.best() == fresh.best()
    assert search.best() in SPACE
    (ways,) = [fields for event, fields in map(json.loads, rest) if event == "derived"]
    assert derived(ways).startswith("derived ")  # can be told to a person


@pytest.mark.slow
@pytest.mark.parametrize("name", ["darts", "early_stopping"])
def test_the_test_split_stays_shut(tiny_task: TranslationTask, name: str) -> None:
    space = t2(dim=8, blocks=1, nodes=2, encoder=True, decoder_layers=1)
    said = [to_the_end(begin(name, 1, space, task)) for task in (tiny_task, Sealed(tiny_task))]
    assert said[0] == said[1]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [Darts(), Gdas(), DartsMinus(), PcDarts(partial=1)], ids=lambda s: s.kind)
def test_a_control_beats_chance_on_a_toy_landscape(strategy: Any) -> None:
    training = TRAINING.but(updates=30, record_every=30)
    better = 0
    for seed in range(3):
        search, landscape = on_landscape(
            strategy.but(training=training, logits=FAST.but(rate=0.2)), task=Hill(seed, noise=0.2), seed=seed
        )
        to_the_end(search)
        members = [landscape.found(member) for member in SPACE.members()]
        better += landscape.found(search.best()) < sum(members) / len(members)
    assert better >= 3


@pytest.mark.parametrize("name", ["darts", "darts_minus", "pc_darts", "gdas"])
def test_the_halves_of_an_update_come_in_the_order_of_the_released_code(name: str) -> None:
    task = Hill()
    strategy = STRATEGIES[name].but(**{"resting": 0.0} if name == "pc_darts" else {})
    search, _ = on_landscape(strategy, task=task)
    search.step()
    weights, logits = 0.101, -0.099
    assert task.met == pytest.approx([weights, logits] if name == "gdas" else [logits, weights])


def test_gdas_is_rome_without_its_two_ideas() -> None:
    gdas, _ = on_landscape(STRATEGIES["gdas"], WIDER)
    rome = Rome(training=SHORT, logits=FAST, epochs=2, topology="all", samples=1, order="weights_first")
    other, _ = on_landscape(rome, WIDER)
    assert to_the_end(gdas) == to_the_end(other)
    assert gdas.best() == other.best()


def test_darts_runs_everything_and_keeps_the_edges_with_the_likeliest_operators() -> None:
    search, landscape = on_landscape(STRATEGIES["darts"], t3(dim=8, blocks=1, nodes=2))
    search.step()
    for selection in landscape.ran:
        assert all(selection[c.name].weights is None for c in topologies(search.space))
        assert len(list(landscape.running(selection))) == 5 * 3
    place = "cell.nodes.1.edges"
    for source, values in enumerate([[0.0, 0.2, 0.1], [9.0, 0.0, 0.1], [0.0, 0.0, 3.0]]):  # zero, skip, attention
        search.logits[f"{place}.from_{source}.operator"][:] = torch.tensor(values)
    kept = [(edge.source, edge.operator.kind) for edge in search.best().cell.nodes[1].edges]
    assert kept == [(0, "skip"), (2, "attention")]  # an edge that is mostly zero is not kept
    assert kept == [(e.source, e.operator.kind) for e in search.best(zero=True).cell.nodes[1].edges]


def test_zero_may_be_kept_where_edges_are_given() -> None:
    space = nasbench201(channels=4, cells=1)
    search, _ = on_landscape(STRATEGIES["darts"], space)
    for logits in search.logits.values():
        logits[:] = torch.tensor([2.0, 1.0, 0.0, 0.0, 0.0])
    kinds = {z: {e.operator.kind for n in search.best(zero=z).cell.nodes for e in n.edges} for z in (True, False)}
    assert kinds == {True: {"zero"}, False: {"skip"}}


@pytest.mark.parametrize("name", ["darts", "darts_minus", "gdas", "pc_darts", "rome"])
def test_all_derive_from_the_same_cells(name: str) -> None:
    strategy = STRATEGIES.get(name, Rome(training=SHORT, logits=FAST, zero="search_only"))
    for space, kept in ((nasbench201(channels=4, cells=1), True), (t3(dim=8, blocks=1, nodes=2), False)):
        search, _ = on_landscape(strategy, space)
        for logits in search.logits.values():
            logits[:] = torch.linspace(1, 0, len(logits))
        kinds = {edge.operator.kind for node in search.best().cell.nodes for edge in node.edges}
        assert ("zero" in kinds) == kept


@pytest.mark.parametrize("name", ["darts", "darts_minus", "gdas", "pc_darts"])
def test_logits_rest_at_first(name: str) -> None:
    strategy = STRATEGIES[name].but(training=TRAINING.but(updates=10), resting=0.3)
    search, landscape = on_landscape(strategy)
    before = {name: logits.clone() for name, logits in search.logits.items()}
    for update in range(1, 5):
        search.step()
        moved = {choice for choice, logits in search.logits.items() if not torch.equal(before[choice], logits)}
        assert moved == (set() if update <= 3 else set(search.logits))
    assert len(landscape.ran) == 3 + 2
    step = max(float((logits - before[choice]).abs().max()) for choice, logits in search.logits.items())
    assert step == pytest.approx(FAST.rate, rel=1e-2)  # the first step of Adam, as if nothing had gone before


def test_pc_darts_ranks_edges_by_both() -> None:
    search, landscape = on_landscape(STRATEGIES["pc_darts"])
    search.step()
    shares = landscape.ran[0]["cell.nodes.1.edges"].weights
    assert shares is not None
    assert math.isclose(float(shares.sum()), 1, rel_tol=1e-5)
    place = "cell.nodes.1.edges"
    search.logits[place][:] = torch.tensor([0.0, 0.5, 1.0])
    for source, values in enumerate([[9.0, 0.0], [0.2, 0.0], [0.0, 0.0]]):
        search.logits[f"{place}.from_{source}.operator"][:] = torch.tensor(values)
    products = [p * q for p, q in zip([0.19, 0.31, 0.51], [1.0, 0.55, 0.5], strict=True)]
    assert sorted(range(3), key=products.__getitem__)[1:] == [0, 2]
    assert [edge.source for edge in search.best().cell.nodes[1].edges] == [0, 2]


def test_pc_darts_searches_images_on_a_part_of_the_channels() -> None:
    space = s2(channels=8, cells=3)
    strategy = STRATEGIES["pc_darts"].but(partial=4, resting=0.0)
    settings = ImageSettings(classes=3, size=8)
    plain = supernet_of(space, settings, seed=1)
    with pytest.raises(RequestError, match=r"strategy\.partial=4 needs a supernet made with it, got one with 1"):
        strategy.begin(space, Objective(), _Pictures(), plain, 1)
    supernet = supernet_of(space, settings, seed=1, **strategy.ways)
    search = strategy.begin(space, Objective(), _Pictures(), supernet, 1)
    before = {name: logits.clone() for name, logits in search.logits.items()}
    search.step()
    assert all(not torch.equal(before[name], logits) for name, logits in search.logits.items())


def test_the_eigenvalue_is_had_where_the_network_has_no_normal_cell() -> None:
    space, settings = s2(channels=4, cells=2), ImageSettings(classes=3, size=8)
    strategy = STRATEGIES["early_stopping"].but(every=1)
    search = strategy.begin(space, Objective(), _Pictures(), supernet_of(space, settings, seed=1), 1)
    events = dict(search.step().events)
    assert math.isfinite(events["eigenvalue"]["eigenvalue"])


def test_the_extra_skip_of_darts_minus_fades() -> None:
    strategy = STRATEGIES["darts_minus"].but(training=TRAINING.but(updates=5), epochs=5)
    search, landscape = on_landscape(strategy)
    to_the_end(search)
    assert landscape.skips == pytest.approx([1, 1, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25, 0, 0])
    supernet = supernet_of(SPACE, TASK.model_settings(Dropout()), seed=1)
    with pytest.raises(RequestError, match="bypass=true"):
        strategy.begin(SPACE, Objective(), TASK, supernet, 1)


def _numeric(search: Any, landscape: Landscape, name: str, option: int, eps: float = 1e-4) -> float:
    """The slope of the loss after the weights' step in one logit, by brute force."""
    found = []
    saved = {key: weight.clone() for key, weight in landscape.weights.items()}
    optimizer, path = search.path.optimizer, search.path
    for sign in (1, -1):
        logits = {key: value.clone() for key, value in search.logits.items()}
        logits[name][option] += sign * eps
        selection = search.selection("logits", 0, 0, logits)
        weights = {key: weight.clone().requires_grad_() for key, weight in saved.items()}
        for key, parameter in landscape.parameters.items():
            parameter.data = weights[key].detach()
        model: Any = landscape.at(selection)
        loss = model.value(search.weights_batch().shift)
        named = landscape.parameters
        gradients = torch.autograd.grad(loss, list(named.values()))
        rate = path.training.rate(path.updates)
        for (key, parameter), gradient in zip(named.items(), gradients, strict=True):
            step = gradient + optimizer.momentum * optimizer.velocity[key] + optimizer.weight_decay * saved[key]
            parameter.data = saved[key] - rate * step
        found.append(float(landscape.at(selection).value(-0.2).detach()))  # type: ignore[operator]
    for key, parameter in landscape.parameters.items():
        parameter.data = landscape.weights[key]
    return (found[0] - found[1]) / (2 * eps)


def test_the_second_order_is_the_slope_of_the_loss_after_the_weights_step() -> None:
    training = SHORT.but(weight_decay=0.1, record_every=1)
    strategy = STRATEGIES["second_order"].but(training=training)
    search, landscape = on_landscape(strategy, dtype=torch.float64)
    for name in search.logits:
        search.logits[name] = search.logits[name].double()
        search.moments[name] = search.moments[name].double()
    search.step()  # so that there is momentum
    search.path.updates, search._batch = 2, None
    _, exact = search._differentiate(HillBatch(-0.2), 0, 0)
    first, _ = on_landscape(STRATEGIES["darts"], dtype=torch.float64)
    assert first.unrolled is None
    for name, option in (("cell.nodes.0.edges.from_0.operator", 0), ("cell.nodes.1.edges.from_2.operator", 1)):
        slope = _numeric(search, landscape, name, option)
        assert math.isclose(float(exact[name][option]), slope, rel_tol=1e-6, abs_tol=1e-9)
    plain = _first_order(search, landscape)
    assert any(not torch.allclose(exact[name], plain[name], rtol=1e-2) for name in exact)


def _first_order(search: Any, landscape: Landscape) -> dict[str, Tensor]:
    search.unrolled = None
    return search._differentiate(HillBatch(-0.2), 0, 0)[1]  # type: ignore[no-any-return]


def test_the_second_order_shares_the_weights_batch_and_goes_first() -> None:
    task = Hill()
    search, _ = on_landscape(STRATEGIES["second_order"], task=task)
    search.step()
    assert task.met == pytest.approx([0.101, -0.099, 0.101])  # ahead, the logits' loss there, the step itself


def test_a_second_order_that_cannot_be_had_is_refused(tiny_task: TranslationTask) -> None:
    space = dartsformer_small(dim=24)
    strategy = STRATEGIES["second_order"].but(backward="rebuilt")
    supernet = supernet_of(space, tiny_task.model_settings(Dropout()), seed=1, **strategy.ways)
    with pytest.raises(RequestError, match="backward=stored"):
        strategy.begin(space, Objective(), tiny_task, supernet, 1)


def test_lanczos_finds_the_largest_eigenvalue() -> None:
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(40, 40, generator=generator)
    matrix = (matrix + matrix.T) / 2
    for size, iterations in ((12, 24), (40, 24)):
        part = matrix[:size, :size]
        found = dominant_eigenvalue(lambda vector, part=part: part @ vector, size, generator, iterations)  # type: ignore[misc]
        assert math.isclose(found, float(torch.linalg.eigvalsh(part)[-1]), rel_tol=1e-3)


def test_the_eigenvalue_is_that_of_the_hessian_of_the_logits() -> None:
    search, landscape = on_landscape(STRATEGIES["early_stopping"])
    names = list(search.search.logits)
    sizes = [len(search.search.logits[name]) for name in names]

    def loss(flat: Tensor) -> Tensor:
        logits = dict(zip(names, flat.split(sizes), strict=True))
        selection = {c.name: Chosen(tuple(range(len(c.options)))) for c in topologies(SPACE)}
        selection |= {name: Chosen(tuple(range(len(t))), t.softmax(0)) for name, t in logits.items()}
        return landscape.at(selection).value(-0.099)  # type: ignore[operator,no-any-return]

    hessian = torch.autograd.functional.hessian(loss, torch.cat([search.search.logits[name] for name in names]))
    assert math.isclose(search._eigenvalue(1), float(torch.linalg.eigvalsh(hessian)[-1]), rel_tol=1e-3)  # type: ignore[arg-type]


def test_a_search_stops_where_the_eigenvalue_grows_and_gives_back_the_earlier_cell() -> None:
    assert moving_means([1, 2, 3, 4], 3) == [2, 3]
    darts = Darts(training=TRAINING.but(updates=40), logits=FAST, epochs=2)
    strategy = EarlyStopping(darts=darts, every=1, window=2, back=2, not_before=0)
    search, _ = on_landscape(strategy)
    values = iter([1.0] * 9 + [2.0] * 30)
    search._eigenvalue = lambda update: next(values)
    seen = []
    while not search.finished():
        seen.append((search.search.best(), search.step().events))
    measured = [fields for _, events in seen for name, fields in events if name == "eigenvalue"]
    assert len(measured) == 10  # mean (1 + 2) / 2 > 1.3
    assert measured[-1]["taken"] == 7  # the middle of the window that ends at 8
    assert [name for name, _ in seen[-1][1]][-1] == "derived"
    kept = {name: logits.clone() for name, logits in search.search.logits.items()}
    search._put(search.kept[6])
    earlier = search.search.best()
    search._put(kept)
    assert search.best() == earlier
    early = EarlyStopping(darts=darts, every=1, window=2, back=2, not_before=0.4)
    search, _ = on_landscape(early)
    values = iter([1.0] * 9 + [2.0] * 10 + [4.0] * 30)
    search._eigenvalue = lambda update: next(values)
    while not search.finished():
        search.step()
    assert search.search.path.updates == 20  # what came before the first rise is too early
    assert search.measured[search.settings.taken] == 17


def test_what_may_be_taken_is_late_enough() -> None:
    darts = Darts(training=TRAINING.but(updates=40), logits=FAST, epochs=2)
    for earliest, last in ((7, 10), (8, 11), (9, 40)):
        strategy = EarlyStopping(darts=darts, every=1, window=2, back=2, not_before=earliest / 40)
        search, _ = on_landscape(strategy)
        values = iter([1.0] * 9 + [2.0, *[1.0] * 30])
        search._eigenvalue = lambda update, values=values: next(values)
        while not search.finished():
            search.step()
        assert search.search.path.updates == last


def test_what_the_eigenvalue_cannot_tell_stops_nothing() -> None:
    darts = Darts(training=TRAINING.but(updates=8), logits=FAST, epochs=2)
    strategy = EarlyStopping(darts=darts, every=1, window=1, back=1, not_before=0.0)
    search, landscape = on_landscape(strategy)
    landscape.weights["cell.nodes.0.from_0.0"].fill_(math.nan)  # as an update whose gradients overflow leaves it
    assert search._measure(1) == {"update": 1, "eigenvalue": None, "mean": None, "ratio": None}
    search, _ = on_landscape(strategy)
    values = iter([-1.0, -2.0, -4.0, 0.0, 5.0, 5.0, 5.0, 5.0])  # a mean that is not positive has no ratio
    search._eigenvalue = lambda update: next(values)
    to_the_end(search)
    assert not search.stopped
    search, _ = on_landscape(strategy, task=Hill(broken=frozenset({1})))
    (event,) = search.step().events
    assert event == ("rewound", {"update": 1, "to": 0, "slower": 0.5})
    assert search.measured == []  # nothing is measured before the first update


def test_uniform_single_paths_and_random_search_run_on_cells() -> None:
    exploration = Exploration(members=4, iterations=2, first_ranking=4, validation_tokens=32)
    like = ShrinkNas(training=SHORT, rounds=2, exploration=exploration, divergence_members=0)
    supernet = supernet_of(SPACE, TASK.model_settings(Dropout()), seed=1)
    task: Any = TASK
    search = spos(like).begin(SPACE, Objective(), task, supernet, 1)
    while not search.finished():
        search.step()
    assert search.best() in SPACE
    random = RandomSearch(evaluations=6, validation_tokens=32).begin(SPACE, Objective(), search.path, 1)
    while not random.finished():
        (_, fields), *_ = random.step().events or [("", {})]
    assert random.best() in SPACE
    assert fields["members"] == 6


def test_the_settings_of_cells() -> None:
    assert (CELL_LOGITS.rate, CELL_LOGITS.betas, CELL_LOGITS.weight_decay, CELL_LOGITS.spread) == (
        3e-4,
        (0.5, 0.999),
        1e-3,
        1e-3,
    )
    published = (Rome(), Gdas(), DartsMinus(), EarlyStopping().darts)
    assert all((strategy.logits, strategy.weight_part) == (CELL_LOGITS, 0.5) for strategy in published)
    assert Rome().samples == 7
    assert PcDarts().logits.rate == 6e-4


class _Pictures:
    """A task of noise in place of images."""

    def stream(self, tokens: int, seed: int, part: tuple[float, float] = (0.0, 1.0)) -> Any:
        """Batches."""
        return _Noise(seed)

    def loss(self, model: Any, batch: Any) -> Tensor:
        """Cross-entropy."""
        return torch.nn.functional.cross_entropy(model(batch.images), batch.classes)


class _Noise:
    tokens = 4

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.randn(4, 3, 8, 8, generator=generator)
        self.classes = torch.randint(3, (4,), generator=generator)

    def next(self) -> _Noise:
        return self

    def to(self, device: Any) -> _Noise:
        return self

    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        pass


def test_what_cells_are_made_of_can_be_differentiated_twice() -> None:
    generator = torch.Generator().manual_seed(1)
    x, taps, logits = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((2, 5, 3), (3, 3), (4, 6))
    )
    target = torch.tensor([0, 2, 5, 1])
    assert torch.autograd.gradgradcheck(depthwise, (x, taps))
    for smoothing in (0.0, 0.1):
        assert torch.autograd.gradgradcheck(
            lambda y, s=smoothing: cross_entropy(y, target, smoothing=s, ignore=0), (logits,)
        )
    assert torch.autograd.gradgradcheck(
        lambda y: mixture({"y": y})["y"].weights, (logits[0].detach().requires_grad_(),)
    )


@pytest.mark.slow
def test_the_second_order_is_exact_on_a_network_of_all_operators() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        space = t0(dim=8, blocks=1, nodes=2)
        supernet = supernet_of(space, TASK.model_settings(Dropout(residual=0.0)), seed=1)
        supernet.weights = {name: weight.double() for name, weight in supernet.weights.items()}
        stream, rules = TASK.stream(32, 1), Softmax(Darts(), space)
        batches, supernet = (stream.next(), stream.next()), supernet.to(torch.device("cpu"))

        def ahead(logits: dict[str, Tensor]) -> Tensor:
            with sdpa_kernel(SDPBackend.MATH):
                model = rules.lend(supernet, mixture(logits) | rules._edges, Moment(1, 1, 1))
                weights = looked_ahead(model, TASK.loss(model, batches[0]), 0.1)
                return loss_with(TASK, model, weights, batches[1])

        leaves = {name: torch.linspace(-0.3, 0.3, size, requires_grad=True) for name, size in rules.sizes.items()}
        exact = torch.autograd.grad(ahead(leaves), list(leaves.values()))
        for (name, leaf), slope in list(zip(leaves.items(), exact, strict=True))[::2]:
            for option in (0, len(leaf) - 2):
                step = 1e-6 * torch.nn.functional.one_hot(torch.tensor(option), len(leaf))
                values = [float(ahead(leaves | {name: leaf + sign * step}).detach()) for sign in (1, -1)]
                assert math.isclose(float(slope[option]), (values[0] - values[1]) / 2e-6, abs_tol=1e-8)
    finally:
        torch.set_default_dtype(torch.float32)
