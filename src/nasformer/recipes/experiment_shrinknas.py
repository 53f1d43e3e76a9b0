"""A ShrinkNAS recipe carried out: search, fine-tuning on inherited weights, and the controls that search."""

from __future__ import annotations

from typing import Any

from nasformer.errors import RequestError
from nasformer.measures.statistics import rank_correlation
from nasformer.models.size import core_parameters
from nasformer.recipes.experiment import Experiment
from nasformer.recipes.recipe import Recipe
from nasformer.runs.run import Run
from nasformer.runs.stage import Display, Stage
from nasformer.spaces.space import Space
from nasformer.strategies.drive import drive
from nasformer.strategies.objective import Objective
from nasformer.strategies.random_search import RandomSearch
from nasformer.strategies.shrinknas import ShrinkNas, ShrinkNasSearch
from nasformer.strategies.single_path import Ranking
from nasformer.strategies.spos import spos
from nasformer.supernets.named import supernet_of
from nasformer.training.train import train
from nasformer.training.trainer import borrow


class ShrinkNasExperiment(Experiment):
    """The found architecture keeps its weights and is fine-tuned; every arm gets the updates of both together."""

    controls = (
        *Experiment.controls,
        "random_search",
        "spos",
        "space_reduction",
        "selection",
        "sizes_only",
        "shuffled",
        "retrained",
    )

    def __init__(self, recipe: Recipe, run: Run, display: Display) -> None:
        super().__init__(recipe, run, display)
        assert isinstance(recipe.strategy, ShrinkNas)
        self.strategy = recipe.strategy
        if recipe.objective.memory is not None:
            raise RequestError(
                "objective.memory plans the updates of differentiable searches; a single-path search runs one "
                "architecture at a time: limit its size instead (objective.max_total_parameters)"
            )
        if "sizes_only" in recipe.controls:
            recipe.objective.check(self._sizes_only(), self.settings)

    def find(self) -> dict[str, Any]:
        """Search and fine-tune."""
        search, stage = self._search(self.strategy, self.space, "search")
        return self._fine_tuned(search, search.best(), "found", search.evaluations, stage.seconds)

    def control(self, name: str, found: Any) -> dict[str, Any]:
        """Those that search choose, in their last exploration, among architectures of the found one's core size."""
        strategy = self.strategy.but(divergence_members=0)
        variants = {
            "spos": spos(strategy),
            "space_reduction": strategy.but(shrinking="reduce"),
            "selection": strategy.but(shrinking="select"),
            "shuffled": strategy.but(shuffled_scores=True),
            "sizes_only": strategy,
        }
        if name in variants:
            space = self._sizes_only() if name == "sizes_only" else self.space
            search, stage = self._search(variants[name], space, f"{name}_search", self.equal(found))
            return self._fine_tuned(search, search.best(), name, search.evaluations, stage.seconds)
        if name == "random_search":
            search, stage = self._search(self.strategy, self.space, "search")
            tokens = self.strategy.exploration.validation_tokens
            settings = RandomSearch(evaluations=search.evaluations, validation_tokens=tokens)
            drawn = settings.begin(self.space, self.equal(found), search.path, self.seed(name))
            drive(drawn, self.stage("random_search_evaluations"))
            return self._fine_tuned(search, drawn.best(), name, len(drawn.ranking.scores), stage.seconds)
        return super().control(name, found)

    def fixed(self, name: str, found: Any) -> Any:
        """The found architecture itself where it is retrained."""
        return found if name == "retrained" else super().fixed(name, found)

    def _search(
        self, strategy: ShrinkNas, space: Space, stage: str, last: Objective | None = None
    ) -> tuple[ShrinkNasSearch, Stage]:
        supernet = supernet_of(space, self.settings, seed=self.seed("supernet"))
        search = strategy.begin(space, self.recipe.objective, self.task, supernet, self.seed("search"), last)
        place = self.stage(stage)
        drive(search, place)
        return search, place

    def _sizes_only(self) -> Space:
        """The space with attention as the only operator wherever operators are chosen."""
        keep = {}
        for choice in self.space.choices:
            if choice.operators and choice.name.endswith(".mixer"):
                if "attention" not in choice.options:
                    raise RequestError(f"the control sizes_only needs attention among the options of {choice.name}")
                keep[choice.name] = [choice.options.index("attention")]
        return Space(self.space.shrink(keep).template, f"{self.space.name}, sizes only")

    def _fine_tuned(
        self, search: ShrinkNasSearch, architecture: Any, name: str, evaluations: int, seconds: float
    ) -> dict[str, Any]:
        supernet = search.supernet
        model = supernet.inherit(architecture)  # on the supernet's device, where its optimiser state is
        optimizer = search.path.optimizer.inherit(supernet.sources(architecture), borrow(model))
        stage = self.stage(name)
        before = self.strategy.training.updates
        train(
            model,
            self.task,
            self.recipe.fine_tune,
            stage,
            seed=self.seed(name),
            updates_before=before,
            optimizer=optimizer,
        )
        updates = self.recipe.total_updates()
        return self.row(model, name, supernet.settings, updates, evaluations, seconds + stage.seconds, stage)

    def correlation(self) -> dict[str, Any]:
        """How scores on inherited weights rank architectures against training each from scratch."""
        search, _ = self._search(self.strategy, self.space, "search")
        objective = self.recipe.objective
        members = self.different(lambda random: objective.sample(self.space, random, self.settings), self.space.size)
        tokens = 4 * self.strategy.exploration.validation_tokens
        ranking = Ranking(search.path, objective, members, self.seed("correlation"), tokens)
        while not ranking.finished():
            ranking.advance()
        alone = self.alone(members)
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
