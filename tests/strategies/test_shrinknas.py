"""ShrinkNAS and what it is made of: sets, schedules, limits, resumption, and better than chance."""

from __future__ import annotations

import json
import statistics
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from sealed import Sealed
from torch import Tensor, nn

from nasformer.errors import RequestError
from nasformer.models.size import core_flops, core_parameters, total_parameters
from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.runs.run import Run
from nasformer.runs.stage import Quiet, Stage
from nasformer.spaces.cell import Skip, chosen_inputs
from nasformer.spaces.named import OPERATORS, shrinknas, shrinknas_small
from nasformer.spaces.sequence_cell import CellDecoderOnly
from nasformer.spaces.space import Members, Space
from nasformer.spaces.transformer import Attention, FeedForward
from nasformer.strategies import single_path
from nasformer.strategies.drive import drive
from nasformer.strategies.objective import Objective, summary
from nasformer.strategies.offspring import breed
from nasformer.strategies.random_search import RandomSearch
from nasformer.strategies.shrinknas import Exploration, ShrinkNas, ShrinkNasSearch
from nasformer.strategies.single_path import Ranking, packed, unpacked
from nasformer.strategies.spos import spos
from nasformer.supernets.transformer import TransformerSupernet
from nasformer.tasks.translation import TranslationTask
from nasformer.training.schedule import InverseSquareRoot
from nasformer.training.train import train
from nasformer.training.trainer import Training

SPACE = shrinknas(
    dims=(8, 16), encoder_layers=3, decoder_layers=(1, 2), kernels=(3, 5, 7), heads=(2,), ratios=(1.0, 2.0)
)
SETTINGS = ModelSettings(source_vocabulary=50, target_vocabulary=40)
STRATEGY = ShrinkNas(
    training=Training(updates=8, batch_tokens=96, record_every=3, schedule=InverseSquareRoot(peak=1e-3, warmup=4)),
    rounds=2,
    exploration=Exploration(members=8, iterations=2, first_ranking=4, validation_tokens=40),
    divergence_members=2,
    divergence_tokens=16,
)


def begin(task: Any, seed: int = 1, strategy: ShrinkNas = STRATEGY, last: Objective | None = None) -> Any:
    """A search on its own supernet."""
    supernet = TransformerSupernet(SPACE, task.model_settings(Dropout()), seed=seed)
    return strategy.begin(SPACE, Objective(), task, supernet, seed, last)


def snapshot(search: ShrinkNasSearch) -> tuple[dict[str, Tensor], str]:
    """Everything that a checkpoint keeps, copied."""
    return {name: tensor.clone() for name, tensor in search.tensors().items()}, json.dumps(search.state())


def to_the_end(search: ShrinkNasSearch) -> list[str]:
    """The events of the remaining steps."""
    events = []
    while not search.finished():
        events += [json.dumps(event) for event in search.step().events]
    return events


