"""The small frozen values of a search over programs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from nasformer.measures.speedup import PowerLaw
from nasformer.measures.statistics import Interval


@dataclass(frozen=True)
class Candidate:
    """One program of a search: the mutation that made it, its fitness (a loss: lower is better; None where it failed,
    for a `reason`), how many hurdles it reached (the end of the budget is one more) and passed, the seconds it was
    charged (None where it took over the fitness of an equal one), and its text."""

    number: int
    parent: int | None = None
    mutation: str | None = None
    change: str | None = None
    fitness: float | None = None
    reason: str | None = None
    reached: int = 0
    passed: int = 0
    cost: float | None = None
    text: str | None = None


@dataclass(frozen=True)
class Walk:
    """The programs of one search by number."""

    programs: tuple[Candidate, ...] = ()

    @property
    def winner(self) -> Candidate | None:
        """The program with the lowest fitness so far, of those that passed the most hurdles."""
        known = [one for one in self.programs if one.fitness is not None]
        return min(known, key=lambda one: (-one.passed, one.fitness), default=None)

    @property
    def best(self) -> tuple[tuple[int, float], ...]:
        """(number, lowest fitness so far) of every program that has a fitness."""
        known = [(one.number, one.fitness) for one in self.programs if one.fitness is not None]
        return tuple(zip([place for place, _ in known], accumulate((value for _, value in known), min), strict=True))


@dataclass(frozen=True)
class Step:
    """One program between the start and the winner: how it was made, and its loss when it was trained again."""

    number: int
    mutation: str | None
    change: str | None
    fitness: float | None
    retrained: Interval | None = None


@dataclass(frozen=True)
class Effect:
    """The loss of a program that has or lacks one change; a `reason` where there is no such program of the start's
    size, and neither where it fails to train."""

    loss: Interval | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Change:
    """One change between the start and the found program: the start with it alone, the found program without it; None
    where that is no program, or no other network."""

    name: str
    inserted: Effect | None = None
    ablated: Effect | None = None


@dataclass(frozen=True)
class Failure:
    """How often something went wrong: mutations that gave no program, and programs that could not be trained."""

    reason: str
    mutations: int
    programs: int


@dataclass(frozen=True)
class Arm:
    """Loss against cost of one model: the mean over seeds, the lowest and the highest seed; its speed-up; `law` is that
    of its program's final losses over budgets."""

    name: str
    label: str
    costs: tuple[float, ...] = ()
    means: tuple[float, ...] = ()
    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()
    seeds: int = 0
    speedup: Interval | None = None
    law: PowerLaw | None = None


@dataclass(frozen=True)
class Final:
    """The final losses of a program from fresh starts at a budget, at one size."""

    program: str
    budget: float
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Noise:
    """The start's fitness over several trainings: mean and standard deviation."""

    mean: float
    spread: float
    runs: int | None


@dataclass(frozen=True)
class Evolution:
    """A search over programs: its walk and the control's, its budget and hurdles in seconds a program, the line of
    programs from the start to the winner, what each change brings, the losses of the start and of the found program
    from fresh starts, both texts, what failed, the curves of all arms, and the ends of all trainings."""

    search: Walk = Walk()
    control: Walk = Walk()
    budget: float | None = None
    hurdles: tuple[float, ...] = ()
    lineage: tuple[Step, ...] = ()
    changes: tuple[Change, ...] = ()
    start_loss: Interval | None = None
    found_loss: Interval | None = None
    start: str | None = None
    found: str | None = None
    failures: tuple[Failure, ...] = ()
    arms: tuple[Arm, ...] = ()
    finals: tuple[Final, ...] = ()
    noise: Noise | None = None

    def finished(self, program: Candidate) -> bool:
        """Whether a program was trained to the end."""
        return program.fitness is not None and program.passed >= len(self.hurdles)

    @property
    def stations(self) -> tuple[tuple[int, int], ...]:
        """How many programs reached and passed each hurdle."""
        tried = [one for one in self.search.programs if one.cost is not None]
        hurdles = range(1, len(self.hurdles) + 1)
        return tuple((sum(one.reached >= h for one in tried), sum(one.passed >= h for one in tried)) for h in hurdles)

    @property
    def costs(self) -> tuple[float, float] | None:
        """The seconds that all programs took, and those they would have taken had nothing been stopped at a hurdle.

        A program that failed would have failed all the same, and counts with what it took.
        """
        known = [(one.cost, one.fitness is None) for one in self.search.programs if one.cost is not None]
        if self.budget is None or not known:
            return None
        return sum(cost for cost, _ in known), sum(cost if failed else self.budget for cost, failed in known)
