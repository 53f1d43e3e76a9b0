"""The small frozen values that a report shows; `gather` makes them, tables, plots and pages draw them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from nasformer.report.diagram import Diagram
from nasformer.report.evolved import Evolution
from nasformer.report.lead import Followed
from nasformer.report.roles import Role, role_of
from nasformer.report.sweeps import RateSweep
from nasformer.report.watch import Watch

FOUND = "found"
"""The name of the row and of the stage of the architecture that the search found."""

REFERENCE = "transformer"
"""The name of the row that differences are taken to."""

START = "start"
"""The same for a search over programs: the program from which it began."""
RANDOM = "random_architecture"
"""The same for images, for which there is no Transformer: a member of the space drawn at random."""
_REFERENCES = {REFERENCE: "Transformer", START: "the start", RANDOM: "the random architecture"}


ALONE = "train"
"""In place of a kind of strategy: one architecture was trained, and nothing searched."""
CELLS = ("rome", "gdas", "pc_darts", "darts_minus", "early_stopping")
"""The kinds of strategies that search cells and nothing else."""

DIFFERENTIABLE = ("darts", *CELLS)
"""The kinds of strategies after which every model is trained from scratch."""


def mean_title(count: int) -> str:
    """What several random architectures are called together."""
    return f"the mean of {count} random architectures"


@dataclass(frozen=True)
class Quality:
    """A number that says how good a model is: its field in a scorecard, its name for readers, its better side, its
    decimals (None: one, or three where it is below ten), and what a model has that has learnt anything at all."""

    name: str
    label: str
    higher_is_better: bool
    decimals: int | None = None
    floor: float | None = None


QUALITIES = (
    Quality("bleu", "BLEU", True, floor=1.0),
    Quality("chrf", "chrF", True, floor=12.0),
    Quality("accuracy", "accuracy (%)", True, 2),
    Quality("perplexity", "perplexity", False, 2),
    Quality("bits_per_byte", "bits per byte", False),
    Quality("loss", "loss", False),
)
"""The qualities that a report knows; the first one that a row has is the one that is compared."""


@dataclass(frozen=True)
class Measured:
    """A value with its interval, where one was measured."""

    value: float
    low: float | None = None
    high: float | None = None
    signature: str | None = None

    def overlaps(self, other: Measured) -> bool | None:
        """Whether the two intervals share a point; None where one of them is unknown."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return None
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Row:
    """One model of the comparison: its quality, its size and what it cost. None means not measured.

    `updates` are all that it took; `searched` of them trained something else than this model: a supernet whose weights
    it did not inherit, sweeps, candidates. `training_flops` are of all of them, `peak` is the learning rate. `stated`
    is the role that the result states; results of earlier versions state none.
    """

    name: str
    label: str
    qualities: Mapping[str, Measured] = field(default_factory=dict)
    core_parameters: float | None = None
    total_parameters: float | None = None
    flops: float | None = None
    updates: float | None = None
    searched: float | None = None
    evaluations: float | None = None
    seconds: float | None = None
    split: str | None = None
    training_flops: float | None = None
    peak: float | None = None
    stated: Role | None = None

    @property
    def role(self) -> Role:
        """What it is beside the found architecture: as stated, else by its name."""
        return self.stated or role_of(self.name)

    @property
    def trained(self) -> float | None:
        """The updates of its own weights, those of a supernet included that it inherited."""
        return None if self.updates is None else self.updates - (self.searched or 0)


