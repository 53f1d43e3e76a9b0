"""A differentiable search carried out: its memory, what frees it, what plans it, and spaces of decoders alone."""

from __future__ import annotations

import time
import weakref
from pathlib import Path
from random import Random
from typing import Any

import pytest

from nasformer.errors import RequestError
from nasformer.measures.training_cost import update_flops
from nasformer.recipes import experiment_darts
from nasformer.recipes.carry_out import experiment_of
from nasformer.recipes.named import RECIPES
from nasformer.recipes.recipe import Recipe
from nasformer.runs.run import Run
from nasformer.runs.stage import Quiet
from nasformer.spaces.families import read_architecture
from nasformer.spaces.named import dartsformer
from nasformer.spaces.open import one_of
from nasformer.spaces.reversible import ReversibleDecoderOnly, ReversibleLayer, ReversibleStack
from nasformer.spaces.transformer import Attention, CrossAttention, FeedForward
from nasformer.strategies.memory import MemoryPlan
from nasformer.strategies.objective import Objective
from nasformer.tasks.language import Language
from nasformer.training.schedule import ConstantThenDecay
from nasformer.training.sweep import Sweep

SMALL = RECIPES["dartsformer-small"]()


def few(*, heads: int, cross: bool) -> tuple[Any, ...]:
    return (Attention(heads=heads), FeedForward(ratio=2.0), *((CrossAttention(heads=heads),) if cross else ()))


RECIPE = SMALL.but(
    task=SMALL.task.but(embedded_pairs=1_000, vocabulary=400, test_sentences=8, beams=1),
    space=dartsformer(dim=48, embedding_dim=8, searched=1, depth=2, heads=4, operators=few).template,
    strategy=SMALL.strategy.but(training=SMALL.strategy.training.but(updates=2, batch_tokens=128, record_every=1)),
    fine_tune=SMALL.fine_tune.but(updates=2, batch_tokens=128, record_every=1),
    controls=(),
)
NODE = one_of(Attention(heads=4), FeedForward(ratio=2.0))
DECODER = ReversibleDecoderOnly(
    embedding_dim=8,
    decoder=ReversibleStack(dim=48, layers=(ReversibleLayer(nodes=(NODE, NODE)),), repeats=2),
)
LANGUAGE = RECIPE.but(task=Language(length=16, embedded_bytes=100_000, evaluation_tokens=256), space=DECODER)
PLAN = MemoryPlan(backward="rebuilt", one_at_a_time=True, micro_batches=3, predicted_bytes=1, text="planned")


