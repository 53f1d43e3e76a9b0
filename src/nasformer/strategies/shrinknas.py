"""ShrinkNAS: Single-Path One-Shot Operator Exploratory Training for Transformer with Dynamic Space Shrinking.

A supernet over operators and sizes is trained one sampled architecture at a time; at intervals the architectures
sampled so far are ranked on inherited weights, explored around by mutation and crossover, and the resulting set is the
space from which the next stage samples. The last exploration's best architecture keeps its weights and is fine-tuned.

How ours differs (docs/papers/shrinknas.md §4): n and i are ours (readings 13, 14), a hard limit holds from the first
sample on, a choice that comes into being by mutation is drawn uniformly, and the divergence is measured in passing.
"""

from __future__ import annotations

from random import Random
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from nasformer.measures.statistics import rank_correlation
from nasformer.measures.training_cost import evaluation_flops, update_flops
from nasformer.models.size import core_parameters
from nasformer.spaces.space import Members, Space
from nasformer.spaces.value import Count, Value
from nasformer.strategies.objective import Objective, summary
from nasformer.strategies.offspring import breed
from nasformer.strategies.single_path import (
    Ranking,
    SinglePath,
    packed,
    random_state,
    set_random_state,
    unpacked,
)
from nasformer.strategies.strategy import Progress
from nasformer.supernets.supernet import Supernet
from nasformer.tasks.task import Task
from nasformer.training.loss_window import LossWindow
from nasformer.training.randomness import derive
from nasformer.training.trainer import Training

Share = Annotated[float, Field(ge=0, le=1)]


class Exploration(Value):
    """Algorithm 1: `iterations` times keep the best of the set and refill it to `members` with mutants and crosses.

    `first_ranking` caps how many of the architectures sampled since the last round are ranked first (the most recent).
    `validation_tokens` target tokens make the batch of one ranking.
    """

    members: Annotated[int, Field(ge=2)] = 1000
    iterations: Annotated[int, Field(ge=1)] = 3
    kept: Share = 0.3
    mutants: Share = 0.4
    crosses: Share = 0.3
    mutation_rate: Annotated[float, Field(gt=0, le=1)] = 0.4
    first_ranking: Annotated[int, Field(ge=2)] = 2000
    validation_tokens: Annotated[Count, Field(ge=16)] = 30_720

    def counts(self) -> tuple[int, int, int]:
        """Members kept, made by mutation, made by crossover; together `members`."""
        kept, mutants = max(1, round(self.kept * self.members)), round(self.mutants * self.members)
        return kept, mutants, self.members - kept - mutants


class ShrinkNas(Value):
    """The settings of a ShrinkNAS search.

    `shrinking` is the method ("explore"), Space Reduction ("reduce": the next set is the kept best alone), or a set of
    the `members` best sampled without exploration ("select"). With `shuffled_scores` every ranking is random: a
    negative control. Where the core size is limited the search is among members that use at least the part `use` of the
    limit, since early in training small ones score best. `divergence_members` of 0 leaves the measurement out.
    """

    kind: Literal["shrinknas"] = "shrinknas"
    training: Training = Training(updates=50_000)
    rounds: Annotated[int, Field(ge=1)] = 5
    exploration: Exploration = Exploration()
    shrinking: Literal["explore", "reduce", "select"] = "explore"
    shuffled_scores: bool = False
    use: Share = 0.0
    divergence_members: Annotated[int, Field(ge=0)] = 200
    divergence_tokens: Annotated[int, Field(ge=16)] = 256

    def evaluations(self) -> int:
        """Evaluations of the whole search at most.

        From the second round on, what was sampled and is ranked first comes from the set of the round before.
        """
        exploration = self.exploration
        members = exploration.counts()[0] if self.shrinking == "reduce" else exploration.members
        first = exploration.first_ranking + (self.rounds - 1) * min(exploration.first_ranking, members)
        further = 0 if self.shrinking == "select" else exploration.iterations - 1
        return first + self.rounds * further * exploration.members

    def begin(
        self,
        space: Space,
        objective: Objective,
        task: Task,
        supernet: Supernet,
        seed: int,
        last: Objective | None = None,
    ) -> ShrinkNasSearch:
        """The search under way. `last` are other limits for the last exploration, from which the best is taken."""
        return ShrinkNasSearch(self, space, objective, task, supernet, seed, last or objective)


