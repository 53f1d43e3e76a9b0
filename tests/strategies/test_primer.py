"""The search of programs: what an evaluation is, what the search does with it, and that it repeats to the bit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_language import TinyLanguage, TinyTask

from nasformer.errors import RequestError
from nasformer.measures.step_cost import StepCost
from nasformer.models.size import core_parameters
from nasformer.runs.run import Run
from nasformer.runs.stage import Stage
from nasformer.spaces.known_programs import PROGRAMS, transformer
from nasformer.spaces.program import Program, digest
from nasformer.spaces.program_space import MUTATIONS, ProgramSpace
from nasformer.spaces.program_text import program_text, read_program
from nasformer.strategies import evaluate_program
from nasformer.strategies.evaluate_program import CAUSES, Evaluation, Trial, evaluate, invalid
from nasformer.strategies.hurdles import hurdle_times
from nasformer.strategies.objective import Objective
from nasformer.strategies.primer import Member, Primer, PrimerSearch
from nasformer.strategies.program_rate import rated
from nasformer.strategies.workers import Here, Job
from nasformer.training.schedule import ConstantThenDecay, Cosine, InverseSquareRoot
from nasformer.training.sweep import Sweep, Swept
from nasformer.training.trainer import Training

START = transformer(width=8, depth=1, heads=2)
TRAINING = Training(batch_tokens=96, schedule=InverseSquareRoot(peak=2e-2, warmup=3))
COST = StepCost(gflop=0.0, elements=0.0, operation=0.0, constant=1.0)
"""Every update costs a second, so that budgets count updates."""
TRIAL = Trial(budget=14, hurdles=2, training=TRAINING, validation_tokens=240, step_cost=COST)
SETTINGS = Primer(
    programs=10, population=4, tournament=2, hurdles=2, budget=7, pool=2, together=3, training=TRAINING,
    validation_tokens=120, step_cost=COST,
)  # fmt: skip
OPEN = (None, None)


@pytest.fixture(scope="module")
def task() -> TinyTask:
    """The tiny language."""
    return TinyLanguage().open()


def changed(old: str, new: str) -> Program:
    """The start with some words of its text replaced."""
    text = program_text(START)
    assert old in text
    return read_program(text.replace(old, new))


def begin(task: TinyTask, settings: Primer = SETTINGS, seed: int = 1) -> PrimerSearch:
    """A search from the small Transformer."""
    return settings.begin(ProgramSpace(START), Objective(), task, seed)


def state_of(search: PrimerSearch) -> str:
    """The state without what the clock said."""

    def timeless(data: Any) -> Any:
        if isinstance(data, dict):
            return {key: timeless(value) for key, value in data.items() if key != "seconds"}
        return [timeless(part) for part in data] if isinstance(data, list) else data

    return json.dumps(timeless(json.loads(json.dumps(search.state(), allow_nan=False))))


def to_the_end(search: PrimerSearch) -> list[tuple[str, dict[str, Any]]]:
    """The remaining events without what the clock said."""
    events = []
    while not search.finished():
        found = json.loads(json.dumps(search.step().events, allow_nan=False))
        events += [(name, {k: v for k, v in fields.items() if k != "seconds"}) for name, fields in found]
    return events


def fake(fitness: Callable[[Program], float]) -> Callable[..., Evaluation]:
    """In place of `evaluate`: a loss as a function of the program, invalid where it is no number."""

    def evaluated(program: Program, task: Any, trial: Trial, bars: Any, seed: int, number: int = 0) -> Evaluation:
        loss = fitness(program)
        if not math.isfinite(loss):
            return invalid("no gradient", "as the test wants it")
        point = evaluate_program.Point(1.0, 1, loss)
        return Evaluation(1, 1.0, 1, 1.0, trial.hurdles, True, (point,) * (trial.hurdles + 1))

    return evaluated


def test_an_evaluation_pays_for_its_updates_and_measures_at_the_hurdles(task: TinyTask) -> None:
    found = evaluate(START, task, TRIAL, OPEN, seed=1)
    assert [(point.cost, point.updates) for point in found.curve] == [(2, 2), (6, 6), (14, 14)]
    assert hurdle_times(14, 2) == (2, 6)
    assert (found.finished, found.passed, found.updates, found.cost) == (True, 2, 14, 14)
    assert found.curve[-1].loss < found.curve[0].loss - 0.1
    assert found.fitness == found.curve[-1].loss
    assert found.parameters == core_parameters(START)
    assert Evaluation.read(json.loads(json.dumps(found.data()))) == found


def test_a_slow_program_gets_fewer_updates(task: TinyTask) -> None:
    found = evaluate(START, task, TRIAL.but(step_cost=COST.but(constant=3.0)), OPEN, seed=1)
    assert [point.updates for point in found.curve] == [1, 2, 4]
    assert found.cost == 12


def test_the_same_seed_gives_the_same_evaluation_and_leaves_the_world_alone(task: TinyTask) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first, again = (evaluate(START, task, TRIAL, OPEN, seed=1, number=4) for _ in range(2))
    assert first.curve == again.curve
    assert evaluate(START, task, TRIAL, OPEN, seed=1, number=5).curve != first.curve
    assert evaluate(START, task, TRIAL, OPEN, seed=2, number=4).curve != first.curve
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_all_programs_of_a_search_are_measured_on_the_same_text(
    task: TinyTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    monkeypatch.setattr(task, "evaluate", lambda model, batches: rows.append(batches[0].rows) or 1.0)
    for seed, number in ((1, 4), (1, 5), (2, 4)):
        short = TRAINING.but(schedule=InverseSquareRoot(peak=2e-2, warmup=1))
        evaluate(START, task, TRIAL.but(hurdles=0, budget=1, training=short), (), seed=seed, number=number)
    assert rows[0] == rows[1] != rows[2]


def test_who_is_worse_than_the_bar_stops_there(task: TinyTask) -> None:
    losses = [point.loss for point in evaluate(START, task, TRIAL, OPEN, seed=1).curve]
    level = evaluate(START, task, TRIAL, tuple(losses[:2]), seed=1)
    assert level.finished
    first = evaluate(START, task, TRIAL, (losses[0] - 1e-6, None), seed=1)
    assert (first.passed, first.finished, first.cost, first.fitness) == (0, False, 2, losses[0])
    second = evaluate(START, task, TRIAL, (None, losses[1] - 1e-6), seed=1)
    assert (second.passed, second.finished, second.cost, second.fitness) == (1, False, 6, losses[1])
    assert first.cause is second.cause is None


@pytest.mark.parametrize(
    ("program", "trial", "cause"),
    [
        (changed("s3 = MASK(s2)", "s3 = ABS(s2)"), TRIAL, "leaks from the future"),
        (changed("MAT_MUL(s7, s4)", "MAT_MUL(s4, s7)"), TRIAL, "no valid shape"),
        (START, TRIAL.but(parameters=2 * core_parameters(START)), "over the size limit"),
        (START, TRIAL.but(memory=1_000), "out of memory"),
        (START, TRIAL.but(patience=1e-9), "time-out"),
        (START, TRIAL.but(step_cost=COST.but(constant=15.0)), "time-out"),
        (START, TRIAL.but(training=TRAINING.but(schedule=InverseSquareRoot(peak=1e30, warmup=1))), "loss is no number"),
        (changed("s8 = RESIDUAL(s5, s7)", "s8 = SIGN(s7)"), TRIAL, "no gradient"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_programs_by_cause(task: TinyTask, program: Program, trial: Trial, cause: str) -> None:
    found = evaluate(program, task, trial, OPEN, seed=1)
    assert found.cause == cause, found.reason
    assert found.reason
    assert found.fitness == math.inf
    assert not found.finished
    assert cause in CAUSES


def test_the_population_begins_as_copies_of_the_start(task: TinyTask) -> None:
    search = begin(task)
    search.step()
    assert [member.number for member in search.members] == [0]
    assert list(search.population) == [0] * 4
    assert search.best() == START


@pytest.mark.slow
def test_a_search_and_what_it_records(task: TinyTask) -> None:
    search = begin(task)
    events = to_the_end(search)
    programs = [fields for name, fields in events if name == "program"]
    assert [fields["number"] for fields in programs] == [*range(11)]
    assert list(search.population) == [7, 8, 9, 10]
    for fields in programs[1:]:
        assert fields["parent"] < fields["number"]
        assert fields["mutation"] in MUTATIONS
        assert fields["change"]
        assert (fields["fitness"] is None) == (fields["cause"] is not None)
        program = read_program(fields["program"])
        assert fields["digest"] == digest(program) != digest(search.members[fields["parent"]].program)
        if fields["cause"] is None:
            assert abs(fields["parameters"] / core_parameters(START) - 1) <= 0.08
            assert fields["cost"] <= 7
            assert fields["passed"] in (len(fields["curve"]), len(fields["curve"]) - 1)
    last = [fields for name, fields in events if name == "population"][-1]
    assert last["programs"] == 11
    assert last["cost"] == sum(fields["cost"] for fields in programs)
    assert last["reached"][0] >= last["passed"][0] >= last["passed"][1] >= last["finished"] > 0
    assert sum(last["invalid"].values()) == sum(fields["cause"] is not None for fields in programs)
    best = search.top(3)
    assert best[0].evaluation is not None
    assert best[0].evaluation.finished
    assert search.best() == best[0].program
    assert len({digest(member.program) for member in best}) == len(best)
    line = search.lineage(10)
    assert (line[0].number, line[-1].number) == (0, 10)
    assert all(child.parent == parent.number for parent, child in pairwise(line))


def test_no_member_passes_a_hurdle_with_a_loss_worse_than_the_bar(task: TinyTask) -> None:
    search, bars_after = begin(task), {}
    while not search.finished():
        search.step()
        bars_after[len(search.members)] = search.bars.now()
    stopped = 0
    for member in search.members[1:]:
        evaluation = member.evaluation
        assert evaluation is not None
        for hurdle, point in enumerate(evaluation.curve[:2]):
            bar = bars_after[1 + (member.number - 1) // 3 * 3][hurdle]  # when the parents of its round were chosen
            if evaluation.passed > hurdle:
                assert bar is None or point.loss <= bar
            elif evaluation.cause is None:
                stopped += 1
                assert bar is not None
                assert point.loss > bar
    assert stopped > 0


@pytest.mark.slow
@pytest.mark.parametrize("settings", [SETTINGS, SETTINGS.but(staleness=2), SETTINGS.but(cache=True)])
def test_stopped_and_resumed_is_uninterrupted(task: TinyTask, settings: Primer) -> None:
    whole = begin(task, settings)
    expected = to_the_end(whole)
    search, events = begin(task, settings), []
    while not search.finished():
        for name, fields in json.loads(json.dumps(search.step().events)):
            events.append((name, {k: v for k, v in fields.items() if k != "seconds"}))
        other = begin(task, settings)
        other.load({}, json.loads(json.dumps(search.state())))
        search = other
    assert events == expected
    assert state_of(search) == state_of(whole)
    assert to_the_end(begin(task, settings, seed=2)) != expected


def test_children_of_a_round_have_parents_from_before_it(task: TinyTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasformer.strategies.workers.evaluate", fake(lambda program: 1.0))
    search = begin(task, SETTINGS.but(programs=30))
    to_the_end(search)
    assert all(member.parent <= 3 * ((member.number - 1) // 3) for member in search.members[1:])  # type: ignore[operator]
    late = begin(task, SETTINGS.but(programs=30, staleness=2))
    to_the_end(late)
    distances = {member.number - member.parent for member in late.members[3:]}  # type: ignore[operator]
    assert min(distances) == 3
    assert max(distances) <= 3 + 4


@pytest.mark.slow
def test_the_best_of_the_tournament_is_the_parent_and_the_invalid_never_is(
    task: TinyTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(program: Program) -> float:
        value = int(digest(program)[:4], 16) / 65536
        return math.nan if value > 0.6 and program != START else value

    monkeypatch.setattr("nasformer.strategies.workers.evaluate", fake(loss))
    greedy = SETTINGS.but(programs=60, population=6, tournament=6, together=1)
    search = begin(task, greedy)
    population = [0] * 6
    while not search.finished():
        search.step()
        member = search.members[-1]
        if member.parent is not None:
            assert member.parent in population
            best = min(search.members[number].fitness for number in population)
            assert search.members[member.parent].fitness == best < math.inf
            population = [*population[1:], member.number]
    assert any(member.fitness == math.inf for member in search.members)
    alone = begin(task, greedy.but(tournament=1))
    to_the_end(alone)
    parents = [alone.members[member.parent].fitness for member in alone.members[1:]]  # type: ignore[index]
    assert any(member.fitness == math.inf for member in alone.members)
    assert math.inf not in parents
    assert len(set(parents)) > 6


@pytest.mark.slow
def test_selection_beats_none_on_a_landscape(task: TinyTask, monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(program: Program) -> float:
        return float(sum(len(part.instructions) for part in program.subprograms))

    monkeypatch.setattr("nasformer.strategies.workers.evaluate", fake(loss))
    settings = SETTINGS.but(programs=40, population=8, together=1)
    found = {}
    for tournament in (1, 4):
        searches = [begin(task, settings.but(tournament=tournament), seed=seed) for seed in range(4)]
        for search in searches:
            to_the_end(search)
        found[tournament] = sum(loss(search.best()) for search in searches) / 4
    assert found[4] <= found[1] - 2


def test_equal_functions_are_evaluated_once_where_asked(task: TinyTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasformer.strategies.workers.evaluate", fake(lambda program: 1.0))
    plain = begin(task, SETTINGS.but(programs=40, together=1))
    to_the_end(plain)
    assert all(member.equal_to is None for member in plain.members)
    cached = begin(task, SETTINGS.but(programs=40, together=1, cache=True))
    to_the_end(cached)
    equal = [member for member in cached.members if member.equal_to is not None]
    assert equal
    for member in equal:
        assert member.evaluation == cached.members[member.equal_to].evaluation  # type: ignore[index]
        assert member.function == cached.members[member.equal_to].function  # type: ignore[index]
    assert cached.summary()["cost"] == len(cached.members) - len(equal) - _invalid(cached.members)


def key(task: TinyTask, program: Program, seed: int = 1) -> str | None:
    """What a search calls the function of its start."""
    search = SETTINGS.but(cache=True).begin(ProgramSpace(program), Objective(), task, seed)
    return search.pending[0][0].function


def test_a_function_written_otherwise_has_the_same_key(task: TinyTask) -> None:
    same = (
        changed("s7 = DIVIDE(s3, s6)", "s7 = RECIP(s6)\n  s8 = MULTIPLY(s3, s7)"),
        changed("s5 = DIVIDE(s3, s4)", "s5 = RECIP(s4)\n  s6 = MULTIPLY(s5, s3)"),
        changed("s2 = MAX(s0, c0)", "s2 = ABS(s0)\n  s3 = ADD(s0, s2)\n  s4 = MAX(s3, c0)\n  s5 = MIN(s0, c0)\n"
                "  s6 = DIFFERENCE(s4, s0)\n  s7 = ADD(s6, s5)"),
    )  # fmt: skip
    threads = torch.get_num_threads()
    for seed in range(5):
        keys = {key(task, program, seed) for program in (START, *same)}
        torch.set_num_threads(2)
        try:
            keys.add(key(task, START, seed))
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(threads)
        assert len(keys) == 1
        assert None not in keys


def test_different_functions_have_different_keys(task: TinyTask) -> None:
    known = [make(width=8, depth=1, heads=2) for make in PROGRAMS.values()]
    near = [changed("c0=0", "c0=0.001"), changed("s8 = RESIDUAL(s5, s7)", "s8 = RESIDUAL(s7, s7)")]
    assert len({key(task, program) for program in (*known, *near)}) == len(known) + len(near)
    assert key(task, START, seed=2) != key(task, START, seed=1)
    assert begin(task).pending[0][0].function is None


def _invalid(members: list[Member]) -> int:
    return sum(member.fitness == math.inf for member in members)


def test_limits_hold(task: TinyTask) -> None:
    size = core_parameters(START)
    with pytest.raises(RequestError, match=r"the start is outside the limits: objective\.max_core_parameters"):
        SETTINGS.begin(ProgramSpace(START), Objective(max_core_parameters=size - 1), task, 1)
    with pytest.raises(RequestError, match=r"no objective\.penalty"):
        SETTINGS.begin(ProgramSpace(START), Objective(max_core_parameters=size, penalty=1.0), task, 1)
    search = SETTINGS.begin(ProgramSpace(START), Objective(max_core_parameters=size), task, 1)
    to_the_end(search)
    over = [m for m in search.members if m.evaluation is not None and m.evaluation.cause == "over the size limit"]
    assert all(core_parameters(m.program) <= size for m in search.members if m not in over)


def test_a_start_that_cannot_be_trained(task: TinyTask) -> None:
    leaking = changed("s3 = MASK(s2)", "s3 = ABS(s2)")
    with pytest.raises(RequestError, match="the start cannot be trained: leaks from the future"):
        SETTINGS.begin(ProgramSpace(leaking), Objective(), task, 1).step()


def test_settings_that_contradict_themselves() -> None:
    with pytest.raises(RequestError, match="a tournament of 5 among a population of 4"):
        SETTINGS.but(tournament=5)
    assert Primer.read(SETTINGS.data()) == SETTINGS


@pytest.mark.parametrize(
    "schedule", [Cosine(peak=2e-2), ConstantThenDecay(peak=2e-2, warmup=0.25)], ids=lambda s: s.kind
)
def test_a_schedule_goes_over_the_updates_that_the_budget_gives(task: TinyTask, schedule: Any) -> None:
    trial = TRIAL.but(training=TRAINING.but(schedule=schedule))
    for step, updates in ((1.0, 14), (3.0, 4)):
        training = trial.training_of(step)
        assert training.updates == updates
        assert training.rate(updates + 1) == 0 < training.rate(updates) < training.rate(updates // 2) <= 2e-2
        assert training.schedule.warmup_updates(updates) == round(schedule.warmup * updates)
    assert evaluate(START, task, trial, OPEN, seed=1).finished
    assert evaluate(START, task, trial, OPEN, seed=1).curve != evaluate(START, task, TRIAL, OPEN, seed=1).curve
    longer = trial.but(training=TRAINING.but(schedule=Cosine(peak=1e-2, updates=50)))
    assert longer.training_of(1.0).rate(51) == 0 < longer.training_of(1.0).rate(50)


def test_a_warmup_beyond_the_budget_is_refused_with_a_line(task: TinyTask) -> None:
    long = TRAINING.but(schedule=InverseSquareRoot(peak=2e-2, warmup=15))
    found = evaluate(START, task, TRIAL.but(training=long), OPEN, seed=1)
    assert (found.cause, found.updates) == ("time-out", 0)
    assert found.reason == (
        "the budget of 14 s gives this program 14 updates, fewer than the 15 of the warm-up (training.schedule.warmup)"
    )
    with pytest.raises(RequestError, match=r"schedule\.warmup is 15 updates, and the training has 14"):
        TRIAL.but(training=long).training_of(1.0)
    assert evaluate(START, task, TRIAL.but(training=long, budget=15), OPEN, seed=1).finished
    with pytest.raises(RequestError, match=r"the start cannot be trained: time-out: .* shorten the warm-up"):
        begin(task, SETTINGS.but(training=long)).step()


def swept(task: TinyTask, path: Path, *, stop: int | None = None) -> tuple[Trial, Swept | None]:
    """The rate of the start among 4e-10, 2e-2 and 1e6, stopped after so many measurements and gone on."""
    trial = TRIAL.but(budget=320, hurdles=0, training=TRAINING.but(schedule=InverseSquareRoot()))
    grid = Sweep(middle=2e-2, factor=5e7, decline=0.0, validation_tokens=240)
    measured = task.evaluate

    class Stopped(Exception):  # noqa: N818
        pass

    with Run.create(path, {}, seed=1, command="test") as run, pytest.MonkeyPatch.context() as patch:
        if stop is not None:
            left = [stop]

            def evaluated(model: Any, batches: Any) -> float:
                left[0] -= 1
                if left[0] < 0:
                    raise Stopped
                return measured(model, batches)

            patch.setattr(task, "evaluate", evaluated)
            with pytest.raises(Stopped):
                rated(START, task, trial, grid, 3, Stage(run, "start"))
            patch.setattr(task, "evaluate", measured)
        return rated(START, task, trial, grid, 3, Stage(run, "start"))


def test_a_program_has_its_own_rate_and_a_stopped_sweep_goes_on(task: TinyTask, tmp_path: Path) -> None:
    trial, found = swept(task, tmp_path / "whole")
    assert found is not None
    assert trial.training.schedule.peak == found.peak == 2e-2
    assert trial.training.schedule.warmup == 0.125  # a share still: of the updates of whichever program
    assert swept(task, tmp_path / "stopped", stop=2) == (trial, found)
    assert rated(START, task, TRIAL, Sweep(), 3, None) == (TRIAL, None)  # type: ignore[arg-type]
    job = Job(4, START, OPEN, peak=1e-3)
    here = Here(task, TRIAL, 1)
    here.submit(job)
    assert here.take(4).curve == evaluate(START, task, TRIAL.at(1e-3), OPEN, seed=1, number=4).curve


def test_a_program_that_cannot_be_tried_or_always_fails_says_why_in_its_trial(task: TinyTask, tmp_path: Path) -> None:
    trial = TRIAL.but(budget=320, hurdles=0, training=TRAINING.but(schedule=InverseSquareRoot()))
    with Run.create(tmp_path / "run", {}, seed=1, command="test") as run:
        outside = trial.but(parameters=2 * core_parameters(START))
        for name, one, cause in (
            ("size", outside, "over the size limit"),
            ("slow", trial.but(patience=1e-9), "time-out"),
        ):
            found, sweep = rated(START, task, one, Sweep(middle=2e-2), 3, Stage(run, name))
            assert (found.training.schedule.peak, sweep) == (2e-2, None)
            assert evaluate(START, task, found, (), seed=1).cause == cause
