"""Programs as text that a person can read and edit, and back.

    depth 2
    unit 8
    constants c0=0 c1=0.25
    dims d0=8 d1=32 d2=2

    MAIN:
      s2 = NORM(s0)
      s3 = ATTENTION(s2) x4
      s4 = CONV_1X1(s3, d0)
      s5 = ADD(s0, s4)

A line reads the arguments that its operation needs; those that it carries but does not read, and that mutations can
bring into play, stand after `~`. `#` begins a comment.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nasformer.errors import RequestError, nearest
from nasformer.spaces.primitives import PRIMITIVES
from nasformer.spaces.program import (
    BRANCHINGS,
    LARGEST,
    MOST_CHANNELS,
    MOST_DEPTH,
    MOST_LENGTH,
    Instruction,
    Program,
    ShapeError,
    Subprogram,
    inputs_used,
    resolve,
)

_LINE = re.compile(r"s([0-9]{1,9})\s*=\s*([A-Za-z_]\w*)\s*\(([^()]*)\)\s*(?:x([0-9]{1,9}))?\s*(?:~\s*(.*))?")
_NUMBER = re.compile(r"[0-9]{1,9}")
_FIELDS = {"s": ("first", "second"), "c": ("constant",), "d": ("dim",)}
_SETTINGS = {
    "depth": MOST_DEPTH,
    "unit": MOST_CHANNELS,
    "length": MOST_LENGTH,
    "constants": LARGEST,
    "dims": MOST_CHANNELS,
}
"""The settings, and the largest magnitude of each."""


def program_text(program: Program) -> str:
    """The program as text; `read_program` gives it back."""
    lines = [f"depth {program.depth}", f"unit {_short(program.unit)}"]
    lines += [f"length {program.length}"] if program.length else []
    lines.append("constants " + " ".join(f"c{i}={_short(value)}" for i, value in enumerate(program.constants)))
    lines.append("dims " + " ".join(f"d{i}={_short(value)}" for i, value in enumerate(program.dims)))
    used = inputs_used(program)
    for subprogram in program.subprograms:
        lines += ["", f"{subprogram.name}:"]
        for place, instruction in enumerate(subprogram.instructions):
            lines.append(f"  s{place + 2} = {instruction_text(program, instruction, used)}")
    return "\n".join(lines) + "\n"


def instruction_text(program: Program, instruction: Instruction, used: list[tuple[bool, bool]] | None = None) -> str:
    """One instruction: `CONV_1X1(s3, d0) x4 ~ s0 c1`."""
    used = used or inputs_used(program)
    called = instruction.called
    if called is not None:
        name, two, constant, dim = program.subprograms[called].name, used[called][1], False, False
    else:
        primitive = PRIMITIVES[instruction.operation]
        name, two = primitive.name, primitive.inputs == 2
        constant, dim = primitive.reads_constant, primitive.reads_dim
    first, second = f"s{instruction.first}", f"s{instruction.second}"
    value, width = f"c{instruction.constant}", f"d{instruction.dim}"
    arguments = [first, *([second] * two), *([value] * constant), *([width] * dim)]
    idle = [
        *([second] if not two and instruction.second else []),
        *([value] if not constant and instruction.constant else []),
        *([width] if not dim and instruction.dim else []),
    ]
    text = f"{name}({', '.join(arguments)})"
    text += f" x{instruction.branches}" if instruction.branches > 1 else ""
    return text + (f" ~ {' '.join(idle)}" if idle else "")


def _short(value: float) -> str:
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def read_program(text: str, origin: str = "the program") -> Program:
    """The program that a text describes, whether or not its shapes fit. Raises `RequestError` with the line and the
    reason."""
    return _Reader(text, origin).program()


def read_program_file(path: Path) -> Program:
    """The program in a text file; its shapes must fit. Raises `RequestError` with the line and the reason."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"expected a readable program; {path}: {error}") from None
    reader = _Reader(text, str(path))
    program = reader.program()
    try:
        resolve(program)
    except ShapeError as error:
        raise reader.fail(reader.numbers[error.origin], str(error)) from None
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
    return program