@dataclass(frozen=True)
class Comparison:
    """The rows of a result, the qualities to show, the limits that the search obeyed, its kind of strategy, and what
    else a reader must know."""

    rows: tuple[Row, ...] = ()
    qualities: tuple[Quality, ...] = QUALITIES[:2]
    limits: Mapping[str, float] = field(default_factory=dict)
    strategy: str = "shrinknas"
    note: str | None = None

    @property
    def main(self) -> Quality:
        """The quality that decides: the first one shown."""
        return self.qualities[0]

    @property
    def reference(self) -> str:
        """The name of the row that differences are taken to, where there is one of that name."""
        if self.main.name == "accuracy":
            return RANDOM
        return START if self.strategy == "primer" else REFERENCE

    @property
    def difference_label(self) -> str:
        """What heads a column of differences."""
        several = mean_title(len(self.references)) if len(self.references) > 1 else None
        if self.has_fixed_reference or self.strongest is None:
            return f"Δ {self.main.label} to {several or _REFERENCES[self.reference]}"
        return f"Δ {self.main.label} to the strongest control ({several or self.strongest.label})"

    @property
    def references(self) -> tuple[Row, ...]:
        """The rows that differences are taken to the mean of: several where several random members were trained. Where
        a result that states roles has no row of the usual name, the strongest control."""
        if self.has_fixed_reference or self.strongest is None or not any(row.stated for row in self.rows):
            return self.alike(self.reference)
        return self.alike(self.strongest.name) or (self.strongest,)

    @property
    def has_fixed_reference(self) -> bool:
        """Whether there is a row of the usual name that differences can be taken to."""
        return bool(self.alike(self.reference))

    @property
    def controls(self) -> tuple[Row, ...]:
        """The scored rows that the found architecture has to beat; random members of which each was trained count as
        one, by their mean, with their lowest and highest value in place of an interval."""
        rows = [row for row in self.rows if row.role == "control" and self.main.name in row.qualities]
        drawn = self.alike(RANDOM)
        if len(drawn) < 2:
            return tuple(rows)
        return tuple(_mean_row(drawn, self.main) if row == drawn[0] else row for row in rows if row not in drawn[1:])

    @property
    def strongest(self) -> Row | None:
        """The control with the best main quality."""
        return self.best(self.controls)

    def best(self, rows: Iterable[Row]) -> Row | None:
        """Of scored rows the first with the best main quality."""
        side = 1 if self.main.higher_is_better else -1
        return max(rows, key=lambda row: side * row.qualities[self.main.name].value, default=None)

    def alike(self, name: str) -> tuple[Row, ...]:
        """The rows of a control that was trained several times: NAME, NAME_2, …; those that have been scored."""
        named = (row for row in self.rows if row.name == name or re.fullmatch(rf"{re.escape(name)}_\d+", row.name))
        return tuple(row for row in named if self.main.name in row.qualities)

    @property
    def has_reference(self) -> bool:
        """Whether there is a row that differences can be taken to."""
        return bool(self.references)

    def row(self, name: str) -> Row | None:
        """The first row of that name."""
        return next((row for row in self.rows if row.name == name), None)

    def difference(self, row: Row, *others: Row) -> float | None:
        """The main quality of a row minus the mean of others, by default of `references`; None for the only reference,
        and where something was not scored."""
        others = others or self.references
        theirs = [other.qualities[self.main.name].value for other in others if self.main.name in other.qualities]
        ours = row.qualities.get(self.main.name)
        if not theirs or ours is None or others == (row,):
            return None
        return ours.value - sum(theirs) / len(theirs)

    def above_limit(self, row: Row) -> bool:
        """Whether a row has more core parameters than the search was allowed."""
        limit = self.limits.get("max_core_parameters")
        return limit is not None and row.core_parameters is not None and row.core_parameters > limit


def _mean_row(rows: Sequence[Row], quality: Quality) -> Row:
    """Several rows as one."""

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return fmean(known) if known else None

    values = [row.qualities[quality.name].value for row in rows]
    names = ("core_parameters", "total_parameters", "flops", "updates", "searched", "training_flops")
    costs: dict[str, Any] = {name: mean([getattr(row, name) for row in rows]) for name in names}
    measured = Measured(fmean(values), min(values), max(values))
    return Row(rows[0].name, mean_title(len(rows)), {quality.name: measured}, stated=rows[0].stated, **costs)


@dataclass(frozen=True)
class SearchCurve:
    """The training of one stage: loss by update, the same smoothed, and validation losses."""

    stage: str
    updates: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()
    smoothed: tuple[float, ...] = ()
    validation_updates: tuple[int, ...] = ()
    validation_losses: tuple[float, ...] = ()
    seconds: float | None = None
    finished: bool = False


@dataclass(frozen=True)
class Round:
    """One shrinking of the space: after which update, and how many members the set has since."""

    number: int
    update: int
    members: int | None