class Watching(Quiet):
    """What was shown."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def progress(self, stage: str, done: int, total: int, text: str) -> None:
        """Remember the text."""
        self.texts.append(text)


def begin(recipe: Recipe, path: Path, display: Any = None) -> Any:
    """The experiment of a recipe in a run of its own."""
    run = Run.create(path / f"run_{time.monotonic_ns()}", recipe.data(), seed=recipe.seed, command="test")
    return experiment_of(recipe)(recipe, run, display or Quiet())


def test_a_decoder_alone_has_a_plain_one_beside_it(tmp_path: Path) -> None:
    result = begin(LANGUAGE.but(controls=("plain_darts", "transformer")), tmp_path).carry_out()
    found, plain, transformer = result["rows"]
    assert [row["architecture"]["family"] for row in result["rows"]] == [
        "reversible_decoder_only", "decoder_only", "decoder_only",
    ]  # fmt: skip
    assert len(plain["architecture"]["decoder"]["layers"]) == 2
    core = found["scorecard"]["core_parameters"]
    assert abs(plain["scorecard"]["core_parameters"] / core - 1) < 0.035
    assert abs(transformer["scorecard"]["core_parameters"] / core - 1) < 0.035


@pytest.mark.slow
def test_of_several_starts_one_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = begin(RECIPE.but(strategy=RECIPE.strategy.but(restarts=3)), tmp_path)
    made: list[Any] = []
    make = experiment_darts.supernet_of

    def watched(*args: Any, **kwargs: Any) -> Any:
        assert [supernet() for supernet in made] == [None] * len(made)
        supernet = make(*args, **kwargs)
        made.append(weakref.ref(supernet))
        return supernet

    monkeypatch.setattr(experiment_darts, "supernet_of", watched)
    experiment._best_search(experiment.strategy, experiment.space, Objective(), "search")
    assert len(made) == 3


def test_the_uniform_control_keeps_to_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment_darts, "plan", lambda *args, **kwargs: PLAN)
    ran: list[Any] = []

    def stopped(search: Any, stage: Any) -> None:
        ran.append((search.supernet.backward, search.supernet.one_at_a_time, search.path.micro_batches))
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment_darts, "drive", stopped)
    for limit in (None, 2**30):
        recipe = RECIPE.but(controls=("uniform_sampling",), objective=Objective(memory=limit))
        experiment = begin(recipe, tmp_path)
        with pytest.raises(KeyboardInterrupt):
            experiment.control("uniform_sampling", experiment.space.sample(Random(1)))
    assert ran[0][0::2] == ("stored", 1)
    assert ran[1] == ("rebuilt", True, 3)


def test_planning_is_shown_knows_of_exact_streams_and_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    make = experiment_darts.plan

    def watched(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["exact"])
        return make(*args, **kwargs)

    monkeypatch.setattr(experiment_darts, "plan", watched)
    recipe = RECIPE.but(strategy=RECIPE.strategy.but(exact=True), objective=Objective(memory=2**30))
    display = Watching()
    experiment = begin(recipe, tmp_path, display)
    assert asked == [True]
    assert "planning memory: stored, the whole batch" in display.texts
    experiment_darts.DartsExperiment(recipe, experiment.run, display)
    assert asked == [True]


def test_the_rate_of_every_search_is_found_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasformer.training.sweep.SHORTEST", 1)
    strategy = LANGUAGE.strategy.but(training=LANGUAGE.strategy.training.but(updates=12, schedule=ConstantThenDecay()))
    tuning = LANGUAGE.fine_tune.but(schedule=ConstantThenDecay())
    recipe = LANGUAGE.but(strategy=strategy, fine_tune=tuning, sweep=Sweep(share=0.5, validation_tokens=64))
    experiment = begin(recipe.but(controls=("uniform_sampling", "other_zero")), tmp_path)
    found, uniform, other = experiment.carry_out()["rows"]
    swept = {event["of"]: event["updates"] for event in experiment.run.events("sweep")}
    assert swept == {"search": 5, "uniform_sampling_search": 10, "found": 0, "uniform_sampling": 0, "other_zero": 0}
    for row, updates in ((found, 2 * (12 + 5)), (other, 2 * (12 + 5)), (uniform, 24 + 10)):
        assert row["scorecard"]["updates"] == updates + 2
        assert (
            row["search_sweep_updates"]
            == swept["uniform_sampling_search" if row["name"] == "uniform_sampling" else "search"]
        )
        assert row["search_peak"] > 0
    weights, logits = (experiment.run.read_json("costs/search.json")[half] for half in ("weights", "logits"))
    alone = 2 * update_flops(read_architecture(found["architecture"]), experiment.settings, 128)
    assert found["scorecard"]["training_flops"] == pytest.approx(17 * (weights + logits) + alone)
    assert weights > alone / 2


def test_a_second_order_has_no_plan(tmp_path: Path) -> None:
    strategy = RECIPE.strategy.but(second_order=True, backward="stored")
    begin(RECIPE.but(strategy=strategy), tmp_path)
    with pytest.raises(RequestError, match=r"strategy\.second_order=true keeps more"):
        begin(RECIPE.but(strategy=strategy, objective=Objective(memory=2**30)), tmp_path)