def equal(first: tuple[dict[str, Tensor], str], second: tuple[dict[str, Tensor], str]) -> bool:
    """The same to the bit."""
    same = first[0].keys() == second[0].keys() and first[1] == second[1]
    return same and all(torch.equal(tensor, second[0][name]) for name, tensor in first[0].items())


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two members in one step of a ranking, so that rankings can be stopped in the middle."""
    monkeypatch.setattr(single_path, "CHUNK_TOKENS", 2 * STRATEGY.exploration.validation_tokens)


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_saved_anywhere_and_loaded_it_goes_on_to_the_bit(tiny_task: TranslationTask) -> None:
    search = begin(tiny_task)
    saved, events, steps, kinds = {}, [], 0, set()
    while not search.finished():
        kind = "training" if search.path.updates < (search.round + 1) * 4 else "ranking"
        half = search.ranking is not None
        if steps in (0, 2) or (kind, half, search.round, search.iteration) not in kinds:
            saved[steps] = (snapshot(search), len(events))
            kinds.add((kind, half, search.round, search.iteration))
        events += [json.dumps(event) for event in search.step().events]
        steps += 1
    end = snapshot(search)
    assert {kind[:2] for kind in kinds} == {("training", False), ("ranking", False), ("ranking", True)}
    for at, ((tensors, state), seen) in list(saved.items())[::2] + list(saved.items())[-1:]:
        fresh = begin(tiny_task, seed=1)
        for weight in fresh.supernet.weights.values():
            weight.add_(1.0)
        fresh.load(tensors, json.loads(state))
        assert equal(snapshot(fresh), (tensors, state)), at
        assert to_the_end(fresh) == events[seen:], at
        assert equal(snapshot(fresh), end), at
        assert fresh.best() == search.best()


@pytest.mark.slow
def test_the_same_seed_is_the_same_trajectory_and_the_test_split_stays_shut(tiny_task: TranslationTask) -> None:
    state = torch.get_rng_state()
    one, two, other = begin(tiny_task), begin(Sealed(tiny_task)), begin(tiny_task, seed=2)
    said = [to_the_end(search) for search in (one, two, other)]
    assert said[0] == said[1] != said[2]
    assert equal(snapshot(one), snapshot(two))
    assert torch.equal(torch.get_rng_state(), state)
    names = [json.loads(event)[0] for event in said[0]]
    assert names.count("exploration") == 4
    assert names.count("round") == 2
    assert names.count("divergence") == 4
    assert one.evaluations == 2 * (4 + 8) == STRATEGY.evaluations()


def test_the_seal_holds(tiny_task: TranslationTask) -> None:
    sealed = Sealed(tiny_task)
    for read in (
        lambda: sealed.data["test"],
        lambda: sealed.quality(nn.Identity(), "test"),
        lambda: sealed.text.splits["test"],
    ):
        with pytest.raises(AssertionError, match="test split was read"):
            read()
    assert sealed.data["train"]


def test_neither_training_nor_random_search_reads_the_test_split(tiny_task: TranslationTask, tmp_path: Path) -> None:
    search = begin(Sealed(tiny_task), strategy=STRATEGY.but(rounds=1, divergence_members=0))
    to_the_end(search)
    drawn = RandomSearch(evaluations=6, validation_tokens=40).begin(SPACE, Objective(), search.path, 3)
    before = snapshot(search)
    while not drawn.finished():
        drawn.step()
    assert equal(before, snapshot(search))
    assert len(set(drawn.ranking.members)) == 6
    assert drawn.best() == drawn.ranking.members[drawn.ranking.scores.index(min(drawn.ranking.scores))]
    with Run.create(tmp_path / "run", {}, seed=1, command="test") as run:
        model = search.supernet.inherit(search.best())
        settings = Training(updates=2, batch_tokens=96, validate_every=1).at(1e-3)
        train(model, Sealed(tiny_task), settings, Stage(run, "found"), seed=1)


class _Stops(Quiet):
    """A display that interrupts the work once, at a given step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def progress(self, stage: str, done: int, total: int, text: str) -> None:
        self.at -= 1
        if self.at == 0:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_a_driven_search_is_resumed_from_its_run(tiny_task: TranslationTask, tmp_path: Path) -> None:
    def journal(path: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in e.items() if k not in ("time", "seconds")} for e in Run.look(path).events()]

    with Run.create(tmp_path / "whole", {}, seed=1, command="test") as run:
        whole = begin(tiny_task)
        drive(whole, Stage(run, "search"))
    with Run.create(tmp_path / "stopped", {}, seed=1, command="test") as run:
        for at in (7, 6):
            with pytest.raises(KeyboardInterrupt):
                drive(begin(tiny_task), Stage(run, "search", _Stops(at), every=0.0))
        again = begin(tiny_task)
        drive(again, Stage(run, "search"))
    assert equal(snapshot(whole), snapshot(again))
    assert journal(tmp_path / "whole") == journal(tmp_path / "stopped")


def _near(member: Any, core: int) -> bool:
    return abs(core_parameters(member) / core - 1) <= 0.03


