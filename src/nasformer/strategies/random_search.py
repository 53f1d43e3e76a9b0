"""Random search: members drawn uniformly within the limits, scored on inherited weights; the best is taken.

The control that a result needs to be credible (Li and Talwalkar, arXiv 1902.07638), on the same supernet and with the
same number of evaluations as the search it stands beside.
"""

from __future__ import annotations

from random import Random
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from nasformer.models.size import core_parameters
from nasformer.spaces.space import Space
from nasformer.spaces.value import Count, Value
from nasformer.strategies.objective import Objective, summary
from nasformer.strategies.single_path import Ranking, SinglePath
from nasformer.strategies.strategy import Progress
from nasformer.training.randomness import derive


class RandomSearch(Value):
    """The settings of a random search: how many members, and the target tokens of the batch they are scored on."""

    kind: Literal["random_search"] = "random_search"
    evaluations: Annotated[Count, Field(ge=1)] = 1000
    validation_tokens: Annotated[Count, Field(ge=16)] = 30_720

    def begin(self, space: Space, objective: Objective, path: SinglePath, seed: int) -> RandomRanking:
        """The search under way, on the supernet of `path`, which it does not change."""
        return RandomRanking(self, space, objective, path, seed)


class RandomRanking:
    """A random search: one ranking of members drawn at the beginning (see `Search`)."""

    def __init__(self, settings: RandomSearch, space: Space, objective: Objective, path: SinglePath, seed: int) -> None:
        random = Random(derive(seed, "random search"))
        members: dict[Any, None] = {}
        for _ in range(20 * settings.evaluations):
            if len(members) == min(settings.evaluations, space.size):
                break
            members[objective.sample(space, random, path.supernet.settings)] = None
        self.ranking = Ranking(
            path, objective, list(members), derive(seed, "random search"), settings.validation_tokens
        )

    def finished(self) -> bool:
        """Whether all are scored."""
        return self.ranking.finished()

    def step(self) -> Progress:
        """Score the next few."""
        self.ranking.advance()
        done, total = len(self.ranking.scores), len(self.ranking.members)
        if not self.finished():
            return Progress(done, total)
        score, best = self.ranking.best_first()[0]
        scores = [[core_parameters(member), value] for value, member in self.ranking.best_first()[:200]]
        fields = {"members": total, "best": score, "best_architecture": summary(best), "scores": scores}
        return Progress(done, total, f"best {score:.3f}", (("exploration", fields),))

    def best(self) -> Any:
        """The member with the lowest score."""
        return self.ranking.best_first()[0][1]

    def tensors(self) -> dict[str, Tensor]:
        """None: the supernet is not changed."""
        return {}

    def state(self) -> dict[str, Any]:
        """The scores so far; the members follow from the seed."""
        return {"scores": self.ranking.scores}

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go to where `state` was taken."""
        self.ranking.scores = list(state["scores"])
