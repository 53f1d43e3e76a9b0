"""Models of programs: equal to hand-written ones, causal, of the size that formulas give, the same with and without
cache and padding."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import pytest
import torch
from benchmarks.written import copy_weights, written
from torch import Tensor
from torch.nn import functional as F

from nasformer.errors import RequestError
from nasformer.models.build import build
from nasformer.models.program import ProgramModel, SizeError, check_causal, check_trained, rescaled, widened
from nasformer.models.size import core_flops, core_parameters, total_parameters
from nasformer.models.transformer import PAD, ModelSettings
from nasformer.operators import program as runner
from nasformer.operators.catalogue import Dropout
from nasformer.operators.operator import reorder
from nasformer.spaces.known_programs import PROGRAMS
from nasformer.spaces.program import Program, ShapeError, resolve
from nasformer.spaces.program_space import mutant_of
from nasformer.spaces.program_text import program_text, read_program

VOCABULARY = 30
SETTINGS = ModelSettings(target_vocabulary=VOCABULARY, dropout=Dropout(residual=0.0))
SIZES: dict[str, Any] = {"width": 32, "depth": 2, "heads": 4}
START = PROGRAMS["program-transformer"]()
MASKED = "  s3 = MASK(s2)\n  s4 = RED_SUM(s3)\n  s5 = DIVIDE(s3, s4)"
UNMASKED = "  s3 = RED_SUM(s2)\n  s4 = DIVIDE(s2, s3)"
HEAD = "depth 1\nunit 1\nconstants c0=0\ndims d0=8\nMAIN:\n"


def tokens(rows: int, time: int, seed: int = 0) -> Tensor:
    """Random real tokens (rows, time)."""
    return torch.randint(1, VOCABULARY, (rows, time), generator=torch.Generator().manual_seed(seed))


def pair(name: str, **settings: Any) -> tuple[Any, Any]:
    """A program's model and its hand-written twin with the same weights."""
    program = build(PROGRAMS[name](**SIZES), SETTINGS, seed=1)
    twin = written(name, VOCABULARY, **SIZES, **settings)
    copy_weights(program, twin)
    return program, twin


def loss_of(model: Any, text: Tensor) -> Tensor:
    """The cross-entropy of the next token."""
    return F.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_known_program_is_its_hand_written_twin_and_stays_it(name: str) -> None:
    # In float64: twenty updates make of a rounding a ReLU that flips, and how float32 rounds depends on the processor.
    models, text = [model.double() for model in pair(name)], tokens(8, 17)
    assert float((models[0](text) - models[1](text)).detach().abs().max()) <= 1e-10
    before = models[0](text).detach()
    for step in range(20):
        batch = tokens(8, 17, seed=step)
        for model in models:
            model.train().zero_grad()
            loss_of(model, batch).backward()
            with torch.no_grad():
                for weight in model.parameters():
                    weight.sub_(weight.grad, alpha=0.1)
    assert float((models[0](text) - before).detach().abs().max()) > 0.1
    assert float((models[0](text) - models[1](text)).detach().abs().max()) <= 1e-10


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_are_those_of_the_twin(name: str) -> None:
    program, twin = (model.double() for model in pair(name))
    text = tokens(4, 12)
    for model in (program, twin):
        loss_of(model, text).backward()
    with torch.no_grad():
        for model in (program, twin):
            for weight in model.parameters():
                assert weight.grad is not None
                weight.copy_(weight.grad)
    expected = written(name, VOCABULARY, **SIZES).double()
    copy_weights(program, expected)
    for (label, one), other in zip(twin.named_parameters(), expected.parameters(), strict=True):
        assert float((one - other).detach().abs().max()) <= 1e-9, label
        assert float(one.detach().abs().max()) > 1e-6, label


def test_the_query_map_of_primer_is_the_block_diagonal_of_that_across_heads() -> None:
    program, twin = (model.double() for model in pair("program-primer", by_head=False))
    text = tokens(4, 12)
    assert torch.allclose(program(text), twin(text), rtol=0, atol=1e-12)
    square = sum(weight.numel() for weight in twin.parameters()) - sum(
        weight.numel() for weight in program.parameters()
    )
    assert square == 2 * (32 * 32 - 4 * 8 * 8)


