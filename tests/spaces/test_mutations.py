"""Mutations of programs: what each does, and that a long chain of them gives nothing but programs that can be built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from random import Random
from typing import Any

import pytest

from nasformer.errors import RequestError
from nasformer.spaces.known_programs import PROGRAMS
from nasformer.spaces.program import Program, digest, resolve
from nasformer.spaces.program_space import DIMS, FIELDS, MUTATIONS, ProgramSpace, mutant_of, mutated
from nasformer.spaces.program_text import program_text, read_program

START = PROGRAMS["program-transformer"]()
HEAD = "depth 1\nunit 1\nconstants c0=0 c1=0.5\ndims d0=4 d1=8\nMAIN:\n"
FOUR = read_program(HEAD + "s2 = TANH(s0)\ns3 = MAX(s2, c1)\ns4 = ADD(s0, s2)\ns5 = ADD(s4, s3)")
ONE = read_program(HEAD + "s2 = TANH(s0)")


def lines(program: Program) -> tuple[str, ...]:
    """The instructions of MAIN, without what they do not read."""
    return tuple(line.partition(" ~")[0].strip() for line in program_text(program).split("MAIN:\n")[1].splitlines())


def outcomes(mutation: Any, count: int = 200) -> Counter[tuple[str, ...]]:
    """What a mutation makes of FOUR in so many draws."""
    random = Random(1)
    return Counter(lines(mutated(FOUR, mutation, random)[0]) for _ in range(count))


def test_deleting_lets_readers_read_the_first_input() -> None:
    found = outcomes("delete")
    assert set(found) == {
        ("s2 = MAX(s0, c1)", "s3 = ADD(s0, s0)", "s4 = ADD(s3, s2)"),
        ("s2 = TANH(s0)", "s3 = ADD(s0, s2)", "s4 = ADD(s3, s2)"),
        ("s2 = TANH(s0)", "s3 = MAX(s2, c1)", "s4 = ADD(s0, s3)"),
        ("s2 = TANH(s0)", "s3 = MAX(s2, c1)", "s4 = ADD(s0, s2)"),
    }
    assert min(found.values()) > 25


def test_what_is_inserted_is_read_once_or_is_the_output() -> None:
    random, places = Random(2), Counter[int]()
    before = [instruction.operation for instruction in FOUR.subprograms[0].instructions]
    for _ in range(200):
        found, change = mutated(FOUR, "insert", random)
        place = int(change.removeprefix("inserted MAIN: s").partition(" ")[0]) - 2
        after = found.subprograms[0].instructions
        operations = [instruction.operation for instruction in after]
        assert operations[:place] + operations[place + 1 :] == before
        reads = [(i.first, i.second) for i in after[place + 1 :]]
        assert sum(pair.count(place + 2) for pair in reads) == (place < 4)
        places[place] += 1
    assert set(places) == set(range(5))


def test_swapping_exchanges_places_and_leaves_inputs_where_they_are() -> None:
    assert set(outcomes("swap")) == {
        ("s2 = MAX(s0, c1)", "s3 = TANH(s2)", "s4 = ADD(s0, s2)", "s5 = ADD(s4, s3)"),
        ("s2 = ADD(s0, s0)", "s3 = MAX(s2, c1)", "s4 = TANH(s0)", "s5 = ADD(s4, s3)"),
        ("s2 = ADD(s0, s0)", "s3 = MAX(s2, c1)", "s4 = ADD(s0, s2)", "s5 = TANH(s4)"),
        ("s2 = TANH(s0)", "s3 = ADD(s2, s0)", "s4 = MAX(s0, c1)", "s5 = ADD(s4, s3)"),
        ("s2 = TANH(s0)", "s3 = ADD(s2, s0)", "s4 = ADD(s0, s2)", "s5 = MAX(s4, c1)"),
        lines(FOUR),
    }


def test_a_field_changes_alone() -> None:
    random, seen = Random(3), Counter[str]()
    for _ in range(300):
        try:
            found, _ = mutated(START, "field", random)
        except RequestError:
            continue
        pairs = zip(START.subprograms, found.subprograms, strict=True)
        changed = [
            name
            for old, new in pairs
            for one, other in zip(old.instructions, new.instructions, strict=True)
            for name in FIELDS
            if getattr(one, name) != getattr(other, name)
        ]
        assert len(changed) == 1
        seen[changed[0]] += 1
    assert set(seen) == set(FIELDS)
    assert min(seen.values()) > 20


def test_a_bank_changes_in_one_entry() -> None:
    random, places, constants = Random(4), Counter[str](), []
    for _ in range(400):
        found, change = mutated(START, "bank", random)
        assert found.subprograms == START.subprograms
        places[change.partition(" ")[0]] += 1
        assert all(new == old or new in DIMS for new, old in zip(found.dims, START.dims, strict=True))
        differ = [old != new for bank in ("constants", "dims") for old, new in
                  zip(getattr(START, bank), getattr(found, bank), strict=True)]  # fmt: skip
        assert sum(differ) == 1
        constants += [found.constants[0]] * (found.constants[0] != 0)
    assert set(places) == {"c0", "c1", *(f"d{place}" for place in range(6))}
    assert abs(sum(constants) / len(constants)) < 4 / len(constants) ** 0.5  # old 0: the new one is N(0, 1)


@pytest.mark.parametrize("mutation", ["delete", "swap", "delete and insert"])
def test_nothing_can_be_taken_from_a_single_instruction(mutation: Any) -> None:
    with pytest.raises(RequestError, match="the only instruction"):
        mutated(ONE, mutation, Random(0))


def _chain(count: int) -> None:
    random, found, kinds = Random(5), START, Counter[str]()
    rejected = Counter[str]()
    for step in range(count):
        # A walk without selection ends in programs of little use: it begins anew from time to time.
        parent = START if step % 100 == 0 else found
        mutant = mutant_of(parent, random)
        found = mutant.program
        kinds[mutant.mutation] += 1
        rejected += mutant.rejected
        assert digest(found) != digest(parent)
        assert resolve(found).widths[-1] == found.width
        for number, subprogram in enumerate(found.subprograms):
            called = [instruction.called for instruction in subprogram.instructions]
            assert all(other is None or number < other < len(found.subprograms) for other in called)
    assert set(kinds) == set(MUTATIONS)
    assert rejected["same network as its parent"] > 0
    known = (
        "same network as",
        "nothing to",
        "nothing can",
        "operands of",
        "too many",
        "a constant",
        "expected at most",
    )
    assert all(reason.startswith(known) for reason in rejected), rejected


@pytest.mark.slow
def test_a_chain_of_mutants_stays_valid() -> None:
    _chain(1_000)


@pytest.mark.slow
def test_a_long_chain_of_mutants_stays_valid() -> None:
    _chain(10_000)


def _stream(seed: int) -> list[str]:
    random, found, texts = Random(seed), START, []
    for _ in range(12):
        mutant = mutant_of(found, random)
        found = mutant.program
        texts.append(f"{mutant.mutation}: {mutant.change}\n{program_text(found)}")
    return [*texts, program_text(ProgramSpace(START).sample(random))]


def test_the_same_seed_gives_the_same_stream_in_another_process() -> None:
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); from test_mutations import _stream; "
        "print(json.dumps(_stream(7)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, os.path.dirname(__file__)],
        env=os.environ | {"PYTHONHASHSEED": "99"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(said.stdout) == _stream(7)
    assert _stream(8) != _stream(7)


def test_a_space_holds_what_can_be_built() -> None:
    space, random = ProgramSpace(START), Random(6)
    assert START in space
    assert space.mutate(START, random) in space
    assert "START" not in space
    drawn = [space.sample(random) for _ in range(30)]
    assert len({digest(each) for each in drawn}) > 15
    assert any(each not in space for each in drawn)
    for each in drawn:
        assert [len(s.instructions) for s in each.subprograms] == [len(s.instructions) for s in START.subprograms]
