"""Step costs against counts made by hand and prices known beforehand; no clock is trusted."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from nasformer.errors import RequestError
from nasformer.measures.step_cost import Features, StepCost, _Counter, calibrate, features, fitted
from nasformer.models.transformer import ModelSettings
from nasformer.spaces.known_programs import primer_ez, transformer
from nasformer.spaces.program import Instruction
from nasformer.spaces.program_text import read_program

SETTINGS = ModelSettings(target_vocabulary=7)
PRICES = StepCost(gflop=0.03, elements=0.002, operation=1e-5, constant=0.004)
COUNTS = [Features(1.0, 20, 100), Features(3, 10, 300), Features(2, 90, 50), Features(0.2, 5, 400), Features(5, 7, 9)]


def linear(operations: str = "s2 = CONV_1X1(s0, d0)") -> Features:
    """The counts of a program with one line, for 2 sequences of 3 tokens, width 4."""
    text = f"depth 1\nunit 4\nconstants c0=0\ndims d0=1\nMAIN:\n  {operations}\n"
    return features(read_program(text), SETTINGS, 2, 3)


def test_products_are_counted_by_hand() -> None:
    block, output = 2 * 6 * 4 * 4, 2 * 6 * 4 * 7
    assert linear().gflops == pytest.approx(3 * (block + output) / 1e9)


def test_an_operation_writes_what_it_gives() -> None:
    once = linear("s2 = C_MUL(s0, c0)")
    twice = linear("s2 = C_MUL(s0, c0)\n  s3 = C_MUL(s2, c0)")
    assert twice.operations - once.operations == 2  # forward and backward
    assert twice.elements - once.elements == pytest.approx(2 * 6 * 4 / 1e6)
    assert twice.gflops == once.gflops


def test_views_write_nothing() -> None:
    x = torch.empty(3, 4, device="meta")
    with _Counter() as counter:
        x.t().unsqueeze(0)[:, 1:]
        assert (counter.operations, counter.elements) == (0, 0)
        x.t().add_(1)
    assert (counter.operations, counter.elements) == (1, 12)


def test_dead_code_costs_nothing() -> None:
    program = transformer(width=8, depth=1, heads=2)
    main = program.subprograms[0]
    dead = Instruction(operation="CONV_1X1", first=0, dim=0)
    live = main.instructions[:-1]
    longer = main.but(instructions=(*live, dead, main.instructions[-1]))
    other = program.but(subprograms=(longer, *program.subprograms[1:]))
    assert other != program
    assert features(other, SETTINGS, 2, 6) == features(program, SETTINGS, 2, 6)


def test_more_work_costs_more() -> None:
    plain, convolved = (features(make(width=16, depth=1), SETTINGS, 4, 8) for make in (transformer, primer_ez))
    assert StepCost().seconds(convolved) > StepCost().seconds(plain) > 0
    assert features(transformer(width=16, depth=2), SETTINGS, 4, 8).gflops > plain.gflops


def test_the_prediction_is_the_sum_of_counts_times_prices() -> None:
    assert PRICES.seconds(Features(2, 10, 500)) == pytest.approx(0.06 + 0.02 + 0.005 + 0.004)
    assert StepCost.read(PRICES.data()) == PRICES
    with pytest.raises(RequestError):
        StepCost(gflop=-1.0)


def test_known_prices_are_found_again() -> None:
    found = fitted(COUNTS, [PRICES.seconds(counted) for counted in COUNTS])
    assert found.data() == pytest.approx(PRICES.data())


def test_prices_are_never_negative() -> None:
    found = fitted(COUNTS, [counted.gflops + 1 - 0.002 * counted.elements for counted in COUNTS])
    assert found.elements == 0.0
    assert found.gflop > 0


def test_steps_run_in_turn_and_outliers_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now, order = [0.0], []
    monkeypatch.setattr(time, "process_time", lambda: now[0])
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)

    def step(number: int) -> Callable[[], None]:
        def run() -> None:
            order.append(number)
            slow = order.count(number) in (1, 3)  # the warm-up and one turn
            now[0] += PRICES.seconds(COUNTS[number]) * (50 if slow else 1)

        return run

    cost, seconds = calibrate([(counted, step(number)) for number, counted in enumerate(COUNTS)], repeats=3)
    assert order == [*range(5)] * 4
    assert seconds == pytest.approx([PRICES.seconds(counted) for counted in COUNTS])
    assert cost.data() == pytest.approx(PRICES.data())


def test_too_few_steps() -> None:
    with pytest.raises(RequestError, match="at least 4"):
        calibrate([(COUNTS[0], lambda: None)] * 3)
