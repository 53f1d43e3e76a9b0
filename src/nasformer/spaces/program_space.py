"""The space of programs: open-ended, reached from a start by mutations (docs/papers/primer.md §2.2)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, get_args

from nasformer.errors import RequestError
from nasformer.spaces.primitives import PRIMITIVES
from nasformer.spaces.program import (
    BRANCHINGS,
    LARGEST,
    MOST_INSTRUCTIONS,
    Instruction,
    Program,
    ShapeError,
    Subprogram,
    digest,
    inputs_read,
    inputs_used,
    resolve,
)
from nasformer.spaces.program_text import instruction_text

DIMS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
"""The vocabulary of relative dims."""
Mutation = Literal["delete", "insert", "delete and insert", "field", "swap", "bank"]
MUTATIONS: tuple[Mutation, ...] = get_args(Mutation)
FIELDS = ("operation", "first", "second", "constant", "dim", "branches")


@dataclass(frozen=True)
class Mutant:
    """A changed program: how it was changed, in a word and in a line, and why earlier tries were rejected."""

    program: Program
    mutation: Mutation
    change: str
    rejected: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class ProgramSpace:
    """All programs; `template` is where a search starts (the Transformer, written as a program)."""

    template: Program
    name: str = "programs"
    size: None = None
    encoded_size: None = None

    def sample(self, random: Random) -> Program:
        """A random program with as many subprograms and instructions as the template; it may be without sense."""
        start = self.template
        constants = tuple(random.gauss(0, 1) for _ in start.constants)
        dims = (start.dims[0], *(float(random.choice(DIMS)) for _ in start.dims[1:]))
        empty = start.but(constants=constants, dims=dims)
        subprograms = []
        for number, subprogram in enumerate(start.subprograms):
            count = len(subprogram.instructions)
            drawn = tuple(_draw(empty, number, place, random) for place in range(count))
            subprograms.append(Subprogram(name=subprogram.name, instructions=drawn))
        return empty.but(subprograms=tuple(subprograms))

    def mutate(self, architecture: Program, random: Random) -> Program:
        """A valid program that is another network than `architecture`."""
        return mutant_of(architecture, random).program

    def __contains__(self, architecture: Any) -> bool:
        return isinstance(architecture, Program) and reason(architecture) is None


def reason(program: Program) -> str | None:
    """Why no network can be built from a program; None where one can."""
    try:
        resolve(program)
    except RequestError as error:
        return str(error)
    return None


def mutant_of(parent: Program, random: Random, tries: int = 10_000) -> Mutant:
    """A mutant whose network exists and is another than the parent's; mutations that give none are counted."""
    own, rejected = digest(parent), Counter[str]()
    for _ in range(tries):
        mutation = random.choice(MUTATIONS)
        try:
            program, change = mutated(parent, mutation, random)
            if digest(program) == own:
                rejected["same network as its parent"] += 1
                continue
            resolve(program)
            return Mutant(program, mutation, change, rejected)
        except RequestError as error:
            rejected[_why(error)] += 1
    raise RequestError(f"no mutation of {tries:,} gave another valid program; start from another one")


def _why(error: RequestError) -> str:
    """The kind of a rejection: what is the same for all that fail alike."""
    if isinstance(error, ShapeError):
        return f"operands of {str(error).partition(':')[0]} that cannot be made to fit"
    if "unfolds" in str(error):
        return "too many operations"
    if "the stream" in str(error):
        return "a stream that is too wide"
    return str(error).partition(":")[0]


def mutated(parent: Program, mutation: Mutation, random: Random) -> tuple[Program, str]:
    """One mutation and what it did, in a line. Raises `RequestError` where nothing can be so mutated."""
    if mutation == "delete":
        return _delete(parent, random)
    if mutation == "insert":
        return _insert(parent, random)
    if mutation == "delete and insert":
        shorter, first = _delete(parent, random)
        longer, second = _insert(shorter, random)
        return longer, f"{first}; {second}"
    return {"field": _field, "swap": _swap, "bank": _bank}[mutation](parent, random)


def _with(parent: Program, number: int, instructions: list[Instruction]) -> Program:
    changed = parent.subprograms[number].but(instructions=tuple(instructions))
    return parent.but(subprograms=(*parent.subprograms[:number], changed, *parent.subprograms[number + 1 :]))


def _line(program: Program, number: int, place: int) -> str:
    subprogram = program.subprograms[number]
    return f"{subprogram.name}: s{place + 2} = {instruction_text(program, subprogram.instructions[place])}"


def _draw(program: Program, number: int, place: int, random: Random) -> Instruction:
    """An instruction for a place, every field uniform among what is legal there."""
    return Instruction(
        operation=random.choice(_operations(program, number)),
        first=random.randrange(place + 2),
        second=random.randrange(place + 2),
        constant=random.randrange(len(program.constants)),
        dim=random.randrange(len(program.dims)),
        branches=1,
    )


