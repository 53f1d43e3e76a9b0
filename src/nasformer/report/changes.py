"""Two programs as text side by side, subprogram by subprogram, with the lines that differ marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest


@dataclass(frozen=True)
class Line:
    """A line of the start beside a line of the found program; None where one has nothing there."""

    left: str | None
    right: str | None

    @property
    def kind(self) -> str:
        """`same`, `changed`, `removed` or `added`."""
        if self.left == self.right:
            return "same"
        return "added" if self.left is None else "removed" if self.right is None else "changed"


def side_by_side(start: str, found: str) -> tuple[Line, ...]:
    """The lines of both programs. A subprogram stands beside the one of its name, with an empty line before it."""
    ours, theirs = _sections(start), _sections(found)
    lines: list[Line] = []
    for name in dict.fromkeys([*ours, *theirs]):
        lines += [Line("", "")] if lines else []
        lines += _compared(ours.get(name, ()), theirs.get(name, ()))
    return tuple(lines)


def changed_lines(start: str, found: str) -> Iterator[str]:
    """What a reader needs of two programs: the subprograms that differ, a line of the start alone after −, of the found
    program alone after +."""
    part: list[Line] = []
    for line in (*side_by_side(start, found), Line("", "")):
        part.append(line)
        if line == Line("", ""):
            if any(one.kind != "same" for one in part):
                for one in part:
                    shown = [f"  {one.left}"] if one.kind == "same" else []
                    if one.kind != "same":
                        shown += [] if one.left is None else [f"− {one.left}"]
                        shown += [] if one.right is None else [f"+ {one.right}"]
                    yield from (text.rstrip() for text in shown)
            part = []


def _sections(text: str) -> dict[str, list[str]]:
    """The lines of a program by subprogram; those before the first one under an empty name."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in text.splitlines():
        if line.strip():
            name = line if line.endswith(":") else name
            found.setdefault(name, []).append(line)
    return {name: lines for name, lines in found.items() if lines}


def _compared(ours: Sequence[str], theirs: Sequence[str]) -> Iterator[Line]:
    matcher = SequenceMatcher(a=ours, b=theirs, autojunk=False)
    for _, first, last, other, end in matcher.get_opcodes():
        for left, right in zip_longest(ours[first:last], theirs[other:end]):
            yield Line(left, right)
