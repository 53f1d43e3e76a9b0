"""A differentiable search carried out: restarts, derivation, training from scratch, and the controls that search."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Any

from nasformer.errors import RequestError
from nasformer.models.size import core_parameters
from nasformer.recipes.experiment import Experiment
from nasformer.recipes.fixed import decoder_alone
from nasformer.recipes.recipe import Recipe
from nasformer.recipes.searched_rate import known_costs, measure_costs, rated, rated_paths
from nasformer.runs.run import Run
from nasformer.runs.stage import Display, Stage
from nasformer.spaces.families import is_reversible
from nasformer.spaces.named import darts_transformer, resized
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import (
    CrossAttention,
    Encoder,
    EncoderDecoder,
    EncoderLayer,
    Identity,
)
from nasformer.strategies.bilevel import BilevelSearch
from nasformer.strategies.darts import Darts
from nasformer.strategies.drive import drive
from nasformer.strategies.memory import Way, plan
from nasformer.strategies.objective import Objective
from nasformer.strategies.shrinknas import Exploration, ShrinkNas
from nasformer.strategies.single_path import SinglePath
from nasformer.supernets.named import supernet_of
from nasformer.training.trainer import Training


@dataclass(frozen=True)
class Derived:
    """What a search derived, by whether Zero was allowed; what it cost (`searched` updates, `seconds`, `flops`), and
    what its row says of its rate."""

    architectures: dict[bool, Any]
    cost: dict[str, Any]
    rate: dict[str, Any]


class DartsExperiment(Experiment):
    """The derived architecture is trained from scratch; every arm gets that many updates after its own search."""

    controls = (*Experiment.controls, "plain_darts", "uniform_sampling", "other_zero")

    def __init__(self, recipe: Recipe, run: Run, display: Display) -> None:
        assert isinstance(recipe.strategy, Darts)
        if recipe.objective.memory is not None and recipe.strategy.second_order:
            raise RequestError(
                "objective.memory plans updates of the first order, and strategy.second_order=true keeps more than "
                "they do; expected one of the two"
            )
        super().__init__(recipe, run, display)
        for name in ("plain_darts", "uniform_sampling"):
            if name in recipe.controls and not is_reversible(self.space.template):
                raise RequestError(f"the control {name} stands beside a reversible space; {self.space.name} is none")
        self.strategy = self._fitting(recipe.strategy, self.space, "search")
        if "plain_darts" in recipe.controls:
            self._fitting(recipe.strategy, self._plain_space(), "plain_darts_search")

    def find(self) -> dict[str, Any]:
        """Search from every start, take the best derived architecture, train it."""
        found = self._best_search(self.strategy, self.space, self.recipe.objective, "search")
        architecture = found.architectures[bool(self.strategy.zero)]
        return self.from_scratch(architecture, "found", **found.cost) | found.rate

    def control(self, name: str, found: Any) -> dict[str, Any]:
        """Plain DARTS and uniform sampling search, with as many updates; both end at the found one's core size."""
        if name == "plain_darts":
            space = self._plain_space()
            strategy = self._fitting(self.strategy.but(backward="stored"), space, "plain_darts_search")
            free = Objective(memory=self.recipe.objective.memory)  # the size is made equal afterwards
            derived = self._best_search(strategy, space, free, "plain_darts_search")
            architecture = _resized(derived.architectures[bool(strategy.zero)], core_parameters(found))
            return self.from_scratch(architecture, name, **derived.cost) | derived.rate
        if name == "other_zero":
            derived = self._best_search(self.strategy, self.space, self.recipe.objective, "search")
            other = derived.architectures[not self.strategy.zero]
            return self.from_scratch(other, name, **derived.cost) | derived.rate
        if name == "uniform_sampling":
            return self._uniform(found)
        return super().control(name, found)

    def _fitting(self, strategy: Darts, space: Space, stage: str) -> Darts:
        """The strategy in the fastest way that stays within the memory limit, where one is set; planned once a run."""
        limit = self.recipe.objective.memory
        if limit is None:
            return strategy
        name = f"memory/{stage}.json"
        if not (self.run.path / name).exists():
            tokens = strategy.training.batch_tokens

            def tell(way: Way) -> None:
                self.display.progress(stage, 0, 1, f"planning memory: {way.text}")

            self.display.progress(stage, 0, 1, "planning memory")
            longest = min(self.recipe.task.longest, tokens)
            found = plan(space, self.settings, tokens, longest, limit, exact=strategy.exact, tell=tell)
            self._tell("memory_plan", stage, found.data())
            self.run.write_json(name, found.data())
        chosen = self.run.read_json(name)
        return strategy.but(**{way: chosen[way] for way in ("backward", "one_at_a_time", "micro_batches")})

    def _best_search(self, strategy: Darts, space: Space, objective: Objective, stage: str) -> Derived:
        """Of the searches from several starts, all at one rate, that whose derived architecture has the lowest
        validation loss on inherited weights; at the cost of all and of the sweep."""
        found, losses, seconds, place = [], [], 0.0, self.stage(stage)

        def begin(settings: Darts) -> BilevelSearch:
            return self._begin(settings, space, objective, stage, 0)

        strategy, rate = rated(self, strategy, stage, begin)
        for start in range(strategy.restarts):
            place = self.stage(f"{stage}_{start + 1}") if start else place
            derived, loss = self._search(strategy, space, objective, stage, start, place)
            found.append(derived)
            losses += [] if loss is None else [loss]
            seconds += place.seconds
        best = losses.index(min(losses, key=lambda loss: (math.isnan(loss), loss))) if losses else 0
        if losses:
            self._tell("restarts", stage, {"losses": losses, "best": best + 1})
        updates = strategy.training.updates * strategy.restarts + rate.updates
        rests = strategy.rests * strategy.restarts + int(strategy.resting * rate.updates)
        weights, logits = known_costs(self, stage)
        cost = {"searched": 2 * updates - rests, "seconds": seconds}
        return Derived(found[best], cost | {"flops": updates * weights + (updates - rests) * logits}, rate.data())

    def _begin(self, strategy: Darts, space: Space, objective: Objective, stage: str, start: int) -> BilevelSearch:
        """A search at its beginning."""
        supernet = supernet_of(space, self.settings, seed=self.seed("supernet", stage, start), **strategy.ways)
        return strategy.begin(space, objective, self.task, supernet, self.seed("search", stage, start))

    def _search(
        self, strategy: Darts, space: Space, objective: Objective, stage: str, start: int, place: Stage
    ) -> tuple[dict[bool, Any], float | None]:
        """One search to its end: what it derived by whether Zero was allowed, and where there are several the
        validation loss of that on inherited weights. The search and its supernet are gone when this returns."""
        search = self._begin(strategy, space, objective, stage, start)
        measure_costs(self, search, stage)
        drive(search, place)
        derived = {zero: search.best(zero=zero) for zero in (True, False)}
        return derived, self._inherited_loss(search) if strategy.restarts > 1 else None

    def _tell(self, event: str, stage: str, fields: dict[str, Any]) -> None:
        """Record and show, once, what is of a stage but no part of its work: a stage that is restored forgets its own
        events."""
        if stage not in [told["of"] for told in self.run.events(event)]:
            self.run.record(event, of=stage, **fields)
            self.display.event(event, {"stage": stage} | fields)

    def _inherited_loss(self, search: BilevelSearch) -> float:
        return self.task.validation_loss(search.supernet.at(search.best()))

    def _plain_space(self) -> Space:
        """The plain Transformer of the same depth and a third of the stream's width (as 320 is to 960 in the paper);
        of a decoder-only space the decoder of it alone."""
        alone = not hasattr(self.space.template, "encoder")
        stack = self.space.template.decoder if alone else self.space.template.encoder
        options = getattr(stack.layers[0].nodes[0], "options", ())
        heads = next((option.heads for option in options if option.kind == "attention"), 4)
        dim = max(1, round(stack.dim / 3 / (2 * heads))) * 2 * heads
        space = darts_transformer(dim=dim, layers=stack.depth, heads=heads)
        return Space(decoder_alone(space.template), space.name) if alone else space

    def _uniform(self, found: Any) -> dict[str, Any]:
        """Single paths drawn uniformly, then evolution on inherited weights among architectures of the found one's
        size (the paper's sampling; it does not say how it chose)."""
        own = self.strategy
        training = own.training.but(updates=(2 * own.training.updates - own.rests) * own.restarts)
        exploration = Exploration(members=50, iterations=4, first_ranking=50, validation_tokens=training.batch_tokens)
        planned = self.recipe.objective.memory is not None  # a single path takes no more than the mixture
        ways = own.ways if planned else {"backward": "stored"}
        pieces, seed, objective = own.micro_batches if planned else 1, self.seed("uniform_sampling"), self.objective
        stage = self.stage("uniform_sampling_search")

        def supernet() -> Any:
            return supernet_of(self.space, self.settings, seed=self.seed("supernet", "uniform"), **ways)

        def path(short: Training) -> SinglePath:
            return SinglePath(supernet(), self.task, short, seed, micro_batches=pieces)

        def draw(random: Random) -> Any:
            return objective.sample(self.space, random, self.settings)

        training, rate, flops = rated_paths(self, training, stage.name, path, draw)
        strategy = ShrinkNas(training=training, rounds=1, exploration=exploration, divergence_members=0)
        search = strategy.begin(self.space, objective, self.task, supernet(), seed, self.equal(found))
        search.path.micro_batches = pieces
        drive(search, stage)
        cost: dict[str, Any] = {"evaluations": search.evaluations, "seconds": stage.seconds}
        cost |= {"searched": training.updates + rate.updates, "flops": flops + search.flops}
        return self.from_scratch(search.best(), "uniform_sampling", **cost) | rate.data()


def _resized(architecture: Any, core: int) -> Any:
    """A plain Transformer at the width that gives it the core size `core` (see `resized`)."""
    if hasattr(architecture, "encoder"):
        return resized(architecture, core, core_parameters)
    stack = architecture.decoder  # as the decoder of a Transformer whose encoder is not counted
    encoder = (EncoderLayer(mixer=Identity(), feed_forward=stack.layers[0].feed_forward),)
    cross = CrossAttention(heads=1)
    whole = EncoderDecoder(
        encoder=Encoder(dim=stack.dim, layers=encoder),
        decoder=stack.but(layers=tuple(layer.but(cross=cross) for layer in stack.layers)),
    )
    return decoder_alone(resized(whole, core, lambda found: core_parameters(decoder_alone(found))))
