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

    @property
    def marked(self) -> tuple[str, ...]:
        """As text: what both have once, what the start has after −, what the found program has after +."""
        if self.kind == "same":
            return (f"  {self.left}",)
        return tuple(f"{mark} {text}" for mark, text in (("−", self.left), ("+", self.right)) if text is not None)


def side_by_side(start: str, found: str) -> tuple[Line, ...]:
    """The lines of both programs. A subprogram stands beside the one of its name, with an empty line before it."""
    lines: list[Line] = []
    for part in _parts(start, found):
        lines += [Line("", "")] if lines else []
        lines += part
    return tuple(lines)


def changed_lines(start: str, found: str) -> Iterator[str]:
    """What a reader needs of two programs: the subprograms that differ, each with an empty line after it."""
    for part in _parts(start, found):
        if any(line.kind != "same" for line in part):
            for line in part:
                yield from line.marked
            yield ""


def _parts(start: str, found: str) -> Iterator[list[Line]]:
    """The lines of each subprogram that either has."""
    ours, theirs = _sections(start), _sections(found)
    for name in dict.fromkeys([*ours, *theirs]):
        yield list(_compared(ours.get(name, ()), theirs.get(name, ())))


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
