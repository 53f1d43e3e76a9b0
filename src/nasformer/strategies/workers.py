"""Programs evaluated in worker processes, or in this one; the results are the same.

Only JSON text crosses the border. Each worker opens the task itself, from its settings and the cache folder. A worker
that dies in the middle is replaced and its program evaluated again; a program whose worker dies twice is invalid.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import torch

from nasformer.errors import RequestError, RunError
from nasformer.spaces.program import Program
from nasformer.spaces.value import Value
from nasformer.strategies.evaluate_program import Evaluation, Trial, evaluate, invalid
from nasformer.tasks.task import Task
from nasformer.training.memory import keep_freed_memory

DEATHS = 2
"""How often a program's worker may die before the program is blamed."""
FALSE_STARTS = 3
"""How many workers in a row may die before they have opened the task."""


@dataclass(frozen=True)
class Job:
    """A program to evaluate: its number in the search, the bars that hold for it, and its own peak of the rate (None:
    that of the trial)."""

    number: int
    program: Program
    bars: tuple[float | None, ...]
    peak: float | None = None


class Evaluator(Protocol):
    """Evaluates programs, in the background where it can."""

    def submit(self, job: Job) -> None:
        """Take on a job."""
        ...

    def take(self, number: int) -> Evaluation:
        """The evaluation of a job that was submitted; waits for it."""
        ...

    def close(self) -> None:
        """Give everything up."""
        ...


class Here:
    """Evaluates in this process, a program when its result is asked for."""

    def __init__(self, task: Task, trial: Trial, seed: int) -> None:
        self.task, self.trial, self.seed = task, trial, seed
        self.jobs: dict[int, Job] = {}

    def submit(self, job: Job) -> None:
        """Take on a job."""
        self.jobs[job.number] = job

    def take(self, number: int) -> Evaluation:
        """Do the job."""
        job = self.jobs.pop(number)
        return evaluate(job.program, self.task, _own(self.trial, job.peak), job.bars, self.seed, job.number)

    def close(self) -> None:
        """Nothing to give up."""
        self.jobs.clear()


@dataclass
class _Worker:
    process: Any
    connection: Connection
    job: Job | None = None
    ready: bool = False


class Workers:
    """Evaluates in `count` processes of one torch thread each.

    Args:
        count: how many processes.
        settings: the task's settings; each worker calls their `open(cache)`.
        cache: the folder of vocabularies and tokens.
        trial: how programs are tried.
        seed: everything random is derived from it.

    Raises `RunError` where a worker cannot open the task, or three in a row die before they have.
    """

    def __init__(self, count: int, settings: Value, cache: Path | None, trial: Trial, seed: int) -> None:
        kind = type(settings)
        setup = {"module": kind.__module__, "name": kind.__name__, "settings": settings.data(), "trial": trial.data()}
        self._setup = json.dumps(setup | {"cache": None if cache is None else str(cache), "seed": seed})
        self._waiting: deque[Job] = deque()
        self._results: dict[int, Evaluation] = {}
        self._deaths: dict[int, int] = {}
        self._false_starts = 0
        self._workers = [self._start() for _ in range(count)]

    def pids(self) -> list[int]:
        """The processes' numbers."""
        return [worker.process.pid for worker in self._workers]

    def submit(self, job: Job) -> None:
        """Take on a job, behind those that wait."""
        self._waiting.append(job)
        self._feed()

    def take(self, number: int) -> Evaluation:
        """The evaluation of a job; whatever else arrives in the meantime is kept."""
        while number not in self._results:
            for connection in wait([worker.connection for worker in self._workers]):
                place = next(i for i, worker in enumerate(self._workers) if worker.connection is connection)
                self._hear(place)
            self._feed()
        return self._results.pop(number)

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()
        self._workers = []

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, self._setup), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _feed(self) -> None:
        for worker in self._workers:
            if worker.job is None and self._waiting:
                worker.job = self._waiting.popleft()
                job = worker.job
                data = {"number": job.number, "program": job.program.data(), "bars": job.bars, "peak": job.peak}
                with suppress(OSError):  # a dead one is heard of in `take`
                    worker.connection.send_bytes(json.dumps(data).encode())

    def _hear(self, place: int) -> None:
        """What one worker has to say, be it that it is no more."""
        worker = self._workers[place]
        try:
            message = json.loads(worker.connection.recv_bytes())
        except (EOFError, OSError):
            self._bury(place)
            return
        if "error" in message:
            raise RunError(f"a worker failed: {message['error']}")
        if "ready" in message:
            worker.ready, self._false_starts = True, 0
            return
        assert worker.job is not None
        self._results[worker.job.number] = Evaluation.read(message)
        worker.job = None

    def _bury(self, place: int) -> None:
        worker = self._workers[place]
        worker.connection.close()
        worker.process.join()
        self._false_starts += not worker.ready
        if self._false_starts == FALSE_STARTS:
            raise RunError(
                f"{FALSE_STARTS} workers ended before they had opened the task, the last with code "
                f"{worker.process.exitcode}; with workers=1 programs are evaluated in the process itself"
            )
        self._workers[place] = self._start()
        if (job := worker.job) is None:
            return
        self._deaths[job.number] = self._deaths.get(job.number, 0) + worker.ready
        if self._deaths[job.number] < DEATHS:
            self._waiting.appendleft(job)
        else:
            reason = f"its worker died {DEATHS} times, the last time with code {worker.process.exitcode}"
            self._results[job.number] = invalid("its worker died", reason)


@contextmanager
def evaluator(
    count: int, task: Task, settings: Value | None, cache: Path | None, trial: Trial, seed: int
) -> Iterator[Evaluator]:
    """What evaluates in `count` processes (one: this one), closed at the end. Raises `RequestError` where several
    processes lack the task's settings."""
    if count > 1 and settings is None:
        raise RequestError("several workers need the task's settings, to open it themselves; expected workers=1")
    found: Evaluator = Here(task, trial, seed)
    if count > 1 and settings is not None:
        found = Workers(count, settings, cache, trial, seed)
    try:
        yield found
    finally:
        found.close()


def work(connection: Connection, setup: str) -> None:
    """What a worker does: open the task, then one program after another until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process hears it, and ends the workers
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        data = json.loads(setup)
        task = _task(data["module"], data["name"], data["settings"], data["cache"])
        trial = Trial.read(data["trial"])
        connection.send_bytes(b'{"ready": true}')
        while True:
            job = json.loads(connection.recv_bytes())
            bars: Sequence[float | None] = job["bars"]
            own = _own(trial, job["peak"])
            found = evaluate(Program.read(job["program"]), task, own, bars, data["seed"], job["number"])
            connection.send_bytes(json.dumps(found.data()).encode())
    except EOFError:
        return
    except Exception as error:
        known = isinstance(error, RequestError | RunError)
        text = str(error) if known else "".join(traceback.format_exception(error))
        connection.send_bytes(json.dumps({"error": text}).encode())


def _own(trial: Trial, peak: float | None) -> Trial:
    """How a program with a peak of its own is tried."""
    return trial if peak is None else trial.at(peak)


def _task(module: str, name: str, settings: Any, cache: str | None) -> Task:
    kind = getattr(importlib.import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, Value)):
        raise RequestError(f"expected the settings of a task, got {module}.{name}")
    task: Task = kind.read(settings).open(None if cache is None else Path(cache))  # type: ignore[attr-defined]
    return task


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
