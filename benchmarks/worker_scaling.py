"""Claim: two workers evaluate at least 1.7 times as many programs in the same time as one, so the same programs take at
most 1/1.7 of the time."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.figure import Figure, Options, figure
from nasformer.spaces.known_programs import PROGRAMS
from nasformer.strategies.evaluate_program import Trial
from nasformer.strategies.workers import Job, Workers
from nasformer.tasks.language import Language
from nasformer.training.trainer import Training

JOBS, BUDGET = 12, 3.0


def worker_scaling(options: Options) -> Iterator[Figure]:
    """Twelve evaluations of Primer-EZ, with workers that have opened their task; wall time, both in turn."""
    task = Language(length=64, embedded_bytes=500_000)
    trial = Trial(budget=BUDGET, hurdles=0, training=Training(batch_tokens=4096).at(1e-3))
    ratios = []
    for _ in range(options.repeats(3)):
        one, two = (_seconds(count, task, trial) for count in (1, 2))
        ratios.append(two / one)
    how = f"time of {JOBS} evaluations with two workers / with one, start of the workers left out; wall time"
    yield figure("worker_scaling", ratios, 1 / 1.7, how)


def _seconds(count: int, task: Language, trial: Trial) -> float:
    workers = Workers(count, task, None, trial, seed=1)
    program = PROGRAMS["program-primer-ez"]()
    try:
        for number in range(count):  # until every worker has opened its task
            workers.submit(Job(number, program, ()))
        for number in range(count):
            workers.take(number)
        start = time.perf_counter()
        for number in range(count, count + JOBS):
            workers.submit(Job(number, program, ()))
        for number in range(count, count + JOBS):
            workers.take(number)
        return time.perf_counter() - start
    finally:
        workers.close()
