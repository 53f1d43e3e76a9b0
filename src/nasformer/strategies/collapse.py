"""The watch over collapse: what searches of cells journal, so that a cell full of skips is seen while it grows.

Counted are the skips and the parameter-free operators of the derived cell, as the paper counts them
(docs/papers/rome.md §5.5), what each operator got of the training, and how the logits' gradients scatter. A warning is
given where three quarters of a cell's edges (6 of 8) are skips, or parameter-free: our reading 37; the paper names no
threshold, and the collapsed cells of §6.2 have 7 or 8. It is a warning, no score: fewer skips are not better as such
(§6.3: the best cells of NAS-Bench-201 have one).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nasformer.spaces.cell import PARAMETER_FREE, Cell, SearchedEdge, cells, searched_edges
from nasformer.spaces.space import Space
from nasformer.supernets.selection import Chosen, Selection

THRESHOLD = 0.75
"""The share of a cell's edges from which on skips, or parameter-free operators, are called a collapse (reading 37)."""


@dataclass(frozen=True)
class Counts:
    """Of a cell: how many edges it has, how many are skips, and how many of all are parameter-free (skips too)."""

    edges: int
    skips: int
    parameter_free: int

    def data(self) -> dict[str, int]:
        """Plain data, for the journal."""
        return {"edges": self.edges, "skips": self.skips, "parameter_free": self.parameter_free}


def counts(cell: Cell) -> Counts:
    """The counts of one cell."""
    kinds = [edge.operator.kind for node in cell.nodes for edge in node.edges]
    return Counts(len(kinds), kinds.count("skip"), sum(kind in PARAMETER_FREE for kind in kinds))


def counted(architecture: Any) -> dict[str, Counts]:
    """The counts of each type of cell; cells in a row (`blocks.0`, `blocks.1`, …) are one type."""
    found: dict[str, Counts] = {}
    for path, cell in cells(architecture):
        row, _, number = path.rpartition(".")
        name, new = row if number.isdecimal() else path, counts(cell)
        old = found.get(name, Counts(0, 0, 0))
        found[name] = Counts(old.edges + new.edges, old.skips + new.skips, old.parameter_free + new.parameter_free)
    return found


def warning(name: str, found: Counts) -> str | None:
    """What there is to warn of in a type of cell, in a sentence, or None. Of reduction cells, never: in the reduced
    spaces most of their options are pools."""
    if name == "reduction" or not found.edges:
        return None
    skips, free = found.skips / found.edges, found.parameter_free / found.edges
    if max(skips, free) < THRESHOLD:
        return None
    what = f"{found.skips} skips" if skips >= THRESHOLD else f"{found.parameter_free} operators without parameters"
    which = name if name.endswith("cell") else "row of cells" if name == "blocks" else f"{name} cell"
    return (
        f"the derived {which} has {what} on {found.edges} edges, which is how differentiable searches collapse; "
        f"compare it with random cells of its size before trusting it"
    )


def entropy(logits: Iterable[Tensor]) -> float:
    """The mean entropy of softmax over several vectors of logits, each as a share of the most there can be."""
    shares = [tensor.softmax(0) for tensor in logits if len(tensor) > 1]
    return sum(float(torch.special.entr(p).sum()) / math.log(len(p)) for p in shares) / max(1, len(shares))


def scatter(samples: Sequence[Mapping[str, Tensor]]) -> float:
    """The variance of the logits' gradients over samples, summed over all logits: Σ_i (g_i − mean)² / (K − 1); of the
    mean of K independent samples the variance is a K-th of it."""
    if len(samples) < 2:
        return math.nan
    total = 0.0
    for name in samples[0]:
        gradients = [sample[name].double() for sample in samples]
        mean = sum(gradients[1:], gradients[0]) / len(gradients)
        total += sum(float((gradient - mean).square().sum()) for gradient in gradients)
    return total / (len(samples) - 1)


class Watch:
    """What each operator of each edge got of the training so far, and how the logits' gradients scattered of late.

    Args:
        space: a space of cells.
    """

    def __init__(self, space: Space) -> None:
        self.edges = searched_edges(space)
        edges, self._names = self.edges, {choice.name: choice.options for choice in space.choices}
        self.updates, self.passes = 0, {edge.name: [0] * len(edge.operators) for edge in edges}
        self.met = {edge.name: [0] * len(edge.operators) for edge in edges}
        self.scattered, self.samplings = 0.0, 0

    def trained(self, selections: Iterable[Selection]) -> None:
        """One update of the weights, along these selections."""
        self.updates += 1
        ran: set[tuple[str, int]] = set()
        for selection in selections:
            for edge in self.edges:
                if edge.topology is None or edge.option in selection[edge.topology].options:
                    options = selection[edge.operator] if edge.operator else Chosen((0,))
                    for option in options.options:
                        self.passes[edge.name][option] += 1
                        ran.add((edge.name, option))
        for name, option in ran:
            self.met[name][option] += 1

    def differentiated(self, samples: Sequence[Mapping[str, Tensor]]) -> None:
        """The logits' gradients of the samples of one update."""
        if len(samples) > 1:
            self.scattered, self.samplings = self.scattered + scatter(samples), self.samplings + 1

    def shares(self) -> dict[str, dict[str, float]]:
        """For each edge and operator the share of updates in which it was trained."""
        return {
            edge.name: {
                label: round(count / max(1, self.updates), 4)
                for label, count in zip(self._labels(edge), self.met[edge.name], strict=True)
            }
            for edge in self.edges
        }

    def _labels(self, edge: SearchedEdge) -> tuple[str, ...]:
        return self._names[edge.operator] if edge.operator else edge.labels

    def unevenness(self) -> float:
        """The coefficient of variation (standard deviation over mean) of how often the operators of edges ran."""
        numbers = [count for counts in self.passes.values() for count in counts]
        mean = sum(numbers) / max(1, len(numbers))
        spread = math.sqrt(sum((number - mean) ** 2 for number in numbers) / max(1, len(numbers)))
        return spread / mean if mean else 0.0

    def take(self) -> dict[str, Any]:
        """Fields for the journal; the mean scatter (None of single samples) begins anew."""
        shares = self.shares()
        numbers = [share for inside in shares.values() for share in inside.values()]
        fields = {
            "coverage": sum(numbers) / max(1, len(numbers)),
            "unevenness": self.unevenness(),
            "gradient_variance": self.scattered / self.samplings if self.samplings else None,
            "shares": shares,
        }
        self.scattered, self.samplings = 0.0, 0
        return fields

    def state(self) -> dict[str, Any]:
        """Everything, as plain data."""
        copied = {name: {key: list(row) for key, row in rows.items()} for name, rows in self._rows().items()}
        return copied | {"updates": self.updates, "scatter": [self.scattered, self.samplings]}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        for name, rows in self._rows().items():
            rows.update({key: list(row) for key, row in state[name].items()})
        self.updates = state["updates"]
        self.scattered, self.samplings = state["scatter"]

    def _rows(self) -> dict[str, dict[str, list[int]]]:
        return {"passes": self.passes, "met": self.met}
