"""Recipes: every one valid, JSON and back, and changes on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from nasformer.errors import RequestError
from nasformer.measures.step_cost import features
from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.recipes.carry_out import experiment_of
from nasformer.recipes.experiment import LABELS, open_task
from nasformer.recipes.named import RECIPES, demo, shrinknas_paper
from nasformer.recipes.recipe import STRATEGIES, Recipe, TrainRecipe, override, read_task, task_for
from nasformer.runs.run import Run
from nasformer.spaces import known_programs
from nasformer.spaces.families import reads_images
from nasformer.spaces.named import ARCHITECTURES, SPACES
from nasformer.spaces.program_text import program_text
from nasformer.strategies.darts import Darts
from nasformer.strategies.evaluate_program import NO_DROPOUT
from nasformer.strategies.gdas import Gdas
from nasformer.strategies.pc_darts import PcDarts
from nasformer.strategies.primer import Primer
from nasformer.strategies.rome import Rome
from nasformer.strategies.shrinknas import ShrinkNas
from nasformer.tasks.images import Images
from nasformer.tasks.language import Language
from nasformer.tasks.translation import Translation
from nasformer.training.schedule import ConstantThenDecay, Cosine, InverseSquareRoot
from nasformer.training.trainer import Training


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid_and_survives_json_and_yaml(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]()
    assert recipe.name == name
    assert Recipe.read(json.loads(recipe.json_text())) == recipe
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.data()), encoding="utf-8")
    assert Recipe.read_file(path) == recipe
    assert recipe.strategy.kind == "primer" or recipe.open_space().size >= 3_072
    if isinstance(recipe.space, str):
        assert recipe.open_space().template == SPACES[recipe.space]().template
    assert set(recipe.controls) <= set(experiment_of(recipe).controls) <= LABELS.keys()
    training = recipe.strategy.training
    if isinstance(recipe.strategy, ShrinkNas):
        assert training.updates // recipe.strategy.rounds > 0
        assert training.schedule == recipe.fine_tune.schedule
        assert recipe.total_updates() == training.updates + recipe.fine_tune.updates
    else:
        assert recipe.total_updates() == recipe.fine_tune.updates


def test_the_papers_schedule() -> None:
    recipe = shrinknas_paper()
    assert recipe.total_updates() == 80_000
    assert recipe.fine_tune.schedule.rate(80_000) == pytest.approx(1.768e-4, rel=1e-3)
    assert recipe.strategy.evaluations() == 500 + 4 * 250 + 5 * 2 * 250
    assert recipe.open_space().encoded_size == 711559752519106944000000000000


def test_the_warm_up_of_the_published_search_of_programs_ends_before_its_first_hurdle() -> None:
    recipe = RECIPES["primer-paper"]()
    strategy, settings = recipe.strategy, ModelSettings(target_vocabulary=32_000, dropout=NO_DROPOUT)
    assert isinstance(strategy, Primer)
    length = recipe.task.longest
    counted = features(recipe.open_space().template, settings, strategy.training.batch_tokens // length, length)
    first = strategy.hurdle_times()[0] / strategy.step_cost.seconds(counted)
    assert strategy.training.schedule.warmup < 0.7 * first
    assert 10_000 < first < 30_000
    assert strategy.step_cost.gflop == pytest.approx(1145.8 * 86_400 / 2.14e12, rel=0.01)


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("objective.max_core_parameters=1.8M", ("objective", "max_core_parameters"), 1_800_000),
        ("strategy.training.updates=30k", ("strategy", "training", "updates"), 30_000),
        ("strategy.exploration.members=20", ("strategy", "exploration", "members"), 20),
        ("fine_tune.averaged_part=2e-1", ("fine_tune", "averaged_part"), 2e-1),
        ("strategy.shrinking=reduce", ("strategy", "shrinking"), "reduce"),
        ("controls=[transformer, spos]", ("controls",), ("transformer", "spos")),
        ("controls=[]", ("controls",), ()),
        ("objective.max_core_parameters=null", ("objective", "max_core_parameters"), None),
        ("task.path=a=b.tsv", ("task", "path"), str(Path("a=b.tsv").resolve())),
        ("task.lowercase=true", ("task", "lowercase"), True),
        ("space=hat", ("space",), "hat"),
        ("seed=7", ("seed",), 7),
    ],
)
def test_a_change_reaches_its_field_and_no_other(change: str, path: tuple[str, ...], value: Any) -> None:
    recipe = demo()
    changed = override(recipe, [change])
    found: Any = changed
    for name in path:
        found = getattr(found, name)
    assert found == value
    data = changed.data()
    place, before = data, recipe.data()
    for name in path[:-1]:
        place, before = place[name], before[name]
    place[path[-1]] = before[path[-1]]
    assert data == recipe.data()


def test_changes_add_up_and_none_is_the_same() -> None:
    recipe = demo()
    assert override(recipe, []) == recipe
    changed = override(recipe, ["seed=3", "fine_tune.updates=10", "seed=4"])
    assert (changed.seed, changed.fine_tune.updates) == (4, 10)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("sed=1", r"no 'sed'; did you mean 'seed'"),
        ("strategy.traning.updates=3", r"did you mean 'strategy\.training\.updates'"),
        ("strategy.training.update=3", r"did you mean 'strategy\.training\.updates'"),
        ("objective.max_core_parameter=3", r"did you mean 'objective\.max_core_parameters'"),
        ("seed.more=3", r"no 'seed\.more'"),
        ("seed", r"expected key\.path=value, got 'seed'"),
        ("strategy.rounds=0", r"strategy\.rounds|rounds.*greater than or equal to 1"),
        ("fine_tune.updates=some", r"updates.*valid integer"),
        ("dropout.residual=1.5", r"residual.*less than 1"),
        ("strategy.shrinking=maybe", r"shrinking.*'explore', 'reduce' or 'select'"),
        ("controls=[nothing]", r"controls.*nothing"),
        ("objective.max_core_parameters=0", r"max_core_parameters.*greater than or equal to 1"),
        (
            "objective.max_core_parameters=1.8Q",
            r"max_core_parameters.*'1\.8Q'.*k, M, G, kB, MB, GB, KiB, MiB, GiB",
        ),
        ("objective.memory=6gb", r"memory: unknown unit in '6gb'"),
        ("seed=[1", r"expected a YAML value"),
        ("task.kind=langage", r"unknown task 'langage'; did you mean 'language'"),
        ("task.length=8", r"no 'task\.length'"),
        ("controls=[transformr]", r"controls\.0: unknown 'transformr'; did you mean 'transformer'"),
        ("strategy.training.precision=half", r"precision: Input should be '32-true' or 'bf16-mixed', got 'half'"),
        ("strategy.kind=gdaz", r"unknown strategy 'gdaz'; did you mean 'gdas'"),
        ("fine_tune.schedule.kind=cosin", r"unknown schedule 'cosin'; did you mean 'cosine'"),
        ("strategy={kind: gdaz}", r"strategy: unknown kind 'gdaz'; did you mean 'gdas'"),
    ],
)
def test_a_bad_change_is_refused_in_words(change: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        override(demo(), [change])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("dropout.residual=0.1", "dropout does nothing in a search by primer: regularisation is off; leave it out"),
        ("dropout.residual=0.2", "dropout does nothing"),
        ("dropout.attention=0.3", "dropout does nothing"),
        ("fine_tune.updates=10", "fine_tune does nothing in a search by primer: every program is trained from scratch"),
        ("fine_tune.schedule.peak=0.01", "fine_tune does nothing"),
    ],
)
def test_what_a_search_of_programs_leaves_aside_cannot_be_changed(change: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        override(RECIPES["primer-demo"](), [change])


def test_a_search_of_programs_loads_with_the_defaults_of_what_it_leaves_aside() -> None:
    recipe = RECIPES["primer"]()
    plain = Recipe(name="mine", space="primer", strategy=recipe.strategy, task=recipe.task, controls=())
    assert Recipe.read(json.loads(plain.json_text())) == plain
    assert override(recipe, ["dropout.residual=0.0", "fine_tune.updates=30k"]) == recipe
    earlier = Training(averaged=10, schedule=InverseSquareRoot(peak=5e-4, warmup=10_000))
    recipe = recipe.but(fine_tune=earlier)
    old = recipe.data()  # from before there were other optimisers and schedules
    for training in (old["fine_tune"], old["strategy"]["training"]):
        del training["optimizer"], training["clip"], training["schedule"]["kind"]
    assert Recipe.read(old) == recipe
    for change in ({"dropout": Dropout()}, {"fine_tune": Training(updates=5)}):
        with pytest.raises(RequestError, match="does nothing in a search by primer"):
            recipe.but(**change)


def test_another_task_keeps_the_path_and_takes_its_own_settings(tmp_path: Path) -> None:
    path = str(tmp_path / "corpus.txt")
    changed = override(
        demo(), ["task.length=48", f"task.path={path}", "task.kind=language", "task.vocabulary=characters"]
    )
    assert changed.task == Language(path=path, length=48, vocabulary="characters")
    assert Recipe.read(json.loads(changed.json_text())) == changed
    assert read_task(changed.data()["task"]) == changed.task
    assert override(changed, ["task.kind=translation"]).task == Translation(path=path)
    assert override(changed, ["task.kind=language"]) == changed
    assert override(demo(), ["task.kind=translation"]) == demo()


@pytest.mark.parametrize("kind", STRATEGIES)
@pytest.mark.parametrize("name", ["demo", "dartsformer-small", "primer-demo"])
def test_every_strategy_becomes_every_other(name: str, kind: str) -> None:
    recipe = RECIPES[name]().but(fine_tune=Training(), dropout=Dropout(residual=0.2), strategy=Gdas(), controls=())
    changed = override(recipe, [f"strategy.kind={kind}"])
    assert changed == recipe.but(strategy=STRATEGIES[kind]())
    assert override(changed, ["strategy.kind=gdas"]) == recipe


@pytest.mark.parametrize("kind", ["rome", "gdas", "darts", "darts_minus", "pc_darts", "early_stopping"])
def test_every_search_of_cells_trains_as_the_recipe_says(kind: str) -> None:
    for name in ("rome-small", "rome-language", "gdas-paper"):
        own: Any = RECIPES[name]().strategy
        changed: Any = override(RECIPES[name](), [f"strategy.kind={kind}"])
        found = getattr(changed.strategy, "darts", changed.strategy)
        assert (found.training, found.weight_part) == (own.training, 0.5)
        assert found.logits.betas == own.logits.betas
        assert found.logits.rate == own.logits.rate or (name, kind) == ("gdas-paper", "pc_darts")  # at their defaults
        back: Any = override(changed, [f"strategy.kind={own.kind}"])
        assert back.strategy.training == own.training


def test_sizes_of_training_can_be_set_one_by_one() -> None:
    assert override(RECIPES["rome-small"](), ["trained.cells=4"]).trained == {"cells": 4}
    with pytest.raises(RequestError, match=r"trained.*'channels', 'cells', 'dim' or 'blocks', got 'sells'"):
        override(RECIPES["rome-small"](), ["trained.sells=4"])
    with pytest.raises(RequestError, match=r"no 'trained\.cells'"):
        override(TrainRecipe(architecture=ARCHITECTURES["darts-v2"](), task=Images()), ["trained.cells=4"])


def test_another_strategy_keeps_what_both_know_and_the_recipe_sets() -> None:
    training = demo().strategy.training
    assert override(demo(), ["strategy.kind=gdas"]).strategy == Gdas(training=training)
    changed = override(demo(), ["strategy.temperature=[5, 1]", "strategy.training.updates=2", "strategy.kind=gdas"])
    assert changed.strategy == Gdas(training=training.but(updates=2), temperature=(5.0, 1.0))
    rome = demo().but(strategy=Rome(temperature=(5.0, 1.0), zero="search_only", samples=3))
    assert override(rome, ["strategy.kind=gdas"]).strategy == Gdas(temperature=(5.0, 1.0))
    assert override(rome, ["strategy.kind=darts"]).strategy == Darts()  # which has another `zero`
    assert override(rome, ["strategy.kind=pc_darts"]).strategy == PcDarts()  # with logits and a rest of its own
    assert override(rome, ["strategy.kind=rome"]) == rome


def test_a_schedule_of_another_kind_keeps_what_both_know_and_the_recipe_sets() -> None:
    kinds = [f"{place}.schedule.kind=cosine" for place in ("fine_tune", "strategy.training")]
    changed = override(demo(), ["fine_tune.schedule.end=1e-5", "strategy.training.schedule.end=1e-5", *kinds])
    peak = demo().fine_tune.schedule.peak
    assert changed.fine_tune.schedule == changed.strategy.training.schedule == Cosine(peak=peak, end=1e-5)
    with pytest.raises(RequestError, match=r"no 'fine_tune\.schedule\.decay'"):
        override(demo(), [*kinds, "fine_tune.schedule.decay=0.5"])
    assert override(demo(), ["fine_tune.schedule.kind=constant_then_decay"]) == demo()


def test_what_is_written_out_has_its_defaults() -> None:
    changed = override(demo(), ["strategy={kind: gdas}", "strategy.training.updates=2"])
    assert changed.strategy == Gdas(training=Gdas().training.but(updates=2))
    changes = ["strategy={kind: gdas, training: {updates: 30}}", "strategy.training.schedule.warmup=5"]
    found = override(demo(), changes).strategy.training
    assert found == Training(updates=30, schedule=ConstantThenDecay(warmup=5))
    changed = override(demo(), ["task={kind: language}", "task.length=48"])
    assert changed.task == Language(length=48)
    with pytest.raises(RequestError, match="unknown field 'rounds'"):
        override(demo(), ["strategy={kind: gdas, rounds: 3}"])


@pytest.mark.parametrize(
    ("text", "count"),
    [("6GiB", 6 * 2**30), ("6GB", 6 * 10**9), ("1.5 MB", 1_500_000), ("3kB", 3_000), ("2MiB", 2**21), ("7", 7)],
)
def test_memory_is_given_in_bytes_or_with_a_unit(text: str, count: int) -> None:
    assert override(demo(), [f"objective.memory={text}"]).objective.memory == count


def test_a_task_without_a_kind_is_translation() -> None:
    data = demo().data()
    del data["task"]["kind"]
    assert Recipe.read(data) == demo()
    assert read_task(data["task"]) == demo().task


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_task_follows_the_architecture(name: str) -> None:
    architecture = ARCHITECTURES[name]()
    task = task_for(architecture, "somewhere")
    assert task.path == "somewhere"
    text = "translation" if hasattr(architecture, "encoder") else "language"
    assert task.kind == ("images" if reads_images(architecture) else text)
    task.check(architecture)
    recipe = TrainRecipe(architecture=architecture, task=task)
    assert TrainRecipe.read(json.loads(recipe.json_text())) == recipe


def test_an_unknown_space_names_the_nearest() -> None:
    with pytest.raises(RequestError, match="did you mean 'shrinknas-small'"):
        demo().but(space="shrinknas-smal").open_space()


def test_a_space_may_be_written_out() -> None:
    template = SPACES["shrinknas-small"]().template
    recipe = Recipe.read(json.loads(demo().but(space=template).json_text()))
    assert recipe.open_space().template == template


@pytest.mark.parametrize("suffix", [".txt", ".program", ".json"])
def test_a_search_of_programs_starts_from_a_file(suffix: str, tmp_path: Path) -> None:
    program = known_programs.primer_ez(width=16, depth=1, heads=2)
    path = tmp_path / f"mine{suffix}"
    path.write_text(program.json_text() if suffix == ".json" else program_text(program), encoding="utf-8")
    recipe = override(RECIPES["primer"](), [f"space={path}"])
    assert recipe.space == program
    assert recipe.open_space().template == program
    assert Recipe.read(json.loads(recipe.json_text())) == recipe


def test_a_relative_path_is_found_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    assert override(demo(), ["task.path=corpus"]).task.path == str(tmp_path / "corpus")
    assert override(demo(), ["task.path='a.de,b.en'"]).task.path == f"{tmp_path / 'a.de'},{tmp_path / 'b.en'}"
    assert override(demo(), ["task.path=hub:one/two"]).task.path == "hub:one/two"
    assert override(demo(), []).task.path is None


def test_a_run_knows_its_data_again(tmp_path: Path) -> None:
    lines = [f"Satz {number}\tsentence {number}" for number in range(200)]
    path = tmp_path / "pairs.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = override(demo(), [f"task.path={path}", "task.vocabulary=300"])
    with Run.create(tmp_path / "run", recipe.data(), seed=1, command="c") as run:
        open_task(recipe.task, run)
        open_task(recipe.task, run)
        path.write_text("\n".join(reversed(lines)) + "\n", encoding="utf-8")
        with pytest.raises(RequestError, match="changed since this run began"):
            open_task(recipe.task, run)


def test_an_endless_test_sentence_is_refused(tmp_path: Path) -> None:
    for split, count in (("train", 60), ("valid", 5), ("test", 5)):
        for language in ("de", "en"):
            words = [f"{language} {number}" for number in range(count)]
            if split == "test":
                words[3] = "lang " * 4_000
            (tmp_path / f"{split}.{language}").write_text("\n".join(words) + "\n", encoding="utf-8")
    with pytest.raises(RequestError, match="pair 4 of the test split"):
        override(demo(), [f"task.path={tmp_path}", "task.vocabulary=300"]).task.open()
