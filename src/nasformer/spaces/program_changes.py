"""What tells a found program from its start, change by change, for insertion and ablation (docs/papers/primer.md §5).

Mutations add no subprograms and no bank entries, so a change is a subprogram or a bank entry that differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nasformer.errors import RequestError
from nasformer.spaces.program import Program, digest


@dataclass(frozen=True)
class Change:
    """One change: its name, the start with it alone, and the found program without it; None where that is no program,
    or the same network as before."""

    name: str
    inserted: Program | None
    ablated: Program | None


def changes(start: Program, found: Program) -> list[Change]:
    """Every subprogram and bank entry of `found` that is not the start's.

    Raises `RequestError` where the two have different subprograms or banks of different sizes.
    """
    names = [[subprogram.name for subprogram in program.subprograms] for program in (start, found)]
    sizes = [(len(program.constants), len(program.dims)) for program in (start, found)]
    if names[0] != names[1] or sizes[0] != sizes[1]:
        raise RequestError("expected two programs with the same subprograms and banks, one made from the other")
    found_changes = []
    for bank, letter in (("constants", "c"), ("dims", "d"), ("subprograms", "")):
        pairs = zip(getattr(start, bank), getattr(found, bank), strict=True)
        for place, (old, new) in enumerate(pairs):
            if old != new:
                name = names[0][place] if bank == "subprograms" else f"{letter}{place} = {old:g} → {new:g}"
                change = Change(name, _with(start, bank, place, new), _with(found, bank, place, old))
                if change.inserted is not None or change.ablated is not None:
                    found_changes.append(change)
    return found_changes


def _with(program: Program, bank: str, place: int, value: Any) -> Program | None:
    entries = list(getattr(program, bank))
    entries[place] = value
    try:
        changed = program.but(**{bank: tuple(entries)})
        return changed if digest(changed) != digest(program) else None
    except RequestError:
        return None