@dataclass(frozen=True)
class Exploration:
    """The scores (losses: lower is better) of one iteration of one exploration round."""

    round: int
    iteration: int
    best: float
    median: float


@dataclass(frozen=True)
class Shares:
    """How often each option of one choice occurs in the sampled set: `shares[round][option]`, rounds in order."""

    choice: str
    rounds: tuple[int, ...]
    options: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]

    @property
    def is_operator(self) -> bool:
        """Whether the choice is between operators (and not between sizes)."""
        return self.choice.endswith(".mixer")

    @property
    def favourite(self) -> tuple[str, float]:
        """The most frequent option after the last round, and its share."""
        return max(zip(self.options, self.shares[-1], strict=True), key=lambda pair: pair[1])


@dataclass(frozen=True)
class Divergence:
    """How far sampled architectures disagree at one round, before and after it. None means not measured."""

    round: int
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Scatter:
    """Sizes against quality: (core parameters, validation loss) of evaluated members, the rows, and the limit."""

    members: tuple[tuple[float, float], ...]
    comparison: Comparison
    limit: float | None


@dataclass(frozen=True)
class Correlation:
    """Kendall's rank correlation between scores with inherited and with trained weights."""

    kendall: float
    low: float | None
    high: float | None
    members: int | None


@dataclass(frozen=True)
class Probabilities:
    """The probability of each option of one choice while a differentiable search runs: `shares[option][point]`."""

    choice: str
    options: tuple[str, ...]
    updates: tuple[int, ...]
    shares: tuple[tuple[float, ...], ...]

    @property
    def winner(self) -> int:
        """Which option has the largest probability in the end."""
        return max(range(len(self.options)), key=lambda option: self.shares[option][-1])

    @property
    def entropies(self) -> tuple[float, ...]:
        """The entropy at each point, as a share of the most there can be; 0 where there is nothing to choose."""
        most = math.log(len(self.options)) or 1.0
        return tuple(-sum(p * math.log(p) for p in point if p > 0) / most for point in zip(*self.shares, strict=True))


@dataclass(frozen=True)
class Start:
    """One start of a differentiable search: its stage, its mean entropy by update, and in the end the validation loss
    of what it derived, on inherited weights."""

    stage: str
    updates: tuple[int, ...]
    entropies: tuple[float, ...]
    loss: float | None = None


@dataclass(frozen=True)
class Derivation:
    """What one rule for Zero derives: the architecture in one line, and its core parameters."""

    zero: bool
    architecture: str
    core_parameters: float | None


@dataclass(frozen=True)
class Rewinds:
    """The updates of one stage at which a loss was no number, and what rates were multiplied with in the end."""

    stage: str
    updates: tuple[int, ...]
    slower: float | None


@dataclass(frozen=True)
class Differentiable:
    """A differentiable search: its starts, and of the one that was taken the probabilities and both derivations.

    `zero` says whether Zero was allowed to stay; None where the recipe is not known. `edges` are the probabilities of
    the edges of each node in the end, by the choice of them, where they have any of their own.
    """

    starts: tuple[Start, ...]
    taken: int
    decided: bool
    probabilities: tuple[Probabilities, ...]
    derivations: tuple[Derivation, ...]
    rewinds: tuple[Rewinds, ...]
    zero: bool | None
    edges: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Provenance:
    """What it takes to do it again: the command, the rest of the environment, the recipe."""

    command: str | None
    environment: tuple[tuple[str, str], ...]
    recipe: str | None
    recipe_name: str | None
    seed: str | None


@dataclass(frozen=True)
class Gathered:
    """All that a report shows of one run."""

    finished: bool
    task: Mapping[str, Any]
    last: Mapping[str, Any] | None
    unreadable: int
    comparison: Comparison
    curves: tuple[SearchCurve, ...]
    rounds: tuple[Round, ...]
    explorations: tuple[Exploration, ...]
    shares: tuple[Shares, ...]
    divergence: tuple[Divergence, ...]
    differentiable: Differentiable | None
    evolution: Evolution | None
    watch: Watch | None
    sweeps: tuple[RateSweep, ...]
    lead: tuple[Followed, ...]
    scatter: Scatter
    correlation: Correlation | None
    provenance: Provenance
    diagram: Diagram | None
