"""GDAS: Searching for A Robust Neural Architecture in Four GPU Hours (Dong and Yang, arXiv 1910.04465).

Every edge of a cell runs, with one operator drawn by Gumbel-Max, so that an update costs the memory of one path; the
weights' half of an update comes first (docs/papers/rome.md §7.1). It is ROME without its two ideas. How ours differs
(our reading 39): its released code can derive one edge of a node twice, ours takes different edges; Zero, where the
space has it, is drawn in the search and passed over in the end on chosen edges, as there. In a space without cells
every choice of an operator is drawn so, and Zero is kept where its logit is the largest. In ROME's budget it is
`Rome(topology="all", samples=1)`.
"""

from __future__ import annotations

from typing import Literal

from nasformer.spaces.space import Space
from nasformer.strategies.bilevel import BilevelSearch
from nasformer.strategies.objective import Objective
from nasformer.strategies.rome import TRIES, Sampled, Temperature
from nasformer.strategies.rules import Gathering, Settings, refuse
from nasformer.supernets.supernet import Supernet
from nasformer.tasks.task import Task


class Gdas(Settings):
    """The settings of a GDAS search; the fields are those of `nasformer.strategies.rome.Rome`."""

    kind: Literal["gdas"] = "gdas"
    temperature: tuple[Temperature, Temperature] = (10.0, 0.1)

    @property
    def drawn(self) -> bool:
        """Operators are."""
        return True

    def begin(self, space: Space, objective: Objective, task: Task, supernet: Supernet, seed: int) -> BilevelSearch:
        """The search under way. Raises `RequestError` for a space that it cannot take."""
        refuse(space, objective)
        rules = Sampled(Gathering(first="weights", tries=TRIES), space, "all", self.temperature)
        return BilevelSearch(self, rules, space, objective, task, supernet, seed)
