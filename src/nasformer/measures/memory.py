"""The most bytes of tensors that are alive at once while something runs, or would be if it ran.

`imagined` gives tensors that know their shape and hold nothing, and that say they are on a CPU, so that everything
takes the way it takes there (on the meta device our operators take other ways: those whose operations are counted). A
training step can so be run for its memory alone, and needs none.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

_CPU = torch.device("cpu")


def imagined() -> FakeTensorMode:
    """A context in which tensors are made without memory. Tensors of two such contexts do not mix."""
    return FakeTensorMode()


def peak_bytes(function: Callable[[], Any], held: Iterable[Tensor] = ()) -> int:
    """The most bytes of tensors alive at once while the function runs: those that it makes, and those `held` before."""
    with LiveBytes(held) as live:
        result = function()
    del result
    return max(live.peaks)


class LiveBytes(TorchDispatchMode):
    """A context that follows the bytes of the tensors that are alive: those that operations make, and those `held`.

    Each storage counts once and whole, as long as anything keeps it. What a kernel allocates inside itself and frees
    again is not seen, nor is what the allocator keeps in reserve. `peaks` has the most bytes of each part of the work;
    `mark` begins a new part. Where the work is only imagined, whoever asks for the value of a truth gets True, and of a
    number `number`.
    """

    def __init__(self, held: Iterable[Tensor] = (), number: int | None = None) -> None:
        super().__init__()
        self.now, self.peaks, self.number = 0, [0], number
        self._alive: dict[int, tuple[weakref.ref, int]] = {}
        for tensor in held:
            self._meet(tensor)

    def mark(self) -> None:
        """What comes is another part of the work."""
        self.peaks.append(self.now)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.prim.device.default:  # imagined tensors ask this of themselves all the time
            return _CPU
        if self.number is not None and function is torch.ops.aten._local_scalar_dense.default:
            return True if args[0].dtype == torch.bool else self.number
        answer = function(*args, **(kwargs or {}))
        for result in answer if isinstance(answer, tuple | list) else (answer,):
            if isinstance(result, Tensor):
                self._meet(result)
        return answer

    def _meet(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._alive:
            size = storage.nbytes()
            self._alive[key] = (weakref.ref(storage, lambda _: self._leave(key)), size)
            self.now += size
            self.peaks[-1] = max(self.peaks[-1], self.now)

    def _leave(self, key: int) -> None:
        _, size = self._alive.pop(key)
        self.now -= size
