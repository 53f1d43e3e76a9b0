"""Evaluation in worker processes: the same as in this one, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_language import TinyLanguage

from nasformer.errors import RunError
from nasformer.measures.step_cost import StepCost
from nasformer.spaces.known_programs import primer_ez, transformer
from nasformer.spaces.program import Program
from nasformer.spaces.program_space import ProgramSpace
from nasformer.strategies.evaluate_program import Evaluation, Trial, evaluate
from nasformer.strategies.objective import Objective
from nasformer.strategies.primer import Primer, PrimerSearch
from nasformer.strategies.workers import Job, Workers
from nasformer.training.schedule import InverseSquareRoot
from nasformer.training.trainer import Training

TRAINING = Training(batch_tokens=96, schedule=InverseSquareRoot(peak=2e-2, warmup=3))
COST = StepCost(gflop=0.0, elements=0.0, operation=0.0, constant=1.0)
TRIAL = Trial(budget=7, hurdles=1, training=TRAINING, validation_tokens=120, step_cost=COST)
START = transformer(width=8, depth=1, heads=2)
OTHER = primer_ez(width=8, depth=1, heads=2)
DEADLY = transformer(width=8, depth=3, heads=2)


def timeless(evaluation: Evaluation) -> Evaluation:
    """An evaluation without what the clock said."""
    return replace(evaluation, seconds=0.0)


def expected(number: int, program: Program) -> Evaluation:
    """What this process finds."""
    return timeless(evaluate(program, TinyLanguage().open(), TRIAL, (None,), 5, number))  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    """Whether a process runs (a dead one that nobody has waited for does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pids: list[int], seconds: float = 20.0) -> bool:
    """Whether all processes end within some time."""
    end = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(alive, pids))


@pytest.fixture
def workers() -> Iterator[Any]:
    """Starts workers, and ends them."""
    started: list[Workers] = []

    def start(count: int, settings: TinyLanguage | None = None) -> Workers:
        started.append(Workers(count, settings or TinyLanguage(), None, TRIAL, 5))
        return started[-1]

    yield start
    for one in started:
        pids = one.pids()
        one.close()
        assert gone(pids)


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(workers: Any) -> None:
    pool = workers(2)
    programs = {1: START, 2: OTHER, 3: START, 4: OTHER}
    for number, program in programs.items():
        pool.submit(Job(number, program, (None,)))
    found = {3: timeless(pool.take(3))}  # both are at work by now
    before = pool.pids()
    os.kill(before[0], signal.SIGKILL)
    for number, program in programs.items():
        found.setdefault(number, timeless(pool.take(number)) if number != 3 else found[3])
        assert found[number] == expected(number, program)
    pool.submit(Job(5, START, (None,)))
    pool.submit(Job(6, OTHER, (None,)))
    assert timeless(pool.take(6)) == expected(6, OTHER)
    assert timeless(pool.take(5)) == expected(5, START)
    assert pool.pids() != before
    assert gone(before[:1])


@pytest.mark.slow
def test_who_kills_a_worker_once_is_evaluated_again(workers: Any, tmp_path: Path) -> None:
    pool = workers(1, TinyLanguage(deadly_depth=3, deaths=str(tmp_path)))
    before = pool.pids()
    pool.submit(Job(1, DEADLY, (None,)))
    pool.submit(Job(2, START, (None,)))
    assert timeless(pool.take(1)) == expected(1, DEADLY)
    assert timeless(pool.take(2)) == expected(2, START)
    assert list(tmp_path.iterdir())
    assert pool.pids() != before


@pytest.mark.slow
def test_who_kills_a_worker_twice_is_invalid_and_alone_in_it(workers: Any) -> None:
    pool = workers(1, TinyLanguage(deadly_depth=3))
    for number, program in ((1, DEADLY), (2, START)):
        pool.submit(Job(number, program, (None,)))
    found = pool.take(1)
    assert found.cause == "its worker died"
    assert found.reason == "its worker died 2 times, the last time with code -9"
    assert timeless(pool.take(2)) == expected(2, START)


@pytest.mark.slow
def test_a_worker_that_cannot_open_the_task_is_heard_of(workers: Any) -> None:
    pool = workers(1, TinyLanguage(length=100_000))
    pool.submit(Job(1, START, (None,)))
    with pytest.raises(RunError, match="a worker failed: expected at least one sequence of 100,001 tokens"):
        pool.take(1)


def search(count: int, **fields: Any) -> PrimerSearch:
    """A small search with some workers."""
    settings = Primer(
        programs=6, population=4, tournament=2, hurdles=1, budget=7, pool=2, together=3, training=TRAINING,
        validation_tokens=120, step_cost=COST, workers=count,
    ).but(**fields)  # fmt: skip
    return settings.begin(ProgramSpace(START), Objective(), TinyLanguage().open(), 3)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("staleness", [0, 2])
def test_the_search_is_the_same_for_any_number_of_workers(staleness: int) -> None:
    found = []
    for count in (1, 2):
        one = search(count, staleness=staleness)
        while not one.finished():
            one.step()
        assert one._evaluator is None
        found.append([replace(m, evaluation=timeless(m.evaluation)) for m in one.members if m.evaluation])
    assert len(found[0]) == 7
    assert found[0] == found[1]


ORPHANAGE = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process begun in the background ignores it
sys.path.insert(0, sys.argv[1])
if __name__ == "__main__":
    from test_workers import search
    one = search(2, programs=100_000)
    while True:
        one.step()
        if one._evaluator is not None:
            print(*one._evaluator.pids(), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_orphan_is_left(how: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(ORPHANAGE)
    command = [sys.executable, str(script), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(alive, pids))
        process.send_signal(how)
        assert gone(pids)
        process.wait(20)
