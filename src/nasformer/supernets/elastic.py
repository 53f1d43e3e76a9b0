"""Leading slices of shared weights, lent to modules as if they were their own.

`lend` puts into a module built on the meta device parameters that are views into wide tensors. Such a module is an
ordinary one: it runs, differentiates and saves as always, but its weights are the supernet's. Gradients arrive on the
views, so neither they nor the optimiser's work ever grow beyond the part that ran.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def leading(wide: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """The view of the first shape[0], shape[1], … entries along each axis.

    Where `shape` has fewer axes, of each leading one the first entry (of a gated layer's two maps, the plain one's).
    """
    missing = wide.dim() - len(shape)
    part = wide[(0,) * missing + tuple(slice(size) for size in shape)]
    assert part.shape == torch.Size(shape), f"no slice of shape {tuple(shape)} in a weight of {tuple(wide.shape)}"
    return part


def copied(model: nn.Module, weights: Mapping[str, Tensor], sources: Mapping[str, str]) -> nn.Module:
    """`model`, built on the meta device, with its own copies of the wide weights' leading slices; `sources` gives for
    each of its parameters the name of the wide weight."""
    owners = dict(model.named_modules())
    for name, parameter in list(model.named_parameters()):
        path, _, last = name.rpartition(".")
        part = leading(weights[sources[name]], parameter.shape).clone(memory_format=torch.contiguous_format)
        owners[path]._parameters[last] = nn.Parameter(part)
    return model


class Lender:
    """Hands out parameters that are leading slices of named wide tensors; a slice is always the same parameter."""

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
        """`module` with each meta parameter replaced by a slice of the wide tensor `rename(its name)`.

        What was lent before, and twins of it, are passed over.
        """
        self._lend(module, "", rename)
        return module

    def _lend(self, module: nn.Module, prefix: str, rename: Callable[[str], str]) -> None:
        if module.__dict__.get("lent"):
            return
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.device.type == "meta":
                module._parameters[name] = self.parameter(rename(prefix + name), parameter.shape)
        for name, part in module._modules.items():
            if part is not None:
                self._lend(part, f"{prefix}{name}.", rename)
        module.__dict__["lent"] = True


def twin(module: nn.Module) -> Any:
    """A second module of the same structure over the same parameters, with its own mode (train or eval)."""
    other = object.__new__(type(module))
    state = other.__dict__
    state.update(module.__dict__)  # not by `setattr`, nor copied by `copy`: a supernet makes many twins at every step
    state["_parameters"] = module._parameters.copy()
    state["_modules"] = {name: None if part is None else twin(part) for name, part in module._modules.items()}
    return other
