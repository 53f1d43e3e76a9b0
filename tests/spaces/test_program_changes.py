"""What tells a found program from its start: each change alone, and the found program without it."""

from __future__ import annotations

from random import Random

import pytest

from nasformer.errors import RequestError
from nasformer.spaces.known_programs import convolved, gelu, primer_ez, squared_relu, transformer
from nasformer.spaces.program import Program, digest
from nasformer.spaces.program_changes import changes
from nasformer.spaces.program_space import mutant_of
from nasformer.spaces.program_text import program_text, read_program

START = transformer()


def changed(*pairs: tuple[str, str]) -> Program:
    """The start with some words of its text replaced."""
    text = program_text(START)
    for old, new in pairs:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return read_program(text)


def entries(program: Program) -> list[object]:
    """All that a change can be of."""
    return [*program.constants, *program.dims, *program.subprograms]


def test_a_program_is_no_change_of_itself() -> None:
    assert changes(START, START) == []
    assert changes(START, START.but(unit=17.0)) == []


def test_the_only_change_alone_is_the_found_program() -> None:
    (change,) = changes(START, squared_relu())
    assert change.name == "RELU"
    assert change.inserted == squared_relu()
    assert change.ablated == START


def test_of_two_changes_one_inserted_is_the_other_ablated() -> None:
    found = {change.name: change for change in changes(START, primer_ez())}
    assert set(found) == {"PROJECTION", "RELU"}
    assert found["PROJECTION"].inserted == found["RELU"].ablated == convolved()
    assert found["RELU"].inserted == found["PROJECTION"].ablated == squared_relu()


def test_a_shared_value_is_a_change_of_its_own() -> None:
    found = changes(START, changed(("c1=0.25", "c1=-1.5"), ("d1=16", "d1=24")))
    assert [change.name for change in found] == ["c1 = 0.25 → -1.5", "d1 = 16 → 24"]
    assert found[0].inserted == found[1].ablated == changed(("c1=0.25", "c1=-1.5"))
    assert found[1].inserted == found[0].ablated == changed(("d1=16", "d1=24"))


def test_what_nothing_reads_is_no_change() -> None:
    assert changes(START, changed(("d5=16", "d5=48"))) == []


def test_what_only_a_change_brings_into_play_is_told_where_it_shows() -> None:
    other = changed(("d3=2", "d3=8"), ("s4 = CONV_1X1(s3, d0)\n  s5", "s4 = CONV_1X1(s3, d3)\n  s5"))
    found = {change.name: change for change in changes(START, other)}
    assert found["d3 = 2 → 8"].inserted is None  # nothing reads it in the start
    assert found["d3 = 2 → 8"].ablated is not None
    assert found["MAIN"].inserted is not None


def test_a_change_alone_may_be_no_program() -> None:
    def doubling(main: str, leaf: str) -> Program:
        levels = "".join(f"L{n}:\n  s2 = L{n + 1}(s0)\n  s3 = L{n + 1}(s2)\n" for n in range(9))
        head = "depth 1\nunit 1\nconstants c0=0\ndims d0=4\n"
        return read_program(f"{head}MAIN:\n{main}{levels}L9:\n{leaf}")

    start = doubling("  s2 = L0(s0)\n", "  s2 = ABS(s0)\n  s3 = SIN(s2)\n")
    found = doubling("  s2 = L0(s0)\n  s3 = L0(s2)\n", "  s2 = ABS(s0)\n")
    told = {change.name: change for change in changes(start, found)}
    assert set(told) == {"MAIN", "L9"}
    assert (told["MAIN"].inserted, told["L9"].ablated) == (None, None)  # either unfolds to 2,049 operations
    assert told["MAIN"].ablated is not None
    assert told["L9"].inserted is not None


@pytest.mark.parametrize("seed", range(8))
def test_all_changes_together_lead_from_the_start_to_the_found(seed: int) -> None:
    random, found = Random(seed), START
    for _ in range(6):
        found = mutant_of(found, random).program
    told, here = changes(START, found), entries(START)
    assert told
    for change in told:
        for program, own in ((change.inserted, START), (change.ablated, found)):
            other = found if own is START else START
            if program is not None:
                pairs = zip(entries(program), entries(own), entries(other), strict=True)
                ((new, theirs),) = ((new, theirs) for new, old, theirs in pairs if new != old)
                assert new == theirs
                assert digest(program) != digest(own)
        if change.inserted is not None:
            here = [new if new != old else now
                    for new, old, now in zip(entries(change.inserted), entries(START), here, strict=True)]  # fmt: skip
    whole = START.but(
        constants=here[:2], dims=here[2 : 2 + len(START.dims)], subprograms=here[2 + len(START.dims) :]
    )  # fmt: skip
    missing = sum(change.inserted is None for change in told)
    assert missing or digest(whole) == digest(found)


@pytest.mark.parametrize("other", [gelu(), changed((" d5=16", ""))], ids=["subprograms", "banks"])
def test_programs_with_other_parts_are_refused(other: Program) -> None:
    with pytest.raises(RequestError, match="the same subprograms and banks"):
        changes(START, other)