@pytest.mark.slow
def test_the_last_exploration_alone_is_held_to_the_size_of_another(tiny_task: TranslationTask) -> None:
    core = sorted(core_parameters(SPACE.sample(Random(number))) for number in range(41))[20]
    search = begin(tiny_task, last=Objective().near(core))
    plain = begin(tiny_task)
    ranked: dict[int, list[Any]] = {1: [], 2: []}
    while not search.finished():
        events = search.step().events
        if search.round == 0:
            assert [json.dumps(event) for event in events] == [json.dumps(event) for event in plain.step().events]
        for name, fields in events:
            if name == "exploration":
                ranked[fields["round"]] += [member for _, member in search.ranked]
                assert len(search.ranked) == fields["members"] >= 4
    assert len(ranked[2]) == 2 * STRATEGY.exploration.members
    assert all(_near(member, core) for member in ranked[2])
    assert not all(_near(member, core) for member in ranked[1])
    assert search.best() in ranked[2]


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_a_search_held_to_a_size_goes_on_to_the_bit(tiny_task: TranslationTask) -> None:
    strategy = STRATEGY.but(training=STRATEGY.training.but(updates=24), divergence_members=0)
    plain = begin(tiny_task, strategy=strategy)
    while plain.path.updates < 24:
        plain.step()
    oldest = next(iter(plain.sampled))  # sampled too long ago to be ranked first
    assert oldest not in list(plain.sampled)[-strategy.exploration.first_ranking :]
    last = Objective().near(core_parameters(oldest))
    search = begin(tiny_task, strategy=strategy, last=last)
    saved, events = [], []
    while not search.finished():
        if search.round == 1 and (search.path.updates in (17, 24)):
            saved.append((snapshot(search), len(events)))
        events += [json.dumps(event) for event in search.step().events]
    end = snapshot(search)
    assert len(saved) > 8
    for (tensors, state), seen in [*saved[:4], saved[-2]]:
        again = begin(tiny_task, strategy=strategy, last=last)
        again.load(tensors, json.loads(state))
        assert to_the_end(again) == events[seen:]
        assert equal(snapshot(again), end)


def _breed(
    parents: list[Any], objective: Objective, space: Space, seed: int = 0, **counts: Any
) -> tuple[list[Any], int]:
    return breed(parents, rate=0.4, space=space, objective=objective, settings=SETTINGS, random=Random(seed), **counts)


@pytest.mark.slow
def test_a_thousand_is_three_hundred_and_four_and_three() -> None:
    space, objective, random = SPACE, Objective(max_core_parameters=9_000), Random(1)
    kept, mutants, crosses = Exploration().counts()
    assert (kept, mutants, crosses) == (300, 400, 300)
    parents: list[Any] = []
    while len(parents) < kept:
        member = space.sample(random)
        parents += [member] if objective.allows(member, SETTINGS) and member not in parents else []
    children, refilled = _breed(parents, objective, space, mutants=mutants, crosses=crosses)
    whole = set(parents) | set(children)
    assert len(children) == 700
    assert len(whole) == 1000
    assert refilled == 0
    assert all(member in space and core_parameters(member) <= 9_000 for member in whole)
    codes = [space.encode(parent) for parent in parents]
    answers = {(name, answer) for code in codes for name, answer in code.items()}
    assert all((name, answer) in answers for child in children[400:] for name, answer in space.encode(child).items())
    assert _breed(parents[:20], objective, space, mutants=5, crosses=5) == _breed(
        parents[:20], objective, space, mutants=5, crosses=5
    )


@pytest.mark.parametrize("members", [2, 3, 7, 64, 150, 1000])
def test_the_parts_make_the_whole(members: int) -> None:
    counts = Exploration(members=members).counts()
    assert sum(counts) == members
    assert min(counts) >= 0
    assert counts[0] >= 1


def test_a_space_too_small_for_the_set_is_refilled_and_ends() -> None:
    whole = shrinknas(dims=(8,), encoder_layers=3, decoder_layers=(1,), operators=("attention",), heads=(2,))
    space = whole.shrink({c.name: [0] for c in whole.choices if not c.name.endswith(("span", "0.feed_forward.ratio"))})
    members = list(space.members())
    assert len(members) == 27
    children, refilled = _breed(members, Objective(), space, mutants=1, crosses=2)
    assert children == []
    assert refilled == 3
    children, _ = _breed(members[:4], Objective(), space, mutants=12, crosses=8)
    assert len({*members[:4], *children}) == 4 + len(children) > 12


def test_finalists_differ_in_shape_as_far_as_members_do(tiny_task: TranslationTask) -> None:
    random = Random(4)
    one, other = (SPACE.sample(random) for _ in range(2))
    first, *others = one.encoder.layers
    wider = first.but(feed_forward=first.feed_forward.but(ratio=first.feed_forward.ratio + 1))
    twin = one.but(encoder=one.encoder.but(layers=(wider, *others)))
    assert summary(twin) == summary(one) != summary(other)
    search = begin(tiny_task)
    search.ranked = [(1.0, one), (2.0, twin), (3.0, other)]
    assert search.finalists(1) == [one]
    assert search.finalists(2) == [one, other]
    assert search.finalists(4) == [one, other, twin]


