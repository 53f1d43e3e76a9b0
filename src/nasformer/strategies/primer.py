"""Primer: Searching for Efficient Transformers for Language Modeling (So et al., arXiv 2109.08668, NeurIPS 2021).

Ageing evolution over programs: the best of a few random members of the population is the parent, one mutant of it is
trained from scratch for a fixed budget of compute, joins, and the oldest leaves. Hurdles, each at the median of those
that came before, stop weak programs early, so that most of the budget goes to the better half.

How ours differs (docs/papers/primer.md §4): budgets are charged by a calibrated step cost (reading 18), so a search
repeats to the bit, on any number of workers and after any interruption. The start is evaluated once and the population
begins as copies of it with its fitness. Mutants are rescaled to the start's size (reading 9), and a guard finds those
that see the future (reading 6). With `cache`, an idea of Gillard et al. (arXiv 2302.05433) and not of Primer, a program
that computes what an earlier one computes takes over its fitness.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import median
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from nasformer.errors import RequestError
from nasformer.measures.step_cost import StepCost
from nasformer.models.build import build
from nasformer.models.program import SizeError, rescaled
from nasformer.models.size import core_parameters
from nasformer.spaces.program import Program, digest
from nasformer.spaces.program_space import ProgramSpace, mutant_of
from nasformer.spaces.program_text import program_text, read_program
from nasformer.spaces.value import Count, Value
from nasformer.strategies.evaluate_program import NO_DROPOUT, Cause, Evaluation, Trial, invalid, one_thread
from nasformer.strategies.hurdles import Bars, hurdle_times
from nasformer.strategies.objective import Objective
from nasformer.strategies.strategy import Progress
from nasformer.strategies.workers import Evaluator, Job, evaluator
from nasformer.tasks.task import Task
from nasformer.training.randomness import derive
from nasformer.training.schedule import InverseSquareRoot
from nasformer.training.trainer import Training

REMEDIES: dict[Cause, str] = {
    "time-out": "raise strategy.budget or strategy.patience, or shorten the warm-up",
    "out of memory": "raise strategy.memory or lower strategy.training.batch_tokens",
    "over the size limit": "change strategy.parameters",
}
"""What to do where the start is invalid for a cause that settings can change."""
PROJECTIONS = 8
"""How many random sums of a program's logits tell what it computes."""
Positive = Annotated[Count, Field(ge=1)]


class Confirmation(Value):
    """How what was found is confirmed: the `top` programs are trained from `runs` fresh starts each and chosen among by
    their mean, and the start from `noise` ones, which is the noise floor. With `lineage` so is every ancestor of the
    chosen one; with `changes` so are the start with each change alone and the chosen one without each."""

    top: Annotated[int, Field(ge=1)] = 10
    runs: Annotated[int, Field(ge=1)] = 5
    noise: Annotated[int, Field(ge=1)] = 10
    lineage: bool = True
    changes: bool = True


