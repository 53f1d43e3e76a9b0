"""Differentiable search: what each update may touch, resumption, derivation, trouble, and better than chance."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from sealed import Sealed
from torch import Tensor, nn

from nasformer.errors import RequestError, RunError
from nasformer.models.size import core_parameters
from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.named import darts_transformer, dartsformer, shrinknas_small
from nasformer.spaces.open import one_of
from nasformer.spaces.reversible import ReversibleLayer
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import Attention, Convolution, CrossAttention, FeedForward, Identity, Zero
from nasformer.strategies.bilevel import BilevelSearch
from nasformer.strategies.darts import Darts
from nasformer.strategies.objective import Objective
from nasformer.strategies.rules import Logits
from nasformer.strategies.shrinknas import Exploration, ShrinkNas
from nasformer.supernets.named import supernet_of
from nasformer.supernets.selection import softmax
from nasformer.tasks.batching import part_of
from nasformer.tasks.translation import TranslationTask
from nasformer.training.randomness import seeded
from nasformer.training.schedule import InverseSquareRoot
from nasformer.training.trainer import Training


def _few(*, heads: int, cross: bool) -> tuple[Any, ...]:
    more = (CrossAttention(heads=heads),) if cross else ()
    return (Convolution(kernel=3), Convolution(kernel=5), Attention(heads=heads), *more, Zero(), Identity())


SPACE = dartsformer(dim=24, embedding_dim=8, searched=1, depth=2, heads=2, operators=_few)
PLAIN = darts_transformer(dim=8, layers=2, heads=2, ratio=1.0, operators=_few)
STRATEGY = Darts(
    training=Training(updates=6, batch_tokens=96, record_every=2, schedule=InverseSquareRoot(peak=1e-2, warmup=2)),
    logits=Logits(rate=0.05),
)


def begin(
    task: Any, seed: int = 1, space: Space = SPACE, objective: Objective = Objective(), **changes: Any
) -> BilevelSearch:
    """A search on its own supernet."""
    strategy = STRATEGY.but(**changes)
    ways = {"backward": strategy.backward} if space is SPACE else {}
    supernet = supernet_of(space, task.model_settings(Dropout()), seed=seed, **ways)
    return strategy.begin(space, objective, task, supernet, seed)


def snapshot(search: BilevelSearch) -> tuple[dict[str, Tensor], str]:
    """Everything that a checkpoint keeps, copied."""
    return {name: tensor.clone() for name, tensor in search.tensors().items()}, json.dumps(search.state())


def to_the_end(search: BilevelSearch) -> list[str]:
    """The events of the remaining steps."""
    events = []
    while not search.finished():
        events += [json.dumps(event) for event in search.step().events]
    return events


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """The same to the bit."""
    return first.keys() == second.keys() and all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.slow
def test_saved_anywhere_and_loaded_it_goes_on_to_the_bit(tiny_task: TranslationTask) -> None:
    search = begin(tiny_task)
    saved, events = [], []
    while not search.finished():
        saved.append((snapshot(search), len(events)))
        events += [json.dumps(event) for event in search.step().events]
    end = snapshot(search)
    for (tensors, state), seen in saved[1::2]:
        fresh = begin(tiny_task)
        for weight in fresh.supernet.weights.values():
            weight.add_(1.0)
        fresh.load(tensors, json.loads(state))
        assert to_the_end(fresh) == events[seen:]
        assert equal(snapshot(fresh)[0], end[0])
        assert snapshot(fresh)[1] == end[1]
        assert fresh.best() == search.best()


@pytest.mark.slow
def test_the_same_seed_is_the_same_trajectory_and_the_test_split_stays_shut(tiny_task: TranslationTask) -> None:
    state = torch.get_rng_state()
    said = [to_the_end(search) for search in (begin(tiny_task), begin(Sealed(tiny_task)), begin(tiny_task, seed=2))]
    assert said[0] == said[1] != said[2]
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.usefixtures("float64")
def test_stored_and_rebuilt_search_alike(tiny_task: TranslationTask) -> None:
    searches = [begin(tiny_task, backward=backward) for backward in ("stored", "rebuilt")]
    for search in searches:
        search.step()
        search.step()
    for name, logits in searches[0].logits.items():
        assert torch.allclose(logits, searches[1].logits[name], rtol=0, atol=1e-12), name


def test_each_update_touches_its_own(tiny_task: TranslationTask) -> None:
    search = begin(tiny_task)
    before = snapshot(search)[0]
    search.path.update(search.selection())
    after = snapshot(search)[0]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("weights.", "optimizer.")) for name in changed)
    search._update_logits()
    last = snapshot(search)[0]
    changed = {name for name in after if not torch.equal(after[name], last[name])}
    assert changed == {f"{kind}.{name}" for kind in ("logits", "moments") for name in search.logits}
    assert all(weight.grad is None for weight in search.supernet.at(search.best()).parameters())


def test_the_two_parts_of_the_data_share_nothing(tiny_task: TranslationTask) -> None:
    search = begin(tiny_task, weight_part=0.6)
    rows: list[set[int]] = []
    for stream in (search.path.stream, search.stream):
        met: set[int] = set()
        while stream.state_dict()["epoch"] == 0:  # type: ignore[attr-defined]
            met |= set(stream.next().rows)
        rows.append(met)
    assert not rows[0] & rows[1]
    assert abs(len(rows[0]) / len(rows[0] | rows[1]) - 0.6) < 0.02
    halves = [set(part_of(tiny_task.data["train"], part, 3)) for part in ((0.0, 0.3), (0.3, 1.0))]
    assert not halves[0] & halves[1]
    assert len(halves[0] | halves[1]) == len(tiny_task.data["train"])


def test_the_gradient_of_logits_is_that_of_softmax(tiny_task: TranslationTask) -> None:
    search = begin(tiny_task, logits=Logits(rate=0.05, weight_decay=0.0, betas=(0.0, 0.5)))
    given: dict[str, Tensor] = {}
    search._adam = lambda name, gradient: given.__setitem__(name, gradient)  # type: ignore[method-assign]
    place = search.stream.state_dict()
    search._update_logits()
    search.stream.load_state_dict(place)
    leaves = {name: logits.clone().requires_grad_() for name, logits in search.logits.items()}
    with seeded(search.seed, "logits dropout", search.path.updates):
        selection = softmax(search.space.encode(search.best()), leaves)
        loss = tiny_task.loss(search.supernet.at(selection), search.stream.next())
    loss.backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert torch.allclose(given[name], leaf.grad, atol=1e-7), name
        assert abs(float(given[name].sum())) < 1e-6  # softmax does not see a common shift


@pytest.mark.slow
def test_micro_batches_give_the_gradient_of_the_whole(tiny_task: TranslationTask) -> None:
    gradients = []
    for pieces in (1, 3):
        search = begin(tiny_task, micro_batches=pieces)
        model = search.supernet.at(search.selection()).eval()
        batch = search.path.stream.next()
        loss, tokens = search.path.differentiate(model, batch), batch.tokens
        gradients.append([loss, tokens, *(p.grad for p in model.parameters())])
    assert math.isclose(gradients[0][0], gradients[1][0], rel_tol=1e-6)
    assert gradients[0][1] == gradients[1][1]
    for first, second in zip(gradients[0][2:], gradients[1][2:], strict=True):
        assert (first is None) == (second is None)
        assert first is None or torch.allclose(first, second, atol=1e-6)


def test_zero_is_kept_only_where_that_is_asked_for(tiny_task: TranslationTask) -> None:
    search = begin(tiny_task)
    for choice in SPACE.choices:
        search.logits[choice.name][:] = torch.arange(len(choice.options), dtype=torch.float32)
        search.logits[choice.name][choice.options.index("zero")] = 9.0
    kinds = {zero: [node.kind for node in search.best(zero=zero).encoder.layers[0].nodes] for zero in (True, False)}
    assert kinds == {True: ["zero", "zero"], False: ["identity", "identity"]}
    search.step()
    assert [name for name, _ in search.step().events] == ["update", "selection"]  # derived at the end alone


@pytest.mark.slow
def test_both_derivations_and_all_probabilities_are_recorded(tiny_task: TranslationTask) -> None:
    events = [json.loads(event) for event in to_the_end(begin(tiny_task))]
    (derived,) = [fields for name, fields in events if name == "derived"]
    assert derived.keys() == {"with_zero", "without_zero"}
    selections = [fields for name, fields in events if name == "selection"]
    assert [fields["update"] for fields in selections] == [2, 4, 6]
    for fields in selections:
        assert fields["probabilities"].keys() == {choice.name for choice in SPACE.choices}
        assert all(math.isclose(sum(p.values()), 1, rel_tol=1e-5) for p in fields["probabilities"].values())
        assert 0 < fields["entropy"] <= 1


@pytest.mark.slow
def test_a_search_that_went_back_goes_on_to_the_bit(tiny_task: TranslationTask) -> None:
    search = begin(_Breaks(tiny_task, {7}), micro_batches=2)
    while not search.rewound:
        search.step()
    tensors, state = snapshot(search)
    end = to_the_end(search)
    fresh = begin(_Breaks(tiny_task, set()), micro_batches=2)
    fresh.load(tensors, json.loads(state))
    assert to_the_end(fresh) == end
    assert equal(snapshot(fresh)[0], snapshot(search)[0])


class _BadRows:
    """A task whose loss is no number on batches that hold one row."""

    def __init__(self, task: TranslationTask, row: int) -> None:
        self._task, self._row, self.met = task, row, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The loss, or NaN."""
        bad = self._row in batch.rows
        self.met += bad
        return self._task.loss(model, batch) * (math.nan if bad else 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("of", ["weights", "logits"])
def test_a_bad_batch_is_not_met_again(tiny_task: TranslationTask, of: str) -> None:
    probe = begin(tiny_task)
    stream = probe.path.stream if of == "weights" else probe.stream
    row = [stream.next() for _ in range(4)][3].rows[0]
    task = _BadRows(tiny_task, row)
    search = begin(task)
    to_the_end(search)
    assert (task.met, search.rewound) == (1, 1)


def test_a_penalty_is_refused(tiny_task: TranslationTask) -> None:
    with pytest.raises(RequestError, match=r"objective\.penalty=2 has nothing to be added to"):
        begin(tiny_task, objective=Objective(max_core_parameters=9_000, penalty=2.0))


def test_what_the_limits_leave_room_for_is_taken(tiny_task: TranslationTask) -> None:
    search = begin(tiny_task, objective=Objective(max_core_parameters=10**9))
    sizes = {}
    for choice in SPACE.choices:
        search.logits[choice.name][:] = torch.tensor([1.0, 2.0, 1.5, 0.5, 0.0, 0.7][: len(choice.options)])
    free = core_parameters(search.best())
    for lack in (100, 1_000, 3_000, 4_000):
        search.objective = Objective(max_core_parameters=free - lack)
        sizes[lack] = core_parameters(search.best())
        assert free - lack - 3_000 < sizes[lack] <= free - lack
    search.objective = Objective(max_core_parameters=1)
    assert search.best() == search.objective.smallest(SPACE, search.supernet.settings)


def test_what_is_derived_is_within_the_limits(tiny_task: TranslationTask) -> None:
    free = begin(tiny_task)
    for choice in SPACE.choices:
        free.logits[choice.name][:] = torch.tensor([1.0, 2.0, 1.5, 0.5, 0.0, 0.7][: len(choice.options)])
    largest = core_parameters(free.best())
    limit = largest - 1500
    bound = begin(tiny_task, objective=Objective(max_core_parameters=limit))
    for name, logits in free.logits.items():
        bound.logits[name].copy_(logits)
    found = bound.best()
    assert core_parameters(found) <= limit < largest
    nodes = found.encoder.layers[0].nodes + found.decoder.layers[0].nodes[:2]
    assert any(node.kind == "convolution" and node.kernel == 5 for node in nodes)  # what need not change does not


class _Breaks:
    """A task whose loss is no number at some calls."""

    def __init__(self, task: TranslationTask, at: set[int]) -> None:
        self._task, self._at, self._calls = task, at, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The loss, or NaN."""
        self._calls += 1
        loss = self._task.loss(model, batch)
        return loss * math.nan if self._calls in self._at else loss


@pytest.mark.slow
@pytest.mark.parametrize("call", [7, 8], ids=["weights", "logits"])
def test_a_loss_that_is_no_number_rewinds(tiny_task: TranslationTask, call: int) -> None:
    search = begin(_Breaks(tiny_task, {call}))
    events = [json.loads(event) for event in to_the_end(search)]
    assert [fields for name, fields in events if name == "rewound"] == [{"update": 4, "to": 2, "slower": 0.5}]
    assert search.path.updates == 6
    assert all(bool(torch.isfinite(tensor).all()) for tensor in search.tensors().values())
    rates = [fields["learning_rate"] for name, fields in events if name == "update"]
    assert rates[-1] == STRATEGY.training.schedule.rate(6) / 2


def test_the_last_good_state_is_one_copy(tiny_task: TranslationTask) -> None:
    search = begin(tiny_task, training=STRATEGY.training.but(record_every=1))
    search.step()
    places = {name: tensor.data_ptr() for name, tensor in search._good[0].items()}
    search.step()
    assert places == {name: tensor.data_ptr() for name, tensor in search._good[0].items()}
    assert equal(search._good[0], search._live())
    assert not set(places.values()) & {tensor.data_ptr() for tensor in search._live().values()}


@pytest.mark.slow
def test_what_was_loaded_stays_as_it_was(tiny_task: TranslationTask) -> None:
    search = begin(tiny_task)
    search.step()
    tensors, state = snapshot(search)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    fresh = begin(tiny_task, seed=2)
    fresh.load(tensors, json.loads(state))
    assert equal(snapshot(fresh)[0], before)
    to_the_end(fresh)
    assert equal(tensors, before)


def test_a_loss_that_stays_no_number_ends_with_a_reason(tiny_task: TranslationTask) -> None:
    search = begin(_Breaks(tiny_task, set(range(5, 1000))), rewinds=2)
    with pytest.raises(RunError, match=r"no number 3 times.*start a new run with a lower strategy\.tr"):
        to_the_end(search)


def test_sizes_cannot_be_searched_by_gradients() -> None:
    space = shrinknas_small()
    settings = ModelSettings(source_vocabulary=9, target_vocabulary=9)
    with pytest.raises(RequestError, match=r"the choice encoder\.dim .* is another"):
        STRATEGY.begin(space, Objective(), None, supernet_of(space, settings, seed=1), 1)  # type: ignore[arg-type]


def test_plain_darts_runs_on_the_plain_transformer(tiny_task: TranslationTask) -> None:
    search = begin(tiny_task, space=PLAIN)
    before = {name: logits.clone() for name, logits in search.logits.items()}
    to_the_end(search)
    assert all(not torch.equal(before[name], logits) for name, logits in search.logits.items())
    names = [name for name in search.supernet.weights if "encoder.layers.0.mixer.operator.convolution" in name]
    assert {name.split(".")[5] for name in names} == {"convolution_3", "convolution_5"}
    member = search.best()
    model, shared = search.supernet.inherit(member).eval(), search.supernet.at(member).eval()
    batch = tiny_task.data["valid"].collate(np.arange(3))
    assert torch.allclose(model(batch.source, batch.target_input), shared(batch.source, batch.target_input), atol=1e-5)


def test_other_strategies_run_on_the_reversible_supernet(tiny_task: TranslationTask) -> None:
    exploration = Exploration(members=4, iterations=2, first_ranking=4, validation_tokens=40)
    strategy = ShrinkNas(training=STRATEGY.training, rounds=2, exploration=exploration, divergence_members=0)
    supernet = supernet_of(SPACE, tiny_task.model_settings(Dropout()), seed=1)
    search = strategy.begin(SPACE, Objective(), tiny_task, supernet, 1)
    while not search.finished():
        search.step()
    assert search.best() in SPACE


class _Landscape:
    """A supernet of which each option has a fixed loss of its own, and a weight that is trained along."""

    def __init__(self, space: Space, losses: dict[str, Tensor]) -> None:
        self.space, self.losses = space, losses
        self.settings = ModelSettings(target_vocabulary=1)
        self.weights = {"weight": torch.ones(1)}

    def to(self, device: torch.device) -> _Landscape:
        """Itself."""
        return self

    def at(self, selection: Any) -> nn.Module:
        """A model with the selection's loss."""
        model = nn.Module()
        parameter: Any = nn.Parameter(self.weights["weight"])
        parameter.source = "weight"
        model.weight = parameter
        model.loss = sum((chosen.weights * self.losses[name]).sum() for name, chosen in selection.items())
        return model


class _Hill:
    """A task that adds noise to the landscape."""

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)

    def stream(self, tokens: int, seed: int, part: Any) -> Any:
        """Batches without content."""
        return self

    def next(self) -> Any:
        """A batch."""
        return self

    def state_dict(self) -> dict[str, int]:
        """Nowhere."""
        return {}

    tokens = 1

    def to(self, device: Any) -> _Hill:
        """Itself."""
        return self

    def loss(self, model: Any, batch: Any) -> Tensor:
        """The landscape's loss, times a noisy factor."""
        return model.loss * (1 + torch.randn((), generator=self.random)) + model.weight.square().sum()


@pytest.mark.slow
def test_gradients_beat_chance_on_a_toy_landscape() -> None:
    layer = ReversibleLayer(nodes=tuple(one_of(*_few(heads=2, cross=False), FeedForward(ratio=1.0)) for _ in range(4)))
    space = Space(SPACE.template.but(encoder=SPACE.template.encoder.but(dim=24, layers=(layer,))), "toy")  # type: ignore[attr-defined]
    better = 0
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        losses = {choice.name: torch.rand(len(choice.options), generator=generator) for choice in space.choices}
        strategy = STRATEGY.but(training=STRATEGY.training.but(updates=40), zero=True)
        search = strategy.begin(space, Objective(), _Hill(seed), _Landscape(space, losses), seed)  # type: ignore[arg-type]
        while not search.finished():
            search.step()
        code = space.encode(search.best())
        found = sum(float(losses[name][answer]) for name, answer in code.items())
        better += found < sum(float(values.mean()) for values in losses.values()) - 1.0
    assert better >= 8
