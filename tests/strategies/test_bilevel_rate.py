"""A differentiable search finds its rate by a sweep, and knows what its updates cost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from cell_landscape import SPACE, TRAINING, Hill, Landscape
from tiny_language import TinyLanguage, TinyTask

from nasformer.measures.training_cost import update_flops
from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.runs.run import Run
from nasformer.runs.stage import Stage
from nasformer.spaces.open import one_of
from nasformer.spaces.reversible import ReversibleDecoderOnly, ReversibleLayer, ReversibleStack
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import Attention, FeedForward, Identity
from nasformer.strategies.bilevel import BilevelSearch
from nasformer.strategies.bilevel_rate import RatedSearch, mean_loss, update_cost
from nasformer.strategies.darts import Darts
from nasformer.strategies.gdas import Gdas
from nasformer.strategies.objective import Objective
from nasformer.strategies.pc_darts import PcDarts
from nasformer.strategies.rome import Rome
from nasformer.strategies.rules import Logits
from nasformer.supernets.named import supernet_of
from nasformer.training.schedule import AUTO, Cosine
from nasformer.training.sweep import Sweep, Swept, found_rate
from nasformer.training.trainer import Training

UPDATES = 320
AUTOMATIC = TRAINING.but(updates=UPDATES, schedule=Cosine(), record_every=50)
GRID = Sweep(middle=0.05, factor=5e7, decline=0.0)
"""1e-9, 0.05 and 2.5e6."""
METHODS: dict[str, Any] = {"darts": Darts, "rome": lambda **fields: Rome(samples=2, **fields), "gdas": Gdas}


def begin(settings: Any, task: Any = None) -> BilevelSearch:
    """A search of the small landscape."""
    found: BilevelSearch = settings.begin(SPACE, Objective(), task or Hill(), Landscape(SPACE), 1)
    return found


def trainee(method: Any, training: Training, task: Any = None) -> RatedSearch:
    """What is tried at one rate."""
    settings = method(training=training)
    return RatedSearch(lambda: begin(settings, task), 5, 16)


def swept(path: Path, method: Any, *, stop: int | None = None) -> Swept:
    """What a sweep finds, stopped before it begins with rate number `stop` and gone on."""

    class Stopped(Exception):  # noqa: N818
        pass

    left = [math.inf if stop is None else stop]

    def short(training: Training) -> RatedSearch:
        left[0] -= 1
        if left[0] < 0:
            left[0] = math.inf
            raise Stopped
        return trainee(method, training)

    with Run.create(path, {}, seed=1, command="test") as run:
        if stop is not None:
            with pytest.raises(Stopped):
                found_rate(AUTOMATIC, UPDATES, short, GRID, Stage(run, "search"))
        training, found = found_rate(AUTOMATIC, UPDATES, short, GRID, Stage(run, "search"))
    assert AUTOMATIC.schedule.peak == AUTO
    assert found is not None
    assert training.schedule.peak == found.peak
    return found


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_of_a_hopeless_a_good_and_an_exploding_rate_the_good_one_is_taken(tmp_path: Path, method: Any) -> None:
    found = swept(tmp_path / "run", method)
    assert found.peak == 0.05
    losses = {point.peak: point.loss for point in found.points if point.updates == 8}
    hopeless, good, exploding = (losses[peak] for peak in sorted(losses))
    assert good < hopeless - 0.05
    assert math.isnan(exploding)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_sweep_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, method: Any) -> None:
    whole = swept(tmp_path / "whole", method)
    assert [swept(tmp_path / str(stop), method, stop=stop) for stop in (1, 2)] == [whole, whole]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_search_that_waited_goes_on_where_it_was(method: Any) -> None:
    tasks = Hill(), Hill()
    once, twice = (trainee(method, AUTOMATIC.but(updates=16).at(0.05), task) for task in tasks)
    once.train(16)
    twice.train(8)
    before = twice.loss()
    twice.train(16)
    assert twice.loss() == once.loss() != before
    assert tasks[0].calls == tasks[1].calls  # no update twice


def test_a_search_that_goes_back_has_failed() -> None:
    found = trainee(Darts, AUTOMATIC.but(updates=8).at(0.05), Hill(broken=frozenset({7})))
    found.train(8)
    assert math.isnan(found.loss())


def test_rates_are_measured_on_the_same_selections_or_on_the_mixture() -> None:
    members = {}
    for name, method in METHODS.items():
        seen = []
        for peak in (1e-9, 0.05):
            search = begin(method(training=AUTOMATIC.but(updates=4).at(peak), logits=Logits(rate=100 * peak)))
            RatedSearch(lambda search=search: search, 5, 16).train(4)  # type: ignore[misc]
            ran: list[Any] = search.supernet.ran  # type: ignore[attr-defined]
            ran.clear()
            mean_loss(search, 5, 16)
            seen.append([{key: chosen.options for key, chosen in one.items()} for one in ran])
            if name == "darts":
                shares = {key: chosen.weights for key, chosen in ran[0].items() if chosen.weights is not None}
                assert all(bool((search.logits[key].softmax(0) == share).all()) for key, share in shares.items())
        assert seen[0] == seen[1]
        members[name] = seen[0]
    assert [len(members[name]) for name in METHODS] == [1, 8, 8]
    assert len({str(one) for one in members["rome"]}) > 1


NODES = (Attention(heads=2), FeedForward(ratio=2.0), Identity())
STACK = ReversibleStack(dim=32, layers=(ReversibleLayer(nodes=(one_of(*NODES), Attention(heads=2))),), repeats=2)
REVERSIBLE = Space(ReversibleDecoderOnly(embedding_dim=8, decoder=STACK), "reversible")


def costs(settings: Any) -> tuple[float, float]:
    """What the halves of a search's update cost."""
    task: TinyTask = TinyLanguage(length=30).open()
    supernet = supernet_of(REVERSIBLE, task.model_settings(Dropout(residual=0.0)), seed=1, **settings.ways)
    search = settings.begin(REVERSIBLE, Objective(), task, supernet, 1)
    before = {name: tensor.clone() for name, tensor in search.tensors().items()}
    found: tuple[float, float] = update_cost(search, list(REVERSIBLE.members()), 1, 240)
    assert all(bool((tensor == before[name]).all()) for name, tensor in search.tensors().items())
    return found


def test_a_mixture_costs_what_its_options_cost_together() -> None:
    training = Training(updates=4, batch_tokens=96).at(1e-3)
    members = {member.decoder.layers[0].nodes[0].kind: member for member in REVERSIBLE.members()}
    settings = ModelSettings(target_vocabulary=12, dropout=Dropout(residual=0.0))
    alone = {kind: update_flops(member, settings, 96) for kind, member in members.items()}
    weights, logits = costs(Darts(training=training))
    together = alone["attention"] + alone["feed_forward"] - alone["identity"]
    assert weights == pytest.approx(together, rel=0.05)
    assert logits == pytest.approx(weights * 2 / 3)
    ahead = costs(Darts(training=training, second_order=True, backward="stored"))
    assert (ahead[0], ahead[1] > 3 * ahead[0]) == (weights, True)


def test_drawn_paths_cost_their_mean_for_each_that_is_gathered() -> None:
    training = Training(updates=4, batch_tokens=96).at(1e-3)
    one = costs(Rome(training=training, samples=1, topology="all"))
    assert costs(Gdas(training=training)) == one
    assert costs(Rome(training=training, samples_weights=3, samples_logits=2, topology="all")) == pytest.approx(
        (3 * one[0], 2 * one[1])
    )
    assert one[0] < costs(Darts(training=training))[0]
    assert not PcDarts(training=training).drawn