class _Reader:
    def __init__(self, text: str, origin: str) -> None:
        self.origin, self.lines = origin, text.splitlines()
        self.numbers: dict[tuple[int, int], int] = {}
        """The line of each instruction, by subprogram and place."""
        self.settings: dict[str, int] = {}
        """The line of each setting."""
        self.given: dict[int, int] = {}
        """How many arguments the instruction in a line names."""

    def fail(self, number: int, reason: str) -> RequestError:
        return RequestError(f"{self.origin}, line {number}: {reason}")

    def program(self) -> Program:
        head: dict[str, Any] = {}
        bodies: list[tuple[str, list[tuple[int, str]]]] = []
        for number, line in self.written():
            if line.endswith(":"):
                name = line[:-1].strip()
                if not name.isidentifier() or not name.isascii() or name in (*PRIMITIVES, *(old for old, _ in bodies)):
                    raise self.fail(number, f"expected a new word that is no primitive as a name, got {name!r}")
                bodies.append((name, []))
            elif bodies:
                bodies[-1][1].append((number, line))
            else:
                name, *words = line.split()
                if name in head:
                    raise self.fail(number, f"expected {name} once, got it again")
                head[name], self.settings[name] = self.setting(number, name, words), number
        if missing := [name for name in ("depth", "unit", "constants", "dims") if name not in head]:
            raise RequestError(f"{self.origin}: expected the line {missing[0]!r} before the first subprogram")
        if not bodies:
            raise RequestError(f"{self.origin}: expected a subprogram, such as 'MAIN:', got none")
        names = [name for name, _ in bodies]
        parsed = [
            [(number, self.instruction(number, line, place, names)) for place, (number, line) in enumerate(lines)]
            for _, lines in bodies
        ]
        for name, instructions in zip(names, parsed, strict=True):
            if not instructions:
                raise RequestError(f"{self.origin}: the subprogram {name} has no instructions; expected at least one")
        draft = Program.model_construct(
            subprograms=tuple(Subprogram.model_construct(name=name) for name in names),
            unit=head["unit"],
            constants=head["constants"],
            dims=head["dims"],
        )
        if reason := draft.too_wide():
            raise self.fail(self.settings["dims"], reason)
        for own, instructions in enumerate(parsed):
            for place, (number, instruction) in enumerate(instructions):
                self.numbers[own, place] = number
                if reason := draft.problem(own, place, instruction):
                    raise self.fail(number, reason)
        subprograms = tuple(
            Subprogram(name=name, instructions=tuple(instruction for _, instruction in instructions))
            for name, instructions in zip(names, parsed, strict=True)
        )
        try:
            program = Program(**head, subprograms=subprograms)
        except RequestError as error:
            raise RequestError(f"{self.origin}: {error}") from None
        self.check_calls(program)
        return program

    def check_calls(self, program: Program) -> None:
        """A call names every input that the subprogram reads."""
        used = inputs_used(program)
        for own, subprogram in enumerate(program.subprograms):
            for place, instruction in enumerate(subprogram.instructions):
                called, number = instruction.called, self.numbers[own, place]
                if called is not None and used[called][1] and self.given[number] < 2:
                    raise self.fail(number, f"{program.subprograms[called].name} reads two states, got one")

    def written(self) -> Iterator[tuple[int, str]]:
        """The lines that say something, with their numbers."""
        for number, line in enumerate(self.lines, start=1):
            line = line.partition("#")[0].strip()
            if line:
                yield number, line

    def setting(self, number: int, name: str, words: list[str]) -> Any:
        if name not in _SETTINGS:
            raise self.fail(number, f"unknown setting {name!r}; {nearest(name, _SETTINGS)}")
        labels = [f"{name[0]}{place}=" for place in range(len(words))] if name in ("constants", "dims") else [""]
        try:
            kind: Any = int if name in ("depth", "length") else float
            values = tuple(kind(word.removeprefix(label)) for word, label in zip(words, labels, strict=True))
            if not values or not all(math.isfinite(value) and (name == "constants" or value > 0) for value in values):
                raise ValueError
        except (ValueError, OverflowError):
            wanted = {
                "constants": "constants and finite numbers, as c0=0 c1=0.25",
                "dims": "dims and numbers above 0, as d0=8 d1=32",
            }.get(name, f"{name} and a number above 0")
            raise self.fail(number, f"expected {wanted}; got {' '.join(words)!r}") from None
        most = _SETTINGS[name]
        for word, value in zip(words, values, strict=True):
            if abs(value) > most:
                raise self.fail(number, f"expected {name} of at most {_most(most)}, got {word!r}")
        return values if name in ("constants", "dims") else values[0]

    def instruction(self, number: int, line: str, place: int, names: list[str]) -> Instruction:
        match = _LINE.fullmatch(line)
        if match is None:
            raise self.fail(number, f"expected 's{place + 2} = OPERATION(s0, …)', got {line!r}")
        state, operation, arguments, branches, idle = match.groups()
        if int(state) != place + 2:
            raise self.fail(number, f"expected s{place + 2}, the next state, got s{state}")
        if operation in names:
            operation = f"S{names.index(operation)}"
        elif operation not in PRIMITIVES:
            raise self.fail(number, f"unknown primitive {operation!r}; {nearest(operation, [*PRIMITIVES, *names])}")
        fields: dict[str, int] = {}
        words = [word.strip() for word in arguments.split(",") if word.strip()]
        expected = self.expected(operation)
        if [word[:1] for word in words] not in expected:
            raise self.fail(
                number, f"{line.split('(')[0].split()[-1]} reads {_spoken(expected[0])}, got ({arguments.strip()})"
            )
        self.given[number] = len(words)
        for word in [*words, *(idle or "").replace(",", " ").split()]:
            self.put(number, fields, word)
        if branches is not None and int(branches) not in BRANCHINGS:
            raise self.fail(number, f"expected a branching of {', '.join(map(str, BRANCHINGS))}, got {branches}")
        return Instruction(operation=operation, branches=int(branches or 1), **fields)  # type: ignore[arg-type]

    def expected(self, operation: str) -> list[list[str]]:
        """The kinds of arguments that an operation reads; a call reads one or two states."""
        primitive = PRIMITIVES.get(operation)
        if primitive is None:
            return [["s"], ["s", "s"]]
        return [["s"] * primitive.inputs + ["c"] * primitive.reads_constant + ["d"] * primitive.reads_dim]

    def put(self, number: int, fields: dict[str, int], word: str) -> None:
        kind, index = word[:1], word[1:]
        free = [name for name in _FIELDS.get(kind, ()) if name not in fields]
        if not free or not _NUMBER.fullmatch(index):
            raise self.fail(number, f"expected a state s…, a constant c… or a dim d…, got {word!r}")
        fields[free[0]] = int(index)


def _most(bound: float) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:.3g} in magnitude"


def _spoken(kinds: list[str]) -> str:
    names = {"s": "a state", "c": "a constant", "d": "a dim"}
    return " and ".join(names[kind] for kind in kinds)
