"""What is asked of an architecture besides quality: limits on its size and cost, hard or as a penalty."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import product
from random import Random
from typing import Annotated, Any

from pydantic import Field

from nasformer.errors import RequestError
from nasformer.models.size import core_flops, core_parameters, total_parameters
from nasformer.models.transformer import ModelSettings
from nasformer.spaces.cell import Cell, cells
from nasformer.spaces.space import Answer, Choice, Code, Space
from nasformer.spaces.value import Count, Value

Limit = Annotated[Count, Field(ge=1)]


class Objective(Value):
    """Limits, all at once: upper ones, and a lower one to compare at equal size. Without a `penalty` an architecture
    outside a limit is never sampled; with one it is, and penalty · (largest relative excess) is added to its score in
    nats. `memory` is not of the architecture but of the search: the most bytes that an update of it may take. `at` are
    fields of the architecture that are changed before it is measured: the sizes at which it will be trained."""

    min_core_parameters: Limit | None = None
    max_core_parameters: Limit | None = None
    max_total_parameters: Limit | None = None
    max_flops: Limit | None = None
    memory: Limit | None = None
    penalty: Annotated[float, Field(ge=0)] = 0.0
    at: dict[str, int] = Field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(self.json_text())

    def costs(self, architecture: Any, settings: ModelSettings) -> dict[str, tuple[int, int]]:
        """For each limit that is set: what the architecture takes, and the limit."""
        architecture = architecture.but(**self.at) if self.at else architecture
        measures: dict[str, tuple[Callable[[], int], int | None]] = {
            "min_core_parameters": (lambda: core_parameters(architecture), self.min_core_parameters),
            "max_core_parameters": (lambda: core_parameters(architecture), self.max_core_parameters),
            "max_total_parameters": (lambda: total_parameters(architecture, settings), self.max_total_parameters),
            "max_flops": (lambda: core_flops(architecture), self.max_flops),
        }
        return {name: (measure(), limit) for name, (measure, limit) in measures.items() if limit is not None}

    def limited(self) -> bool:
        """Whether any limit is set."""
        return any(value is not None for name, value in self if name.startswith(("min_", "max_")))

    def excess(self, architecture: Any, settings: ModelSettings) -> float:
        """The largest relative excess over an upper limit, or lack below the lower one; 0 within all."""
        return max([0.0, *self._excesses(architecture, settings).values()])

    def _excesses(self, architecture: Any, settings: ModelSettings) -> dict[str, float]:
        costs = self.costs(architecture, settings)
        return {
            name: (1 - c / limit if name.startswith("min") else c / limit - 1) for name, (c, limit) in costs.items()
        }

    def allows(self, architecture: Any, settings: ModelSettings) -> bool:
        """Whether the architecture may be sampled at all."""
        return self.penalty > 0 or self.excess(architecture, settings) <= 0

    @lru_cache(maxsize=64)  # noqa: B019  (settings, a space and limits are few)
    def smallest(self, space: Space, settings: ModelSettings) -> Any:
        """A member with the least excess (and, where that ties, the fewest core parameters), by descent one choice at
        a time from every choice's first option. Where several options are chosen, one is exchanged for another, and
        the choices that come with it take their best options at once."""

        def burden(architecture: Any) -> tuple[float, int]:
            return self.excess(architecture, settings), core_parameters(architecture)

        def completed(answers: Code) -> Any:
            return space.close(lambda choice: answers.get(choice.name, _first(choice)))

        def improved(best: Any, names: Iterable[str]) -> Any:
            """The best of a member and those that answer one of these choices otherwise, choice by choice."""
            for name in names:
                for answer in _neighbours(choices[name], space.encode(best).get(name)):
                    code = space.encode(best)
                    other = completed(code | {name: answer})
                    if choices[name].count > 1:
                        other = improved(other, [new for new in space.encode(other) if new not in code])
                    if burden(other) < burden(best):
                        best = other
            return best

        choices = {choice.name: choice for choice in space.choices}
        best = completed({})
        while burden(other := improved(best, space.encode(best))) < burden(best):
            best = other
        return best

    def check(self, space: Space, settings: ModelSettings) -> None:
        """Raises `RequestError`, naming the nearest architecture, where no member of the space is within."""
        low, high = self.min_core_parameters, self.max_core_parameters
        if low is not None and high is not None and low > high:
            raise RequestError(f"objective.min_core_parameters={low:,} is above objective.max_core_parameters={high:,}")
        nearest = self.smallest(space, settings)
        if self.excess(nearest, settings) > 0:
            excesses = self._excesses(nearest, settings)
            name = max(excesses, key=excesses.__getitem__)
            cost, limit = self.costs(nearest, settings)[name]
            beyond, mend = (
                ("above the largest", "lower the limit or choose a larger space")
                if name.startswith("min")
                else ("below the smallest", "raise the limit or choose a smaller space")
            )
            raise RequestError(
                f"objective.{name}={limit:,} is {beyond} architecture of the space {space.name!r}, "
                f"which takes {cost:,}: {summary(nearest)}; {mend}"
            )

    def using(self, part: float) -> Objective:
        """These limits, and a core size of at least `part` of the largest that is allowed, where one is."""
        if self.max_core_parameters is None or self.min_core_parameters is not None or not part:
            return self
        return self.but(min_core_parameters=math.ceil(part * self.max_core_parameters))

    def near(self, core: int, part: float = 0.03) -> Objective:
        """These limits, all hard, and a core size within `part` of `core`."""
        return self.but(
            penalty=0.0, min_core_parameters=math.ceil(core * (1 - part)), max_core_parameters=int(core * (1 + part))
        )

    def sample(self, space: Any, random: Random, settings: ModelSettings, tries: int = 300) -> Any:
        """A member within the limits: uniform by rejection; where that finds none, a walk of mutants that never lets
        the excess grow, from the smallest member and 50 steps long, or longer until it is within."""
        for _ in range(tries):
            member = space.sample(random)
            if self.allows(member, settings):
                return member
        whole = getattr(space, "space", space)
        member = self.smallest(whole, settings)
        excess = self.excess(member, settings)
        for step in range(2_000):
            if step >= 50 and excess <= 0:
                break
            mutant = whole.mutate(member, random, rate=0.05)
            if (other := self.excess(mutant, settings)) <= excess:
                member, excess = mutant, other
        return member


def _neighbours(choice: Choice, answer: Answer | None) -> Iterator[Answer]:
    """The other answers, or where several options are chosen those with one of them exchanged; none where the choice
    was not met."""
    others = range(len(choice.options))
    if isinstance(answer, int):
        yield from (option for option in others if option != answer)
    elif answer is not None:
        for left, new in product(answer, others):
            if new not in answer:
                yield tuple(sorted({*answer, new} - {left}))


def _first(choice: Choice) -> Answer:
    return 0 if choice.count == 1 else tuple(range(choice.count))


def summary(architecture: Any) -> str:
    """An architecture in one line: widths, depths and the operators in order (those of a layer's nodes with |).

    Of cells: the nodes, counted after the inputs, each with the sources and operators of its edges; of cells of one
    edge in a row only the operators.
    """
    stacks = [(name, getattr(architecture, name)) for name in ("encoder", "decoder") if hasattr(architecture, name)]
    said = [f"{name} {_summary(stack)}" for name, stack in stacks if hasattr(stack, "layers")]
    found = dict(cells(architecture))
    return "; ".join([_cells(found), *said]) if found else ", ".join(said)


def _summary(stack: Any) -> str:
    layers = " ".join(_layer(layer) for layer in stack.layers)
    repeats = f" × {stack.repeats}" if hasattr(stack, "repeats") else ""
    return f"{stack.dim} × {len(stack.layers)}{repeats} ({layers})"


def _layer(layer: Any) -> str:
    if not hasattr(layer, "nodes"):
        return str(layer.mixer.label)
    kernels = [getattr(operator, "kernel", None) for operator in layer.nodes]
    names = zip(layer.nodes, kernels, strict=True)
    return "|".join(f"{operator.label}_{kernel}" if kernel else operator.label for operator, kernel in names)


def _cells(found: dict[str, Cell]) -> str:
    said: dict[str, list[str]] = {}
    for path, cell in found.items():
        chain, _, number = path.rpartition(".")
        alone = number.isdecimal() and len(cell.nodes) == 1 and len(cell.nodes[0].edges) == 1
        words = operator_label(cell.nodes[0].edges[0].operator) if alone else _nodes(cell)
        said.setdefault(chain if alone else path, []).append(words)
    return "; ".join(f"{path} {' '.join(words)}" for path, words in said.items())


def _nodes(cell: Cell) -> str:
    lines = (", ".join(f"{edge.source} {operator_label(edge.operator)}" for edge in node.edges) for node in cell.nodes)
    return " | ".join(f"{number}: {line}" for number, line in enumerate(lines, cell.inputs))


def operator_label(operator: Any) -> str:
    """The label of an edge's operator, with what tells apart those that share it: `attention_4`."""
    size = getattr(operator, "heads", None) or getattr(operator, "ratio", None) or getattr(operator, "width", None)
    return f"{operator.label}_{size:g}" if size and operator.label == operator.kind else str(operator.label)
