"""What one training step costs, predicted from what it computes: budgets are charged without a clock, so runs repeat.

A step is counted on the meta device, forward and backward: floating-point operations, elements written, operations.
Each count has a price, fitted once to the time that real steps took (docs/papers/primer.md, our reading 18).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import numpy as np
import scipy
import torch
from pydantic import Field
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from nasformer.errors import RequestError
from nasformer.models.build import outline
from nasformer.models.program import ProgramModel
from nasformer.models.transformer import ModelSettings
from nasformer.spaces.value import Value

Price = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Features:
    """What one forward and backward pass takes: 10⁹ floating-point operations of products and convolutions, 10⁶
    elements written, and operations (views are none)."""

    gflops: float
    elements: float
    operations: float


class StepCost(Value):
    """Prices in seconds on one thread: for each GFLOP, for each million elements written, for each operation, and for a
    step as such.

    The default is of a CPU core; `nasformer.strategies.evaluate_program.calibrated` fits those of another machine.
    """

    # `python -m benchmarks step_cost`: the known programs and 40 mutants, width 64, depth 2, 4,096 bytes a batch in
    # sequences of 64, one thread. Predictions are off by 6 % in the median and by 30 % at worst.
    gflop: Price = 7.3e-3
    elements: Price = 1.1e-3
    operation: Price = 0.0
    constant: Price = 3.4e-3

    def seconds(self, features: Features) -> float:
        """The seconds that one training step is charged."""
        return float(np.dot(astuple(features), (self.gflop, self.elements, self.operation)) + self.constant)


@dataclass(frozen=True)
class _Result:
    """What an operation gives for inputs of given shapes: for each result its shape, strides and dtype, or the argument
    that it has changed (a place or a name), or None; the type of what holds several; and what it takes."""

    results: tuple[tuple[Any, ...] | int | str | None, ...]
    holder: type | None
    flops: int
    elements: int

    def again(self, args: Any, kwargs: Any) -> Any:
        """The results for other arguments of the same shapes."""
        made = [self._one(result, args, kwargs) for result in self.results]
        return made[0] if self.holder is None else self.holder(made)

    @staticmethod
    def _one(result: Any, args: Any, kwargs: Any) -> Tensor | None:
        if isinstance(result, tuple):
            shape, strides, dtype, device = result
            return torch.empty_strided(shape, strides, dtype=dtype, device=device)
        changed: Tensor | None = args[result] if isinstance(result, int) else kwargs.get(result)
        return changed


class _Counter(TorchDispatchMode):
    """Counts floating-point operations, operations and the elements that they write; a view writes nothing.

    On the meta device a result depends on the shapes of the arguments alone, and it takes long to find, so results are
    remembered: blocks are alike, and programs are like their parents.
    """

    known: ClassVar[dict[Any, _Result]] = {}
    most: ClassVar[int] = 8192
    """How many results are remembered; beyond, all are forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.flops, self.operations, self.elements = 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.is_view:
            return func(*args, **kwargs)
        key = (func, _signature((args, *kwargs.items())))
        found = self.known.get(key)
        if found is None:
            result = func(*args, **kwargs)
            formula = flop_registry.get(func.overloadpacket)
            found = _found(result, args, kwargs, formula(*args, **kwargs, out_val=result) if formula else 0)
            if _repeats(args, kwargs) and key == (func, _signature((args, *kwargs.items()))):
                if len(self.known) >= self.most:
                    self.known.clear()
                self.known[key] = found
        else:
            result = found.again(args, kwargs)
        self.operations += 1
        self.flops += found.flops
        self.elements += found.elements
        return result


def _signature(value: Any) -> Any:
    """What the shape of a result depends on: of a tensor all but its entries, of a number its type too."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, list | tuple):
        return tuple(map(_signature, value))
    return type(value), value


def _found(result: Any, args: Any, kwargs: Any, flops: int) -> _Result:
    several = result if isinstance(result, list | tuple) else [result]
    given: dict[int, int | str] = {id(value): name for name, value in [*enumerate(args), *kwargs.items()]}
    results = tuple(
        (given[id(one)] if id(one) in given else _signature(one)) if isinstance(one, Tensor) else None
        for one in several
    )
    elements = sum(one.numel() for one in several if isinstance(one, Tensor))
    return _Result(results, None if several is not result else type(result), flops, elements)


def _repeats(args: Any, kwargs: Any) -> bool:
    """Whether only shapes decide: there are tensors among the arguments, and all are on the meta device."""
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    return bool(tensors) and all(tensor.device.type == "meta" for tensor in tensors)


@lru_cache(maxsize=4096)
def features(architecture: Any, settings: ModelSettings, batch: int, length: int) -> Features:
    """The counts of one step of a language model on `batch` sequences of `length` tokens, but for the loss and the
    optimiser. Dead code does not count, for it is not built."""
    model = outline(architecture, settings)
    tokens = torch.empty(batch, length, dtype=torch.int64, device="meta")
    with torch.no_grad(), _Counter():  # tables that are kept for the next call are made now, whatever ran before
        model.embedding(tokens, None) if isinstance(model, ProgramModel) else model(tokens)
    with _Counter() as counter:
        model(tokens).sum().backward()
    return Features(counter.flops / 1e9, counter.elements / 1e6, float(counter.operations))


def calibrate(steps: Sequence[tuple[Features, Callable[[], Any]]], *, repeats: int = 5) -> tuple[StepCost, list[float]]:
    """Prices fitted to real training steps, and for each step the median seconds that it took.

    The steps run in turn (A B C A B C …), since a shared machine's speed drifts, and are timed in CPU time of this
    process (in wall time where a GPU is in use), after one turn to warm up. The prices are the nonnegative ones with
    the least squared relative errors.
    Raises `RequestError` for fewer steps than prices.
    """
    if len(steps) < 4 or repeats < 1:
        raise RequestError(f"expected at least 4 different steps to fit 4 prices, got {len(steps)}")
    times = np.array([[_seconds(step) for _, step in steps] for _ in range(repeats + 1)])
    seconds = np.median(times[1:], axis=0)
    return fitted([counted for counted, _ in steps], seconds.tolist()), seconds.tolist()


def fitted(counts: Sequence[Features], seconds: Sequence[float]) -> StepCost:
    """The nonnegative prices whose predictions have the least squared relative errors."""
    rows = np.array([[*astuple(counted), 1.0] for counted in counts]) / np.array(seconds)[:, None]
    scale = rows.max(0)
    prices = scipy.optimize.nnls(rows / scale, np.ones(len(rows)))[0] / scale
    gflop, elements, operation, constant = map(float, prices)
    return StepCost(gflop=gflop, elements=elements, operation=operation, constant=constant)


def _seconds(step: Callable[[], Any]) -> float:
    gpu = torch.cuda.is_initialized()
    clock = time.perf_counter if gpu else time.process_time
    start = clock()
    step()
    if gpu:
        torch.cuda.synchronize()
    return clock() - start
