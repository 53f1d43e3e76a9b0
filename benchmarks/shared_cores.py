"""Claim: beside another process on the same cores, one thread makes a search faster than one thread a core."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from random import Random
from typing import Any

from benchmarks.figure import Figure, Options, figure
from nasformer.recipes.named import demo
from nasformer.strategies.single_path import SinglePath
from nasformer.supernets.named import supernet_of
from nasformer.training.memory import keep_freed_memory

STEPS, WARMUP = 40, 5
BUSY = [sys.executable, "-c", "while True: pass"]


def shared_cores(options: Options) -> Iterator[Figure]:
    """Updates of the demo's supernet, alone on the cores, then with all but one of them taken."""
    cores = os.cpu_count() or 1
    how = f"seconds of an update of the demo's supernet, one thread / {cores}; {STEPS} updates a process; wall clock"
    for name, busy, bar in (("idle_cores", 0, None), ("shared_cores", cores - 1, 1.0)):
        others = [subprocess.Popen(BUSY) for _ in range(busy)]
        try:
            ratios = [_process(1) / _process(cores) for _ in range(options.repeats(3))]
        finally:
            for other in others:
                other.kill()
        yield figure(name, ratios, bar, f"{how}; beside {busy} busy processes")


def _process(threads: int) -> float:
    command = [sys.executable, "-m", "benchmarks.shared_cores"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def _update_seconds() -> float:
    """Wall clock: threads that spin while they wait spend processor time too."""
    keep_freed_memory()
    recipe, random = demo(), Random(1)
    space: Any = recipe.open_space()
    task = recipe.task.open()
    supernet = supernet_of(space, task.model_settings(recipe.dropout), seed=1)
    path = SinglePath(supernet, task, recipe.strategy.training.at(1e-3), 1)
    for step in range(STEPS + WARMUP):
        if step == WARMUP:
            begun = time.perf_counter()
        path.update(space.sample(random))
    return (time.perf_counter() - begun) / STEPS


if __name__ == "__main__":
    print(_update_seconds())
