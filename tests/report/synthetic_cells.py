"""The journal and the result of searches of cells, written from synthetic numbers."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from synthetic_run import row, write_run

from nasformer.spaces.cell import (
    AveragePool,
    Cell,
    DilatedConvolution,
    Edge,
    MaxPool,
    Node,
    SeparableConvolution,
    Skip,
    chosen_inputs,
    searched_edges,
)
from nasformer.spaces.image_cell import ImageCells
from nasformer.spaces.space import Space

OPERATORS = (MaxPool(), AveragePool(), Skip(), SeparableConvolution(kernel=3), SeparableConvolution(kernel=5),
             DilatedConvolution(kernel=3), DilatedConvolution(kernel=5))  # fmt: skip
WARNING = "the derived normal cell has 7 skips on 8 edges, which is how differentiable searches collapse"


def cell(seed: int, *, deepest: bool = False) -> Cell:
    """A cell of four nodes with two inputs each; the deepest one reads only what is nearest."""
    draw = random.Random(seed)
    nodes = []
    for number in range(4):
        sources = (number, number + 1) if deepest else sorted(draw.sample(range(2 + number), 2))
        nodes.append(Node(edges=tuple(Edge(source=one, operator=draw.choice(OPERATORS)) for one in sources)))
    return Cell(inputs=2, nodes=tuple(nodes))


def space() -> Space:
    """S0."""
    open_cell = chosen_inputs((OPERATORS,) * 14)
    return Space(ImageCells(channels=16, cells=8, normal=open_cell, reduction=open_cell), "s0")


def epoch_events(
    stage: str, number: int, skips: int, *, update: int | None = None, text: str | None = None
) -> list[dict[str, Any]]:
    """What the watch journals at the end of an epoch of ten updates."""
    place = {"stage": stage, "update": update or 10 * number, "epoch": number}
    counts = {"edges": 8, "skips": skips, "parameter_free": min(8, skips + 1)}
    draw = random.Random(number)
    shares = {e.name: {label: round(draw.random(), 4) for label in e.labels} for e in searched_edges(space())}
    cells = {"event": "cells", **place, "cells": {"normal": counts, "reduction": counts | {"skips": 1}},
             "architecture": "normal …", "core_parameters": 1000, "coverage": 0.082, "unevenness": 0.5,
             "gradient_variance": 0.01 * number, "shares": shares}  # fmt: skip
    warned = {"event": "collapse", **place, "cell": "normal", **counts, "text": text}
    return [warned, cells] if text else [cells]


def selection(stage: str, update: int) -> dict[str, Any]:
    """The probabilities of a search that decides slowly."""
    probabilities: dict[str, Any] = {}
    edges: dict[str, Any] = {}
    draw = random.Random(stage)
    for edge in searched_edges(space()):
        weights = [math.exp(draw.gauss(0, 1) * update / 60) for _ in edge.operators]
        assert edge.operator
        assert edge.topology
        probabilities[edge.operator] = dict(zip(edge.labels, [w / sum(weights) for w in weights], strict=True))
        edges.setdefault(edge.topology, {})[f"from_{edge.source}"] = 2 / (2 + edge.node)
    return {"event": "selection", "stage": stage, "update": update, "loss": 2.0, "entropy": 1 - update / 100,
            "topology_entropy": 1 - update / 200, "edges": edges, "probabilities": probabilities}  # fmt: skip


def cell_events(epochs: int = 6, *, collapsed: tuple[str, ...] = ("gdas_search",)) -> list[dict[str, Any]]:
    """A search and a control; those named `collapsed` end full of skips."""
    journal: list[dict[str, Any]] = []
    for stage in ("search", "gdas_search"):
        for number in range(1, epochs + 1):
            journal.append(selection(stage, 10 * number))
            bad = stage in collapsed and number >= epochs - 1
            skips = 7 if bad else 2 + (stage != "search") * min(3, number // 3)
            journal += epoch_events(stage, number, skips, text=WARNING if bad else None)
        told = {"architecture": "normal A", "core_parameters": 1000}
        other = {"architecture": "normal B", "core_parameters": 2000}
        journal.append({"event": "derived", "stage": stage, "topology": told, "joint": other})
    return journal


def write_cells(folder: Path, **changed: Any) -> Path:
    """Writes a finished run of a search of cells."""
    found = ImageCells(normal=cell(1), reduction=cell(2)).data()
    rows = [
        row("found", "ROME", None, 3_600_000, accuracy=97.0) | {"architecture": found},
        row("gdas", "GDAS, equal passes", None, 3_500_000, accuracy=96.0) | {"architecture": found},
    ]
    write_run(folder, recipe="rome-small", rows=rows, limits={}, correlation=None)
    recipe = {"kind": "search", "name": "rome-small", "seed": 0, "strategy": {"kind": "rome"}}
    (folder / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    lines = "".join(json.dumps(event) + "\n" for event in cell_events(**changed))
    (folder / "journal.jsonl").write_text(lines, encoding="utf-8")
    return folder
