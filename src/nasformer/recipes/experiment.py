"""A recipe carried out, arm by arm: search and fine-tune, then every control with the same updates and evaluations.

Each arm ends with a row of the result (`rows/NAME.json`); an arm whose row is there is not done again, so a run that
was stopped goes on where it was.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from torch import nn

from nasformer.errors import RequestError
from nasformer.measures.statistics import rank_correlation
from nasformer.models.build import build
from nasformer.models.size import core_flops, core_parameters, total_parameters
from nasformer.models.transformer import ModelSettings
from nasformer.recipes.recipe import Recipe, TrainRecipe
from nasformer.runs.run import Run
from nasformer.runs.stage import Display, Stage
from nasformer.spaces.named import sized
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import EncoderDecoder
from nasformer.strategies.drive import drive
from nasformer.strategies.objective import Objective
from nasformer.strategies.random_search import RandomSearch
from nasformer.strategies.shrinknas import ShrinkNas, ShrinkNasSearch
from nasformer.strategies.single_path import Ranking
from nasformer.strategies.spos import spos
from nasformer.supernets.transformer import TransformerSupernet
from nasformer.tasks.pretrained import save_pretrained
from nasformer.tasks.scorecard import Scorecard
from nasformer.tasks.translation import Translation, TranslationTask
from nasformer.training.randomness import derive
from nasformer.training.train import borrow, train

LABELS = {
    "found": "ShrinkNAS",
    "random_search": "random search",
    "spos": "SPOS",
    "space_reduction": "Space Reduction",
    "selection": "shrinking without exploration",
    "sizes_only": "sizes only",
    "shuffled": "shuffled scores",
    "random_architecture": "random architecture, from scratch",
    "retrained": "found, from scratch",
    "transformer": "Transformer",
    "light_convolution": "LightConv",
    "lite_transformer": "Lite Transformer",
}
"""What reports call the arms."""


def open_task(settings: Translation, run: Run) -> TranslationTask:
    """The task of a run; raises `RequestError` where its data are no longer what they were when the run began."""
    task = settings.open(run.path / "vocabularies")
    if not (run.path / "data.json").exists():
        run.write_json("data.json", task.digests())
    then, now = run.read_json("data.json"), task.digests()
    if changed := [split for split in now if then.get(split) != now[split]]:
        raise RequestError(
            f"the {' and '.join(changed)} text at {settings.path} changed since this run began; restore it, or start a "
            f"new run"
        )
    return task


def train_alone(recipe: TrainRecipe, run: Run, display: Display) -> dict[str, Any]:
    """One architecture trained from scratch; returns (and writes) the result with its single row."""
    task = open_task(recipe.task, run)
    settings = task.model_settings(recipe.dropout)
    model = build(recipe.architecture, settings, seed=derive(recipe.seed, "weights"))
    stage = Stage(run, "found", display, recipe.checkpoint_seconds)
    train(model, task, recipe.training, stage, seed=derive(recipe.seed, "training"))
    row = score(model, task, settings, stage, updates=recipe.training.updates, evaluations=0, seconds=stage.seconds)
    save_pretrained(model, task.source, task.target, run.path / "model", task.decoding())  # type: ignore[arg-type]
    run.write_json("architectures/best.json", recipe.architecture.data())
    rows = [{"name": "found", "label": recipe.name} | row]
    result = {"recipe": recipe.name, "task": task.facts(), "limits": {}, "rows": rows, "correlation": None}
    run.write_json("result.json", result)
    return result


def score(
    model: nn.Module,
    task: TranslationTask,
    settings: ModelSettings,
    stage: Stage,
    *,
    updates: int,
    evaluations: int,
    seconds: float,
) -> dict[str, Any]:
    """The row of a trained model: its architecture, its scorecard on the test split, its validation loss."""
    stage.progress(1, 1, "scoring")
    architecture: Any = model.architecture
    scorecard = Scorecard(
        **task.quality(model, "test"),
        core_parameters=core_parameters(architecture),
        total_parameters=total_parameters(architecture, settings),
        flops=core_flops(architecture),
        updates=updates,
        evaluations=evaluations,
        seconds=seconds,
    )
    stage.record("finished", seconds=seconds)
    loss = task.validation_loss(model)
    return {"architecture": architecture.data(), "scorecard": scorecard.data(), "validation_loss": loss}


class Experiment:
    """A recipe on its way to a result.

    Args:
        recipe: what is done.
        run: the folder that remembers.
        display: where progress is shown.
    """

    def __init__(self, recipe: Recipe, run: Run, display: Display) -> None:
        self.recipe, self.run, self.display = recipe, run, display
        self.space = recipe.open_space()
        self.task = open_task(recipe.task, run)
        self.settings = self.task.model_settings(recipe.dropout)
        recipe.objective.check(self.space, self.settings)
        if "sizes_only" in recipe.controls:
            recipe.objective.check(self._sizes_only(), self.settings)

    def carry_out(self) -> dict[str, Any]:
        """All arms in order; returns (and writes) the result."""
        rows = [self._arm("found", self._found)]
        found = EncoderDecoder.read(rows[0]["architecture"])
        self.run.write_json("architectures/best.json", found.data())
        for name in self.recipe.controls:
            rows.append(self._arm(name, partial(self._control, name, found)))
            self._write(rows, None)
        correlation = self._correlation() if self.recipe.correlation else None
        return self._write(rows, correlation)

    def _write(self, rows: list[dict[str, Any]], correlation: dict[str, Any] | None) -> dict[str, Any]:
        limits = {k: v for k, v in self.recipe.objective.data().items() if k != "penalty" and v is not None}
        result = {
            "recipe": self.recipe.name,
            "task": self.task.facts(),
            "space": {"name": self.space.name, "size": self.space.size, "encoded_size": self.space.encoded_size},
            "limits": limits,
            "rows": rows,
            "divergence": self.run.events("divergence"),
            "correlation": correlation,
        }
        self.run.write_json("result.json", result)
        return result

    def _arm(self, name: str, work: Any) -> dict[str, Any]:
        path = f"rows/{name}.json"
        if not (self.run.path / path).exists():
            row = {"name": name, "label": LABELS[name]} | work()
            self.run.write_json(path, row)
        return self.run.read_json(path)

    def _stage(self, name: str) -> Stage:
        return Stage(self.run, name, self.display, self.recipe.checkpoint_seconds)

    def _search(
        self, strategy: ShrinkNas, space: Space, stage: str, last: Objective | None = None
    ) -> tuple[ShrinkNasSearch, Stage]:
        supernet = TransformerSupernet(space, self.settings, seed=derive(self.recipe.seed, "supernet"))
        seed = derive(self.recipe.seed, "search")
        search = strategy.begin(space, self.recipe.objective, self.task, supernet, seed, last)
        place = self._stage(stage)
        drive(search, place)
        return search, place

    def _found(self) -> dict[str, Any]:
        search, stage = self._search(self.recipe.strategy, self.space, "search")
        return self._fine_tuned(search, search.best(), "found", search.evaluations, stage.seconds)

    def _control(self, name: str, found: EncoderDecoder) -> dict[str, Any]:
        """The row of a control. Those that search choose, in their last exploration, among architectures of the found
        one's core size, so that no difference in quality is one in size."""
        equal = self.recipe.objective.near(core_parameters(found))
        strategy = self.recipe.strategy.but(divergence_members=0)
        variants = {
            "spos": spos(strategy),
            "space_reduction": strategy.but(shrinking="reduce"),
            "selection": strategy.but(shrinking="select"),
            "shuffled": strategy.but(shuffled_scores=True),
            "sizes_only": strategy,
        }
        if name in variants:
            space = self._sizes_only() if name == "sizes_only" else self.space
            search, stage = self._search(variants[name], space, f"{name}_search", equal)
            return self._fine_tuned(search, search.best(), name, search.evaluations, stage.seconds)
        if name == "random_search":
            search, stage = self._search(self.recipe.strategy, self.space, "search")
            exploration = self.recipe.strategy.exploration
            settings = RandomSearch(evaluations=search.evaluations, validation_tokens=exploration.validation_tokens)
            drawn = settings.begin(self.space, equal, search.path, derive(self.recipe.seed, name))
            drive(drawn, self._stage("random_search_evaluations"))
            return self._fine_tuned(search, drawn.best(), name, len(drawn.ranking.scores), stage.seconds)
        return self._from_scratch(self._fixed(name, found), name)

    def _sizes_only(self) -> Space:
        """The space with attention as the only operator wherever operators are chosen."""
        keep = {}
        for choice in self.space.choices:
            if choice.operators and choice.name.endswith(".mixer"):
                if "attention" not in choice.options:
                    raise RequestError(f"the control sizes_only needs attention among the options of {choice.name}")
                keep[choice.name] = [choice.options.index("attention")]
        return Space(self.space.shrink(keep).template, f"{self.space.name}, sizes only")

    def _fixed(self, name: str, found: EncoderDecoder) -> EncoderDecoder:
        if name == "retrained":
            return found
        core = core_parameters(found)
        if name == "random_architecture":
            drawn = Random(derive(self.recipe.seed, "random architecture"))
            return self.recipe.objective.near(core).sample(self.space, drawn, self.settings)
        largest = self.space.largest()
        operators = {
            "transformer": ("attention", 2.0),
            "light_convolution": ("light_convolution", 2.0),
            "lite_transformer": ("long_short_light", 1.0),
        }
        operator, ratio = operators[name]
        return sized(
            operator,  # type: ignore[arg-type]
            ratio,
            core,
            core_parameters,
            encoder_layers=len(largest.encoder.layers),
            decoder_layers=max(len(largest.decoder.layers), len(found.decoder.layers)),
        )

    def _fine_tuned(
        self, search: ShrinkNasSearch, architecture: Any, name: str, evaluations: int, seconds: float
    ) -> dict[str, Any]:
        supernet = search.supernet
        model = supernet.inherit(architecture)  # on the supernet's device, where its optimiser state is
        adam = search.path.adam.inherit(supernet.sources(architecture), borrow(model))
        stage = self._stage(name)
        before = self.recipe.strategy.training.updates
        seed = derive(self.recipe.seed, name)
        train(model, self.task, self.recipe.fine_tune, stage, seed=seed, updates_before=before, adam=adam)
        return self._row(model, name, supernet.settings, evaluations, seconds + stage.seconds, stage)

    def _from_scratch(self, architecture: EncoderDecoder, name: str) -> dict[str, Any]:
        model = build(architecture, self.settings, seed=derive(self.recipe.seed, name, "weights"))
        stage = self._stage(name)
        training = self.recipe.fine_tune.but(updates=self.recipe.total_updates(), averaged_part=self._averaged_part())
        train(model, self.task, training, stage, seed=derive(self.recipe.seed, name))
        return self._row(model, name, self.settings, 0, stage.seconds, stage)

    def _averaged_part(self) -> float:
        """The same updates are averaged over for every arm."""
        return self.recipe.fine_tune.averaged_part * self.recipe.fine_tune.updates / self.recipe.total_updates()

    def _row(
        self, model: nn.Module, name: str, settings: ModelSettings, evaluations: int, seconds: float, stage: Stage
    ) -> dict[str, Any]:
        updates = self.recipe.total_updates()
        row = score(model, self.task, settings, stage, updates=updates, evaluations=evaluations, seconds=seconds)
        if name == "found":
            folder = self.run.path / "model"
            save_pretrained(model, self.task.source, self.task.target, folder, self.task.decoding())  # type: ignore[arg-type]
        return row

    def _correlation(self) -> dict[str, Any]:
        """How scores on inherited weights rank architectures against training each from scratch."""
        search, _ = self._search(self.recipe.strategy, self.space, "search")
        random = Random(derive(self.recipe.seed, "correlation"))
        members: list[Any] = []
        while len(members) < self.recipe.correlation:
            member = self.recipe.objective.sample(self.space, random, self.settings)
            members += [member] if member not in members else []
        tokens = 4 * self.recipe.strategy.exploration.validation_tokens
        ranking = Ranking(search.path, self.recipe.objective, members, derive(self.recipe.seed, "correlation"), tokens)
        while not ranking.finished():
            ranking.advance()
        alone = []
        for number, member in enumerate(members):
            path = f"rows/correlation/{number}.json"
            if not (self.run.path / path).exists():
                model = build(member, self.settings, seed=derive(self.recipe.seed, "correlation", number))
                stage = self._stage(f"correlation_{number}")
                train(model, self.task, self.recipe.fine_tune, stage, seed=derive(self.recipe.seed, "alone", number))
                self.run.write_json(path, {"loss": self.task.validation_loss(model)})
            alone.append(self.run.read_json(path)["loss"])
        found = rank_correlation(ranking.scores, alone)
        sizes = rank_correlation([-core_parameters(member) for member in members], alone)
        return {
            "kendall": found.kendall.value,
            "low": found.kendall.low,
            "high": found.kendall.high,
            "members": found.n,
            "size_kendall": sizes.kendall.value,
            "inherited": ranking.scores,
            "alone": alone,
        }
