"""What every supernet promises: all architectures of a space in one set of weights, and no memory of any of them."""

from __future__ import annotations

from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from nasformer.models.transformer import ModelSettings
from nasformer.spaces.space import Space
from nasformer.supernets.selection import Selection


class Supernet(Protocol):
    """Shared weights by name, and the two ways to use them."""

    space: Space
    settings: ModelSettings
    weights: dict[str, Tensor]

    def to(self, device: torch.device) -> Self:
        """This supernet with its weights on a device."""
        ...

    def at(self, selection: Selection | Any) -> nn.Module:
        """The model that runs this selection (or architecture) on the shared weights; changing it changes them."""
        ...

    def inherit(self, architecture: Any) -> nn.Module:
        """A plain model of this architecture with its own copy of the shared weights."""
        ...

    def sources(self, architecture: Any) -> dict[str, str]:
        """For each parameter of the plain model, the name of the shared weight that it is a (leading) part of."""
        ...
