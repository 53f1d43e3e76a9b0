"""Programs: what they mean, their canonical form, their widths and repairs, and their text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasformer.errors import RequestError
from nasformer.spaces.families import read_architecture
from nasformer.spaces.known_programs import PROGRAMS
from nasformer.spaces.primitives import PRIMITIVES
from nasformer.spaces.program import LARGEST, MOST_CHANNELS, TIME, Program, digest, graph_of, resolve
from nasformer.spaces.program_space import ProgramSpace, mutant_of, mutated
from nasformer.spaces.program_text import program_text, read_program, read_program_file

HEAD = "depth 1\nunit 1\nconstants c0=0 c1=0.5\ndims d0=4 d1=8 d2=2\n"


def program(main: str, *others: str, head: str = HEAD) -> Program:
    """A program of width 4 with these lines in MAIN, separated by semicolons, and these subprograms."""
    bodies = [f"MAIN: {main}" if ":" not in main else main, *others]
    return read_program(head + "".join(_body(*body.split(":")) for body in bodies))


def _body(name: str, lines: str) -> str:
    numbered = (f"  s{place + 2} = {line.strip()}" for place, line in enumerate(lines.split(";")))
    return f"{name}:\n" + "\n".join(numbered) + "\n"


def test_the_primitives_are_the_papers() -> None:
    groups = [primitive.group for primitive in PRIMITIVES.values()]
    counts = {group: groups.count(group) for group in groups}
    assert counts == {
        "binary": 6,
        "unary": 11,
        "constant": 3,
        "vector": 2,
        "reduction": 5,
        "sequence": 3,
        "convolution": 5,
        "depthwise": 4,
    }
    assert len(PRIMITIVES) == 39
    assert [PRIMITIVES[name].kernel for name in ("CONV_1X1", "CONV_31X1", "DCONV_3X1", "ADD")] == [1, 31, 3, 0]


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**32), name=st.sampled_from(sorted(PROGRAMS)))
def test_text_and_json_give_a_program_back(seed: int, name: str) -> None:
    random, found = Random(seed), PROGRAMS[name]()
    for _ in range(5):
        found = mutant_of(found, random).program
        again = read_program(program_text(found))
        assert again == found
        assert read_architecture(json.loads(found.json_text())) == found
    drawn = ProgramSpace(found).sample(random)
    assert read_program(program_text(drawn)) == drawn


@pytest.mark.parametrize("name", PROGRAMS)
def test_dead_code_does_not_change_what_a_program_is(name: str) -> None:
    start = PROGRAMS[name]()
    text = program_text(start)
    lines = text.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("  s2 = LAYER_NORM"))
    count = next(place for place in range(first, len(lines)) if not lines[place]) - first
    body = [_moved(line) for line in lines[first : first + count]]
    changed = [*lines[:first], "  s2 = CONV_31X1(s1, d1) x16", *body, *lines[first + count :], "", "UNUSED:"]
    other = read_program("\n".join([*changed, "  s2 = CONV_1X1(s0, d1)"]))
    assert other != start
    assert graph_of(other) == graph_of(start)
    assert digest(other) == digest(start)
    assert resolve(other) == resolve(start)


def _moved(line: str) -> str:
    """A line of MAIN one state later."""
    words = line.replace("(", " ( ").replace(",", " , ").replace(")", " ) ").split()
    later = [f"s{int(w[1:]) + 1}" if w[0] == "s" and w[1:].isdigit() and w not in ("s0", "s1") else w for w in words]
    return "  " + " ".join(later)


def test_inlining_is_calling() -> None:
    called = program(
        "CONV_1X1(s0, d1); CONV_1X1(s0, d1); SUB(s2, s3); CONV_1X1(s4, d0)", "SUB: SQUARE(s1); ADD(s2, s0)"
    )
    inlined = program("CONV_1X1(s0, d1); CONV_1X1(s0, d1); SQUARE(s3); ADD(s4, s2); CONV_1X1(s5, d0)")
    assert graph_of(called) == graph_of(inlined)
    assert digest(called) == digest(inlined)
    twice = program("SUB(s0) x2; CONV_1X1(s2, d0)", "SUB: CONV_1X1(s0, d1); TANH(s2)")
    apart = program("CONV_1X1(s0, d1) x2; TANH(s2); CONV_1X1(s3, d0)")
    assert digest(twice) != digest(apart)  # the branches of a call are joined once, at its end
    assert [node.operation for node in graph_of(twice)] == ["INPUT", "CONV_1X1", "TANH", "JOIN", "CONV_1X1"]


def test_the_order_of_lines_and_the_unit_are_no_part_of_what_a_program_is() -> None:
    one = program("CONV_1X1(s0, d0); CONV_3X1(s0, d0); ADD(s2, s3)")
    other = program("CONV_3X1(s0, d0); CONV_1X1(s0, d0); ADD(s3, s2)")
    assert digest(one) == digest(other) == digest(one.but(unit=7.0))
    swapped = program("CONV_3X1(s0, d0); CONV_1X1(s0, d0); ADD(s2, s3)")
    assert len({digest(p) for p in (one, swapped, one.but(depth=2), one.but(dims=(8.0, 8.0, 2.0)))}) == 4


def test_the_dim_and_constant_that_are_read_come_from_the_banks() -> None:
    found = program("MAX(s0, c1); CONV_1X1(s2, d1); CONV_1X1(s3, d0)")
    assert [(node.value, node.dim) for node in graph_of(found)] == [(None, None), (0.5, None), (None, 8.0), (None, 4.0)]
    assert resolve(found).widths == (4, 4, 8, 4)
    assert resolve(found.but(unit=2.5)).widths == (10, 10, 20, 10)
    idle = program("MAX(s0, c1); CONV_1X1(s2, d1); CONV_1X1(s3, d0) ~ s1 c1")
    assert digest(idle) == digest(found)
    assert idle != found


def test_a_program_that_unfolds_without_end_is_refused() -> None:
    levels = [f"A{i}: " + "; ".join([f"A{i + 1}(s0)", *(f"A{i + 1}(s{s})" for s in range(2, 9))]) for i in range(4)]
    with pytest.raises(RequestError, match="more than 2,048 operations"):
        graph_of(program(levels[0].replace("A0", "MAIN"), *levels[1:], "A4: TANH(s0)"))


def test_the_longest_chains_of_calls_are_unfolded() -> None:
    long = "; ".join(["B(s0)", *(f"B(s{s})" for s in range(2, 120))])
    body = "; ".join(["TANH(s0)", *(f"TANH(s{s})" for s in range(2, 17))])
    assert len(graph_of(program(long, f"B: {body}"))) == 1 + 119 * 16


def test_mismatches_change_a_convolution_that_makes_an_operand() -> None:
    found = resolve(program("CONV_1X1(s0, d1); ADD(s0, s2)"))  # 4 and 8: the input cannot give way
    assert (found.widths, found.repairs) == ((4, 4, 4), 1)
    either = resolve(program("CONV_1X1(s0, d1); CONV_1X1(s0, d2); ADD(s2, s3); CONV_1X1(s4, d0)"))
    assert either.repairs == 1
    assert either.widths in ((4, 8, 8, 8, 4), (4, 2, 2, 2, 4))
    through = resolve(program("CONV_1X1(s0, d1); TANH(s2); SCALE(s3); ADD(s0, s4)"))
    assert through.widths == (4, 4, 4, 4, 4)
    both = resolve(program("CONV_1X1(s0, d1); CONV_1X1(s0, d1); MULTIPLY(s2, s3); ADD(s0, s4)"))
    assert (both.widths, both.repairs) == ((4,) * 5, 2)
    output = resolve(program("CONV_1X1(s0, d1)"))
    assert (output.widths, output.repairs) == ((4, 4), 1)


def test_mismatches_are_mended_through_joins() -> None:
    found = resolve(program("CONV_1X1(s0, d1) x2; ADD(s0, s2)"))
    assert (found.widths, found.repairs) == ((4, 2, 4, 4), 1)
    with pytest.raises(RequestError, match="ADD: the operands have 4 channels and 64 channels, and no convolution can"):
        resolve(program("CONV_1X1(s0, d1) x8; ADD(s0, s2)"))  # 4 channels are not 8 equal parts


def undecided() -> list[Program]:
    """Programs that differ in a constant, and in which either of two operands could give way."""
    main = "C_MUL(s0, c1); CONV_1X1(s2, d1); CONV_1X1(s0, d2); ADD(s3, s4); CONV_1X1(s5, d0)"
    return [program(main, head=HEAD.replace("c1=0.5", f"c1={value}")) for value in range(1, 13)]


def test_both_operands_give_way_in_some_programs() -> None:
    found = {resolve(each).widths for each in undecided()}
    assert found == {(4, 4, 8, 8, 8, 4), (4, 4, 2, 2, 2, 4)}


@pytest.mark.parametrize(
    ("main", "said"),
    [
        ("MAT_MUL(s0, s1)", "MAT_MUL: the first operand has 4 channels, expected a time-by-time matrix"),
        ("T_MAT_MUL(s0, s0)", "the output: it has one column for each time, expected 4"),
        ("RED_SUM(s0)", "the output: it has 1 channel, expected 4"),
        ("T_MAT_MUL(s0, s0); ADD(s0, s2)", "ADD: the operands have 4 channels and one column for each time"),
        ("ADD(s0, s0) x2", "the output: it has 8 channels, expected 4"),
        ("T_MAT_MUL(s0, s0) x2; MAT_MUL(s2, s0)", "JOIN: branches of a time-by-time matrix cannot be joined"),
    ],
)
def test_shapes_that_cannot_be_are_refused_in_words(main: str, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        resolve(program(main))
    assert str(caught.value).startswith(said)


def test_ones_and_times_fit_where_they_should() -> None:
    found = resolve(
        program("RED_MEAN(s0); DIFFERENCE(s0, s2); T_MAT_MUL(s3, s0); RED_MAX(s4); DIVIDE(s4, s5); MAT_MUL(s6, s0)")
    )
    assert found.widths == (4, 1, 4, TIME, 1, TIME, 4)
    assert found.repairs == 0


@pytest.mark.slow
def test_the_same_digest_and_the_same_repair_in_another_process() -> None:
    random = Random(3)
    programs = [PROGRAMS["program-primer"](), *undecided()]
    while len(programs) < 40:
        programs.append(mutant_of(programs[-1] if len(programs) % 8 else programs[0], random).program)
    ours = [[digest(p), list(resolve(p).widths), resolve(p).repairs] for p in programs]
    assert any(repairs for _, _, repairs in ours)
    code = (
        "import json, sys\n"
        "from nasformer.spaces.program import Program, digest, resolve\n"
        "programs = [Program.read(data) for data in json.load(sys.stdin)]\n"
        "print(json.dumps([[digest(p), resolve(p).widths, resolve(p).repairs] for p in programs]))"
    )
    for seed in ("0", "12345"):
        said = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps([p.data() for p in programs]),
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(said.stdout) == ours


GOOD = HEAD + "MAIN:\n  s2 = NORM(s0, s1)  # a comment\n  s3 = CONV_1X1(s2, d0)\n\nNORM:\n  s2 = ADD(s0, s1)\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("s2 = ADD", "s2 = AD", r"line 10: unknown primitive 'AD'; did you mean 'ADD'\?"),
        ("ADD(s0, s1)", "MAIN(s0, s1)", "line 10: calls S0, which is no later subprogram: calls would go in a cycle"),
        ("ADD(s0, s1)", "NORM(s0, s1)", "line 10: calls S1, which is no later subprogram"),
        ("d0)", "d3)", "line 7: points to entry 3 of the dims, which have 3"),
        ("ADD(s0, s1)", "MAX(s0, c2)", "line 10: points to entry 2 of the constants, which have 2"),
        ("ADD(s0, s1)", "ADD(s0, s2)", "line 10: reads state s2, which is not written before it; expected s0 to s1"),
        ("ADD(s0, s1)", "MAT_MUL(s0, s1)", "line 10: MAT_MUL: the first operand has 4 channels, expected a time"),
        ("CONV_1X1(s2, d0)", "RED_SUM(s2)", "line 7: the output: it has 1 channel, expected 4"),
        ("s3 = ", "s4 = ", "line 7: expected s3, the next state, got s4"),
        ("unit 1\n", "", "expected the line 'unit' before the first subprogram"),
        ("unit 1", "unit 0", "line 2: expected unit and a number above 0; got '0'"),
        ("unit 1", "unit nan", "line 2: expected unit and a number above 0; got 'nan'"),
        ("unit 1", "units 1", r"line 2: unknown setting 'units'; did you mean 'unit'\?"),
        ("unit 1", "depth 2", "line 2: expected depth once, got it again"),
        ("depth 1", "depth 1.5", "line 1: expected depth and a number above 0; got '1.5'"),
        ("c0=0 c1", "c1=0 c0", "line 3: expected constants and finite numbers, as c0=0"),
        ("c1=0.5", "c1=inf", "line 3: expected constants and finite numbers"),
        ("d1=8", "d1=-8", "line 4: expected dims and numbers above 0"),
        ("ADD(s0, s1)", "ADD(s0)", r"line 10: ADD reads a state and a state, got \(s0\)"),
        ("CONV_1X1(s2, d0)", "CONV_1X1(s2)", r"line 7: CONV_1X1 reads a state and a dim, got \(s2\)"),
        ("NORM(s0, s1)", "NORM(s0)", "line 6: NORM reads two states, got one"),
        ("NORM(s0, s1)  #", "NORM(s0)  # a, b", "line 6: NORM reads two states, got one"),
        ("NORM(s0, s1)", "NORM(s0,)", "line 6: NORM reads two states, got one"),
        ("depth 1", "depth 100000000", "line 1: expected depth of at most 1,000, got '100000000'"),
        ("unit 1", "unit 1e300", "line 2: expected unit of at most 65,536, got '1e300'"),
        ("unit 1", "unit 1e12", "line 2: expected unit of at most 65,536, got '1e12'"),
        ("unit 1", "unit 20000", "line 4: the stream .* has 80,000 channels, expected at most 65,536"),
        ("unit 1", "length 99999999999999999999", "line 2: expected length of at most 1,000,000, got '99999999999"),
        ("c1=0.5", "c1=-1e300", r"line 3: expected constants of at most 3.4e\+38 in magnitude, got 'c1=-1e300'"),
        ("d0=4", "d0=1e300", "line 4: expected dims of at most 65,536, got 'd0=1e300'"),
        ("NORM(s0, s1)", "NORM()", r"line 6: NORM reads a state, got \(\)"),
        ("NORM(s0, s1)", "NORM(s0, s1) x3", "line 6: expected a branching of 1, 2, 4, 8, 16, got 3"),
        ("NORM(s0, s1)", "NORM(s0, s1) ~ d²", "line 6: expected a state s…, a constant c… or a dim d…, got 'd²'"),
        ("NORM(s0, s1)", "NORM s0", r"line 6: expected 's2 = OPERATION\(s0, …\)', got 's2 = NORM s0'"),
        ("\nNORM:", "\nADD:", "line 9: expected a new word that is no primitive as a name, got 'ADD'"),
        ("\nNORM:", "\nMAIN:", "line 9: expected a new word that is no primitive as a name, got 'MAIN'"),
        ("  s2 = ADD(s0, s1)\n", "", "the subprogram NORM has no instructions"),
    ],
)
def test_a_bad_file_is_refused_with_the_line_and_the_reason(old: str, new: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(GOOD, encoding="utf-8")
    assert resolve(read_program_file(path)).widths == (4, 4, 4)
    assert old in GOOD
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(RequestError, match=said) as caught:
        read_program_file(path)
    assert str(caught.value).startswith(str(path))


def test_a_bad_program_in_json_is_refused_in_words() -> None:
    data = program("TANH(s0)").data()
    for name, said in (("ADD", "no primitive"), ("two words", "expected a word")):
        bad = data | {"subprograms": [data["subprograms"][0] | {"name": name}]}
        with pytest.raises(RequestError, match=said):
            Program.read(bad)
    line = {"operation": "S²"}
    with pytest.raises(RequestError, match="unknown primitive"):
        Program.read(data | {"subprograms": [{"name": "MAIN", "instructions": [line]}]})
    many = [{"operation": "TANH"}] * 257
    with pytest.raises(RequestError, match="at most 256 instructions, got 257"):
        Program.read(data | {"subprograms": [{"name": "MAIN", "instructions": many}]})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"depth": 10**8}, "depth: .*less than or equal to 1000, got '100000000'"),
        ({"unit": 1e300}, r"unit: .*less than or equal to 65536, got '1e\+300'"),
        ({"dims": [1e300]}, r"dims.0: .*less than or equal to 65536, got '1e\+300'"),
        ({"unit": 1e300, "dims": [1e300]}, "unit: .*less than or equal to 65536"),
        ({"unit": 300.0, "dims": [300.0]}, "the stream .* has 90,000 channels, expected at most 65,536"),
        ({"constants": [1e300]}, r"constants.0: .*less than or equal to 34028234663852886[0]+, got '1e\+300'"),
        ({"length": 10**20}, "length: .*less than or equal to 1000000, got '1000"),
    ],
)
def test_numbers_without_bound_are_refused(fields: dict[str, object], said: str) -> None:
    data = program("TANH(s0)").data()
    with pytest.raises(RequestError, match=said):
        Program.read(data | fields)


def test_the_largest_numbers_are_not_refused() -> None:
    found = program("MAX(s0, c0)").but(
        depth=1000, unit=float(MOST_CHANNELS), dims=(1.0,), constants=(-LARGEST,), length=10**6
    )
    assert resolve(found).widths == (MOST_CHANNELS, MOST_CHANNELS)


def test_widths_inside_the_block_are_bounded_where_they_are_live() -> None:
    wide = program("CONV_1X1(s0, d1); CONV_1X1(s2, d0)", head=HEAD.replace("unit 1", "unit 10000"))
    with pytest.raises(RequestError, match="CONV_1X1: it has 80,000 channels, expected at most 65,536"):
        resolve(wide)
    assert resolve(program("TANH(s0)", head=HEAD.replace("unit 1", "unit 10000"))).widths == (40_000, 40_000)
    joined = program("CONV_1X1(s0, d1) x16; CONV_1X1(s2, d0)", head=HEAD.replace("unit 1", "unit 1000"))
    with pytest.raises(RequestError, match="JOIN: it has 128,000 channels"):
        resolve(joined)


def test_branchings_inside_each_other_are_bounded() -> None:
    levels = [f"A{i}: A{i + 1}(s0) x16; RED_SUM(s2)" for i in range(6)]
    nested = program("A0(s0); MULTIPLY(s0, s2)", *levels, "A6: SCALE(s0)")
    with pytest.raises(RequestError, match="it stands inside 16,777,216 branches, expected at most 4,096"):
        resolve(nested)


def test_changed_banks_stay_within_bounds() -> None:
    random, seen = Random(6), set()
    start = program("MAX(s0, c0); CONV_1X1(s2, d0)").but(constants=(LARGEST,), unit=4096.0, dims=(4.0,))
    for _ in range(100):
        try:
            changed, line = mutated(start, "bank", random)
        except RequestError as error:
            seen.add(str(error))
            continue
        seen.add(line[:2])
        assert abs(changed.constants[0]) <= LARGEST
        assert changed.width <= MOST_CHANNELS
    assert {"c0", "d0", "a constant became too large"} <= seen
    assert any("the stream" in line for line in seen)
    for _ in range(20):
        assert all("Program" not in why for why in mutant_of(start, random).rejected)