class Primer(Value):
    """The settings of a Primer search.

    `programs` children are evaluated, besides the start. The parent is the best of `tournament` members of the
    `population` drawn without replacement; a tournament of 1 is random mutation without selection, the control. A full
    evaluation costs `budget` calibrated seconds, `hurdles` stand on the way, and a hurdle's bar is the median of its
    last `pool` arrivals. Core parameters are within 8 % of `parameters` (None: the start's).

    `together` children have their parents chosen from the same population, and then enter it one after another; with a
    `staleness` above 0 each child instead is chosen from the population that lacks exactly its last `staleness`
    predecessors. Either way the result is the same for any number of `workers`; at most `together` (`staleness` + 1)
    of them are busy.

    `training.updates` is not used: the budget says how many each program gets, and the schedule is fitted to them;
    `training.validate_every` and the averaging are not either. Hurdles compare programs in the middle of their
    training, where a rate that falls from the warm-up on tells more of the end than one that falls at the end only; so
    an inverse square root is the default. A peak that is `auto` is found by an experiment before the search, with the
    start. With `length_bound` programs may learn vectors along time, for the length of the task's sequences.
    `confirmation` is what an experiment does with the result. `validation_tokens`, `patience`, `memory` and `step_cost`
    are those of a `Trial`.
    """

    kind: Literal["primer"] = "primer"
    programs: Annotated[Count, Field(ge=0)] = 1000
    population: Annotated[int, Field(ge=1)] = 100
    tournament: Annotated[int, Field(ge=1)] = 10
    hurdles: Annotated[int, Field(ge=0, le=10)] = 4
    budget: Annotated[float, Field(gt=0)] = 10.0
    pool: Annotated[int, Field(ge=1)] = 100
    together: Annotated[int, Field(ge=1)] = 8
    staleness: Annotated[int, Field(ge=0)] = 0
    workers: Annotated[int, Field(ge=1)] = 1
    training: Training = Training(schedule=InverseSquareRoot())
    validation_tokens: Annotated[Count, Field(ge=16)] = 16_384
    parameters: Positive | None = None
    patience: Annotated[float, Field(gt=0)] = 20.0
    memory: Positive = 8 * 2**30
    step_cost: StepCost = StepCost()
    cache: bool = False
    length_bound: bool = False
    confirmation: Confirmation = Confirmation()

    @model_validator(mode="after")
    def _can_be_held(self) -> Self:
        if self.tournament > self.population:
            raise RequestError(
                f"a tournament of {self.tournament} among a population of {self.population}; expected a tournament of "
                f"at most the population: lower strategy.tournament or raise strategy.population"
            )
        return self

    def trial(self, start: Program) -> Trial:
        """How each program of a search from `start` is tried."""
        shared = set(Trial.model_fields) & set(type(self).model_fields) - {"parameters"}
        fields = {name: getattr(self, name) for name in shared}
        return Trial(**fields, parameters=self.parameters or core_parameters(start))

    def hurdle_times(self) -> tuple[float, ...]:
        """Where the hurdles stand, in calibrated seconds."""
        return hurdle_times(self.budget, self.hurdles)

    def begin(
        self,
        space: ProgramSpace,
        objective: Objective,
        task: Task,
        seed: int,
        *,
        settings: Value | None = None,
        cache: Path | None = None,
    ) -> PrimerSearch:
        """The search under way, from the space's template. Where there are several workers, each opens the task by
        `settings.open(cache)`; None are the task's own settings.

        Raises `RequestError` where the objective has a penalty or a memory, or the start is outside its limits.
        """
        return PrimerSearch(self, space, objective, task, seed, settings, cache)


@dataclass(frozen=True)
class Member:
    """A program of the search: where it came from, why other mutants were rejected, and what became of it.

    `equal_to` is the number of an earlier program that computes the same, whose evaluation it has taken over.
    """

    number: int
    program: Program
    parent: int | None = None
    mutation: str = "start"
    change: str = ""
    rejected: dict[str, int] = field(default_factory=dict)
    function: str | None = None
    equal_to: int | None = None
    evaluation: Evaluation | None = None

    @property
    def fitness(self) -> float:
        """The validation loss in nats, infinite for an invalid program."""
        return math.inf if self.evaluation is None else self.evaluation.fitness

    def data(self) -> dict[str, Any]:
        """The member as JSON knows it, its program as text."""
        return asdict(replace(self, program=None, evaluation=None)) | {  # type: ignore[arg-type]
            "program": program_text(self.program),
            "evaluation": None if self.evaluation is None else self.evaluation.data(),
        }

    @classmethod
    def read(cls, data: dict[str, Any]) -> Member:
        """What `data` gave."""
        evaluation = None if data["evaluation"] is None else Evaluation.read(data["evaluation"])
        return cls(**data | {"program": read_program(data["program"]), "evaluation": evaluation})


