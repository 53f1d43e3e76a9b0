"""Controls that are tuned: of the found one's size, at its cost, over depths, norms and rates; refused where they have
no meaning."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nasformer.errors import DivergedError, RequestError
from nasformer.measures.training_cost import evaluation_flops, forward_flops, update_flops
from nasformer.models.size import core_flops, core_parameters, total_parameters
from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.recipes import controls, from_scratch
from nasformer.recipes.controls import CONTROLS, TRIED, best_of, check, check_size
from nasformer.recipes.experiment import LABELS, PLAIN, Experiment
from nasformer.recipes.experiment_shrinknas import ShrinkNasExperiment
from nasformer.recipes.fixed import plain_networks
from nasformer.recipes.from_scratch import Candidates
from nasformer.recipes.named import RECIPES
from nasformer.recipes.recipe import STRONGEST
from nasformer.runs.run import Run
from nasformer.runs.stage import Stage
from nasformer.spaces.named import SPACES, uniform
from nasformer.strategies.objective import Objective
from nasformer.tasks.translation import TranslationTask
from nasformer.training.randomness import derive
from nasformer.training.sweep import Sweep
from nasformer.training.trainer import Training

SETTINGS = ModelSettings(source_vocabulary=500, target_vocabulary=500)


@pytest.mark.parametrize("size", ["core", "total"])
@pytest.mark.parametrize("name", ["modern", "shrinknas-small", "modern-language"])
def test_plain_networks_have_the_found_ones_size_over_depths_and_norms(name: str, size: Any) -> None:
    space = SPACES[name]()
    random = Random(1)
    found = max((space.sample(random) for _ in range(20)), key=core_parameters)
    count = core_parameters if size == "core" else lambda one: total_parameters(one, SETTINGS)
    groups = plain_networks(space, SETTINGS, ("attention", "long_short_light"), size, found)
    assert {one.norm for group in groups for one in group} == {"pre", "post"}
    depths = {(len(getattr(one, "encoder", one.decoder).layers), len(one.decoder.layers)) for one in groups[0]}
    assert len(depths) > 2
    for group in groups:
        assert len({type(one.decoder.layers[0].mixer) for one in group}) == 1
        for one in group:
            assert count(one) == pytest.approx(count(found), rel=0.03)
            assert one.tables == found.tables


def test_no_network_of_this_size_is_one_line() -> None:
    space = SPACES["modern"]()
    tiny = uniform("attention", 4, ratio=0.25, heads=1, encoder_layers=1, decoder_layers=1)
    with pytest.raises(RequestError, match=r"no network of attention alone comes near \d+ parameters"):
        plain_networks(space, SETTINGS, ("attention",), "core", tiny)


@pytest.mark.parametrize("good", [0, 5, 99])
def test_a_control_without_a_network_is_refused_before_anything_is_trained(
    good: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One member of a few that has a plain twin is enough."""
    asked: list[Any] = []

    def networks(space: Any, settings: Any, operators: Any, size: Any, found: Any) -> list[list[Any]]:
        asked.append(found)
        if len(asked) - 1 != good:
            raise RequestError(f"no network of attention alone comes near {core_parameters(found):,} parameters")
        return [[found]]

    monkeypatch.setattr(controls, "plain_networks", networks)
    space = SPACES["modern"]()
    experiment: Any = SimpleNamespace(
        limits=lambda space: Objective(max_core_parameters=90_000),
        settings=SETTINGS,
        recipe=SimpleNamespace(trained={}),
        seed=lambda name: derive(1, name),
        sampled_space=lambda: space,
        space=space,
    )
    check_size(experiment, "halving")
    assert not asked
    if good < TRIED:
        check_size(experiment, "tuned_transformer")
        assert len(asked) == good + 1
    else:
        with pytest.raises(
            RequestError, match=r"tuned_transformer has no network of the size.*comes near [\d,]+ param"
        ):
            check_size(experiment, "tuned_transformer")
        assert len(set(asked)) == TRIED
    assert all(core_parameters(member) <= 90_000 for member in asked)