def _operations(program: Program, number: int) -> list[str]:
    return [*PRIMITIVES, *(f"S{later}" for later in range(number + 1, len(program.subprograms)))]


def _delete(parent: Program, random: Random) -> tuple[Program, str]:
    """An instruction goes; who read it reads its first input instead (our reading 20)."""
    number = random.randrange(len(parent.subprograms))
    instructions = list(parent.subprograms[number].instructions)
    if len(instructions) < 2:
        raise RequestError("nothing to delete: the only instruction of a subprogram")
    place = random.randrange(len(instructions))
    line = _line(parent, number, place)
    gone = instructions.pop(place)

    def moved(state: int) -> int:
        return gone.first if state == place + 2 else state - (state > place + 2)

    after = [i.but(first=moved(i.first), second=moved(i.second)) for i in instructions[place:]]
    return _with(parent, number, instructions[:place] + after), f"deleted {line}"


def _insert(parent: Program, random: Random) -> tuple[Program, str]:
    """A random instruction at a random place; one later input, drawn among those that are read, reads it, and at the
    end it is the output (our reading 20)."""
    if sum(len(subprogram.instructions) for subprogram in parent.subprograms) >= MOST_INSTRUCTIONS:
        raise RequestError("nothing can be inserted: the program is as long as programs may be")
    number = random.randrange(len(parent.subprograms))
    instructions = list(parent.subprograms[number].instructions)
    place = random.randrange(len(instructions) + 1)
    new = _draw(parent, number, place, random)
    after = [
        i.but(first=i.first + (i.first >= place + 2), second=i.second + (i.second >= place + 2))
        for i in instructions[place:]
    ]
    used = inputs_used(parent)
    slots = [(reader, name) for reader, i in enumerate(after) for name in inputs_read(i, used)]
    if slots:
        reader, name = random.choice(slots)
        after[reader] = after[reader].but(**{name: place + 2})
    program = _with(parent, number, [*instructions[:place], new, *after])
    return program, f"inserted {_line(program, number, place)}"


def _field(parent: Program, random: Random) -> tuple[Program, str]:
    """One field of one instruction is drawn anew, another value than it has."""
    number = random.randrange(len(parent.subprograms))
    instructions = list(parent.subprograms[number].instructions)
    place = random.randrange(len(instructions))
    name = random.choice(FIELDS)
    ranges: dict[str, list[Any]] = {
        "operation": _operations(parent, number),
        "first": list(range(place + 2)),
        "second": list(range(place + 2)),
        "constant": list(range(len(parent.constants))),
        "dim": list(range(len(parent.dims))),
        "branches": list(BRANCHINGS),
    }
    others = [value for value in ranges[name] if value != getattr(instructions[place], name)]
    if not others:
        raise RequestError(f"nothing to change: the field {name} has one value only")
    before = _line(parent, number, place)
    instructions[place] = instructions[place].but(**{name: random.choice(others)})
    program = _with(parent, number, instructions)
    return program, f"changed {before} to {_line(program, number, place).partition(': ')[2]}"


def _swap(parent: Program, random: Random) -> tuple[Program, str]:
    """Two instructions of a subprogram change places in the graph: each keeps its operation, constant, dim and
    branching and takes over the other's inputs and readers."""
    number = random.randrange(len(parent.subprograms))
    instructions = list(parent.subprograms[number].instructions)
    if len(instructions) < 2:
        raise RequestError("nothing to swap: the only instruction of a subprogram")
    one, other = sorted(random.sample(range(len(instructions)), 2))
    kept = {place: {"first": instructions[place].first, "second": instructions[place].second} for place in (one, other)}
    lines = f"{_line(parent, number, one)} and {_line(parent, number, other).partition(': ')[2]}"
    instructions[one], instructions[other] = instructions[other].but(**kept[one]), instructions[one].but(**kept[other])
    return _with(parent, number, instructions), f"swapped {lines}"


def _bank(parent: Program, random: Random) -> tuple[Program, str]:
    """One entry of a bank: a dim is drawn from the vocabulary, a constant becomes old · 10^X + Y, X, Y ~ N(0, 1)."""
    index = random.randrange(len(parent.constants) + len(parent.dims))
    if index < len(parent.constants):
        constants = list(parent.constants)
        old = constants[index]
        new = old * 10 ** random.gauss(0, 1) + random.gauss(0, 1)
        if not abs(new) <= LARGEST:
            raise RequestError("a constant became too large")
        constants[index] = new
        return parent.but(constants=tuple(constants)), f"c{index} = {old:g} became {new:g}"
    index -= len(parent.constants)
    dims = list(parent.dims)
    old, dims[index] = dims[index], float(random.choice([dim for dim in DIMS if dim != dims[index]]))
    return parent.but(dims=tuple(dims)), f"d{index} = {old:g} became {dims[index]:g}"
