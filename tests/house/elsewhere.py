"""A device that stands in for a GPU where there is none: it computes on the CPU, and refuses what a GPU refuses, a
tensor of the CPU among its own.

`python tests/house/elsewhere.py search demo …` is the command `nasformer` with all its work on this device; in the end
it says how many operations ran there. It has to be a process of its own: a device cannot be taken back.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from transformers import PreTrainedModel

from nasformer.cli import main
from nasformer.strategies import single_path
from nasformer.training import trainer

NAME = "elsewhere"
aten = torch.ops.aten
BETWEEN = (
    aten._to_copy.default,
    aten.copy_.default,
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
)
"""Operations that a GPU takes with tensors of the CPU: copies, and indices."""


class Elsewhere(torch.Tensor):
    """A tensor on the device; `here` is what it holds."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> Elsewhere:
        """Around a tensor of the CPU."""
        made = torch.Tensor._make_wrapper_subclass(
            cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype, device=torch.device(NAME, 0)
        )
        made.here = here
        return made

    def tolist(self) -> Any:
        """As of any tensor."""
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        """An operation that `Watched` does not see."""
        return run(operation, arguments, named or {})


class Watched(TorchDispatchMode):
    """Inside, tensors are made on the device where it is asked for."""

    operations = 0

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        """An operation."""
        return run(operation, arguments, named or {})


def run(operation: Any, arguments: Any, named: dict[str, Any]) -> Any:
    """An operation on what the tensors hold. Raises `RuntimeError` where they are of both devices."""
    tensors = [leaf for leaf in tree_leaves((arguments, named)) if isinstance(leaf, torch.Tensor)]
    inside = any(isinstance(tensor, Elsewhere) for tensor in tensors)
    target = None if named.get("device") is None else torch.device(named["device"]).type
    if not inside and target != NAME:
        return operation(*arguments, **named)
    Watched.operations += 1
    strangers = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere) and tensor.dim()]
    if inside and strangers and operation not in BETWEEN:
        raise RuntimeError(f"{operation} got tensors of the CPU among those of the device: {strangers[0].shape}")
    here, options = tree_map(lambda value: value.here if isinstance(value, Elsewhere) else value, (arguments, named))
    if target is not None:
        options["device"] = torch.device("cpu")
    found = operation(*here, **options)
    if target not in (None, NAME):
        return found
    if operation is aten.copy_.default:
        return arguments[0]
    found = tree_map(lambda value: Elsewhere(value) if isinstance(value, torch.Tensor) else value, found)
    return return_and_correct_aliasing(operation, arguments, named, found) if inside and aliases(operation) else found


@cache
def aliases(operation: Any) -> bool:
    """Whether what the operation gives may be, or look at, what it was given."""
    return any(one.alias_info is not None for one in (*operation._schema.arguments, *operation._schema.returns))


class Fabric:
    """What the trainers ask of Lightning's, with this device."""

    def __init__(self, precision: str) -> None:
        self.device, self.precision = torch.device(NAME, 0), precision

    def autocast(self) -> Any:
        """As on the CPU."""
        return torch.autocast("cpu", torch.bfloat16) if self.precision == "bf16-mixed" else nullcontext()


class _Module(backend_registration._DummyBackendModule):  # type: ignore[misc]
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def elsewhere() -> Watched:
    """Inside what this gives, all that trains is on the device."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    made, saved = torch.tensor, PreTrainedModel.save_pretrained

    def tensor(data: Any, *, device: Any = None, **how: Any) -> torch.Tensor:
        """Made here and moved, since PyTorch makes such a tensor past all modes."""
        return made(data, **how) if device is None else made(data, **how).to(device)

    def save(model: Any, folder: Any) -> None:
        """From here: files are written from memory, of which the device has none."""
        saved(model, folder, state_dict={name: value.cpu() for name, value in model.state_dict().items()})

    torch.tensor = tensor  # type: ignore[assignment]
    PreTrainedModel.save_pretrained = save  # type: ignore[method-assign]
    for module in (trainer, single_path):
        module.fabric = Fabric  # type: ignore[assignment,attr-defined]
    return Watched()


if __name__ == "__main__":
    with elsewhere():
        try:
            main()
        finally:
            print(f"{Watched.operations} operations elsewhere")
