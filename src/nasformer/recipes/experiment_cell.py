"""A search of cells carried out: search, derivation, training from scratch, and the controls on the same supernet.

Every searching control gets the budget of the search it stands beside, counted in passes: a forward and a backward pass
of one selection. ROME gathers K samples in each half of an update; a method that gathers fewer gets so many more
updates. One that runs all options at once (DARTS and its kin), whose passes cost several times as much, gets as many
updates as ROME.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from nasformer.errors import RequestError
from nasformer.measures.statistics import rank_correlation
from nasformer.models.size import core_flops, core_parameters, total_parameters
from nasformer.recipes.controls import CONTROLS
from nasformer.recipes.experiment import Experiment
from nasformer.recipes.fixed import of_layers, sized_decoder
from nasformer.recipes.recipe import Recipe
from nasformer.recipes.searched_rate import known_costs, measure_costs, rated, rated_paths
from nasformer.runs.run import Run
from nasformer.runs.stage import Display, Stage
from nasformer.spaces.cell import cells, without_zero
from nasformer.spaces.named import ARCHITECTURES
from nasformer.spaces.program_space import ProgramSpace
from nasformer.strategies.darts import Darts
from nasformer.strategies.darts_minus import DartsMinus
from nasformer.strategies.drive import drive
from nasformer.strategies.early_stopping import EarlyStopping
from nasformer.strategies.gdas import Gdas
from nasformer.strategies.pc_darts import PcDarts
from nasformer.strategies.rome import Rome
from nasformer.strategies.rules import Settings
from nasformer.strategies.shrinknas import Exploration, ShrinkNas
from nasformer.strategies.single_path import Ranking, SinglePath
from nasformer.supernets.cell import check_partial
from nasformer.supernets.named import supernet_of
from nasformer.tasks.nas_table import NasTable
from nasformer.tasks.scorecard import Scorecard
from nasformer.training.trainer import Training

STRATEGIES = ("rome", "gdas", "darts", "pc_darts", "darts_minus", "early_stopping")
"""The kinds of strategies that search cells by gradients."""
ABLATIONS = ("all_edges", "single_sample", "gathered_weights", "gathered_logits", "pairs")
"""Controls that are ROME with one part changed."""
KNOWN = {"darts_v2": "darts-v2", "gdas_v1": "gdas-v1"}
"""Controls that are known cells, and the architectures that hold them."""


def searches_cells(recipe: Recipe) -> bool:
    """Whether a recipe is a differentiable search of a space of cells."""
    space = recipe.open_space()
    return recipe.strategy.kind in STRATEGIES and not isinstance(space, ProgramSpace) and any(cells(space.template))


class CellExperiment(Experiment):
    """The derived architecture is trained from scratch, at the sizes that the recipe's `trained` says; or it is looked
    up in a table."""

    searching = (
        *("gdas", "darts", "second_order", "pc_darts", "darts_minus", "early_stopping", "spos"),
        *ABLATIONS,
    )
    """Controls that search themselves."""
    controls = ("random_architecture", "transformer", *CONTROLS, *KNOWN, "joint", "table_best", *searching)
    of_cells = True

    def __init__(self, recipe: Recipe, run: Run, display: Display) -> None:
        if recipe.objective.at:
            raise RequestError("objective.at is what a search of cells takes from trained; set trained instead")
        super().__init__(recipe, run, display)
        if recipe.objective.memory is not None:
            raise RequestError(
                f"objective.memory is planned for the strategy darts alone, and not for cells; {recipe.strategy.kind} "
                f"on the space {self.space.name!r} has no plan: expected no such limit"
            )
        if unknown := [name for name in recipe.trained if not hasattr(self.space.template, name)]:
            raise RequestError(f"trained.{unknown[0]}: the family {self.space.template.family} has no such size")
        self.strategy: Any = recipe.strategy
        own: Any = recipe.strategy.darts if isinstance(recipe.strategy, EarlyStopping) else recipe.strategy
        self.own = own  # whose settings the controls share
        self.table = None if recipe.table is None else self._read_table(Path(recipe.table))
        if self.table is None and "table_best" in recipe.controls:
            raise RequestError("the control table_best needs a table; set table to the path of one")
        if self.table is not None:
            self.table.accuracy(self.space.sample(Random(0)), recipe.table_data)  # whether it holds this space at all
            _ = self._members_of_table  # and every member of it
        if getattr(own, "restarts", 1) > 1:
            raise RequestError(f"a search of cells starts once, got strategy restarts={own.restarts}; expected 1")
        for name in recipe.controls:
            if name in CONTROLS and self.table is not None:
                raise RequestError(f"the control {name} is trained, and with a table nothing is; leave one of them out")
            if name in KNOWN and self.space.template.family != "image_cells":
                raise RequestError(f"the control {name} is a network of image_cells; {self.space.name} is none")
            if name in ("joint", *ABLATIONS) and recipe.strategy.kind != "rome":
                raise RequestError(f"the control {name} changes a part of ROME; it needs strategy.kind=rome")
            if name == "joint" and getattr(recipe.strategy, "topology", "") == "all":
                raise RequestError("the control joint derives from the logits of edges; strategy.topology=all has none")
            if name in ("second_order", "early_stopping") and own.micro_batches > 1:
                raise RequestError(
                    f"the control {name} needs whole batches; expected micro_batches=1, got {own.micro_batches}"
                )
            if name == "darts_minus" and not any(cells(self.space.template)):
                raise RequestError(f"the control darts_minus is for cells; the space {self.space.name!r} has none")
            if name == "pc_darts":
                check_partial(self.space, self.method(name).partial)

    def check_plain(self, name: str) -> None:
        """Transformers stand beside language models of cells too."""
        if not (of_layers(self.space.template) or self.space.template.family == "cell_decoder_only"):
            raise RequestError(
                f"the control {name} stands beside language models of cells and networks of layers; "
                f"{self.space.name} is neither"
            )

    def _read_table(self, path: Path) -> NasTable:
        table = NasTable.read_file(path)
        digest = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        if not (self.run.path / "table.json").exists():
            self.run.write_json("table.json", digest)
        if self.run.read_json("table.json") != digest:
            raise RequestError(f"the table at {path} changed since this run began; restore it, or start a new run")
        return table

    def note(self) -> str | None:
        """Which table the rows were looked up in, and how good its members of the space are."""
        if self.table is None:
            return None
        members, data = self._members_of_table, self.recipe.table_data
        (best, _), mean = self.table.best(data, among=members), self.table.mean(data, among=members)
        return (
            f"The searches saw {self.task.facts()['path']}. Nothing was trained after them: accuracies on {data} are "
            f"looked up in {self.table.text()}. "
            f"Of the {len(members):,} architectures of the space the best there has {best:.2f}, the mean is {mean:.2f}."
        )

    def find(self) -> dict[str, Any]:
        """Search, then train what was derived."""
        search, cost, rate = self._searched(self.strategy, "search")
        return self.from_scratch(search.best(), "found", **cost) | rate

    def control(self, name: str, found: Any) -> dict[str, Any]:
        """Other methods search with the same budget; `joint` derives otherwise from the same search."""
        if name == "spos":
            return self._spos(found)
        if name in self.searching:
            search, cost, rate = self._searched(self.method(name), f"{name}_search")
            return self.from_scratch(search.best(), name, **cost) | rate
        if name == "joint":
            search, cost, rate = self._searched(self.strategy, "search")
            other = "topology" if self.strategy.derive == "joint" else "joint"
            return self.from_scratch(search.best(derive=other), name, **cost) | rate
        if name == "table_best":
            return self._best_of_table()
        return super().control(name, found)

    def fixed(self, name: str, found: Any) -> Any:
        """Known cells in the found one's network, the Transformer of the found one's size, random members of it."""
        if name in KNOWN:
            sizes = {size: getattr(found, size) for size in ("channels", "cells", "stem")}
            return ARCHITECTURES[KNOWN[name]]().but(**sizes)
        if name == "transformer" and found.family == "cell_decoder_only":
            return sized_decoder("attention", 2.0, core_parameters(found), found.blocks, "pre")
        return super().fixed(name, found)

    def sampled_space(self) -> Any:
        """The space, less what no search derives: Zero on an edge that is chosen."""
        return without_zero(self.space)

    def method(self, name: str) -> Any:
        """The strategy of a searching control, with the budget of the recipe's (see the head of this file)."""
        own = self.own
        weights, logits = _samples(own)
        shared: dict[str, Any] = {field: getattr(own, field) for field in Settings.model_fields}

        def gathering(weights: int, logits: int) -> dict[str, Any]:
            """So many samples in each half, and as many passes as the recipe's."""
            updates = max(1, round(passes(own) / (weights + logits * (1 - own.resting))))
            samples = {"samples_weights": weights, "samples_logits": logits}
            return samples | {"samples": max(weights, logits), "training": own.training.but(updates=updates)}

        sampled = {"temperature": own.temperature} if isinstance(own, Rome | Gdas) else {}
        rome = own if isinstance(own, Rome) else Rome(**shared | sampled, samples=1)
        darts = Darts(**shared)
        resting = {"resting": max(own.resting, PcDarts().resting)}
        methods = {
            "gdas": lambda: Rome(**shared | sampled | gathering(1, 1), topology="all", order="weights_first"),
            "darts": lambda: darts,
            "second_order": lambda: darts.but(second_order=True, backward="stored"),
            "early_stopping": lambda: EarlyStopping(darts=darts.but(backward="stored")),
            "pc_darts": lambda: PcDarts(**shared | {"logits": own.logits.but(rate=2 * own.logits.rate)} | resting),
            "darts_minus": lambda: DartsMinus(**shared),
            "all_edges": lambda: rome.but(topology="all", derive="topology", zero="refuse"),
            "pairs": lambda: rome.but(topology="pairs"),
            "single_sample": lambda: rome.but(**gathering(1, 1)),
            "gathered_weights": lambda: rome.but(**gathering(weights, 1)),
            "gathered_logits": lambda: rome.but(**gathering(1, logits)),
        }
        return methods[name]()

    def from_scratch(self, architecture: Any, name: str, **cost: Any) -> dict[str, Any]:
        """The row of an architecture trained from scratch at the recipe's sizes, or looked up."""
        if architecture.family == self.space.template.family:
            architecture = architecture.but(**self.recipe.trained)
        if self.table is not None:
            return self._looked_up(architecture, **cost)
        return super().from_scratch(architecture, name, **cost)

    def correlation(self) -> dict[str, Any]:
        """How losses on inherited weights rank random cells against training each from scratch (at the size of the
        search), for the search and for each control that searched with other edges."""
        names = ["search", *(f"{name}_search" for name in ("all_edges", "gdas") if name in self.recipe.controls)]
        space = self.sampled_space()
        members = self.different(space.sample, space.size)
        alone = self.alone(members)
        found: dict[str, Any] = {"members": len(members), "alone": alone, "searches": {}}
        for stage in names:
            method = self.strategy if stage == "search" else self.method(stage.removesuffix("_search"))
            search, _, _ = self._searched(method, stage)
            tokens = 8 * method.training.batch_tokens
            ranking = Ranking(search.path, self.objective, members, self.seed("correlation"), tokens)
            while not ranking.finished():
                ranking.advance()
            kendall = rank_correlation(ranking.scores, alone).kendall
            measured = {"kendall": kendall.value, "low": kendall.low, "high": kendall.high}
            found["searches"][stage] = measured | {"inherited": ranking.scores}
            if stage == "search":
                found |= measured
        sizes = rank_correlation([-core_parameters(member) for member in members], alone)
        return found | {"size_kendall": sizes.kendall.value}

    def _searched(self, strategy: Any, stage: str) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """A search of this run, taken to its end; what it cost, its sweep included; what its row says of its rate."""
        task, place = self.task.for_search(), self.stage(stage)

        def begin(settings: Any) -> Any:
            supernet = supernet_of(self.space, self.settings, seed=self.seed("supernet"), **settings.ways)
            return settings.begin(self.space, self.objective, task, supernet, self.seed("search", stage))

        strategy, rate = rated(self, strategy, stage, begin)
        search = begin(strategy)
        measure_costs(self, search, stage)
        drive(search, place)
        own: Settings = getattr(strategy, "darts", strategy)
        rests = min(own.rests, search.path.updates) + int(own.resting * rate.updates)
        updates = search.path.updates + rate.updates
        weights, logits = known_costs(self, stage)
        cost = {"searched": passes(strategy, updates, rests), "seconds": place.seconds}
        return search, cost | {"flops": updates * weights + (updates - rests) * logits}, rate.data()

    def _spos(self, found: Any) -> dict[str, Any]:
        """Uniform single paths for as many passes as the search took, then evolution on inherited weights among
        architectures of the found one's size."""
        training = self.own.training.but(updates=passes(self.strategy))
        exploration = Exploration(members=20, iterations=4, first_ranking=40, validation_tokens=training.batch_tokens)
        space, task, seed = self.sampled_space(), self.task.for_search(), self.seed("search", "spos")
        place: Stage = self.stage("spos_search")

        def path(short: Training) -> SinglePath:
            supernet = supernet_of(space, self.settings, seed=self.seed("supernet"))
            return SinglePath(supernet, task, short, seed)

        def draw(random: Random) -> Any:
            return self.objective.sample(space, random, self.settings)

        training, rate, flops = rated_paths(self, training, place.name, path, draw)
        strategy = ShrinkNas(training=training, rounds=1, exploration=exploration, divergence_members=0)
        supernet = supernet_of(space, self.settings, seed=self.seed("supernet"))
        search = strategy.begin(space, self.objective, task, supernet, seed, self.equal(found))
        drive(search, place)
        cost: dict[str, Any] = {"evaluations": search.evaluations, "seconds": place.seconds}
        cost |= {"searched": training.updates + rate.updates, "flops": flops + search.flops}
        return self.from_scratch(search.best(), "spos", **cost) | rate.data()

    def _looked_up(
        self,
        architecture: Any,
        *,
        searched: int = 0,
        evaluations: int = 0,
        seconds: float = 0.0,
        flops: float | None = None,
    ) -> dict[str, Any]:
        """The row of an architecture whose accuracy the table tells."""
        assert self.table is not None
        data = self.recipe.table_data
        members = self._members_of_table
        standing = {
            "rank": self.table.rank(architecture, data, among=members),
            "members": len(members),
            "best": self.table.best(data, among=members)[0],
            "mean": self.table.mean(data, among=members),
        }
        scorecard = Scorecard(
            quality={"split": "test", "accuracy": {"value": self.table.accuracy(architecture, data)}},
            core_parameters=core_parameters(architecture),
            total_parameters=total_parameters(architecture, self.settings),
            flops=core_flops(architecture),
            updates=searched,
            evaluations=evaluations,
            seconds=seconds,
            training_flops=flops,
        )
        return {"architecture": architecture.data(), "scorecard": scorecard.data(), "table": standing}

    def _best_of_table(self) -> dict[str, Any]:
        """The best member of the space that the table knows: how good a search could be."""
        assert self.table is not None
        _, keys = self.table.best(self.recipe.table_data, among=self._members_of_table)
        return self._looked_up(self.table.architecture(keys[0]))

    @cached_property
    def _members_of_table(self) -> list[str]:
        """The members of the space as the table writes them; raises `RequestError` where it lacks one."""
        assert self.table is not None
        return list(dict.fromkeys(self.table.key(member) for member in self.space.members()))


def passes(strategy: Any, updates: int | None = None, rests: int | None = None) -> int:
    """The passes of a search (or of so many `updates` of it, of which the logits rest in `rests`): of weights and of
    logits, each selection one."""
    own: Settings = strategy.darts if isinstance(strategy, EarlyStopping) else strategy
    weights, logits = _samples(own)
    updates = own.training.updates if updates is None else updates
    return updates * weights + max(0, updates - (own.rests if rests is None else rests)) * logits


def _samples(strategy: Settings) -> tuple[int, int]:
    """How many selections a search gathers in an update of the weights, and in one of the logits."""
    return (strategy.gathering.weights, strategy.gathering.logits) if isinstance(strategy, Rome) else (1, 1)
