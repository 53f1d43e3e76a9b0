"""GDAS: Searching for A Robust Neural Architecture in Four GPU Hours (Dong and Yang, arXiv 1910.04465).

Every edge of a cell runs, with one operator drawn by Gumbel-Max, so that an update costs the memory of one path; the
weights' half of an update comes first (docs/papers/rome.md §7.1). It is ROME without its two ideas. How ours differs
(our reading 39): its released code can derive one edge of a node twice, ours takes different edges; Zero, where the
space has it, is drawn in the search and passed over in the end on chosen edges, as there. In a space without cells
every choice of an operator is drawn so, and Zero is kept where its logit is the largest. In ROME's budget it is
`Rome(topology="all", samples=1)`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from nasformer.spaces.space import Space
from nasformer.spaces.value import Value
from nasformer.strategies.bilevel import BilevelSearch
from nasformer.strategies.objective import Objective
from nasformer.strategies.rome import TRIES, Sampled
from nasformer.strategies.rules import CELL_LOGITS, Gathering, Logits, refuse
from nasformer.supernets.supernet import Supernet
from nasformer.tasks.task import Task
from nasformer.training.trainer import Training

Temperature = Annotated[float, Field(gt=0)]


class Gdas(Value):
    """The settings of a GDAS search; the fields are those of `nasformer.strategies.rome.Rome`."""

    kind: Literal["gdas"] = "gdas"
    training: Training = Training(updates=30_000)
    logits: Logits = CELL_LOGITS
    weight_part: Annotated[float, Field(gt=0, lt=1)] = 0.5
    temperature: tuple[Temperature, Temperature] = (10.0, 0.1)
    micro_batches: Annotated[int, Field(ge=1)] = 1
    epochs: Annotated[int, Field(ge=1)] = 50
    rewinds: Annotated[int, Field(ge=0)] = 5

    @property
    def ways(self) -> dict[str, Any]:
        """How its supernet is made: as it is."""
        return {}

    def begin(self, space: Space, objective: Objective, task: Task, supernet: Supernet, seed: int) -> BilevelSearch:
        """The search under way. Raises `RequestError` for a space that it cannot take."""
        refuse(space, objective)
        rules = Sampled(Gathering(first="weights", tries=TRIES), space, "all", self.temperature)
        return BilevelSearch(self, rules, space, objective, task, supernet, seed)
