"""What one training step costs, predicted from what it computes: budgets are charged without a clock, so runs repeat.

A step is counted on the meta device, forward and backward: floating-point operations, elements written, operations.
Each count has a price, fitted once to the time that real steps took (docs/papers/primer.md, our reading 18).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from scipy.optimize import nnls
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from nasformer.errors import RequestError
from nasformer.models.build import outline
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


class _Counter(TorchDispatchMode):
    """Counts operations and the elements that they write; a view writes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.elements = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        written = [value for value in torch.utils._pytree.tree_leaves(result) if isinstance(value, torch.Tensor)]
        if not func.is_view:
            self.operations += 1
            self.elements += sum(value.numel() for value in written)
        return result


@lru_cache(maxsize=4096)
def features(architecture: Any, settings: ModelSettings, batch: int, length: int) -> Features:
    """The counts of one step of a language model on `batch` sequences of `length` tokens, but for the loss and the
    optimiser. Dead code does not count, for it is not built."""
    model = outline(architecture, settings)
    tokens = torch.empty(batch, length, dtype=torch.int64, device="meta")
    with torch.no_grad():
        model(tokens)  # tables that are kept for the next call are made now, whatever ran before
    with FlopCounterMode(display=False) as flops, _Counter() as counter:
        model(tokens).sum().backward()
    return Features(flops.get_total_flops() / 1e9, counter.elements / 1e6, float(counter.operations))


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
    prices = nnls(rows / scale, np.ones(len(rows)))[0] / scale
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
