"""A search of cells carried out: equal budgets, what is refused before anything runs, and what is read off a table."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import Mock

import pytest

from nasformer.errors import RequestError
from nasformer.models.size import core_parameters
from nasformer.recipes.carry_out import experiment_of
from nasformer.recipes.controls import CONTROLS
from nasformer.recipes.experiment_cell import passes
from nasformer.recipes.named import RECIPES
from nasformer.recipes.recipe import Recipe
from nasformer.runs.run import Run
from nasformer.runs.stage import Quiet
from nasformer.spaces.cell import Skip
from nasformer.spaces.image_cell import BlockChain
from nasformer.spaces.known_cells import SEPARABLE_3, cell, darts_v2, gdas_v1, nasbench201_two_inputs, s2
from nasformer.spaces.named import NamedSpace
from nasformer.spaces.nas_bench import nasbench201_text
from nasformer.spaces.open import one_of
from nasformer.strategies.darts import Darts
from nasformer.strategies.early_stopping import EarlyStopping
from nasformer.strategies.gdas import Gdas
from nasformer.strategies.objective import Objective
from nasformer.strategies.rome import Rome
from nasformer.supernets.named import supernet_of
from nasformer.tasks.images import Images

SMALL = RECIPES["rome-small"]()
SEARCH = SMALL.strategy.training.but(updates=4, batch_tokens=16, record_every=2)
RECIPE = SMALL.but(
    task=Images(train_images=80, evaluation_images=20),
    space=NamedSpace(name="s2", settings={"channels": 4, "cells": 3}),
    strategy=Rome(training=SEARCH, samples=3, epochs=2),
    fine_tune=SMALL.fine_tune.but(updates=2, batch_tokens=16, record_every=1),
    controls=(),
)
CHAIN = BlockChain(
    channels=4, features=8, stages=(1, 1), blocks=(cell([(0, one_of(Skip(), SEPARABLE_3))], inputs=1),) * 2
)


def begin(recipe: Recipe, path: Path) -> Any:
    """The experiment of a recipe in a run of its own."""
    run = Run.create(path / f"run_{time.monotonic_ns()}", recipe.data(), seed=recipe.seed, command="test")
    return experiment_of(recipe)(recipe, run, Quiet())


@pytest.mark.parametrize(
    "strategy",
    [
        Rome(samples=4),
        Rome(samples=7, samples_logits=2),
        Rome(samples_weights=1, samples_logits=5, resting=0.5),
        Gdas(resting=0.25),
        Darts(),
    ],
    ids=["rome-4", "rome-7-2", "rome-1-5", "gdas", "darts"],
)
def test_what_samples_takes_as_many_passes_as_the_search(tmp_path: Path, strategy: Any) -> None:
    experiment = begin(RECIPE.but(strategy=strategy), tmp_path)
    each = strategy.gathering if isinstance(strategy, Rome) else None
    weights, logits = (each.weights, each.logits) if each else (1, 1)
    assert passes(strategy) == 30_000 * (weights + logits * (1 - strategy.resting))
    ablations = ("all_edges", "single_sample", "gathered_weights", "gathered_logits", "pairs") if each else ()
    for name in ("gdas", *ablations):
        method = experiment.method(name)
        assert abs(passes(method) / passes(strategy) - 1) < 1e-3, name
        assert method.weight_part == strategy.weight_part
    for name in ("darts", "second_order", "pc_darts", "darts_minus", "early_stopping"):
        method = experiment.method(name)
        assert method.training == strategy.training
        own = method.darts if isinstance(method, EarlyStopping) else method
        assert own.resting == (max(0.3, strategy.resting) if name == "pc_darts" else strategy.resting)
    if each:
        gathered = [experiment.method(name).gathering for name in ("gathered_weights", "gathered_logits")]
        assert [(g.weights, g.logits) for g in gathered] == [(each.weights, 1), (1, each.logits)]


@pytest.mark.slow
def test_a_result_is_complete_after_the_last_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = begin(RECIPE.but(controls=("random_architecture", "gdas")), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(type(experiment), "method", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            experiment.carry_out()
    result = experiment.run.read_json("result.json")
    assert [len(result["rows"]), result["complete"]] == [4, False]
    experiment.carry_out()
    result = experiment.run.read_json("result.json")
    assert [len(result["rows"]), result["complete"]] == [5, True]


@pytest.mark.slow
def test_a_search_that_stopped_counts_what_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = EarlyStopping(darts=Darts(training=SEARCH.but(updates=12)), every=1, window=1, back=1, not_before=0.0)
    values = iter([1.0, 1.0, 2.0])
    monkeypatch.setattr(
        "nasformer.strategies.early_stopping.StoppedSearch._eigenvalue", lambda self, update: next(values)
    )
    row = begin(RECIPE.but(strategy=strategy), tmp_path).carry_out()["rows"][0]
    assert row["scorecard"]["updates"] == 2 * 3 + 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strategy": Darts(training=SEARCH, restarts=2)}, "starts once, got strategy restarts=2"),
        ({"objective": Objective(at={"channels": 8})}, "set trained instead"),
        (
            {"strategy": Rome(training=SEARCH, micro_batches=2), "controls": ("second_order",)},
            "second_order needs whole batches",
        ),
        (
            {"space": NamedSpace(name="s2", settings={"channels": 6, "cells": 3}), "controls": ("pc_darts",)},
            r"partial=4 does not divide the channels of every cell, \[6, 12, 24\]",
        ),
        ({"space": CHAIN, "controls": ("pc_darts",)}, "in cells of one width"),
        ({"controls": ("transformer",)}, "language models of cells and networks of layers; s2 is neither"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(tmp_path: Path, changes: Any, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        begin(RECIPE.but(**changes), tmp_path)


@pytest.mark.slow
def test_gdas_beside_a_reversible_space_has_controls_that_fit(tmp_path: Path) -> None:
    small = RECIPES["dartsformer-small"]()
    recipe = small.but(
        strategy=Gdas(training=small.strategy.training),
        task=small.task.but(embedded_pairs=1_000, vocabulary=400),
        controls=("second_order", "early_stopping", "darts"),
    )
    experiment = begin(recipe, tmp_path)
    for name in recipe.controls:
        method = experiment.method(name)
        supernet = supernet_of(experiment.space, experiment.settings, seed=1, **method.ways)
        assert not method.begin(experiment.space, Objective(), experiment.task, supernet, 1).finished()
    with pytest.raises(RequestError, match="darts_minus is for cells"):
        begin(recipe.but(controls=("darts_minus",)), tmp_path)
    found = experiment.space.sample(Random(1))
    transformer = begin(recipe.but(controls=("transformer",)), tmp_path).fixed("transformer", found)
    assert transformer.family == "encoder_decoder"
    assert abs(core_parameters(transformer) / core_parameters(found) - 1) < 0.035
    with pytest.raises(RequestError, match="planned for the strategy darts alone, and not for cells; gdas on the"):
        begin(recipe.but(objective=Objective(memory=2**30), controls=()), tmp_path)


@pytest.mark.parametrize("changes", [{"trained": {"dim": 8}}, {"table": "table.csv"}], ids=str)
def test_what_only_searches_of_cells_have_is_refused_elsewhere(tmp_path: Path, changes: Any) -> None:
    with pytest.raises(RequestError, match="trained and table are for searches of cells"):
        begin(RECIPES["demo"]().but(**changes), tmp_path)


@pytest.mark.slow
def test_a_correlation_takes_no_more_members_than_there_are(tmp_path: Path) -> None:
    experiment = begin(RECIPE.but(space=CHAIN, correlation=9), tmp_path)
    found = experiment.correlation()
    assert found["members"] == len(found["alone"]) == 4
    stages = [event["stage"] for event in experiment.run.events("finished")]
    assert [stage for stage in stages if stage.startswith("correlation")] == [f"correlation_{i}" for i in range(4)]


def test_random_architectures_have_the_inputs_that_a_search_derives(tmp_path: Path) -> None:
    space = NamedSpace(name="s3", settings={"channels": 4, "cells": 3})
    experiment = begin(RECIPE.but(space=space, strategy=RECIPE.strategy.but(zero="search_only")), tmp_path)
    without = experiment.sampled_space()
    assert without.size == s2().size < experiment.space.size
    found = without.sample(Random(1))
    assert found in experiment.space
    for number in ("", "_2", "_3"):
        other = experiment.fixed(f"random_architecture{number}", found)
        kinds = {edge.operator.kind for part in (other.normal, other.reduction) for n in part.nodes for edge in n.edges}
        assert kinds == {"skip", "separable_convolution"}
    fixed = begin(RECIPE.but(space=NamedSpace(name="nasbench201", settings={"channels": 4})), tmp_path)
    assert fixed.sampled_space() is fixed.space  # where no edge is chosen, Zero may be derived


def test_known_cells_stand_in_the_found_ones_network(tmp_path: Path) -> None:
    experiment = begin(RECIPE, tmp_path)
    found = experiment.space.sample(Random(1))
    for name, published in (("darts_v2", darts_v2()), ("gdas_v1", gdas_v1())):
        fixed = experiment.fixed(name, found)
        assert (fixed.channels, fixed.cells, fixed.stem) == (4, 3, 3)
        assert (fixed.normal, fixed.reduction) == (published.normal, published.reduction)


def _table(path: Path, left_out: int = 0) -> str:
    """A table of the members of NAS-Bench-201 with two inputs a node: their numbers as accuracies."""
    columns = "CIFAR10TestAccuracy200Epochs,CIFAR100TestAccuracy200Epochs,ImageNetTestAccuracy200Epochs"
    texts = [nasbench201_text(member) for member in nasbench201_two_inputs().members()][left_out:]
    lines = [f"{columns},ArchitectureString", *(f"{i / 100},1,1,{text}" for i, text in enumerate(texts))]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.mark.slow
def test_rows_are_read_off_a_table_that_holds_every_member(tmp_path: Path) -> None:
    space = NamedSpace(name="nasbench201-two-inputs", settings={"channels": 4, "cells": 1})
    recipe = RECIPE.but(space=space, controls=("gdas", "random_architecture", "table_best"), trained={"cells": 5})
    with pytest.raises(RequestError, match=r"\(3,071 architectures read\) does not hold"):
        begin(recipe.but(table=_table(tmp_path / "short.csv", left_out=1)), tmp_path)
    result = begin(recipe.but(table=_table(tmp_path / "whole.csv")), tmp_path).carry_out()
    rows = {row["name"]: row for row in result["rows"]}
    assert rows["table_best"]["scorecard"]["accuracy"]["value"] == 30.71
    assert {row["architecture"]["cells"] for row in rows.values()} == {5}
    assert {row["table"]["members"] for row in rows.values()} == {3_072}
    sizes = [rows[name]["scorecard"]["core_parameters"] for name in ("found", "random_architecture")]
    assert abs(sizes[1] / sizes[0] - 1) < 0.031


def test_the_recipe_for_tables_has_no_control_that_is_trained() -> None:
    assert not set(RECIPES["rome-nasbench201"]().controls) & set(CONTROLS)
