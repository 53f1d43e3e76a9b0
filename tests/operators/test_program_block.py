"""Blocks that run programs: every primitive, branches, groups that run as one, and the depthwise convolution."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nasformer.errors import RequestError
from nasformer.operators.depthwise import depthwise
from nasformer.operators.operator import reset
from nasformer.operators.program import ProgramBlock
from nasformer.spaces.known_programs import PROGRAMS
from nasformer.spaces.primitives import PRIMITIVES
from nasformer.spaces.program import Program, graph_of, resolve
from nasformer.spaces.program_space import mutant_of
from nasformer.spaces.program_text import program_text, read_program

HEAD = "depth 1\nunit 1\nconstants c0=0 c1=0.25\ndims d0=4 d1=6 d2=2\n"


def block_of(program: Program | str, *, fused: bool = True, seed: int = 1) -> ProgramBlock:
    """The block in float64 with random weights."""
    program = read_program(HEAD + program) if isinstance(program, str) else program
    block = ProgramBlock(resolve(program), program.length, fused=fused).double()
    generator = torch.Generator().manual_seed(seed)
    reset(block, generator)
    with torch.no_grad():
        for weight in block.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator, dtype=torch.float64), alpha=0.3)
    return block


def random_input(time: int, width: int = 4, seed: int = 2) -> Tensor:
    """x (3, time, width) in float64."""
    return torch.randn(3, time, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _shifted(x: np.ndarray, steps: int) -> np.ndarray:
    """x (batch, time, channels), every position `steps` later, zeros before."""
    return np.pad(x, ((0, 0), (steps, 0), (0, 0)))[:, : x.shape[1]]


def _convolved(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    taps = weight[..., None] if weight.ndim == 2 else weight
    return sum(_shifted(x, s) @ taps[:, :, s].T for s in range(taps.shape[2]))


EXPECTED: dict[str, Any] = {
    "ADD": lambda x, y: x + y,
    "DIFFERENCE": lambda x, y: x - y,
    "DIVIDE": lambda x, y: x / y,
    "MULTIPLY": lambda x, y: x * y,
    "MAT_MUL": lambda x, y: (x @ x.transpose(0, 2, 1)) @ y,
    "T_MAT_MUL": lambda x, y: (x @ y.transpose(0, 2, 1)) @ y,
    "ABS_ROOT": lambda x: np.sqrt(np.abs(x)),
    "SQUARE": lambda x: x**2,
    "EXP": np.exp,
    "LOG": lambda x: np.log(np.abs(x)),
    "ABS": np.abs,
    "RECIP": lambda x: np.divide(1, x, out=np.zeros_like(x), where=x != 0),
    "SIGN": np.sign,
    "COS": np.cos,
    "SIN": np.sin,
    "TANH": np.tanh,
    "SIGMOID": lambda x: 1 / (1 + np.exp(-x)),
    "MAX": lambda x: np.maximum(x, 0.25),
    "MIN": lambda x: np.minimum(x, 0.25),
    "C_MUL": lambda x: x * 0.25,
    "SCALE": lambda x, w: x * w,
    "SHIFT": lambda x, w: x + w,
    "RED_MEAN": lambda x: x.mean(-1, keepdims=True),
    "RED_SUM": lambda x: x.sum(-1, keepdims=True),
    "RED_MIN": lambda x: x.min(-1, keepdims=True),
    "RED_MAX": lambda x: x.max(-1, keepdims=True),
    "RED_PROD": lambda x: x.prod(-1, keepdims=True),
    "CUM_SUM": lambda x: x.cumsum(1),
    "CUM_PROD": lambda x: x.cumprod(1),
    "MASK": lambda x: np.tril(x @ x.transpose(0, 2, 1)) @ x,
    **{f"CONV_{k}X1": _convolved for k in (1, 3, 7, 15, 31)},
    **{f"DCONV_{k}X1": lambda x, w: sum(_shifted(x, s) * w[:, s] for s in range(w.shape[1])) for k in (3, 7, 15, 31)},
}


@pytest.mark.parametrize("time", [1, 5, 40])
@pytest.mark.parametrize("name", PRIMITIVES)
def test_a_primitive_is_what_numpy_says(name: str, time: int) -> None:
    group = PRIMITIVES[name].group
    arguments = {"binary": "(s0, s2)", "constant": "(s0, c1)", "convolution": "(s0, d0)"}.get(group, "(s0)")
    main = f"MAIN:\n s2 = COS(s0)\n s3 = {name}{arguments}\n"
    if name == "MAT_MUL":
        main = "MAIN:\n s2 = COS(s0)\n s3 = T_MAT_MUL(s0, s0)\n s4 = MAT_MUL(s3, s2)"
    elif name == "T_MAT_MUL":
        main += " s4 = MAT_MUL(s3, s2)"
    elif name == "MASK":
        main = "MAIN:\n s2 = T_MAT_MUL(s0, s0)\n s3 = MASK(s2)\n s4 = MAT_MUL(s3, s0)"
    elif group == "reduction":
        main += " s4 = ADD(s3, s2)"
    block, x = block_of(main), random_input(time)
    x[0, 0, 0] = 0.0 if name in ("RECIP", "SIGN", "ABS_ROOT") else x[0, 0, 0]
    weights = [weight.detach().numpy() for weight in block.parameters()]
    given = [x.numpy(), *([np.cos(x.numpy())] if group == "binary" else []), *weights]
    expected = EXPECTED[name](*given) + (np.cos(x.numpy()) if group == "reduction" else 0)
    assert np.allclose(block(x).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_relu_is_the_maximum_with_zero() -> None:
    x = random_input(5)
    assert torch.equal(block_of("MAIN:\n s2 = MAX(s0, c0)")(x), x.clamp_min(0))


def test_branches_are_separate_calls_side_by_side() -> None:
    main = "MAIN:\n s2 = ATTENTION(s0, s0) x8\n s3 = CONV_1X1(s2, d0)\n"
    sub = "ATTENTION:\n s2 = CONV_1X1(s0, d1)\n s3 = DCONV_3X1(s2)\n s4 = T_MAT_MUL(s3, s0)\n s5 = MASK(s4)\n"
    sub += " s6 = MAT_MUL(s5, s3)\n s7 = SCALE(s6)\n s8 = CONV_3X1(s7, d2)\n"
    program = read_program(HEAD.replace("d1=6", "d1=4") + main + sub)
    whole, x = block_of(program), random_input(7)
    alone = read_program(program_text(program).replace(" x8", ""))
    parts = []
    *inner, output = [weight.detach() for weight in whole.parameters()]
    for branch in range(8):
        # The branch alone, widened by a map that leaves its two channels as they are.
        single = ProgramBlock(resolve(alone), None).double()
        own = [weight[branch] for weight in inner]
        identity = torch.zeros(4, 2, dtype=torch.float64)
        identity[0, 0] = identity[1, 1] = 1
        with torch.no_grad():
            for target, value in zip(single.parameters(), [*own, identity], strict=True):
                target.copy_(value)
        parts.append(single(x)[..., :2])
    expected = torch.cat(parts, dim=-1) @ output.T
    assert torch.allclose(whole(x), expected, rtol=0, atol=1e-12)


def test_branches_inside_branches() -> None:
    main = "MAIN:\n s2 = OUTER(s0) x2\n s3 = CONV_1X1(s2, d0)\n"
    subs = "OUTER:\n s2 = CONV_1X1(s0, d2)\n s3 = INNER(s2, s0) x4\n s4 = TANH(s3)\n"
    subs += "INNER:\n s2 = CONV_1X1(s0, d2)\n s3 = CONV_1X1(s1, d2)\n s4 = SHIFT(s3)\n s5 = MULTIPLY(s2, s4)\n"
    block, x = block_of(main + subs), random_input(5)
    first, one, other, shift, output = [weight.detach() for weight in block.parameters()]
    assert [tuple(w.shape) for w in (first, one, other, shift)] == [(2, 2, 4), (2, 4, 2, 2), (2, 4, 2, 4), (2, 4, 2)]
    outer = []
    for a in range(2):
        inside = [(x @ first[a].T @ one[a, b].T) * (x @ other[a, b].T + shift[a, b]) for b in range(4)]
        outer.append(torch.cat(inside, dim=-1).tanh())
    assert torch.allclose(block(x), torch.cat(outer, dim=-1) @ output.T, rtol=0, atol=1e-12)


def _outcome(program: Program, fused: bool, time: int = 9) -> tuple[list[Tensor], Any]:
    block, x = block_of(program, fused=fused), random_input(time, program.width).requires_grad_()
    made = block(x)
    weights = list(block.parameters())
    (made * random_input(time, program.width, seed=5)).sum().backward()
    return [made.detach(), x.grad, *(weight.grad for weight in weights)], block


def _agree(program: Program) -> bool:
    """Whether a program gives numbers; where it does, fused must be unfused."""
    (found, _), (expected, _) = _outcome(program, True), _outcome(program, False)
    if not all(torch.isfinite(part).all() for part in expected if part is not None):
        return False
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            scale = 1 + float(other.abs().max())
            assert float((one - other).abs().max()) <= 1e-10 * scale, program_text(program)
    return True


@pytest.mark.parametrize("name", PROGRAMS)
def test_groups_that_run_as_one_give_what_the_primitives_give(name: str) -> None:
    program = PROGRAMS[name](width=16, heads=2)
    assert _agree(program)
    blocks = [ProgramBlock(resolve(program), fused=fused) for fused in (True, False)]
    counts = [len(block._steps) for block in blocks]
    assert counts[1] == len(graph_of(program)) - 1
    assert counts[0] <= counts[1] - 8


@pytest.mark.slow
def test_groups_of_mutants_give_what_the_primitives_give() -> None:
    random, finite = Random(8), 0
    names = sorted(PROGRAMS)
    for number in range(600):
        program = PROGRAMS[names[number % len(names)]](width=8, heads=2, inner=2)
        for _ in range(1 + number % 3):
            program = mutant_of(program, random).program
        program = program.but(length=9, unit=2.0)
        try:
            widest = max(width for width in resolve(program).widths if isinstance(width, int))
        except RequestError:
            continue
        if widest <= 512:
            finite += _agree(program)
        if finite == 200:
            return
    raise AssertionError(finite)


GROUPS = {
    "softmax read twice": "s2 = EXP(s0)\n s3 = MASK(s2)\n s4 = RED_SUM(s3)\n s5 = DIVIDE(s3, s4)\n s6 = ADD(s5, s3)",
    "softmax alone": "s2 = EXP(s0)\n s3 = MASK(s2)\n s4 = RED_SUM(s3)\n s5 = DIVIDE(s3, s4)",
    "attention": "s2 = C_MUL(s0, c1)\n s3 = T_MAT_MUL(s2, s0)\n s4 = EXP(s3)\n s5 = MASK(s4)\n s6 = RED_SUM(s5)\n"
    " s7 = DIVIDE(s5, s6)\n s8 = MAT_MUL(s7, s0)",
    "attention whose scores are read": "s2 = T_MAT_MUL(s0, s0)\n s3 = EXP(s2)\n s4 = MASK(s3)\n s5 = RED_SUM(s4)\n"
    " s6 = DIVIDE(s4, s5)\n s7 = MAT_MUL(s6, s0)\n s8 = MAT_MUL(s2, s7)",
    "a z-score, scaled and read": "s2 = RED_MEAN(s0)\n s3 = DIFFERENCE(s0, s2)\n s4 = SQUARE(s3)\n s5 = RED_MEAN(s4)\n"
    " s6 = ABS_ROOT(s5)\n s7 = DIVIDE(s3, s6)\n s8 = SCALE(s7)\n s9 = ADD(s7, s8)",
    "a z-score, shifted": "s2 = RED_MEAN(s0)\n s3 = DIFFERENCE(s0, s2)\n s4 = MULTIPLY(s3, s0)\n s5 = RED_MEAN(s4)\n"
    " s6 = ABS_ROOT(s5)\n s7 = DIVIDE(s3, s6)\n s8 = SHIFT(s7)",
    "maps of one state": "s2 = CONV_1X1(s0, d1)\n s3 = CONV_1X1(s0, d1)\n s4 = DCONV_3X1(s2)\n s5 = DCONV_3X1(s3)\n"
    " s6 = MULTIPLY(s4, s5)\n s7 = CONV_1X1(s6, d0)",
    "maps with other taps": "s2 = CONV_1X1(s0, d1)\n s3 = CONV_1X1(s0, d1)\n s4 = DCONV_3X1(s2)\n s5 = DCONV_7X1(s3)\n"
    " s6 = MULTIPLY(s4, s5)\n s7 = CONV_1X1(s6, d0)",
    "maps, one read twice": "s2 = CONV_1X1(s0, d1)\n s3 = CONV_1X1(s0, d1)\n s4 = DCONV_3X1(s2)\n s5 = DCONV_3X1(s3)\n"
    " s6 = MULTIPLY(s4, s5)\n s7 = ADD(s6, s2)\n s8 = CONV_1X1(s7, d0)",
    "maps, one read before its taps": "s2 = CONV_1X1(s0, d1)\n s3 = TANH(s2)\n s4 = DCONV_3X1(s2)\n"
    " s5 = CONV_1X1(s0, d1)\n s6 = DCONV_3X1(s5)\n s7 = MULTIPLY(s3, s4)\n s8 = MULTIPLY(s7, s6)\n"
    " s9 = CONV_1X1(s8, d0)",
    "attention whose weights are read": "s2 = T_MAT_MUL(s0, s0)\n s3 = EXP(s2)\n s4 = MASK(s3)\n s5 = RED_SUM(s4)\n"
    " s6 = DIVIDE(s4, s5)\n s7 = MAT_MUL(s6, s0)\n s8 = TANH(s6)\n s9 = MAT_MUL(s8, s7)",
    "RMS norm": "s2 = SQUARE(s0)\n s3 = RED_MEAN(s2)\n s4 = ABS_ROOT(s3)\n s5 = DIVIDE(s0, s4)",
    "RMS norm whose root is read": "s2 = SQUARE(s0)\n s3 = RED_MEAN(s2)\n s4 = ABS_ROOT(s3)\n s5 = DIVIDE(s0, s4)\n"
    " s6 = ADD(s5, s4)",
    "another's root": "s2 = TANH(s0)\n s3 = SQUARE(s2)\n s4 = RED_MEAN(s3)\n s5 = ABS_ROOT(s4)\n s6 = DIVIDE(s0, s5)",
    "SiLU": "s2 = SIGMOID(s0)\n s3 = MULTIPLY(s0, s2)",
    "another's sigmoid": "s2 = TANH(s0)\n s3 = SIGMOID(s2)\n s4 = MULTIPLY(s3, s0)",
    "a sigmoid that is read": "s2 = SIGMOID(s0)\n s3 = MULTIPLY(s2, s0)\n s4 = ADD(s3, s2)",
    "the output is a group": "s2 = CONV_1X1(s0, d0)\n s3 = DCONV_3X1(s2)",
}


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("branches", [1, 2])
def test_each_group_alone(name: str, branches: int) -> None:
    call = f"MAIN:\n s2 = GROUP(s0) x{branches}\n s3 = CONV_1X1(s2, d0)\n"
    call = call.replace(" x1", "") + "GROUP:\n " + GROUPS[name] + "\n"
    assert _agree(read_program(HEAD + call))


@pytest.mark.parametrize("change", ["MULTIPLY(s2, s0)", "MULTIPLY(s7, s0)", "ADD(s8, s0)", "ADD(s0, s4)"])
def test_what_is_nearly_gelu_is_not(change: str) -> None:
    text = program_text(PROGRAMS["program-gelu"](width=8, heads=2, inner=2))
    call = "  s3 = GELU(s2)\n  s4 = CONV_1X1(s3, d0)"
    assert change in text
    assert call in text
    text = text.replace(call, "  s3 = TANH(s2)\n  s4 = GELU(s2, s3)\n  s5 = CONV_1X1(s4, d0)")
    assert _agree(read_program(text.replace(change, change.replace("s0", "s1"))))


def test_what_is_between_two_groups_is_read_from_outside_the_branches() -> None:
    call = "MAIN:\n s2 = T_MAT_MUL(s0, s0)\n s3 = GROUP(s2, s0) x4\n s4 = CONV_1X1(s3, d0)\nGROUP:\n s2 = EXP(s0)\n"
    call += " s3 = MASK(s2)\n s4 = RED_SUM(s3)\n s5 = DIVIDE(s3, s4)\n s6 = CONV_1X1(s1, d2)\n s7 = MAT_MUL(s5, s6)\n"
    assert _agree(read_program(HEAD + call))


def test_the_custom_norm_is_a_z_score() -> None:
    start = PROGRAMS["program-transformer"](width=16, heads=2)
    custom = read_program(program_text(start).replace("SQUARE(s3)", "MULTIPLY(s0, s3)"))
    assert custom != start
    for fused in (True, False):
        one, other = block_of(start, fused=fused), block_of(custom, fused=fused)
        x = random_input(9, 16)
        assert torch.allclose(one(x), other(x), rtol=0, atol=1e-10)


def test_a_scale_along_time_reads_no_longer_sequences() -> None:
    text = program_text(PROGRAMS["program-transformer"](width=16, heads=2))
    gated = text.replace("  s8 = MAT_MUL(s7, s4)", "  s8 = SCALE(s7)\n  s9 = MAT_MUL(s8, s4)")
    with pytest.raises(
        RequestError, match="SCALE has weights along time; expected the length of the program, got none"
    ):
        ProgramBlock(resolve(read_program(gated)), None)
    program = read_program("length 8\n" + gated)
    block = block_of(program)
    whole = block(random_input(8, 16))
    assert torch.allclose(block(random_input(8, 16)[:, :5]), whole[:, :5], rtol=0, atol=1e-12)
    with pytest.raises(RequestError, match="weights along time for 8 positions, got 9; it cannot read longer"):
        block(random_input(9, 16))
    gate = next(weight for weight in block.parameters() if weight.shape == (2, 8))
    with torch.no_grad():
        gate[0, 3] += 1.0
    moved = (block(random_input(8, 16)) - whole).abs().amax(dim=(0, 2))
    assert (moved[3:] > 1e-6).all()
    assert (moved[:3] == 0).all()


@pytest.mark.parametrize(("shape", "taps"), [((2, 5, 3), (3, 3)), ((2, 4, 5, 3), (4, 3, 7)), ((2, 1, 6, 2), (3, 2, 3))])
def test_the_depthwise_convolution_has_the_right_gradients(shape: tuple[int, ...], taps: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
    w = torch.randn(*taps, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(depthwise, (x, w))


def test_a_new_depthwise_convolution_keeps_half_and_a_sixth() -> None:
    block = ProgramBlock(resolve(read_program(HEAD + "MAIN:\n s2 = DCONV_3X1(s0)"))).double()
    reset(block, torch.Generator().manual_seed(1))
    x = torch.full((1, 4, 4), 3.0, dtype=torch.float64)
    expected = torch.tensor([1.5, 2.0, 2.5, 2.5], dtype=torch.float64)
    assert torch.allclose(block(x)[0], expected.unsqueeze(-1).expand(4, 4), rtol=0, atol=1e-7)


def test_each_head_and_channel_has_taps_of_its_own() -> None:
    text = "MAIN:\n s2 = HEAD(s0) x2\nHEAD:\n s2 = CONV_1X1(s0, d2)\n s3 = DCONV_3X1(s2)"
    block, x = block_of(text), random_input(6)
    before = block(x)
    with torch.no_grad():
        next(weight for weight in block.parameters() if weight.shape == (2, 2, 3))[1, 0] += 1.0
    changed = (block(x) - before).abs().amax(dim=(0, 1)) > 1e-9
    assert changed.tolist() == [False, False, True, False]


def test_weights_follow_from_the_generator_alone() -> None:
    drawn, state = [], torch.get_rng_state()
    for seed in (1, 1, 2):
        block = ProgramBlock(resolve(PROGRAMS["program-primer"]()))
        reset(block, torch.Generator().manual_seed(seed))
        drawn.append(torch.cat([weight.detach().flatten() for weight in block.parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.get_rng_state(), state)
