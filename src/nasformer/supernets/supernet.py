"""What every supernet promises: all architectures of a space in one set of weights, and no memory of any of them."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from nasformer.spaces.space import Space
from nasformer.supernets.selection import Selection


class Supernet(Protocol):
    """Shared weights by name, and the two ways to use them."""

    space: Space
    weights: dict[str, Tensor]

    def at(self, selection: Selection | Any) -> nn.Module:
        """The model that runs this selection (or architecture) on the shared weights; changing it changes them."""
        ...

    def inherit(self, architecture: Any) -> nn.Module:
        """A plain model of this architecture with its own copy of the shared weights."""
        ...
