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
from nasformer.spaces.named import ARCHITECTURES, SPACES


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def _spaces() -> dict[str, str]:
    lines = {}
    for name, build in SPACES.items():
        space = build()
        lines[name] = f"{_first_line(build)} {space.size:.3g} members, {space.encoded_size:.3g} codes."
    return lines


def _architectures() -> dict[str, str]:
    return {name: f"{core_parameters(build()):,} core parameters" for name, build in ARCHITECTURES.items()}


def _operators() -> dict[str, str]:
    others = {"cross_attention": "to the last 1 to 3 encoder layers", "feed_forward": ", ".join(ACTIVATIONS)}
    return dict.fromkeys(MIXERS, "mixes time") | others


STRATEGIES = {
    "shrinknas": "operators and sizes, a sample space that shrinks (ShrinkNAS)",
    "darts": "operators by gradients (DARTS; on a reversible space with rebuilt activations: DARTSformer)",
}

TABLES = {
    "spaces": _spaces,
    "architectures": _architectures,
    "operators": _operators,
    "strategies": lambda: STRATEGIES | {name: f"control: {label}" for name, label in LABELS.items()},
    "recipes": lambda: {name: _first_line(build) for name, build in RECIPES.items()},
    "tasks": lambda: {
        "translation": "two parallel files, a TSV or JSONL, a hub dataset, or the embedded corpus",
        "language": "a text file, a folder of text files, or the source of Python's standard library",
    },
}
"""What can be listed."""


def list_things(what: str, console: Console) -> dict[str, str]:
    """Print and return names with a line each."""
    if what not in TABLES:
        raise RequestError(f"nothing is called {what!r}; {nearest(what, TABLES)}")
    lines = TABLES[what]()
    for name, line in lines.items():
        console.print(f"[bold]{name:22}[/bold] {line}", soft_wrap=True)
    return lines
