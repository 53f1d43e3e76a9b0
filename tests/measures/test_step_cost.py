"""Step costs against counts made by hand and prices known beforehand; no clock is trusted."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from nasformer.errors import RequestError
from nasformer.measures.step_cost import Features, StepCost, _Counter, calibrate, features, fitted
from nasformer.models.build import outline
from nasformer.models.transformer import ModelSettings
from nasformer.spaces.known_programs import PROGRAMS, primer_ez, transformer
from nasformer.spaces.program import Instruction
from nasformer.spaces.program_space import mutant_of
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


class _Plain(TorchDispatchMode):
    """Counts without remembering anything."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.elements = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.operations += 1
            self.elements += sum(value.numel() for value in tree_leaves(result) if isinstance(value, torch.Tensor))
        return result


def counted_anew(architecture: Any, batch: int, length: int) -> Features:
    """The counts, with every shape found by the operations themselves."""
    model = outline(architecture, SETTINGS)
    tokens = torch.empty(batch, length, dtype=torch.int64, device="meta")
    with torch.no_grad():
        model(tokens)
    with FlopCounterMode(display=False) as flops, _Plain() as counter:
        model(tokens).sum().backward()
    return Features(flops.get_total_flops() / 1e9, counter.elements / 1e6, float(counter.operations))


@pytest.mark.slow
def test_what_is_remembered_counts_as_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Counter, "known", {})
    monkeypatch.setattr(_Counter, "most", 300)  # small enough to be forgotten on the way
    random, members = Random(2), [make(width=16, heads=2) for make in PROGRAMS.values()]
    for depth in (1, 2, 3):
        program = primer_ez(width=16, depth=depth, heads=2)
        for _ in range(4):
            program = mutant_of(program, random).program.but(length=6)
            members.append(program)
    for reductions in ("RED_PROD(s0)", "RED_MAX(s0)"):
        lines = f"s2 = {reductions}\n  s3 = CUM_PROD(s0)\n  s4 = ADD(s2, s3)\n  s5 = CONV_3X1(s4, d0) x4\n"
        lines += "  s6 = CONV_1X1(s5, d0)"
        members.append(read_program(f"depth 2\nunit 4\nconstants c0=0\ndims d0=1\nMAIN:\n  {lines}\n"))
    for member in members:
        features.cache_clear()
        anew = [counted_anew(member, batch, 6) for batch in (1, 3)]
        for _ in range(2):
            assert [features(member, SETTINGS, batch, 6) for batch in (1, 3)] == anew
            features.cache_clear()


def test_equal_blocks_are_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Counter, "known", {})
    sizes = []
    for depth in (2, 3, 9):
        features(transformer(width=20, depth=depth, heads=2), SETTINGS, 3, 5)
        sizes.append(len(_Counter.known))
    assert sizes[0] > 20
    assert sizes[1] == sizes[2]


def test_numbers_on_a_real_device_are_never_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Counter, "known", {})
    x = torch.arange(6.0)
    with _Counter() as counter:
        assert [float((x + 1).sum()), float((x + 1).sum())] == [21.0, 21.0]
    assert (counter.elements, len(_Counter.known)) == (14, 0)


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