def test_an_update_is_three_passes_with_the_output_map() -> None:
    one = uniform("attention", 32, ratio=2.0, heads=2, encoder_layers=1, decoder_layers=1)
    assert forward_flops(one, SETTINGS) == core_flops(one) + 2 * 30 * 500 * 32
    assert evaluation_flops(one, SETTINGS, 300) == 10 * forward_flops(one, SETTINGS)
    assert update_flops(one, SETTINGS, 300) == 3 * evaluation_flops(one, SETTINGS, 300)


def test_every_strong_control_has_a_row_and_a_label() -> None:
    assert set(STRONGEST) <= set(CONTROLS)
    assert all(LABELS[name] == control.label for name, control in CONTROLS.items())


def test_plain_networks_are_refused_beside_cells() -> None:
    space = SPACES["s2"]()
    check(SimpleNamespace(space=space), "halving")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="tuned_fixed is a network of layers, and the space 's2' has none"):
        check(SimpleNamespace(space=space), "tuned_fixed")  # type: ignore[arg-type]


class Told:
    """What a control asks of an experiment, with a budget; it remembers what was trained from scratch."""

    def __init__(self, run: Run, task: TranslationTask, budget: float) -> None:
        self.run, self.task, self.budget = run, task, budget
        self.settings = task.model_settings(Dropout(residual=0.1))
        self.recipe = SimpleNamespace(sweep=Sweep(validation_tokens=64), trained={})
        self.asked: list[tuple[Any, dict[str, Any]]] = []

    def whole_training(self) -> Training:
        return Training(updates=64, batch_tokens=64)

    def spent(self) -> float:
        return self.budget

    def seed(self, *names: str | int) -> int:
        return derive(1, *names)

    def stage(self, name: str) -> Stage:
        return Stage(self.run, name)

    def from_scratch(self, architecture: Any, name: str, **cost: Any) -> dict[str, Any]:
        self.asked.append((architecture, cost))
        return {"architecture": architecture.data()}


def members(count: int) -> list[Any]:
    space, random = SPACES["shrinknas-small"](), Random(1)
    return [space.sample(random) for _ in range(count)]


@pytest.mark.parametrize(("room", "tried"), [(0.5, 1), (1.15 + 0.2, 4), (1.15 + 0.6, 8)])
def test_a_budget_buys_candidates_and_no_more(
    tiny_task: TranslationTask, tmp_path: Path, room: float, tried: int
) -> None:
    group = members(8)
    with Run.create(tmp_path / "run", {}, seed=1, command="test") as run:
        experiment = Told(run, tiny_task, 0.0)
        costs = [update_flops(one, experiment.settings, 64) for one in group]
        experiment.budget = room * 64 * sum(costs) / len(costs)
        row = best_of(experiment, "halving", [group])  # type: ignore[arg-type]
        assert row["tried"] == tried
        ((chosen, cost),) = experiment.asked
        assert chosen in group[:tried]
        assert cost["searched"] <= max(0.0, room - 1.15) * 64
        again = Told(run, tiny_task, experiment.budget)
        assert best_of(again, "halving", [group]) == row  # type: ignore[arg-type]
        assert again.asked == experiment.asked


