"""From what logits say to an architecture: the best answer of every choice, as good as the limits leave room for.

A derivation scores the possible answers of each choice: options of an operator by their logits, sets of a node's edges
by the sum of what speaks for each. Methods differ in these scores alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from torch import Tensor

from nasformer.models.size import core_parameters
from nasformer.spaces.cell import SearchedEdge, searched_edges, topologies
from nasformer.spaces.space import Answer, Space
from nasformer.strategies.objective import Objective, summary

Scores = Mapping[str, Mapping[Answer, float]]
"""For each choice its possible answers and their scores; higher is better."""


def operator_scores(logits: Mapping[str, Tensor], space: Space, *, zero: bool) -> dict[str, dict[Answer, float]]:
    """The logits of every choice of an operator. Zero is an answer only with `zero`, and never of an edge that is
    itself chosen (a node would not have the inputs that it chose) unless there is nothing else."""
    chosen = {edge.operator for edge in chosen_edges(space)}
    of_edges = {choice.name for choice in topologies(space)}
    found: dict[str, dict[Answer, float]] = {}
    for choice in space.choices:
        if choice.count == 1 and choice.name in logits and choice.name not in of_edges:
            passed_over = len(choice.options) > 1 and (not zero or choice.name in chosen)
            found[choice.name] = {
                option: float(logits[choice.name][option])
                for option, label in enumerate(choice.options)
                if not (passed_over and label == "zero")
            }
    return found


def edge_scores(strength: Mapping[tuple[str, int], float], space: Space) -> dict[str, dict[Answer, float]]:
    """For every choice of edges: each set of them, scored by the sum of the strengths (by choice and option)."""
    found: dict[str, dict[Answer, float]] = {}
    for choice in topologies(space):
        sets = combinations(range(len(choice.options)), choice.count)
        scores = {edges: sum(strength[choice.name, edge] for edge in edges) for edges in sets}
        found[choice.name] = {edges if choice.count > 1 else edges[0]: score for edges, score in scores.items()}
    return found


def operator_strength(logits: Mapping[str, Tensor], space: Space) -> dict[tuple[str, int], float]:
    """For every edge that may be chosen, by choice and option: the log of the largest probability among its operators
    that are not Zero (DARTS). A given operator is certain, 0."""
    found = {}
    for edge in chosen_edges(space):
        kept = [option for option, operator in enumerate(edge.operators) if operator.kind != "zero"]
        if edge.operator is None:
            strength = 0.0
        else:
            strength = float(logits[edge.operator].log_softmax(0)[kept or [0]].max())
        found[str(edge.topology), edge.option] = strength
    return found


def chosen_edges(space: Space) -> Iterator[SearchedEdge]:
    """The edges of a space that an architecture may have or not."""
    return (edge for edge in searched_edges(space) if edge.topology is not None)


class Derivation:
    """What is derived from scores within limits.

    Args:
        space: whose members are derived.
        objective: the limits.
        settings: what else a model needs.
    """

    def __init__(self, space: Space, objective: Objective, settings: Any) -> None:
        self.space, self.objective, self.settings = space, objective, settings

    def best(self, scores: Scores) -> Any:
        """The architecture of the highest scores.

        While it is over a limit, the one answer is changed that lowers the excess at the least loss of score for it;
        then every choice takes its best answer that the limits leave room for.
        """
        code = {name: max(answers, key=answers.__getitem__) for name, answers in scores.items()}
        while (excess := self._excess(code)) > 0:
            changes: list[Any] = [
                ((answers[code[name]] - score) / (excess - other), name, answer)
                for name, answers in scores.items()
                for answer, score in answers.items()
                if math.isfinite(score) and (other := self._excess(code | {name: answer})) < excess
            ]
            if not changes:
                return self.objective.smallest(self.space, self.settings)
            _, name, changed = min(changes)
            code[name] = changed
        for name, answers in scores.items():
            better = [answer for answer, score in answers.items() if score > answers[code[name]]]
            for answer in sorted(better, key=lambda answer: -answers[answer]):
                if self._excess(code | {name: answer}) <= 0:
                    code[name] = answer
                    break
        return self.space.decode(code)

    def _excess(self, code: Mapping[str, Answer]) -> float:
        return self.objective.excess(self.space.decode(code), self.settings) if self.objective.limited() else 0.0


def told(architecture: Any) -> dict[str, Any]:
    """A derived architecture in a line, and its size."""
    return {"architecture": summary(architecture), "core_parameters": core_parameters(architecture)}
