"""The cells of an architecture as a picture wants them: nodes by number, and an arrow with its words for each edge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nasformer.errors import RequestError
from nasformer.spaces.cell import PARAMETER_FREE, Cell


@dataclass(frozen=True)
class Arrow:
    """An edge: from one point of a cell to another (first the inputs, then the nodes), its operator's kind, label and
    words for readers."""

    source: int
    target: int
    kind: str
    label: str
    text: str

    @property
    def parameter_free(self) -> bool:
        """Whether its operator learns nothing."""
        return self.kind in PARAMETER_FREE


@dataclass(frozen=True)
class Wiring:
    """One cell: its path in the architecture, its inputs, its nodes, its arrows, and which nodes make its output."""

    name: str
    inputs: int
    nodes: int
    arrows: tuple[Arrow, ...]
    output: tuple[int, ...]

    @property
    def columns(self) -> tuple[int, ...]:
        """For each input and node the length of the longest way to it; an input has 0."""
        found = [0] * self.inputs
        for point in range(self.inputs, self.inputs + self.nodes):
            found.append(1 + max((found[arrow.source] for arrow in self.arrows if arrow.target == point), default=0))
        return tuple(found)

    @property
    def single(self) -> bool:
        """Whether it is one edge and nothing else: a block of a chain."""
        return (self.inputs, self.nodes, len(self.arrows)) == (1, 1, 1)


def read_wirings(architecture: Mapping[str, Any]) -> tuple[Wiring, ...]:
    """The cells in an architecture given as plain data, in order; none where there are none to be read."""
    family = architecture.get("family")
    try:
        found = tuple((path, Cell.read(dict(part))) for path, part in _cells(architecture))
        blocks = architecture.get("encoder", architecture)  # of sequences; the cells of images are joined or staged
        made = "last" if family == "staged_cells" else blocks.get("output", "all")
        return tuple(_wiring(path, cell, made) for path, cell in found)
    except (AttributeError, RequestError):  # of another version, or with a choice left open
        return ()


def plain_facts(architecture: Mapping[str, Any]) -> str:
    """What an architecture says besides its cells: `channels 36, cells 20`."""
    words = []
    for name, part in architecture.items():
        if isinstance(part, Mapping) and not _is_cell(part):
            inner = plain_facts(part)
            words += [f"{name} ({inner})"] if inner else []
        elif name not in ("family", "norm") and part is not None and not isinstance(part, Mapping):
            flat = not isinstance(part, list) or all(isinstance(one, int | float | str) for one in part)
            text = " + ".join(map(str, part)) if isinstance(part, list) else str(part)
            said = "" if part is True else f" {text}"
            words += [name.replace("_", " ") + said] if flat and part is not False else []
    return ", ".join(words)


def _cells(part: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if _is_cell(part):
        yield path, part
    elif isinstance(part, Mapping | list):
        for name, inner in part.items() if isinstance(part, Mapping) else enumerate(part):
            yield from _cells(inner, f"{path}.{name}" if path else str(name))


def _is_cell(part: Any) -> bool:
    nodes = part.get("nodes") if isinstance(part, Mapping) else None
    return isinstance(nodes, list) and bool(nodes) and all(isinstance(n, Mapping) and "edges" in n for n in nodes)


def _wiring(path: str, cell: Cell, made: str) -> Wiring:
    arrows = [
        Arrow(edge.source, target, edge.operator.kind, _label(edge.operator), operator_words(edge.operator))
        for target, node in enumerate(cell.nodes, cell.inputs)
        for edge in node.edges
    ]
    nodes = tuple(range(cell.inputs, cell.inputs + len(cell.nodes)))
    read = {arrow.source for arrow in arrows}
    output = {"last": nodes[-1:], "unread": tuple(node for node in nodes if node not in read)}.get(made, nodes)
    return Wiring(path, cell.inputs, len(nodes), tuple(arrows), output)


def _label(operator: Any) -> str:
    """The kind and every number: what a shade of the kind's colour depends on."""
    fields = (getattr(operator, name) for name in type(operator).model_fields)
    return "_".join([str(operator.kind), *(f"{n:g}" for n in fields if isinstance(n, int | float) and n is not False)])


def operator_words(operator: Any) -> str:
    """An edge's operator for readers: `separable convolution 5`, `attention, 4 heads`, `feed forward ×2`."""
    fields = {name: getattr(operator, name) for name in type(operator).model_fields}
    words = [str(operator.kind).replace("_", " ")]
    if ratio := fields.get("ratio") or fields.get("expansion"):
        words[0] += f" ×{ratio:g}"
    if heads := fields.get("heads"):
        words.append(f"{heads} head{'s' * (heads != 1)}")
    if window := fields.get("window"):
        words.append(f"window {window}")
    if kernel := fields.get("kernel"):
        if len(words) == 1 and not ratio:
            return f"{words[0]} {kernel}"
        words.append(f"kernel {kernel}")
    return ", ".join(words)