def test_the_best_candidate_is_trained(
    tiny_task: TranslationTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = members(4)
    with Run.create(tmp_path / "run", {}, seed=1, command="test") as run:
        experiment = Told(run, tiny_task, 1e18)
        order = {core_parameters(one): place for place, one in enumerate(group)}
        assert len(order) == 4

        class Task:
            """Members are as good as their place in the list."""

            def __getattr__(self, name: str) -> Any:
                return getattr(tiny_task, name)

            def evaluate(self, model: Any, batches: Any) -> float:
                return -float(order[core_parameters(model.architecture)])

        monkeypatch.setattr(from_scratch, "train", lambda model, *others, **rest: model)
        experiment.task = Task()  # type: ignore[assignment]
        best_of(experiment, "halving", [group])  # type: ignore[arg-type]
        assert experiment.asked[0][0] == group[-1]


def test_candidates_have_the_updates_that_halving_gives_and_go_on_where_they_stood(
    tiny_task: TranslationTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rated = [(one, 1e-3 * (place + 1)) for place, one in enumerate(members(4))]
    with Run.create(tmp_path / "run", {}, seed=1, command="test") as run:
        experiment = Told(run, tiny_task, 0.0)
        candidates = Candidates(experiment, "retrained", rated)  # type: ignore[arg-type]
        best, losses = candidates.halve(2)
        assert [len(rung) for rung in losses] == [4, 2]
        assert sorted(candidates.updates.values()) == [2, 2, 4, 4]
        assert candidates.updates[best] == 4
        cost = [update_flops(one, experiment.settings, 64) for one, _ in rated]
        assert candidates.flops() == sum(done * cost[number] for number, done in candidates.updates.items())
        assert all(seconds > 0 for seconds in candidates.seconds.values())
        model = candidates.go_on(best, 64)
        whole = Candidates(experiment, "whole", rated)  # type: ignore[arg-type]
        monkeypatch.setattr(experiment, "seed", lambda *names: derive(1, "retrained", *names[1:]))
        alone = whole.go_on(best, 64)
        assert all(torch.equal(one, other) for one, other in zip(model.parameters(), alone.parameters(), strict=True))

        def forbidden(*_: Any, **__: Any) -> Any:
            raise AssertionError("trained again")

        monkeypatch.setattr(from_scratch, "train", forbidden)
        again = Candidates(Told(run, tiny_task, 0.0), "retrained", rated)  # type: ignore[arg-type]
        assert again.halve(2) == (best, losses)


def test_a_candidate_that_diverges_is_the_worst_and_stays_it(
    tiny_task: TranslationTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rated = [(one, 1e-3) for one in members(3)]
    real = from_scratch.train

    def diverges(model: Any, *others: Any, **rest: Any) -> Any:
        if model.architecture == rated[0][0]:
            raise DivergedError("the training loss became nan")
        return real(model, *others, **rest)

    monkeypatch.setattr(from_scratch, "train", diverges)
    with Run.create(tmp_path / "run", {}, seed=1, command="test") as run:
        for _ in range(2):  # measured, then read again
            candidates = Candidates(Told(run, tiny_task, 0.0), "retrained", rated)  # type: ignore[arg-type]
            best, losses = candidates.halve(2)
            assert best in (1, 2)
            assert math.isnan(losses[0][-1])
            assert candidates.updates[0] == 2
        assert candidates.seconds[best] > 0


def test_no_candidate_is_counted_beyond_its_training(tiny_task: TranslationTask, tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}, seed=1, command="test") as run:
        candidates = Candidates(Told(run, tiny_task, 0.0), "retrained", [(one, 1e-3) for one in members(3)])  # type: ignore[arg-type]
        candidates.halve(40)
        assert sorted(candidates.updates.values()) == [40, 64, 64]


def test_halving_tries_members_at_the_sizes_that_they_are_trained_in(monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[Any] = []
    monkeypatch.setattr(controls, "best_of", lambda experiment, name, found: groups.extend(found))
    space = SPACES["t5"](dim=16)
    experiment: Any = SimpleNamespace(
        seed=lambda name: derive(1, name),
        equal=lambda found: Objective(at={"dim": 32}),
        sampled_space=lambda: space,
        settings=SETTINGS,
        recipe=SimpleNamespace(trained={"dim": 32}),
    )
    controls.halving(experiment, "halving", None)
    assert {member.dim for member in groups[0]} == {32}


@pytest.mark.parametrize(("limit", "held"), [(145_000, True), (34_600, False), (10_000_000, False), (None, False)])
def test_a_search_uses_the_most_of_a_limit_where_members_do(limit: int | None, held: bool) -> None:
    recipe = RECIPES["shrinknas-small"]().but(objective=Objective(max_core_parameters=limit))
    experiment: Any = SimpleNamespace(recipe=recipe, settings=SETTINGS, seed=lambda name: derive(1, name))
    limits = ShrinkNasExperiment.limits(experiment, recipe.open_space())
    assert limits == (recipe.objective.using(0.8) if held else recipe.objective)
    assert (limits.min_core_parameters == 116_000) is held


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("space", ["t0", "s2"])
def test_one_plain_network_needs_layers_too(name: str, space: str) -> None:
    experiment: Any = SimpleNamespace(space=SPACES[space]())
    with pytest.raises(RequestError, match=f"{name} is a network of layers, and the space '{space}' has none"):
        Experiment.check_plain(experiment, name)
    Experiment.check_plain(SimpleNamespace(space=SPACES["modern-language"]()), name)  # type: ignore[arg-type]