@pytest.mark.slow
def test_a_round_leaves_the_set_that_its_settings_say(tiny_task: TranslationTask) -> None:
    training = STRATEGY.training.but(updates=16)
    settings = STRATEGY.but(training=training, divergence_members=0, exploration=Exploration(
        members=10, iterations=2, first_ranking=8, validation_tokens=40))  # fmt: skip
    sizes = {}
    for shrinking in ("explore", "reduce", "select"):
        search = begin(tiny_task, strategy=settings.but(shrinking=shrinking))
        while search.round == 0:
            search.step()
        assert isinstance(search.sampler, Members)
        sizes[shrinking] = search.sampler.size
        ranked = [member for _, member in search.ranked]
        assert [score for score, _ in search.ranked] == sorted(score for score, _ in search.ranked)
        assert search.sampler.members[:3] == tuple(ranked[:3])
        assert search.best() == ranked[0]
        search.step()
        assert next(iter(search.sampled)) in search.sampler
    assert sizes["explore"] == 10
    assert sizes["reduce"] == 3
    assert sizes["select"] <= 8


def test_the_learning_rate_of_the_paper() -> None:
    schedule = InverseSquareRoot(peak=5e-4, warmup=10_000)
    for update, rate in ((10_000, 5.000e-4), (20_000, 3.536e-4), (50_000, 2.236e-4), (80_000, 1.768e-4)):
        assert schedule.rate(update) == pytest.approx(rate, rel=2e-4)
    assert schedule.rate(5_000) == pytest.approx(1e-7 + (5e-4 - 1e-7) / 2)
    assert schedule.rate(1) < 2e-7
    assert schedule.rate(9_999) < schedule.rate(10_000) > schedule.rate(10_001)


@pytest.mark.parametrize("exploration", [Exploration(), Exploration(members=64, iterations=2, first_ranking=128)])
@pytest.mark.parametrize("rounds", [1, 5])
def test_spos_gets_the_same_evaluations(exploration: Exploration, rounds: int) -> None:
    like = ShrinkNas(rounds=rounds, exploration=exploration)
    control = spos(like)
    assert control.rounds == 1
    assert control.training == like.training
    assert abs(control.evaluations() - like.evaluations()) <= exploration.members
    # 2,000 + 2 · 1,000 in the first round; later rounds first rank at most the 1,000 members that they sample from.
    assert ShrinkNas().evaluations() == 4_000 + 4 * 3_000
    assert ShrinkNas(shrinking="select").evaluations() == 2_000 + 4 * 1_000
    assert ShrinkNas(shrinking="reduce").evaluations() == 2_000 + 4 * 300 + 5 * 2 * 1_000


def test_members_survive_packing() -> None:
    random = Random(0)
    for space in (shrinknas(), SPACE):
        for _ in range(10):
            member = space.sample(random)
            assert unpacked(space, json.loads(json.dumps(packed(space, member)))) == member


@pytest.mark.slow
def test_a_limit_below_the_smallest_is_refused_with_its_size() -> None:
    space = shrinknas_small()
    smallest = Objective().smallest(space, SETTINGS)
    for name, size in (
        ("max_core_parameters", core_parameters(smallest)),
        ("max_total_parameters", total_parameters(smallest, SETTINGS)),
    ):
        Objective(**{name: size}).check(space, SETTINGS)
        with pytest.raises(RequestError, match=f"{name}={size - 1:,} .*takes {size:,}"):
            Objective(**{name: size - 1}).check(space, SETTINGS)
    with pytest.raises(RequestError, match=r"max_flops=10 .*raise the limit"):
        Objective(max_flops=10).check(space, SETTINGS)
    with pytest.raises(RequestError, match=r"max_core_parameters=740,881 .*takes 740,882"):
        Objective(max_core_parameters=740_881).check(shrinknas(), SETTINGS)


def test_a_limit_above_the_largest_is_refused_with_its_size() -> None:
    sizes = [core_parameters(member) for member in _few().members()]
    Objective(min_core_parameters=max(sizes)).check(_few(), SETTINGS)
    with pytest.raises(RequestError, match=rf"min_core_parameters={max(sizes) + 1:,} is above the largest .*lower"):
        Objective(min_core_parameters=max(sizes) + 1).check(_few(), SETTINGS)
    with pytest.raises(RequestError, match=r"min_core_parameters=5,001 is above .*max_core_parameters=5,000"):
        Objective(min_core_parameters=5_001, max_core_parameters=5_000).check(_few(), SETTINGS)