class PrimerSearch:
    """A Primer search, program by program (see `Search`); `members` have arrived, in the order of their numbers."""

    def __init__(
        self,
        settings: Primer,
        space: ProgramSpace,
        objective: Objective,
        task: Task,
        seed: int,
        task_settings: Value | None = None,
        cache: Path | None = None,
    ) -> None:
        if objective.penalty or objective.memory is not None:
            raise RequestError("a search of programs knows hard limits only; expected no objective.penalty or .memory")
        self.settings, self.objective, self.task, self.seed = settings, objective, task, seed
        self.task_settings, self.cache = task_settings or getattr(task, "settings", None), cache
        self.model_settings = task.model_settings(NO_DROPOUT)
        self.trial = settings.trial(space.template)
        start = Member(0, space.template, function=self._function(space.template))
        if outside := self._outside(start.program):
            raise RequestError(f"the start is outside the limits: {outside}")
        self.members: list[Member] = []
        self.population: deque[int] = deque([0] * settings.population, maxlen=settings.population)
        self.bars = Bars(settings.hurdles, settings.pool)
        self.pending: list[tuple[Member, tuple[float | None, ...]]] = [(start, self.bars.now())]
        self._evaluator: Evaluator | None = None
        self._background = ExitStack()

    def finished(self) -> bool:
        """Whether every program has arrived."""
        return len(self.members) == self.settings.programs + 1

    def step(self) -> Progress:
        """Choose the children whose time has come, and wait for the next one to arrive."""
        try:
            while (number := len(self.members) + len(self.pending)) <= self.settings.programs and self._ready(number):
                self.pending.append((self._child(number), self.bars.now()))
                if self._evaluator is not None:
                    self._submit(self._evaluator, *self.pending[-1])
            member = self._arrival()
        except BaseException:
            self.close()
            raise
        self._join(member)
        if self.finished():
            self.close()
        events = [("program", self._recorded(member))]
        if member.number % max(1, self.settings.population // 4) == 0 or self.finished():
            events.append(("population", self.summary()))
        done = len(self.members)
        text = f"best {self._ranked()[0].fitness:.4f}  invalid {sum(map(_is_invalid, self.members))}"
        return Progress(done, self.settings.programs + 1, text, tuple(events))

    def best(self) -> Program:
        """The program with the lowest loss among those that used up their budget."""
        return self.top(1)[0].program if self.members else self.pending[0][0].program

    def top(self, count: int) -> list[Member]:
        """The best valid programs, each network once: those that used up their budget first, the lowest loss first."""
        found: dict[str, Member] = {}
        for member in self._ranked():
            if len(found) == count or _is_invalid(member):
                break
            found.setdefault(digest(member.program), member)
        return list(found.values())

    def lineage(self, number: int) -> list[Member]:
        """From the start to a program, each the parent of the next."""
        line: list[Member] = []
        at: int | None = number
        while at is not None:
            line.append(self.members[at])
            at = self.members[at].parent
        return line[::-1]

    def summary(self) -> dict[str, Any]:
        """The search so far in numbers: losses of the population, what it cost, what was invalid and why, and how many
        reached and passed each hurdle."""
        tried = [member.evaluation for member in self.members if member.evaluation and member.equal_to is None]
        valid = [f for f in (self.members[number].fitness for number in self.population) if math.isfinite(f)]
        hurdles = range(1, self.settings.hurdles + 1)
        return {
            "programs": len(self.members),
            "best": self._ranked()[0].fitness,
            "population_best": min(valid, default=None),
            "population_median": median(valid) if valid else None,
            "cost": sum(evaluation.cost for evaluation in tried),
            "finished": sum(evaluation.finished for evaluation in tried),
            "invalid": dict(Counter(evaluation.cause for evaluation in tried if evaluation.cause is not None)),
            "reached": [sum(len(evaluation.curve) >= hurdle for evaluation in tried) for hurdle in hurdles],
            "passed": [sum(evaluation.passed >= hurdle for evaluation in tried) for hurdle in hurdles],
            "bars": list(self.bars.now()),
        }

    def close(self) -> None:
        """Stop evaluating in the background; a further step starts it again."""
        self._evaluator = None
        self._background.close()

    def _ready(self, number: int) -> bool:
        """Whether all have arrived that the parent of a child is chosen among."""
        settings = self.settings
        known = number - 1 - settings.staleness if settings.staleness else _whole(number - 1, settings.together)
        return len(self.members) >= 1 + max(0, known)

    def _child(self, number: int) -> Member:
        """A mutant of the best of a tournament among the valid (our reading 27), of the start's size; all that
        is random comes from its number."""
        random = Random(derive(self.seed, "child", number))
        valid = [other for other in self.population if not _is_invalid(self.members[other])] or [0]
        drawn = random.sample(valid, min(self.settings.tournament, len(valid)))
        parent = min((self.members[other] for other in drawn), key=lambda member: member.fitness)
        mutant = mutant_of(parent.program, random)
        child = Member(number, mutant.program, parent.number, mutant.mutation, mutant.change, dict(mutant.rejected))
        try:
            program = rescaled(mutant.program, self.trial.parameters or core_parameters(mutant.program))
        except RequestError as error:
            cause: Cause = "over the size limit" if isinstance(error, SizeError) else "no valid shape"
            return replace(child, evaluation=invalid(cause, str(error)))
        child = replace(child, program=program)
        if outside := self._outside(program):
            return replace(child, evaluation=invalid("over the size limit", outside))
        child = replace(child, function=self._function(program))
        equal = next((m for m in self.members if child.function and m.function == child.function), None)
        return child if equal is None else replace(child, equal_to=equal.number, evaluation=equal.evaluation)

    def _outside(self, program: Program) -> str:
        """Which limit of the objective a program is outside of; empty where it is within."""
        if not self.objective.limited() or self.objective.excess(program, self.model_settings) <= 0:
            return ""
        costs = self.objective.costs(program, self.model_settings)
        return ", ".join(f"objective.{name}={limit:,}, it takes {cost:,}" for name, (cost, limit) in costs.items())

    def _function(self, program: Program) -> str | None:
        """What a program computes: a SHA-256 of the norm of its logits, for fixed tokens and weights, and of a few
        random projections of them, each to 1e-5 of the norm; None without `cache`, or where it computes no numbers.

        In float64 programs that compute the same differ by far less than that, so that hardly any stand on two sides of
        an edge of rounding.
        """
        if not self.settings.cache:
            return None
        vocabulary = self.model_settings.target_vocabulary
        generator = torch.Generator().manual_seed(derive(self.seed, "function"))
        tokens = torch.randint(1, vocabulary, (2, 16), generator=generator)
        across = torch.randn(vocabulary, PROJECTIONS, generator=generator, dtype=torch.float64)
        along = torch.randn(tokens.numel(), PROJECTIONS, generator=generator, dtype=torch.float64)
        try:
            model = build(program, self.model_settings, seed=derive(self.seed, "function weights")).eval().double()
            with one_thread(), torch.no_grad():  # a bias starts at 0 and computes something all the same
                for weight in model.parameters():
                    weight.add_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype), alpha=0.1)
                logits = model(tokens).flatten(0, 1)
                norm = logits.norm()
                told = torch.cat([norm.log()[None], (logits @ across * along).sum(0) / norm])
        except (RequestError, RuntimeError):
            return None
        if not torch.isfinite(told).all():
            return None
        return hashlib.sha256(str((told * 1e5).round().long().tolist()).encode()).hexdigest()

    def _arrival(self) -> Member:
        """The next child with its evaluation, which may have to be waited for."""
        member = self.pending[0][0]
        if member.evaluation is not None:
            return member
        if self._evaluator is None:
            work = evaluator(self.settings.workers, self.task, self.task_settings, self.cache, self.trial, self.seed)
            self._evaluator = self._background.enter_context(work)
            for pending in self.pending:
                self._submit(self._evaluator, *pending)
        return replace(member, evaluation=self._evaluator.take(member.number))

    @staticmethod
    def _submit(evaluator: Evaluator, member: Member, bars: tuple[float | None, ...]) -> None:
        if member.evaluation is None:
            evaluator.submit(Job(member.number, member.program, bars))

    def _join(self, member: Member) -> None:
        """A program enters, the oldest leaves."""
        evaluation = member.evaluation
        assert evaluation is not None
        if member.number == 0 and evaluation.cause is not None:
            remedy = REMEDIES.get(evaluation.cause, "start from another program")
            raise RequestError(f"the start cannot be trained: {evaluation.cause}: {evaluation.reason}; {remedy}")
        self.pending.pop(0)
        self.members.append(member)
        if member.number:
            self.population.append(member.number)
        if member.equal_to is None:
            self.bars.arrive([point.loss for point in evaluation.curve[: self.settings.hurdles]])

    def _ranked(self) -> list[Member]:
        def key(member: Member) -> tuple[bool, float, int]:
            done = member.evaluation is not None and member.evaluation.finished
            return not done, member.fitness, member.number

        return sorted(self.members, key=key)

    def _recorded(self, member: Member) -> dict[str, Any]:
        """The fields of a `program` event."""
        data = member.data()
        evaluation = data.pop("evaluation")
        data.pop("function")
        fitness = member.fitness if math.isfinite(member.fitness) else None
        best = self._ranked()[0].number
        return data | evaluation | {"digest": digest(member.program), "fitness": fitness, "best": best}

    def tensors(self) -> dict[str, Tensor]:
        """None: programs are trained anew each time."""
        return {}

    def state(self) -> dict[str, Any]:
        """Every program so far, the population, the bars, and the children that have not arrived."""
        return {
            "members": [member.data() for member in self.members],
            "population": list(self.population),
            "bars": self.bars.state(),
            "pending": [[member.data(), list(bars)] for member, bars in self.pending],
        }

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go to where `state` was taken; children that were being evaluated are evaluated again."""
        self.close()
        self.members = [Member.read(data) for data in state["members"]]
        self.population = deque(state["population"], maxlen=self.settings.population)
        self.bars.load(state["bars"])
        self.pending = [(Member.read(data), tuple(bars)) for data, bars in state["pending"]]


def _is_invalid(member: Member) -> bool:
    return member.evaluation is not None and member.evaluation.cause is not None


def _whole(count: int, size: int) -> int:
    """The largest multiple of `size` up to `count`."""
    return count // size * size
