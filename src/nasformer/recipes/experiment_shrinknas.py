"""A ShrinkNAS recipe carried out: search, finalists, both trainings of the best, and the controls that search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from torch import nn

from nasformer.errors import DivergedError, RequestError, RunError
from nasformer.measures.statistics import rank_correlation
from nasformer.measures.training_cost import evaluation_flops, update_flops
from nasformer.models.size import core_parameters
from nasformer.recipes.experiment import Experiment, hand_over, rate_of
from nasformer.recipes.from_scratch import Candidates, rated
from nasformer.recipes.recipe import Recipe
from nasformer.runs.run import Run
from nasformer.runs.stage import Display
from nasformer.spaces.space import Space
from nasformer.strategies.drive import drive
from nasformer.strategies.halving import halve
from nasformer.strategies.objective import Objective
from nasformer.strategies.random_search import RandomSearch
from nasformer.strategies.shrinknas import ShrinkNas, ShrinkNasSearch
from nasformer.strategies.single_path import Ranking, SampledMembers, SinglePath
from nasformer.strategies.spos import spos
from nasformer.supernets.named import supernet_of
from nasformer.training.sweep import Swept, found_rate
from nasformer.training.train import train
from nasformer.training.trainer import Training, borrow

DRAWN = 200
"""Among so many random members one must use the part of a limit that a search is held to."""
FIRST = 16
"""The first rung of the finalists is this part of the updates of a whole training, or where they are fine-tuned only of
that."""


@dataclass(frozen=True)
class Spent:
    """What went into a search so far: updates, evaluations, seconds, training FLOPs."""

    updates: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    flops: float = 0.0

    def more(self, updates: int = 0, seconds: float = 0.0, flops: float = 0.0) -> Spent:
        """This and something more."""
        return replace(self, updates=self.updates + updates, seconds=self.seconds + seconds, flops=self.flops + flops)


class ShrinkNasExperiment(Experiment):
    """The finalists are trained from scratch under hurdles and the best of them is fine-tuned on inherited weights as
    well; of the two the one with the lower validation loss is handed over. Where the recipe trains nothing from scratch
    the finalists are fine-tuned under hurdles."""

    controls = (
        *Experiment.controls,
        *("random_search", "spos", "space_reduction", "selection", "sizes_only", "shuffled"),
        *("fine_tuned", "retrained"),
    )

    def __init__(self, recipe: Recipe, run: Run, display: Display) -> None:
        schedule = recipe.fine_tune.schedule.fitted(recipe.total_updates())  # one schedule for search and fine-tuning
        assert isinstance(recipe.strategy, ShrinkNas)
        strategy = recipe.strategy.but(training=recipe.strategy.training.but(schedule=schedule))
        super().__init__(recipe.but(strategy=strategy, fine_tune=recipe.fine_tune.but(schedule=schedule)), run, display)
        self.strategy = strategy
        if recipe.objective.memory is not None:
            raise RequestError(
                "objective.memory plans the updates of differentiable searches; a single-path search runs one "
                "architecture at a time: limit its size instead (objective.max_total_parameters)"
            )
        if "sizes_only" in recipe.controls:
            recipe.objective.check(self._sizes_only(), self.settings)

    def find(self) -> dict[str, Any]:
        """Search, and train the best."""
        search, spent, peak = self._search(self.strategy, self.space, "search")
        return self._finished(search, search.finalists(self.recipe.finalists), "found", spent, peak)

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
            search, spent, peak = self._search(variants[name], space, f"{name}_search", self.equal(found))
            return self._finished(search, search.finalists(self.recipe.finalists), name, spent, peak)
        if name == "random_search":
            return self._random_search(found)
        if name == "fine_tuned":
            return dict(self.run.read_json(f"rows/{name}.json"))
        return super().control(name, found)

    def fixed(self, name: str, found: Any) -> Any:
        """The found architecture itself where it is retrained."""
        return found if name == "retrained" else super().fixed(name, found)

    def _random_search(self, found: Any) -> dict[str, Any]:
        """Random members of the found one's size on the same supernet, as many as the search evaluated."""
        search, spent, peak = self._search(self.strategy, self.space, "search")
        tokens = self.strategy.exploration.validation_tokens
        settings = RandomSearch(evaluations=search.evaluations, validation_tokens=tokens)
        drawn = settings.begin(self.space, self.equal(found), search.path, self.seed("random_search"))
        drive(drawn, self.stage("random_search_evaluations"))
        ranked = [member for _, member in drawn.ranking.best_first()]
        own = self.strategy.training.updates + spent.updates - search.path.updates
        evaluated = sum(evaluation_flops(member, search.supernet.settings, tokens) for member in ranked)
        spent = Spent(own, len(ranked), spent.seconds, spent.flops - search.evaluated_flops + evaluated)
        return self._finished(search, ranked[: self.recipe.finalists], "random_search", spent, peak)

    def _search(
        self, strategy: ShrinkNas, space: Space, stage: str, last: Objective | None = None
    ) -> tuple[ShrinkNasSearch, Spent, float]:
        """A search taken to its end, what went into it, and the peak of its rate."""
        supernet = supernet_of(space, self.settings, seed=self.seed("supernet"))
        training, sweep, swept_flops = self._supernet_rate(strategy.training, space)
        strategy = strategy.but(training=training)
        search = strategy.begin(space, self.limits(space), self.task, supernet, self.seed("search"), last)
        place = self.stage(stage)
        drive(search, place)
        updates, seconds = search.path.updates + sweep.updates, sweep.seconds
        spent = Spent(updates, search.evaluations, place.seconds + seconds, search.flops + swept_flops)
        return search, spent, training.schedule.largest()

    def limits(self, space: Space) -> Objective:
        """Of a search: the recipe's, and a core size of at least the part that the strategy says of what they allow,
        unless next to no members have that."""
        assert isinstance(self.recipe.strategy, ShrinkNas)
        limits, random = self.recipe.objective.using(self.recipe.strategy.use), Random(self.seed("limits"))
        within = any(limits.allows(space.sample(random), self.settings) for _ in range(DRAWN))
        return limits if within else self.recipe.objective

    def _supernet_rate(self, training: Training, space: Space) -> tuple[Training, Swept, float]:
        """The supernet's training with its rate found, the sweep, and the FLOPs that it took; a space is swept once in
        a run."""
        name = "supernet" if space is self.space else "supernet_sizes_only"
        objective, settings, seed, flops = self.limits(space), self.settings, self.seed(name), list[float]()

        def draw(random: Random) -> Any:
            return objective.sample(space, random, settings)

        def begin(short: Training) -> SampledMembers:
            path = SinglePath(supernet_of(space, settings, seed=self.seed("supernet")), self.task, short, seed)
            return SampledMembers(path, draw, seed, self.recipe.sweep.validation_tokens)

        how = self.recipe.sweep.but(decline=0.0)  # most shared weights have few updates in a long training too
        found, swept = found_rate(training, self.recipe.total_updates(), begin, how, self.stage(name))
        if swept is None or not swept.updates:
            return found, swept or Swept(found.schedule.largest(), 0), 0.0
        random = Random(seed)
        flops = [update_flops(draw(random), settings, training.batch_tokens) for _ in range(32)]
        return found, swept, swept.updates * sum(flops) / len(flops)

    def _sizes_only(self) -> Space:
        """The space with attention as the only operator wherever operators are chosen."""
        keep: dict[str, list[int]] = {}
        for choice in self.space.choices:
            if choice.operators and choice.name.endswith(".mixer"):
                if "attention" not in choice.options:
                    raise RequestError(f"the control sizes_only needs attention among the options of {choice.name}")
                keep[choice.name] = [choice.options.index("attention")]
        if not keep:
            raise RequestError(
                f"the control sizes_only needs mixers that are chosen, and the space {self.space.name!r} has none"
            )
        return Space(self.space.shrink(keep).template, f"{self.space.name}, sizes only")

    def _finished(
        self, search: ShrinkNasSearch, finalists: Sequence[Any], name: str, spent: Spent, peak: float
    ) -> dict[str, Any]:
        """The row of a search: its best finalist, fine-tuned or trained from scratch, whichever has the lower
        validation loss; both rows stay in the run."""
        parts = ("fine_tuned", "retrained") if name == "found" else (f"{name}_fine_tuned", f"{name}_retrained")
        models, rows = list[Any](), list[dict[str, Any]]()
        if self.recipe.retrain:
            best, again, spent, rate = self._retrained(finalists, parts[1], spent)
            finalists = [best]
            rows.append(self.arm(parts[1], lambda: self._costed(again, parts[1], self.settings, spent) | rate))
            models.append(again)
        settings = search.supernet.settings
        model, spent = self._fine_tuned(search, finalists, parts[0], spent, peak)
        rows.append(self.arm(parts[0], lambda: self._costed(model, parts[0], settings, spent) | {"peak": peak}))
        models.append(model)
        if any(row["architecture"] != model.architecture.data() for row, model in zip(rows, models, strict=True)):
            raise RunError(
                f"the rows of {name} in this run are those of another architecture, chosen by an earlier version; "
                f"begin a new run"
            )
        better = min(range(len(rows)), key=lambda number: rows[number]["validation_loss"])
        if name == "found":
            hand_over(models[better], self.task, self.run)
        row = {key: value for key, value in rows[better].items() if key not in ("name", "label")}
        whole = {"updates": spent.updates, "seconds": spent.seconds, "training_flops": spent.flops}
        trained = self.recipe.total_updates()
        said = {"handed_over": rows[better]["name"], "searched": spent.updates - trained}
        return row | {"scorecard": row["scorecard"] | whole} | said

    def _retrained(
        self, finalists: Sequence[Any], name: str, spent: Spent
    ) -> tuple[Any, nn.Module, Spent, dict[str, Any]]:
        """The finalists trained from scratch, the better half further, the best to the end: which it is, its model,
        what was spent by then, and what the row says of the rate, which is found for the first of them."""
        whole, swept = rated(self, finalists[0], name, self.recipe.sweep)
        candidates = Candidates(self, name, [(one, whole.schedule.largest()) for one in finalists])
        best, _ = candidates.halve(max(1, whole.updates // FIRST))
        model = candidates.go_on(best, whole.updates)
        sweep = swept or Swept(0.0, 0)
        flops = candidates.flops() + sweep.updates * update_flops(finalists[0], self.settings, whole.batch_tokens)
        updates = sum(candidates.updates.values()) + sweep.updates
        spent = spent.more(updates, sweep.seconds + sum(candidates.seconds.values()), flops)
        return finalists[best], model, spent, rate_of(whole, swept)

    def _costed(self, model: nn.Module, name: str, settings: Any, spent: Spent) -> dict[str, Any]:
        return self.row(
            model, name, settings, spent.updates, spent.evaluations, spent.seconds, self.stage(name), spent.flops
        )

    def _fine_tuned(
        self, search: ShrinkNasSearch, finalists: Sequence[Any], name: str, spent: Spent, peak: float
    ) -> tuple[nn.Module, Spent]:
        """The finalists fine-tuned on inherited weights, the better half further; the best to the end."""
        tuning, supernet = self.recipe.fine_tune.at(peak), search.supernet
        path = f"halving/{name}.json"
        known = self.run.read_json(path) if (self.run.path / path).exists() else {}
        done = dict.fromkeys(range(len(finalists)), 0)
        seconds = dict.fromkeys(range(len(finalists)), 0.0)

        def go_on(number: int, until: int) -> nn.Module:
            architecture = finalists[number]
            model = supernet.inherit(architecture)  # on the supernet's device, where its optimiser state is
            optimizer = search.path.optimizer.inherit(supernet.sources(architecture), borrow(model))
            stage = self.stage(f"{name}_{number + 1}" if len(finalists) > 1 else name)
            model = train(
                model,
                self.task,
                tuning,
                stage,
                seed=self.seed(name, number),
                updates_before=self.strategy.training.updates,
                optimizer=optimizer,
                until=until,
            )
            done[number], seconds[number] = until, stage.seconds
            return model

        def loss(number: int, until: int) -> float:
            key, until = f"{number}/{until}", min(until, tuning.updates)
            if key not in known:
                try:
                    known[key] = self.task.validation_loss(go_on(number, until))
                except DivergedError:
                    known[key] = math.nan
                known[f"{key} seconds"] = seconds[number]
                self.run.write_json(path, known)
            done[number], seconds[number] = until, float(known.get(f"{key} seconds", 0.0))
            return float(known[key])

        best, _ = halve(range(len(finalists)), max(1, tuning.updates // FIRST), loss)
        model = go_on(best, tuning.updates)
        cost = [update_flops(one, supernet.settings, tuning.batch_tokens) for one in finalists]
        flops = sum(done[number] * cost[number] for number in done)
        return model, spent.more(sum(done.values()), sum(seconds.values()), flops)

    def correlation(self) -> dict[str, Any]:
        """How scores on inherited weights rank architectures against training each from scratch."""
        search, _, _ = self._search(self.strategy, self.space, "search")
        objective = self.limits(self.space)
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