@pytest.mark.slow
def test_a_lower_limit_holds_and_a_lack_is_an_excess() -> None:
    space, random = shrinknas_small(), Random(4)
    objective = Objective(min_core_parameters=250_000)
    members = [space.sample(random) for _ in range(40)]
    for member in members:
        size = core_parameters(member)
        assert objective.allows(member, SETTINGS) == (size >= 250_000)
        assert objective.excess(member, SETTINGS) == pytest.approx(max(0.0, 1 - size / 250_000))
    assert len({objective.allows(member, SETTINGS) for member in members}) == 2
    assert all(core_parameters(objective.sample(space, random, SETTINGS, tries=1)) >= 250_000 for _ in range(10))
    children, _ = breed([m for m in members if objective.allows(m, SETTINGS)], mutants=8, crosses=8, rate=0.4,
                        space=space, objective=objective, settings=SETTINGS, random=random)  # fmt: skip
    assert children
    assert all(core_parameters(child) >= 250_000 for child in children)


@pytest.mark.slow
def test_near_is_a_band_around_a_size_and_keeps_the_other_limits() -> None:
    near = Objective(max_core_parameters=999, max_flops=7, max_total_parameters=8).near(10_050)
    assert near == Objective(
        min_core_parameters=9_749, max_core_parameters=10_351, max_flops=7, max_total_parameters=8
    )  # 9,748.5 and 10,351.5: rounded into the band
    space, random = shrinknas_small(), Random(5)
    core = core_parameters(space.sample(random))
    for part in (0.03, 0.01):
        band = Objective().near(core, part)
        band.check(space, SETTINGS)
        drawn = [band.sample(space, random, SETTINGS, tries=3) for _ in range(6)]
        assert all(abs(core_parameters(member) / core - 1) <= part for member in drawn)
        assert all(member in space for member in drawn)
        assert len(set(drawn)) > 1


def _few() -> Space:
    return shrinknas(
        dims=(8, 16), encoder_layers=3, decoder_layers=(1, 2), kernels=(3, 5, 7), heads=(2,), ratios=(1.0,),
        operators=("attention", "long_short_light"), activations=("relu",), spans=(1, 2),
    )  # fmt: skip


def test_the_smallest_is_the_smallest() -> None:
    few = _few()
    least = min(map(core_parameters, few.members()))
    assert core_parameters(Objective().smallest(few, SETTINGS)) == least
    found = Objective(max_flops=1).smallest(few, SETTINGS)
    assert core_flops(found) == min(map(core_flops, few.members()))


def test_the_smallest_and_the_largest_cell_are_found_whatever_edges_they_need() -> None:
    for source in range(5):
        pools: list[tuple[Any, ...]] = [(Attention(heads=2), FeedForward(ratio=4))] * 5
        pools[source] = (FeedForward(ratio=1), Skip())
        cell = chosen_inputs(pools, nodes=2)
        space = Space(CellDecoderOnly(dim=8, blocks=1, cell=cell))
        sizes = [core_parameters(member) for member in space.members()]
        assert core_parameters(Objective(max_core_parameters=1).smallest(space, SETTINGS)) == min(sizes)
        assert core_parameters(Objective(min_core_parameters=10**9).smallest(space, SETTINGS)) == max(sizes)


def test_samples_stay_within_a_tight_limit() -> None:
    space, random = shrinknas_small(), Random(1)
    least = core_parameters(Objective().smallest(space, SETTINGS))
    objective = Objective(max_core_parameters=round(1.1 * least))
    members = [objective.sample(space, random, SETTINGS, tries=5) for _ in range(5)]
    assert all(core_parameters(member) <= 1.1 * least for member in members)
    assert all(member in space for member in members)
    assert len(set(members)) > 1
    loose = Objective(max_core_parameters=250_000)
    drawn = [loose.sample(space, random, SETTINGS) for _ in range(40)]
    assert all(core_parameters(member) <= 250_000 for member in drawn)


def test_a_set_without_members_within_the_limit_is_left_for_the_space() -> None:
    space, random = shrinknas_small(), Random(1)
    large = [member for member in (space.sample(random) for _ in range(40)) if core_parameters(member) > 300_000]
    objective = Objective(max_core_parameters=200_000)
    found = objective.sample(Members(space, large), random, SETTINGS, tries=5)
    assert core_parameters(found) <= 200_000


