"""Claim: a search with its fine-tuning takes at most 1.23 of plain training for the same number of updates.

`search_cost` computes it for each recipe from times measured in this run: of a supernet's update, of a plain update
and of an evaluation of the same random architectures, and from the counts that the recipe states.
`search_cost_measured` carries a tiny search out, every part of it, beside plain updates of the architectures it trains.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure, Options, clock, clock_name, in_turn, seconds
from benchmarks.material import SupernetSteps, batches, corpus, translation
from nasformer.operators.catalogue import Dropout
from nasformer.recipes.named import demo, shrinknas, shrinknas_paper, shrinknas_small
from nasformer.recipes.recipe import Recipe
from nasformer.runs.run import Run
from nasformer.runs.stage import Stage
from nasformer.strategies.objective import Objective
from nasformer.strategies.shrinknas import ShrinkNasSearch
from nasformer.supernets.transformer import TransformerSupernet
from nasformer.tasks.translation import TranslationTask
from nasformer.training.train import train
from nasformer.training.trainer import borrow

BAR = 1.23
EVALUATED = 2_048
"""Target tokens of the evaluation that is timed; its time grows with their number."""


@dataclass(frozen=True)
class _Times:
    """Seconds of one architecture: an update in the supernet, a plain update, an evaluation of one target token."""

    supernet: float
    plain: float
    evaluation: float


def search_cost(options: Options) -> Iterator[Figure]:
    """Each recipe, by its own counts."""
    task = translation(options.data)
    for recipe, architectures in ((shrinknas_small(), 12), (shrinknas(), 6), (shrinknas_paper(), 4)):
        yield _computed(recipe, task, architectures, options)


def _computed(recipe: Recipe, task: TranslationTask, architectures: int, options: Options) -> Figure:
    training = recipe.strategy.training
    steps = SupernetSteps(task, recipe.open_space(), recipe.dropout.residual)
    found = [_times(steps, batch, options) for batch in batches(task, training.batch_tokens, architectures)]
    exploration, evaluations = recipe.strategy.exploration, recipe.strategy.evaluations()

    def ratio(times: list[_Times]) -> float:
        supernet, plain, token = (
            float(np.mean([getattr(t, part) for t in times])) for part in ("supernet", "plain", "evaluation")
        )
        search = training.updates * supernet + evaluations * exploration.validation_tokens * token
        return (search + recipe.fine_tune.updates * plain) / (recipe.total_updates() * plain)

    low, high = np.quantile([ratio([times]) for times in found], [0.25, 0.75])
    share = evaluations * exploration.validation_tokens * sum(t.evaluation for t in found)
    share /= recipe.total_updates() * sum(t.plain for t in found)
    how = (
        f"({training.updates:,} supernet updates + {evaluations:,} evaluations on {exploration.validation_tokens:,} "
        f"tokens + {recipe.fine_tune.updates:,} plain updates) / {recipe.total_updates():,} plain updates of "
        f"{training.batch_tokens:,} tokens, from mean times of {architectures} random architectures (the spread: "
        f"between them); evaluations alone are {share:.2f}; {corpus(options.data)}; {clock_name()}"
    )
    return Figure(f"search_cost_{recipe.name.replace('-', '_')}", ratio(found), BAR, (float(low), float(high)), how)


def _times(steps: SupernetSteps, batch: object, options: Options) -> _Times:
    architecture = steps.draw()
    plain = steps.plain(architecture)
    validation = steps.task.draw(EVALUATED, np.random.default_rng(1))
    calls = [
        lambda: steps.draw_and_step(architecture, batch),  # type: ignore[arg-type]
        lambda: plain(batch),  # type: ignore[arg-type]
        lambda: steps.task.evaluate(steps.supernet.at(architecture), validation),
    ]
    tokens = sum(part.tokens for part in validation)
    supernet, alone, evaluation = np.median(in_turn(calls, options.repeats(3), warmup=1), axis=0).tolist()
    return _Times(supernet, alone, evaluation / tokens)


def search_cost_measured(options: Options) -> Iterator[Figure]:
    """The recipe `shrinknas-small` at a thirtieth of its updates and evaluations, end to end."""
    task = translation(options.data)
    small = shrinknas_small()
    exploration = small.strategy.exploration.but(members=2, first_ranking=4)
    training = small.strategy.training.but(updates=50).at(1e-3)
    strategy = small.strategy.but(training=training, exploration=exploration, divergence_members=0)
    recipe = demo().but(strategy=strategy, fine_tune=small.fine_tune.but(updates=30).at(1e-3))
    supernet = TransformerSupernet(recipe.open_space(), task.model_settings(Dropout(residual=0.1)), seed=1)
    search = strategy.begin(supernet.space, Objective(), task, supernet, seed=1)
    spent, plain = _searched(search, task)
    with tempfile.TemporaryDirectory() as folder:
        tuned, alone = _fine_tuned(search, recipe, task, Path(folder))
    how = (
        f"a whole search ({training.updates} updates, {search.evaluations} evaluations) and {recipe.fine_tune.updates} "
        f"updates of fine-tuning, everything counted, / plain updates of the same architectures on the same stream, in "
        f"turn; updates of {training.batch_tokens:,} tokens; {corpus(options.data)}; {clock_name()}; the spread: "
        f"fine-tuning alone, search alone"
    )
    spread = sorted((tuned / alone, spent / plain))
    yield Figure("search_cost_measured", (spent + tuned) / (plain + alone), BAR, (spread[0], spread[1]), how)


def _searched(search: ShrinkNasSearch, task: TranslationTask) -> tuple[float, float]:
    """Seconds of the search, and of one plain update for each of its updates."""
    steps = SupernetSteps(task, search.space, 0.1)
    stream = task.stream(search.settings.training.batch_tokens, seed=2)
    spent = plain = 0.0
    while not search.finished():
        updates = search.path.updates
        spent += seconds(search.step)
        if search.path.updates > updates:
            step, batch = steps.plain(next(reversed(search.sampled))), stream.next()
            step(batch)  # the optimiser makes its state
            plain += seconds(lambda: step(stream.next()))  # noqa: B023
    return spent, plain


def _fine_tuned(search: ShrinkNasSearch, recipe: Recipe, task: TranslationTask, folder: Path) -> tuple[float, float]:
    """Seconds of inheriting and fine-tuning, and of as many plain updates of the same architecture."""
    architecture = search.best()
    step = SupernetSteps(task, search.space, 0.1).plain(architecture)
    stream = task.stream(recipe.fine_tune.batch_tokens, seed=2)
    step(stream.next())
    with Run.create(folder / "run", recipe.data(), seed=1, command="benchmark") as run:
        start = clock()
        model = search.supernet.inherit(architecture)
        optimizer = search.path.optimizer.inherit(search.supernet.sources(architecture), borrow(model))
        before = recipe.strategy.training.updates
        train(model, task, recipe.fine_tune, Stage(run, "found"), seed=1, updates_before=before, optimizer=optimizer)
        spent = clock() - start
    return spent, sum(seconds(lambda: step(stream.next())) for _ in range(recipe.fine_tune.updates))
