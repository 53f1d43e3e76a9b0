"""`nasformer list`: what there is to choose from."""

from __future__ import annotations

import inspect
from typing import Any

from rich.console import Console

from nasformer.errors import RequestError, nearest
from nasformer.models.size import core_parameters
from nasformer.operators.catalogue import MIXERS
from nasformer.operators.feedforward import ACTIVATIONS
from nasformer.recipes.experiment import LABELS
from nasformer.recipes.named import RECIPES
from nasformer.spaces.cell import EDGE_OPERATORS
from nasformer.spaces.named import ARCHITECTURES, SPACES
from nasformer.spaces.primitives import PRIMITIVES, Primitive
from nasformer.spaces.program_space import ProgramSpace


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def _spaces() -> dict[str, str]:
    lines = {}
    for name, build in SPACES.items():
        space = build()
        told = "" if isinstance(space, ProgramSpace) else f" {space.size:.3g} members, {space.encoded_size:.3g} codes."
        lines[name] = _first_line(build) + told
    return lines


def _architectures() -> dict[str, str]:
    return {name: f"{core_parameters(build()):,} core parameters" for name, build in ARCHITECTURES.items()}


def _operators() -> dict[str, str]:
    others = {"cross_attention": "to the last 1 to 3 encoder layers", "feed_forward": ", ".join(ACTIVATIONS)}
    mixers = dict.fromkeys(MIXERS, "mixes time")
    on_edges = {kind.model_fields["kind"].default: _first_line(kind) for kind in EDGE_OPERATORS}
    told = {kind: f"{mixers.get(kind, 'in cells')}: {line}" for kind, line in on_edges.items()}
    return mixers | told | others


def _primitive(primitive: Primitive) -> str:
    """Its group, and how a line of a program calls it."""
    arguments = ["s…"] * primitive.inputs + ["c…"] * primitive.reads_constant + ["d…"] * primitive.reads_dim
    return f"{primitive.group}: {primitive.name}({', '.join(arguments)})"


STRATEGIES = {
    "shrinknas": "operators and sizes, a sample space that shrinks (ShrinkNAS)",
    "darts": "operators by gradients (DARTS; on a reversible space with rebuilt activations: DARTSformer)",
    "rome": "cells by gradients through one sampled architecture, topology apart from operators (ROME)",
    "gdas": "cells by gradients through one sampled operator on every edge (GDAS)",
    "pc_darts": "cells by gradients, on a part of the channels, edges weighted (PC-DARTS)",
    "darts_minus": "cells by gradients, with an extra skip on every edge that fades (DARTS-)",
    "early_stopping": "DARTS that stops where the Hessian's largest eigenvalue grows (R-DARTS-ES)",
    "primer": "programs of primitives by evolution, trained from scratch on equal budgets with hurdles (Primer)",
}

TABLES = {
    "spaces": _spaces,
    "architectures": _architectures,
    "operators": _operators,
    "primitives": lambda: {name: _primitive(primitive) for name, primitive in PRIMITIVES.items()},
    "strategies": lambda: {name: f"control: {label}" for name, label in LABELS.items()} | STRATEGIES,
    "recipes": lambda: {name: _first_line(build) for name, build in RECIPES.items()},
    "tasks": lambda: {
        "translation": "two parallel files, a TSV or JSONL, a hub dataset, or the embedded corpus",
        "language": "a text file, a folder of text files, or the source of Python's standard library",
        "images": "a folder of images by class, packed JPEGs, CIFAR's files, or scikit-learn's digits",
    },
}
"""What can be listed."""


def list_things(what: str, console: Console) -> dict[str, str]:
    """Print and return names with a line each."""
    if what not in TABLES:
        raise RequestError(f"nothing is called {what!r}; {nearest(what, TABLES)}")
    lines = TABLES[what]()
    width = max(map(len, lines))
    for name, line in lines.items():
        console.print(f"[bold]{name:{width}}[/bold] {line}", soft_wrap=True)
    return lines
