"""The program family: a decoder block written as a program of primitive tensor operations (docs/papers/primer.md §2.1).

A program is a bank of subprograms, the first of which is the block. What a program *means* is its graph: calls inlined,
dead code gone, values taken from the banks (`graph_of`); and then every width inferred, with operands that disagree
repaired (`resolve`). Two programs with the same graph are the same block.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from nasformer.errors import RequestError, nearest
from nasformer.spaces.primitives import PRIMITIVES
from nasformer.spaces.value import Value

BRANCHINGS = (1, 2, 4, 8, 16)
TIME: Literal["time"] = "time"
"""The width of a time-by-time matrix, whatever the length of the sequence."""
Width = int | Literal["time"]
Index = Annotated[int, Field(ge=0)]
MOST_INSTRUCTIONS, MOST_NODES = 256, 2048
"""Longer programs, and longer graphs, are nothing that anyone wants to run."""
MOST_DEPTH, MOST_LENGTH, MOST_CHANNELS, MOST_BRANCHES = 1_000, 10**6, 2**16, 2**12
"""Nor are more blocks, positions, channels of a state, and copies that branchings inside branchings make."""
LARGEST = (2 - 2**-23) * 2.0**127
"""The largest number of float32, in which programs compute."""
Ratio = Annotated[float, Field(gt=0, le=MOST_CHANNELS)]
_CALL = re.compile(r"S(0|[1-9][0-9]{0,3})")
_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


class Instruction(Value):
    """One line of a subprogram: an operation and all four arguments, of which it reads what it needs.

    `operation` is a primitive's name or `S` and the number of a subprogram; `first` and `second` are states (0 and 1
    are the subprogram's inputs, instruction j writes state j + 2); `constant` and `dim` are places in the program's
    banks. `branches` copies, each with weights of its own, run side by side and are joined along the channels.
    """

    operation: str
    first: Index = 0
    second: Index = 0
    constant: Index = 0
    dim: Index = 0
    branches: Literal[1, 2, 4, 8, 16] = 1

    @property
    def called(self) -> int | None:
        """The number of the subprogram that is called; None for a primitive."""
        match = _CALL.fullmatch(self.operation)
        return int(match[1]) if match else None


class Subprogram(Value):
    """A named list of instructions; its output is the last one."""

    name: str
    instructions: Annotated[tuple[Instruction, ...], Field(min_length=1)]


class Program(Value):
    """A decoder-only model whose block is a program, stacked `depth` times.

    The block maps (time, width) to (time, width), where the width is that of `dims`' first entry. `constants` and
    `dims` are banks that instructions point into; dims are ratios, `unit` channels each. Outside the block and fixed:
    token embeddings with sinusoidal positions, a final layer norm, and an output tied to the embeddings. `length` is
    the number of positions that learned vectors along time have (None where there are none).

    Raises `RequestError` for numbers beyond MOST_DEPTH, MOST_LENGTH and LARGEST, and for a unit, a dim, or a width of
    the stream beyond MOST_CHANNELS.
    """

    family: Literal["program"] = "program"
    depth: Annotated[int, Field(ge=1, le=MOST_DEPTH)]
    unit: Ratio
    constants: Annotated[tuple[Annotated[float, Field(ge=-LARGEST, le=LARGEST)], ...], Field(min_length=1)]
    dims: Annotated[tuple[Ratio, ...], Field(min_length=1)]
    subprograms: Annotated[tuple[Subprogram, ...], Field(min_length=1)]
    length: Annotated[int, Field(ge=1, le=MOST_LENGTH)] | None = None

    @model_validator(mode="after")
    def _well_formed(self) -> Self:
        if (count := sum(len(subprogram.instructions) for subprogram in self.subprograms)) > MOST_INSTRUCTIONS:
            raise RequestError(f"expected at most {MOST_INSTRUCTIONS} instructions, got {count}")
        if too_wide := self.too_wide():
            raise RequestError(too_wide)
        names = [subprogram.name for subprogram in self.subprograms]
        if len(set(names)) < len(names):
            raise RequestError(f"expected different names of subprograms, got {', '.join(names)}")
        for name in names:
            if not _NAME.fullmatch(name) or name in PRIMITIVES:
                raise RequestError(f"expected a word that is no primitive for the name of a subprogram, got {name!r}")
        for number, subprogram in enumerate(self.subprograms):
            for place, instruction in enumerate(subprogram.instructions):
                problem = self.problem(number, place, instruction)
                if problem:
                    raise RequestError(f"{subprogram.name}, instruction s{place + 2}: {problem}")
        return self

    def problem(self, number: int, place: int, instruction: Instruction) -> str | None:
        """What is wrong with an instruction at a place of subprogram `number`; None where nothing is."""
        called = instruction.called
        if called is None and instruction.operation not in PRIMITIVES:
            return f"unknown primitive {instruction.operation!r}; {nearest(instruction.operation, PRIMITIVES)}"
        if called is not None and not number < called < len(self.subprograms):
            if called >= len(self.subprograms):
                return f"calls S{called}, but there are {len(self.subprograms)} subprograms"
            return f"calls S{called}, which is no later subprogram: calls would go in a cycle"
        for state in (instruction.first, instruction.second):
            if state >= place + 2:
                return f"reads state s{state}, which is not written before it; expected s0 to s{place + 1}"
        for bank, index in (("constants", instruction.constant), ("dims", instruction.dim)):
            if index >= len(getattr(self, bank)):
                return f"points to entry {index} of the {bank}, which have {len(getattr(self, bank))}"
        return None

    def too_wide(self) -> str | None:
        """Why the stream is too wide; None where it is not."""
        if isinstance(self.unit, float) and isinstance(self.dims[0], float) and self.width > MOST_CHANNELS:
            return f"the stream (d0 · unit) has {self.width:,} channels, expected at most {MOST_CHANNELS:,}"
        return None

    @property
    def width(self) -> int:
        """The channels of the stream."""
        return self.channels_of(self.dims[0])

    def channels_of(self, dim: float) -> int:
        """How many channels a ratio stands for; at least one."""
        return max(1, round(dim * self.unit))


@dataclass(frozen=True)
class Node:
    """One operation of a graph: a primitive, `INPUT` (the block's), or `JOIN` (branches put side by side).

    `inputs` are the places of earlier nodes, `branches` the sizes of the branchings inside which it runs, outermost
    first, `value` its constant and `dim` the ratio that says how many channels it makes, where it reads them. `origin`
    is the instruction that it comes from (subprogram and place), which is no part of what it means.
    """

    operation: str
    inputs: tuple[int, ...] = ()
    branches: tuple[int, ...] = ()
    value: float | None = None
    dim: float | None = None
    origin: tuple[int, int] = field(default=(0, 0), compare=False)


Graph = tuple[Node, ...]
"""The nodes in an order in which they can be computed; the last one is the output."""


def graph_of(program: Program) -> Graph:
    """What the program computes: calls inlined, values from the banks, dead code left out; the canonical form.

    Raises `RequestError` where calls inlined make more than 2,048 nodes.
    """
    nodes: list[Node] = []

    def put(node: Node) -> int:
        if len(nodes) >= MOST_NODES:
            raise RequestError(f"the program unfolds to more than {MOST_NODES:,} operations")
        nodes.append(node)
        return len(nodes) - 1

    def run(number: int, first: int, second: int, branches: tuple[int, ...]) -> int:
        instructions = program.subprograms[number].instructions
        states: dict[int, int] = {0: first, 1: second}

        def state(wanted: int) -> int:
            if wanted not in states:
                states[wanted] = execute(wanted - 2)
            return states[wanted]

        def execute(place: int) -> int:
            instruction, origin = instructions[place], (number, place)
            called = instruction.called
            inside = branches if instruction.branches == 1 else (*branches, instruction.branches)
            if called is not None:
                one = state(instruction.first) if used[called][0] else first
                other = state(instruction.second) if used[called][1] else first
                result = run(called, one, other, inside)
            else:
                primitive = PRIMITIVES[instruction.operation]
                inputs = [state(instruction.first)]
                inputs += [state(instruction.second)] if primitive.inputs == 2 else []
                value = program.constants[instruction.constant] if primitive.reads_constant else None
                dim = program.dims[instruction.dim] if primitive.reads_dim else None
                result = put(Node(primitive.name, tuple(inputs), inside, value, dim, origin))
            return result if inside == branches else put(Node("JOIN", (result,), inside, origin=origin))

        return state(len(instructions) + 1)

    used = inputs_used(program)
    put(Node("INPUT"))
    run(0, 0, 0, ())
    return _in_order(nodes)


def _in_order(nodes: list[Node]) -> Graph:
    """The nodes in the order in which the output asks for them, first inputs first, whatever order they were put in."""
    order: dict[int, int] = {}
    pending = [len(nodes) - 1]
    while pending:
        waiting = [place for place in nodes[pending[-1]].inputs if place not in order]
        if waiting:
            pending.append(waiting[0])
        else:
            order.setdefault(pending.pop(), len(order))
    return tuple(replace(nodes[old], inputs=tuple(order[place] for place in nodes[old].inputs)) for old in order)


def inputs_used(program: Program) -> list[tuple[bool, bool]]:
    """For each subprogram, which of its two inputs reach its output."""
    found: list[tuple[bool, bool]] = [(False, False)] * len(program.subprograms)
    for number in reversed(range(len(program.subprograms))):
        instructions = program.subprograms[number].instructions
        needed, pending = set(), [len(instructions) + 1]
        while pending:
            state = pending.pop()
            if state in needed:
                continue
            needed.add(state)
            if state >= 2:
                instruction = instructions[state - 2]
                pending += [getattr(instruction, name) for name in inputs_read(instruction, found)]
        found[number] = (0 in needed, 1 in needed)
    return found


def inputs_read(instruction: Instruction, used: list[tuple[bool, bool]]) -> list[str]:
    """Which of `first` and `second` an instruction reads, given the inputs that each subprogram uses."""
    called = instruction.called
    both = used[called] if called is not None else (True, PRIMITIVES[instruction.operation].inputs == 2)
    return [name for name, read in zip(("first", "second"), both, strict=True) if read]


def digest(program: Program) -> str:
    """The SHA-256 of the canonical form: equal for programs that are the same network but for its unit."""
    return _digest(program, graph_of(program))


def _digest(program: Program, graph: Graph) -> str:
    nodes = [[n.operation, n.inputs, n.branches, n.value, n.dim] for n in graph]
    return hashlib.sha256(json.dumps([program.depth, program.dims[0], nodes]).encode()).hexdigest()


@dataclass(frozen=True)
class Resolved:
    """A graph in which every operand fits: the width of each node, and how many were repaired."""

    graph: Graph
    widths: tuple[Width, ...]
    repairs: int


class ShapeError(RequestError):
    """Operands that cannot be made to fit; `origin` is the instruction that reads them (subprogram and place)."""

    def __init__(self, reason: str, origin: tuple[int, int]) -> None:
        super().__init__(reason)
        self.origin = origin


class _MismatchError(Exception):
    """Two operands of a node disagree; each remedy is a node and the width that it would have to have."""

    def __init__(self, place: int, problem: str, remedies: list[tuple[int, Width]]) -> None:
        super().__init__(problem)
        self.place, self.remedies = place, remedies


def resolve(program: Program, graph: Graph | None = None) -> Resolved:
    """Every width of a program's graph, by static inference; `graph` where it is known (no unit changes it).

    Where two operands disagree, the canonical form's digest and the place decide which one gives way, and the width of
    the convolution that makes it is changed (our reading 3).
    Raises `ShapeError` where no convolution can be changed, and for more than MOST_CHANNELS channels or MOST_BRANCHES
    branches inside each other.
    """
    graph = graph or graph_of(program)
    made = {place: program.channels_of(node.dim) for place, node in enumerate(graph) if node.dim is not None}
    repaired: set[int] = set()
    while True:
        widths: list[Width] = []
        try:
            _infer(graph, program.width, made, widths)
            _check_sizes(graph, widths)
            return Resolved(graph, tuple(widths), len(repaired))
        except _MismatchError as mismatch:
            remedies = mismatch.remedies[:: -1 if _coin(_digest(program, graph), mismatch.place) else 1]
            found = [_changes(graph, widths, node, width) for node, width in remedies]
            changes = next((one for one in found if one and not repaired & set(one)), None)
            if changes is None:
                output = mismatch.place == len(graph)
                at, node = ("the output" if output else graph[mismatch.place].operation), graph[mismatch.place - output]
                reason = f"{at}: {mismatch}, and no convolution can be changed to mend it"
                raise ShapeError(reason, node.origin) from None
            made |= changes
            repaired |= set(changes)


def _check_sizes(graph: Graph, widths: list[Width]) -> None:
    for node, width in zip(graph, widths, strict=True):
        if width != TIME and width > MOST_CHANNELS:
            reason = f"{node.operation}: it has {width:,} channels, expected at most {MOST_CHANNELS:,}"
            raise ShapeError(reason, node.origin)
        if (branches := math.prod(node.branches)) > MOST_BRANCHES:
            reason = f"{node.operation}: it stands inside {branches:,} branches, expected at most {MOST_BRANCHES:,}"
            raise ShapeError(reason, node.origin)


def _coin(name: str, place: int) -> bool:
    return hashlib.sha256(f"{name}/{place}".encode()).digest()[0] % 2 == 1


def _infer(graph: Graph, width: int, made: dict[int, int], widths: list[Width]) -> None:
    """Append the width of each node to `widths`, up to a mismatch."""
    for place, node in enumerate(graph):
        if node.operation == "INPUT":
            widths.append(width)
        elif node.dim is not None:
            widths.append(made[place])
        else:
            widths.append(_width(place, node, [widths[other] for other in node.inputs]))
    if widths[-1] != width:
        last = len(graph) - 1
        raise _MismatchError(last + 1, f"it has {_channels(widths[-1])}, expected {width}", [(last, width)])


def _width(place: int, node: Node, inputs: list[Width]) -> Width:
    one, other = inputs[0], inputs[-1]
    if node.operation == "JOIN":
        if one == TIME:
            raise _MismatchError(place, "branches of a time-by-time matrix cannot be joined", [])
        return one * node.branches[-1]
    primitive = PRIMITIVES[node.operation]
    if primitive.group == "reduction":
        return 1
    if primitive.group != "binary":
        return one
    if node.operation == "MAT_MUL":
        if one != TIME:
            raise _MismatchError(place, f"the first operand has {_channels(one)}, expected a time-by-time matrix", [])
        return other
    broadcast = node.operation != "T_MAT_MUL" and 1 in (one, other)
    if one != other and not broadcast:
        problem = f"the operands have {_channels(one)} and {_channels(other)}"
        raise _MismatchError(place, problem, [(node.inputs[0], other), (node.inputs[1], one)])
    if node.operation == "T_MAT_MUL":
        return TIME
    return other if one == 1 else one


def _channels(width: Width) -> str:
    return "one column for each time" if width == TIME else f"{width} channel{'s' * (width != 1)}"


def _changes(graph: Graph, widths: list[Width], place: int, width: Width) -> dict[int, int] | None:
    """The widths of convolutions that give the node at `place` this width; None where no convolution can."""
    changes: dict[int, int] = {}
    wanted: dict[int, Width] = {}
    pending = [(place, width)]
    while pending:
        place, width = pending.pop()
        node = graph[place]
        if wanted.setdefault(place, width) != width or width == TIME or node.operation == "INPUT":
            return None
        if node.operation == "JOIN":
            if width % node.branches[-1]:
                return None
            pending.append((node.inputs[0], width // node.branches[-1]))
        elif node.dim is not None:
            changes[place] = width
        elif PRIMITIVES[node.operation].group == "reduction" or node.operation == "T_MAT_MUL":
            return None
        else:
            operands = node.inputs[1:] if node.operation == "MAT_MUL" else node.inputs
            wide = [operand for operand in operands if len(operands) == 1 or widths[operand] != 1]
            if not wide:
                return None
            pending += [(operand, width) for operand in dict.fromkeys(wide)]
    return changes


def describe(program: Program) -> dict[str, Any]:
    """A program in numbers: subprograms, instructions, operations of the graph, width."""
    return {
        "subprograms": len(program.subprograms),
        "instructions": sum(len(subprogram.instructions) for subprogram in program.subprograms),
        "operations": len(graph_of(program)) - 1,
        "width": program.width,
    }