def test_a_penalty_lets_all_in_and_counts_the_excess(tiny_task: TranslationTask) -> None:
    random = Random(2)
    members = [SPACE.sample(random) for _ in range(6)]
    limit = core_parameters(sorted(members, key=core_parameters)[3])
    soft = Objective(max_core_parameters=limit, penalty=2.0)
    assert all(soft.allows(member, SETTINGS) for member in members)
    assert not all(soft.but(penalty=0.0).allows(member, SETTINGS) for member in members)
    search = begin(tiny_task)
    scores = []
    for objective in (Objective(), soft):
        ranking = Ranking(search.path, objective, members, 1, 40)
        ranking.advance()
        scores.append(ranking.scores)
    for member, plain, penalised in zip(members, *scores, strict=True):
        excess = max(0.0, core_parameters(member) / limit - 1)
        assert penalised - plain == pytest.approx(2.0 * excess, abs=1e-9)
    assert any(penalised > plain for plain, penalised in zip(*scores, strict=True))


def test_a_ranking_draws_its_batch_anew_and_puts_bad_losses_last(tiny_task: TranslationTask) -> None:
    search = begin(tiny_task)
    members = [SPACE.sample(Random(number)) for number in range(3)]
    first, again, other = (Ranking(search.path, Objective(), [*members, members[0]], n, 40) for n in (1, 1, 2))
    for ranking in (first, again, other):
        ranking.advance()
        assert ranking.finished()
        assert len(ranking.scores) == 3
    assert first.scores == again.scores != other.scores
    first.scores = [float("nan"), 2.0, 1.0]
    assert [member for _, member in first.best_first()] == [members[2], members[1], members[0]]


def _within(count: int, draws: int, share: float) -> bool:
    return abs(count - draws * share) < 5 * (draws * share * (1 - share)) ** 0.5 + 1e-9


@pytest.mark.slow
def test_dilution_of_uniform_sampling() -> None:
    space, random, draws = shrinknas(), Random(3), 1200
    members = [space.sample(random) for _ in range(draws)]
    for index in range(6):
        layers = [member.encoder.layers[index] for member in members]
        for operator in OPERATORS:
            assert _within(sum(layer.mixer.label == operator for layer in layers), draws, 1 / 5)
        assert _within(sum(len(member.decoder.layers) > index for member in members), draws, (6 - index) / 6)


def _landscape(space: Space, seed: int) -> Any:
    """A score of members (lower is better): a part for every answer, and one for every pair of neighbours."""
    random = Random(seed)
    values: dict[Any, float] = {}

    def score(member: Any) -> float:
        code = list(space.encode(member).items())
        keys = code + [(first, second) for first, second in pairwise(code)]
        return sum(values.setdefault(key, random.gauss(0, 1)) for key in keys) / len(code)

    return score


@pytest.mark.slow
def test_exploration_beats_random_sampling_on_a_toy_landscape() -> None:
    differences = []
    for seed in range(8):
        score, random = _landscape(SPACE, seed), Random(seed)
        members = [SPACE.sample(random) for _ in range(40)]
        for iteration in range(4):
            ranked = sorted(members, key=score)
            if iteration < 3:
                children, _ = _breed(ranked[:12], Objective(), SPACE, seed=100 + iteration, mutants=16, crosses=12)
                members = ranked[:12] + children
        drawn = min(score(SPACE.sample(random)) for _ in range(160))
        differences.append(drawn - score(ranked[0]))
    assert sum(difference > 0 for difference in differences) >= 7
    assert statistics.mean(differences) > 0.1


def test_shuffled_scores_do_not_find_the_best(tiny_task: TranslationTask) -> None:
    settings = STRATEGY.but(rounds=1, divergence_members=0, exploration=STRATEGY.exploration.but(first_ranking=8))
    plain, shuffled = (begin(tiny_task, strategy=settings.but(shuffled_scores=flag)) for flag in (False, True))
    for search in (plain, shuffled):
        while search.iteration == 0:
            search.step()
    assert {member for _, member in plain.ranked} == {member for _, member in shuffled.ranked}
    assert [score for score, _ in plain.ranked] == [score for score, _ in shuffled.ranked]
    assert [member for _, member in plain.ranked] != [member for _, member in shuffled.ranked]


@pytest.mark.parametrize("bad", [{"members": 1}, {"iterations": 0}, {"mutation_rate": 0.0}, {"kept": 1.5}])
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(bad))):
        Exploration(**bad)