class ShrinkNasSearch:
    """A ShrinkNAS search: `supernet` and the set it samples from, stage by stage (see `Search`)."""

    def __init__(
        self,
        settings: ShrinkNas,
        space: Space,
        objective: Objective,
        task: Task,
        supernet: Supernet,
        seed: int,
        last: Objective,
    ) -> None:
        self.settings, self.space, self.objective, self.supernet = settings, space, objective, supernet
        self.last = last
        self.path = SinglePath(supernet, task, settings.training, seed)
        self.random = Random(derive(seed, "search"))
        self.sampler: Space | Members = space
        self.sampled: dict[Any, None] = {}
        self.round, self.iteration, self.rankings, self.evaluations = 0, 0, 0, 0
        self.ranking: Ranking | None = None
        self.ranked: list[tuple[float, Any]] = []
        self.window = LossWindow()
        self.trained_flops, self.evaluated_flops = 0.0, 0.0

    @property
    def flops(self) -> float:
        """The floating-point operations of all updates and evaluations so far."""
        return self.trained_flops + self.evaluated_flops

    def finished(self) -> bool:
        """Whether the last round is over."""
        return self.round == self.settings.rounds

    def step(self) -> Progress:
        """One update, or a part of a ranking."""
        due = (self.round + 1) * self.settings.training.updates // self.settings.rounds
        events = self._explore() if self.path.updates >= due else self._update()
        done = self.path.updates + self.round + (self.iteration / self.settings.exploration.iterations)
        total = self.settings.training.updates + self.settings.rounds
        best = f"best {self.ranked[0][0]:.3f} ({core_parameters(self.best()):,} core)" if self.ranked else ""
        return Progress(int(done), total, f"loss {self.window.told:.3f}  round {self.round}  {best}", tuple(events))

    def best(self) -> Any:
        """The member with the lowest score of the last ranking."""
        return self.ranked[0][1]

    def finalists(self, count: int) -> list[Any]:
        """The members with the lowest scores of the last ranking, the best first: of those with the same widths, depths
        and mixers one, as far as there are others."""
        best: dict[str, Any] = {}
        for _, member in self.ranked:
            best.setdefault(summary(member), member)
        rest = [member for _, member in self.ranked if member is not best[summary(member)]]
        return [*best.values(), *rest][:count]

    def _update(self) -> list[tuple[str, dict[str, Any]]]:
        member = self.objective.sample(self.sampler, self.random, self.supernet.settings)
        self.sampled.pop(member, None)
        self.sampled[member] = None
        self.window.add(*self.path.update(member))
        self.trained_flops += update_flops(member, self.supernet.settings, self.settings.training.batch_tokens)
        update, training = self.path.updates, self.settings.training
        if update % training.record_every and update != training.updates:
            return []
        return [("update", self.window.take(update, training.rate(update)))]

    def _explore(self) -> list[tuple[str, dict[str, Any]]]:
        """Rank some more; with the ranking complete, refill the set, and with the last iteration over, shrink to it."""
        exploration = self.settings.exploration
        events: list[tuple[str, dict[str, Any]]] = []
        if self.ranking is None:
            if self.iteration == 0:
                events += self._divergence("before")
                members = self._sampled()
            else:
                members = self._refill(events)
            self.rankings += 1
            self.ranking = Ranking(self.path, self._limits(), members, self.rankings, exploration.validation_tokens)
        self.ranking.advance()
        if not self.ranking.finished():
            return events
        events.append(self._take_ranking(self.ranking))
        self.ranking = None
        self.iteration += 1
        last = 1 if self.settings.shrinking == "select" else exploration.iterations
        if self.iteration == last:
            events += self._shrink()
        return events

    def _limits(self) -> Objective:
        """What holds in the exploration of this round."""
        return self.last if self.round == self.settings.rounds - 1 else self.objective

    def _sampled(self) -> list[Any]:
        """What is ranked first: the most recently sampled; where other limits hold, those of them within, refilled."""
        exploration, limits, settings = self.settings.exploration, self._limits(), self.supernet.settings
        recent = list(self.sampled)[-exploration.first_ranking :]  # all that a checkpoint keeps
        if limits == self.objective:
            return recent
        within = [member for member in recent if limits.allows(member, settings)]
        fresh = [limits.sample(self.space, self.random, settings) for _ in range(exploration.members - len(within))]
        return within + fresh

    def _take_ranking(self, ranking: Ranking) -> tuple[str, dict[str, Any]]:
        before = {member: score for score, member in self.ranked} if self.iteration else {}
        if self.settings.shuffled_scores:
            self.random.shuffle(ranking.scores)
        self.ranked = ranking.best_first()
        self.evaluations += len(self.ranked)
        tokens, own = self.settings.exploration.validation_tokens, self.supernet.settings
        self.evaluated_flops += sum(evaluation_flops(member, own, tokens) for _, member in self.ranked)
        again = [(before[member], score) for score, member in self.ranked if member in before]
        repeat = rank_correlation(*zip(*again, strict=True), resamples=0).kendall.value if len(again) > 3 else None
        scores = [score for score, _ in self.ranked]
        return "exploration", {
            "round": self.round + 1,
            "iteration": self.iteration + 1,
            "update": self.path.updates,
            "members": len(scores),
            "best": scores[0],
            "median": scores[len(scores) // 2],
            "evaluations": self.evaluations,
            "repeat_kendall": repeat,
            "best_architecture": summary(self.best()),
            "scores": [[core_parameters(member), score] for score, member in self.ranked[:200]],
        }

    def _refill(self, events: list[tuple[str, dict[str, Any]]]) -> list[Any]:
        kept, mutants, crosses = self.settings.exploration.counts()
        parents = [member for _, member in self.ranked[:kept]]
        children, refilled = breed(
            parents,
            mutants=mutants,
            crosses=crosses,
            rate=self.settings.exploration.mutation_rate,
            space=self.space,
            objective=self._limits(),
            settings=self.supernet.settings,
            random=self.random,
        )
        if refilled:
            events.append(("refilled", {"round": self.round + 1, "iteration": self.iteration, "count": refilled}))
        return parents + children

    def _shrink(self) -> list[tuple[str, dict[str, Any]]]:
        """The next stage's set, by the variant of the method."""
        events: list[tuple[str, dict[str, Any]]] = []
        kept = self.settings.exploration.counts()[0]
        if self.settings.shrinking == "explore":
            members = self._refill(events)
        else:
            count = kept if self.settings.shrinking == "reduce" else self.settings.exploration.members
            members = [member for _, member in self.ranked[:count]]
        self.sampler = Members(self.space, members)
        self.sampled = {}
        shares = self.sampler.shares()
        self.round, self.iteration = self.round + 1, 0
        fields = {"round": self.round, "update": self.path.updates, "members": self.sampler.size, "shares": shares}
        scores = [[core_parameters(member), score] for score, member in self.ranked[:200]]
        return [*events, ("round", fields | {"scores": scores}), *self._divergence("after")]

    def _divergence(self, when: str) -> list[tuple[str, dict[str, Any]]]:
        members = self.settings.divergence_members
        if not members:
            return []
        random = Random(derive(self.path.seed, "divergence", self.round, when))
        sampler = _Within(self.sampler, self.objective, self.supernet)
        found = self.path.divergence(sampler, random, members=members, tokens=self.settings.divergence_tokens)
        number = self.round + (when == "before")
        return [("divergence", {"round": number, "when": when, "members": members} | found)]

    def tensors(self) -> dict[str, Tensor]:
        """Shared weights and optimiser state."""
        return self.path.tensors()

    def state(self) -> dict[str, Any]:
        """Everything else: generators, counters, sets and the ranking under way."""
        return {
            "path": self.path.state(),
            "random": random_state(self.random),
            "set": [packed(self.space, m) for m in self.sampler.members] if isinstance(self.sampler, Members) else None,
            "sampled": [packed(self.space, m) for m in list(self.sampled)[-self.settings.exploration.first_ranking :]],
            "counters": [self.round, self.iteration, self.rankings, self.evaluations],
            "flops": [self.trained_flops, self.evaluated_flops],
            "ranking": None if self.ranking is None else self.ranking.state(),
            "ranked": [[score, packed(self.space, member)] for score, member in self.ranked],
            "window": self.window.state(),
        }

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go to where `tensors` and `state` were taken."""
        self.path.load(tensors, state["path"])
        set_random_state(self.random, state["random"])
        if state["set"] is not None:
            self.sampler = Members(self.space, [unpacked(self.space, answers) for answers in state["set"]])
        self.sampled = {unpacked(self.space, answers): None for answers in state["sampled"]}
        self.round, self.iteration, self.rankings, self.evaluations = state["counters"]
        self.trained_flops, self.evaluated_flops = state.get("flops", (0.0, 0.0))
        self.ranked = [(score, unpacked(self.space, answers)) for score, answers in state["ranked"]]
        self.window.load(state["window"])
        if (under_way := state["ranking"]) is not None:
            members = [unpacked(self.space, answers) for answers in under_way["members"]]
            tokens = self.settings.exploration.validation_tokens
            self.ranking = Ranking(self.path, self._limits(), members, under_way["number"], tokens)
            self.ranking.scores = list(under_way["scores"])


class _Within:
    """A sampler that stays within the limits."""

    def __init__(self, sampler: Any, objective: Objective, supernet: Supernet) -> None:
        self.sampler, self.objective, self.supernet = sampler, objective, supernet

    def sample(self, random: Random) -> Any:
        return self.objective.sample(self.sampler, random, self.supernet.settings)
