"""Leading slices of shared weights, lent to modules as if they were their own.

`lend` puts into a module built on the meta device parameters that are views into wide tensors. Such a module is an
ordinary one: it runs, differentiates and saves as always, but its weights are the supernet's. Gradients arrive on the
views, so neither they nor the optimiser's work ever grow beyond the part that ran.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def leading(wide: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """The view of the first shape[0], shape[1], … entries along each axis."""
    return wide[tuple(slice(size) for size in shape)]


class Lender:
    """Hands out parameters that are leading slices of named wide tensors; the same slice is always the same parameter."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights
        self._lent: dict[tuple[str, torch.Size], nn.Parameter] = {}

    def parameter(self, name: str, shape: torch.Size) -> nn.Parameter:
        """The parameter of this shape that is a view into the wide tensor of this name; `.source` holds the name."""
        if (name, shape) not in self._lent:
            view: Any = nn.Parameter(leading(self.weights[name].detach(), shape))
            view.source = name
            self._lent[name, shape] = view
        return self._lent[name, shape]

    def lend(self, module: nn.Module, rename: Callable[[str], str]) -> nn.Module:
        """`module` with each meta parameter replaced by a slice of the wide tensor `rename(its name)`."""
        for path, owner in module.named_modules():
            for name, parameter in owner._parameters.items():
                if parameter is not None and parameter.device.type == "meta":
                    wide = rename(f"{path}.{name}" if path else name)
                    owner._parameters[name] = self.parameter(wide, parameter.shape)
        return module


def twin(module: nn.Module) -> Any:
    """A second module of the same structure over the same parameters, with its own mode (train or eval)."""
    other = copy.copy(module)
    other.__dict__ = dict(module.__dict__)
    other._parameters = dict(module._parameters)
    other._modules = {name: None if part is None else twin(part) for name, part in module._modules.items()}
    return other
