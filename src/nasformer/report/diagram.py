"""An architecture as a picture wants it: stacks of layers with labelled blocks, or nested boxes of its fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nasformer.errors import RequestError
from nasformer.report.wiring import Wiring, plain_facts, read_wirings
from nasformer.spaces.program import Program
from nasformer.spaces.program_text import program_text


@dataclass(frozen=True)
class Block:
    """One operator of a layer: its place in the layer, its kind and a short text of its settings."""

    role: str
    kind: str
    text: str


@dataclass(frozen=True)
class Stack:
    """Layers from the input upwards, each a tuple of blocks in the order in which they run.

    With `splits` (a reversible stack) block k of a layer is the node of split k; all layers run `repeats` times.
    """

    name: str
    dim: int | None
    layers: tuple[tuple[Block, ...], ...]
    repeats: int = 1
    splits: int = 0


@dataclass(frozen=True)
class Connection:
    """The cross-attention of a decoder layer reads the output of an encoder layer (both counted from 0)."""

    encoder_layer: int
    decoder_layer: int


@dataclass(frozen=True)
class Box:
    """A field of an architecture of an unknown family: a title, its plain fields as text, and its inner boxes."""

    title: str
    text: str = ""
    inner: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Diagram:
    """An architecture to draw: stacks and connections where its family has them, the lines of each part of a program,
    the cells of networks of cells (of `stages` blocks each, where it is a chain) and what else these say in `facts`,
    else one nested box."""

    family: str
    norm: str | None
    stacks: tuple[Stack, ...] = ()
    connections: tuple[Connection, ...] = ()
    box: Box | None = None
    parts: tuple[tuple[str, ...], ...] = ()
    embedding_dim: int | None = None
    pooling: str | None = None
    final_norm: bool = False
    cells: tuple[Wiring, ...] = ()
    stages: tuple[int, ...] = ()
    facts: str = ""


def read_diagram(architecture: Mapping[str, Any]) -> Diagram:
    """The diagram of an architecture given as plain data. Any family is accepted."""
    family = str(architecture.get("family", "architecture"))
    if (program := _program(architecture)) is not None:
        parts = program_text(program).strip().split("\n\n")
        return Diagram(family, None, parts=tuple(tuple(part.splitlines()) for part in parts))
    norm = architecture.get("norm")
    norm = norm if isinstance(norm, str) else None
    inner = {name: architecture[name] for name in ("encoder", "decoder") if name in architecture}
    if wirings := read_wirings(architecture):
        stacks = tuple(_stack(name, part) for name, part in inner.items() if _is_stack(part))
        stages = architecture.get("stages")
        counts = tuple(count for count in stages if isinstance(count, int)) if isinstance(stages, list) else ()
        return Diagram(family, norm, stacks, cells=wirings, stages=counts, facts=plain_facts(architecture))
    if not inner or not all(_is_stack(part) for part in inner.values()):
        return Diagram(family, norm, box=_box(family, {k: v for k, v in architecture.items() if k != "family"}))
    stacks = tuple(_stack(name, part) for name, part in inner.items())
    if not any(stack.splits for stack in stacks):
        return Diagram(family, norm, stacks, _connections(inner))
    return Diagram(
        family,
        norm,
        stacks,
        embedding_dim=architecture.get("embedding_dim"),
        pooling=architecture.get("pooling"),
        final_norm=architecture.get("final_norm") is True,
    )


def _program(architecture: Mapping[str, Any]) -> Program | None:
    if architecture.get("family") != "program":
        return None
    try:
        return Program.read(dict(architecture))
    except RequestError:
        return None


def _is_stack(part: Any) -> bool:
    layers = part.get("layers") if isinstance(part, Mapping) else None
    return isinstance(layers, list) and all(isinstance(layer, Mapping) and _kinds(layer) for layer in layers)


def _kinds(layer: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    nodes = layer.get("nodes")
    if isinstance(nodes, list):
        layer = {f"split {k}": node for k, node in enumerate(nodes, 1)}
    return {role: part for role, part in layer.items() if isinstance(part, Mapping) and "kind" in part}


def _stack(name: str, part: Mapping[str, Any]) -> Stack:
    dim = part.get("dim") if isinstance(part.get("dim"), int) else None
    splits = max((len(layer["nodes"]) for layer in part["layers"] if isinstance(layer.get("nodes"), list)), default=0)
    if splits:
        width = dim // splits if dim else None
        nodes = (_kinds(layer).items() for layer in part["layers"])
        rows = (
            tuple(Block(role, str(node["kind"]), _node_settings(node, width)) for role, node in row) for row in nodes
        )
        repeats = part.get("repeats", 1)
        return Stack(name, dim, tuple(rows), repeats if isinstance(repeats, int) else 1, splits)
    layers = (
        tuple(Block(role, str(block["kind"]), _settings(block, dim)) for role, block in _kinds(layer).items())
        for layer in part["layers"]
    )
    return Stack(name, dim, tuple(layers))


def _node_settings(node: Mapping[str, Any], width: int | None) -> str:
    """As `_settings`; the span is left out, for of a reversible encoder only the last output is there."""
    return _settings({name: value for name, value in node.items() if name != "span"}, width)


def _settings(block: Mapping[str, Any], dim: int | None) -> str:
    """The settings of a block in a few words: what is null or false is left out."""
    words = []
    for name, value in block.items():
        if name == "kind" or value is None or value is False:
            continue
        elif name == "heads":
            words.append(f"{value} head" + "s" * (value != 1))
        elif name == "ratio":
            numbers = isinstance(value, int | float) and dim is not None and block.get("width") is None
            words.append(f"×{value}" + (f" = {round(value * dim)} wide" if numbers else ""))
        elif name == "width":
            words.append(f"{value} wide")
        elif name in ("activation", "filter"):
            words.append(str(value))
        elif name == "span":
            words.append("last encoder layer" if value == 1 else f"last {value} encoder layers")
        elif value is True:
            words.append(name.replace("_", " "))
        else:
            words.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(words)


def _connections(stacks: Mapping[str, Any]) -> tuple[Connection, ...]:
    depth = len(stacks["encoder"]["layers"]) if "encoder" in stacks else 0
    found = []
    for number, layer in enumerate(stacks.get("decoder", {}).get("layers", ())):
        for block in _kinds(layer).values():
            if block["kind"] == "cross_attention" and depth:
                span = block.get("span", 1)
                first = depth - span if isinstance(span, int) else depth - 1
                found += [Connection(source, number) for source in range(max(0, first), depth)]
    return tuple(found)


def _box(title: str, value: Any) -> Box:
    fields = value if isinstance(value, Mapping) else dict(enumerate(value))
    if isinstance(fields.get("kind"), str):
        title, fields = f"{title}: {fields['kind']}", {k: v for k, v in fields.items() if k != "kind"}
    deep = {name: part for name, part in fields.items() if _is_deep(part)}
    plain = (f"{name} {_flat(part)}" for name, part in fields.items() if name not in deep)
    return Box(title.replace("_", " "), ", ".join(plain), tuple(_box(str(name), part) for name, part in deep.items()))


def _is_deep(part: Any) -> bool:
    if isinstance(part, list):
        return any(isinstance(entry, Mapping | list) for entry in part)
    return isinstance(part, Mapping) and bool(part)


def _flat(part: Any) -> str:
    return "(" + ", ".join(map(_flat, part)) + ")" if isinstance(part, list) else str(part)
