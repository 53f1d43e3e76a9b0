"""DARTS−: Robustly Stepping out of Performance Collapse Without Indicators (Chu et al., arXiv 2009.01027).

DARTS, but every edge adds d times its input (where the stride is 2, of a factorised reduction of it) outside the
softmax; d falls linearly from 1 to 0. So the skip's advantage as a help to training is paid outside its logit
(docs/papers/rome.md §7.1). In the end the addition is gone.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from nasformer.errors import RequestError
from nasformer.spaces.space import Space
from nasformer.strategies.bilevel import BilevelSearch
from nasformer.strategies.darts import Darts, Softmax
from nasformer.strategies.objective import Objective
from nasformer.strategies.rules import Moment, Settings, refuse
from nasformer.supernets.selection import Selection
from nasformer.supernets.supernet import Supernet
from nasformer.tasks.task import Task


class DartsMinus(Settings):
    """The settings of a DARTS− search; fields as of `nasformer.strategies.darts.Darts`. `skip` is d of the first and of
    the last epoch."""

    kind: Literal["darts_minus"] = "darts_minus"
    skip: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = (1.0, 0.0)

    @property
    def ways(self) -> dict[str, Any]:
        """How its supernet is made."""
        return {"bypass": True}

    def begin(self, space: Space, objective: Objective, task: Task, supernet: Supernet, seed: int) -> BilevelSearch:
        """The search under way. Raises `RequestError` for a space that it cannot take, or a supernet without bypass."""
        refuse(space, objective)
        if not getattr(supernet, "bypass", False):
            raise RequestError("darts_minus needs a supernet whose edges have a bypass, made with bypass=true")
        return BilevelSearch(self, Skipping(self, space), space, objective, task, supernet, seed)


class Skipping(Softmax):
    """The rules of DARTS on a supernet whose edges also add their input (see `Rules`)."""

    def __init__(self, settings: DartsMinus, space: Space) -> None:
        super().__init__(Darts(), space)
        self.skip = settings.skip

    def lend(self, supernet: Any, selection: Selection, moment: Moment) -> Any:
        """The model of the selection, with what d is at the moment."""
        return supernet.at(selection, skip=moment.between(*self.skip))