def test_parameters_are_what_the_formulas_say() -> None:
    words = ModelSettings(target_vocabulary=32_768)
    d, f, layers, heads = 512, 2048, 6, 8
    start = PROGRAMS["program-transformer"](width=d, depth=layers, heads=heads)
    assert core_parameters(start) == layers * (4 * d * d + 2 * d * f + 4 * d) + 2 * d
    assert total_parameters(start, words) == core_parameters(start) + 32_768 * d
    assert round(total_parameters(start, words) / 1e6, 2) == 35.66
    ez = PROGRAMS["program-primer-ez"](width=d, depth=layers, heads=heads)
    assert core_parameters(ez) - core_parameters(start) == layers * 3 * 3 * d
    d, f = 384, 4608
    primer = PROGRAMS["program-primer"](width=d, depth=layers, heads=heads, inner=12)
    block = 3 * d * d + d * d // heads + 2 * 3 * d + 2 * d * f + 4 * d
    assert core_parameters(primer) == layers * block + 2 * d
    assert round(total_parameters(primer, words) / 1e6, 2) == 36.61
    twin = written("program-primer", 32_768, d, layers, heads, 12, by_head=False)
    assert round(sum(weight.numel() for weight in twin.parameters()) / 1e6, 1) == 37.4


def test_dead_code_changes_neither_outputs_nor_size_nor_cost() -> None:
    more = read_program(program_text(START) + "\nDEAD:\n  s2 = CONV_31X1(s0, d1) x8\n")
    lines = program_text(more).splitlines()
    where = next(
        i for i, line in enumerate(lines) if line.startswith("  s4 = MULTIPLY") or line.startswith("  s4 = SQUARE")
    )
    lines.insert(where + 4, "  s8 = DIVIDE(s3, s6)")
    lines[where + 3] = "  s7 = DCONV_31X1(s5)"
    dead = read_program("\n".join(lines))
    assert dead != START
    assert core_parameters(dead) == core_parameters(START)
    assert core_flops(dead) == core_flops(START)
    one, other = (build(each, SETTINGS, seed=1) for each in (START, dead))
    assert torch.equal(one(tokens(2, 9)), other(tokens(2, 9)))


PASSING = {
    "CUM_SUM": "s2 = CUM_SUM(s0)",
    "CUM_PROD": "s2 = CUM_PROD(s0)",
    "CONV_3X1": "s2 = CONV_3X1(s0, d0)",
    "CONV_31X1": "s2 = CONV_31X1(s0, d0)",
    "DCONV_7X1": "s2 = DCONV_7X1(s0)",
    "a masked product": "s2 = T_MAT_MUL(s0, s0)\ns3 = MASK(s2)\ns4 = MAT_MUL(s3, s0)",
}
LEAKING = {
    "an unmasked product": "s2 = T_MAT_MUL(s0, s0)\ns3 = MAT_MUL(s2, s0)",
    "a mean over unmasked scores": "s2 = T_MAT_MUL(s0, s0)\ns3 = RED_MEAN(s2)\ns4 = ADD(s0, s3)",
    "a mask that comes too late": "s2 = T_MAT_MUL(s0, s0)\ns3 = RED_MAX(s2)\ns4 = DIFFERENCE(s2, s3)\ns5 = MASK(s4)\n"
    "s6 = MAT_MUL(s5, s0)",
    "a product of masked and unmasked": "s2 = T_MAT_MUL(s0, s0)\ns3 = MASK(s2)\ns4 = T_MAT_MUL(s2, s3)\n"
    "s5 = MAT_MUL(s4, s0)",
}


@pytest.mark.parametrize("main", PASSING.values(), ids=PASSING)
def test_what_looks_back_passes_the_guard(main: str) -> None:
    for seed in range(5):
        check_causal(read_program(HEAD + main), 64, seed)


@pytest.mark.parametrize("main", LEAKING.values(), ids=LEAKING)
def test_what_looks_ahead_is_caught(main: str) -> None:
    for seed in range(5):
        with pytest.raises(RequestError, match="leaks from the future"):
            check_causal(read_program(HEAD + main), 64, seed)


@pytest.mark.parametrize("name", PROGRAMS)
def test_known_programs_pass_and_without_their_mask_leak(name: str) -> None:
    program = PROGRAMS[name]()
    check_causal(program, 64, 1)
    assert MASKED in program_text(program)
    with pytest.raises(RequestError, match="leaks from the future"):
        check_causal(read_program(program_text(program).replace(MASKED, UNMASKED)), 64, 1)


@pytest.mark.parametrize("scores", ["T_MAT_MUL(s5, s2)", "T_MAT_MUL(s0, s0)"])
def test_attention_to_oneself_hides_no_leak(scores: str) -> None:
    # With queries that are the keys, unlike positions see themselves alone, mask or none.
    text = program_text(PROGRAMS["program-transformer"](512, 1, 8)).replace("T_MAT_MUL(s5, s3)", scores)
    for seed in range(3):
        with pytest.raises(RequestError, match="leaks from the future"):
            check_causal(read_program(text.replace(MASKED, UNMASKED)), 64, seed)
        check_causal(read_program(text), 64, seed)


def test_a_trained_model_that_sees_the_future_is_caught() -> None:
    text = program_text(START)
    check_trained(build(START, SETTINGS, seed=1), tokens(4, 24))
    leaking = build(read_program(text.replace(MASKED, UNMASKED)), SETTINGS, seed=1)
    one = tokens(1, 24)
    for rows in (tokens(4, 24), one, one.expand(3, -1), torch.full((2, 24), VOCABULARY - 1)):
        with pytest.raises(RequestError, match="leaks from the future"):
            check_trained(leaking, rows)
        check_trained(build(START, SETTINGS, seed=1), rows)


def test_a_convolution_that_is_not_shifted_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    program = read_program(HEAD + PASSING["CONV_3X1"])

    def centred(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv1d(x.transpose(1, 2), weight.flip(-1), padding=1).transpose(1, 2)

    monkeypatch.setattr(runner, "_convolve", centred)
    with pytest.raises(RequestError, match="leaks from the future"):
        check_causal(program, 64, 1)


def test_the_guard_refuses_what_gives_no_numbers_and_is_of_its_length() -> None:
    with pytest.raises(RequestError, match="random inputs give no numbers"):
        check_causal(read_program(HEAD + "s2 = EXP(s0)\ns3 = EXP(s2)\ns4 = EXP(s3)\ns5 = EXP(s4)\ns6 = EXP(s5)"), 64, 1)
    scaled = read_program(
        "length 16\n" + HEAD + "s2 = T_MAT_MUL(s0, s0)\ns3 = MASK(s2)\ns4 = SCALE(s3)\ns5 = MAT_MUL(s4, s0)"
    )
    check_causal(scaled, 16, 1)
    with pytest.raises(RequestError, match="for 16 positions, got 17"):
        check_causal(scaled, 17, 1)
    for time in (1, 2, 3):
        check_causal(START, time, 1)


def test_the_guard_leaves_the_global_generators_alone() -> None:
    state = torch.get_rng_state()
    check_causal(START, 64, 1)
    assert torch.equal(torch.get_rng_state(), state)


def _mutants(count: int) -> list[Program]:
    random, found = Random(4), []
    while len(found) < count:
        program = PROGRAMS["program-primer-ez"](width=16, heads=2)
        for _ in range(3):
            program = mutant_of(program, random).program
        try:
            program = program.but(length=12)
            check_causal(program, 12, 1)
        except RequestError:
            continue
        found.append(program)
    return found


MEMBERS = [*(make(width=16, heads=2) for make in PROGRAMS.values()), *_mutants(8)]


def model_of(program: Program) -> ProgramModel:
    """The model in float64 for evaluation, with random weights."""
    model: Any = build(program, SETTINGS, seed=1).double().eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return model


@pytest.mark.parametrize("program", MEMBERS, ids=range(len(MEMBERS)))
def test_cached_is_uncached_and_padding_changes_nothing(program: Program) -> None:
    model, text = model_of(program), tokens(3, 9)
    text[0, :2] = text[1, 4] = text[2, 7:] = PAD
    whole, real = model.decode(text), text != PAD
    scale = 1 + float(whole[real].detach().abs().max())
    for row in range(3):
        alone = model.decode(text[row][real[row]].unsqueeze(0))[0]
        assert float((whole[row][real[row]] - alone).detach().abs().max()) <= 1e-9 * scale
    for sizes in ([1] * 9, [4, 1, 4]):
        cache: dict[str, Any] = {}
        parts = [model.decode(part, cache) for part in text.split(sizes, dim=1)]
        assert float((torch.cat(parts, dim=1)[real] - whole[real]).detach().abs().max()) <= 1e-9 * scale


def test_beams_may_change_places() -> None:
    model, text = model_of(START), tokens(3, 7)
    cache: dict[str, Any] = {}
    model.decode(text[:, :4], cache)
    rows = torch.tensor([2, 0, 0])
    reorder(cache, rows)
    moved = torch.cat([text[rows, :4], text[:, 4:]], dim=1)
    assert torch.allclose(model.decode(text[:, 4:], cache), model.decode(moved)[:, 4:], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_gradient_reaches_every_parameter_and_a_step_lowers_the_loss(name: str) -> None:
    model, text = build(PROGRAMS[name](**SIZES), SETTINGS, seed=1), tokens(8, 17)
    before = loss_of(model, text)
    before.backward()
    for label, weight in model.named_parameters():
        assert weight.grad is not None, label
        assert float(weight.grad.abs().max()) > 0, label
    with torch.no_grad():
        for weight in model.parameters():
            weight.sub_(weight.grad, alpha=0.1)
    assert float(loss_of(model, text).detach()) < float(before.detach())


def test_an_odd_width_has_positions_too() -> None:
    program = read_program(HEAD.replace("unit 1", "unit 0.9") + "s2 = CUM_SUM(s0)")
    assert program.width == 7
    model = model_of(program)
    assert model(tokens(2, 5)).shape == (2, 5, VOCABULARY)


def test_a_program_is_rescaled_to_the_size_of_another() -> None:
    target = core_parameters(START)
    assert rescaled(START, target) == START
    for dims in ((8.0, 64.0), (2.0, 16.0), (4.0, 64.0), (4.0, 1.0)):
        other = START.but(dims=(*dims, *START.dims[2:]))
        found = rescaled(other, target)
        assert abs(core_parameters(found) / target - 1) <= 0.08
        assert found.but(unit=other.unit) == other
    sizes = [core_parameters(rescaled(START, target * factor)) for factor in (1, 4, 16)]
    assert all(small < large for small, large in pairwise(sizes))
    empty = read_program(HEAD + "s2 = TANH(s0)")
    with pytest.raises(RequestError, match="no unit brings the program within 8% of 10,000,000 core parameters"):
        rescaled(empty, 10_000_000)


def shortened() -> Program:
    """The Transformer without its attention's output projection: 8.28 % smaller, and at most units its heads put side
    by side are not as wide as its stream."""
    whole = (
        "s4 = CONV_1X1(s3, d0)\n  s5 = RESIDUAL(s0, s4)\n  s6 = LAYER_NORM(s5)\n  s7 = FEED_FORWARD(s6)\n"
        "  s8 = RESIDUAL(s5, s7)"
    )
    short = "s4 = RESIDUAL(s0, s3)\n  s5 = LAYER_NORM(s4)\n  s6 = FEED_FORWARD(s5)\n  s7 = RESIDUAL(s4, s6)"
    assert whole in program_text(START)
    return read_program(program_text(START).replace(whole, short))


def test_units_at_which_widths_do_not_fit_are_passed_over() -> None:
    target, program = core_parameters(START), shortened()
    assert round(core_parameters(program) / target - 1, 4) == -0.0828
    found = rescaled(program, target)
    assert found == program.but(unit=17.0)
    assert rescaled(program, target) == found
    assert round(core_parameters(found) / target - 1, 3) == 0.035
    for factor in (3, 10, 40):
        assert abs(core_parameters(rescaled(program, factor * target)) / factor / target - 1) <= 0.08


def test_a_program_is_widened_to_widths_that_fit() -> None:
    assert widened(START, 2) == START.but(unit=2 * START.unit)
    halves = read_program(HEAD.replace("d0=8", "d0=48").replace("unit 1", "unit 2.672") + "s2 = CONV_3X1(s0, d0) x2")
    assert (halves.width, halves.but(unit=2 * 2.672).width) == (128, 257)  # 257 channels have no halves
    found = widened(halves, 2)
    resolve(found)
    assert found.width == 256
    never = read_program(HEAD + "s2 = RED_SUM(s0)")
    assert widened(never, 2) == never.but(unit=2.0)


def test_a_program_that_fits_at_no_unit_near_the_size_is_refused_for_its_size() -> None:
    # Its widths fit at whole units alone, and from one to the next it becomes twice as large.
    with pytest.raises(SizeError, match="no unit brings the program within 8%"):
        rescaled(shortened(), core_parameters(shortened().but(unit=1.0)) * 2)


def test_widths_that_never_fit_are_refused_for_their_widths() -> None:
    with pytest.raises(ShapeError, match="the output: it has 1 channel, expected 8"):
        rescaled(read_program(HEAD + "s2 = RED_SUM(s0)"), 10_000)


def test_every_mutant_that_a_unit_brings_to_its_size_is_brought_there() -> None:
    random, target, brought = Random(5), core_parameters(START), 0
    while brought < 12:
        program = mutant_of(START, random).program
        if abs(size_of(program) / target - 1) <= 0.08:
            continue
        sizes = [size_of(program.but(unit=float(unit))) for unit in range(1, 40)]
        if any(abs(size / target - 1) <= 0.08 for size in sizes):
            found = rescaled(program, target)
            resolve(found)
            assert abs(core_parameters(found) / target - 1) <= 0.08
            brought += 1


def size_of(program: Program) -> int:
    """Core parameters; 0 where its widths do not fit."""
    try:
        return core_parameters(program)
    except RequestError:
        return 0
