"""The journal and the result of a differentiable search, written from synthetic numbers."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from synthetic_run import row, write_run

ENCODER = (*(f"convolution_{kernel}" for kernel in (3, 5, 7, 11)),
           *(f"dynamic_convolution_{kernel}" for kernel in (3, 7, 11, 15)),
           "attention", "gated_linear", "feed_forward", "zero", "identity")  # fmt: skip
DECODER = (*ENCODER[:9], "cross_attention", *ENCODER[9:])


def reversible(layers: int = 2, splits: int = 2, repeats: int = 6) -> dict[str, Any]:
    """An architecture of the reversible family; the decoder has one split more, of cross-attention."""
    nodes: list[dict[str, Any]] = [
        {"kind": "dynamic_convolution", "heads": 4, "kernel": 11, "gated": False},
        {"kind": "convolution", "kernel": 3},
        {"kind": "feed_forward", "ratio": 4.0, "width": None, "activation": "relu", "gated": False},
        {"kind": "attention", "heads": 4, "width": None},
        {"kind": "gated_linear"},
        {"kind": "identity"},
        {"kind": "zero"},
    ]
    cross = {"kind": "cross_attention", "heads": 4, "span": 1, "width": None}

    def layer(number: int, decoder: bool) -> dict[str, Any]:
        own = [nodes[(number * splits + k + 3 * decoder) % len(nodes)] for k in range(splits)]
        if decoder and number == 1:
            own[-1] = cross
        return {"nodes": [*own, *([cross] if decoder else [])]}

    def stack(decoder: bool) -> dict[str, Any]:
        return {"dim": 96, "layers": [layer(number, decoder) for number in range(layers)], "repeats": repeats}

    ends = {"family": "reversible", "embedding_dim": 32, "pooling": "max", "final_norm": True}
    return ends | {"encoder": stack(False), "decoder": stack(True)}


def selections(
    stage: str, layers: int = 2, splits: int = 2, last: int = 600, every: int = 10, seed: int = 0
) -> list[dict[str, Any]]:
    """Selection events in which each node comes to prefer one option."""
    draw = random.Random(seed)
    options = {
        f"{stack}.layers.{layer}.nodes.{node}": names
        for stack, names in (("encoder", ENCODER), ("decoder", DECODER))
        for layer in range(layers)
        for node in range(splits)
    }
    slopes = {name: [draw.gauss(0, 1.0) for _ in names] for name, names in options.items()}
    found = []
    for update in range(every, last + 1, every):
        table = {}
        for name, names in options.items():
            weights = [math.exp(2.2 * s * update / last + draw.gauss(0, 0.02)) for s in slopes[name]]
            table[name] = dict(zip(names, [weight / sum(weights) for weight in weights], strict=True))
        entropy = sum(-sum(p * math.log(p) for p in one.values()) / math.log(len(one)) for one in table.values())
        event = {"event": "selection", "stage": stage, "time": 1_750_000_000.0 + update, "update": update}
        found.append(event | {"loss": 5.0, "entropy": entropy / len(table), "probabilities": table})
    return found


def search_events(layers: int = 2, splits: int = 2) -> list[dict[str, Any]]:
    """Two starts, of which the second is taken and went back once; then the models of all arms."""
    journal: list[dict[str, Any]] = []

    def losses(stage: str, last: int) -> list[dict[str, Any]]:
        return [{"event": "update", "stage": stage, "time": 1_750_000_000.0, "update": update, "seconds": update / 10,
                 "loss": 3 + 4 * math.exp(-update / 150)} for update in range(10, last + 1, 10)]  # fmt: skip

    for seed, stage in enumerate(("search", "search_2")):
        journal += losses(stage, 600) + selections(stage, layers, splits, seed=seed)
        both = {"with_zero": {"architecture": f"{stage} keeping zero", "core_parameters": 90_000},
                "without_zero": {"architecture": f"{stage} passing over zero", "core_parameters": 111_000}}  # fmt: skip
        journal.append({"event": "derived", "stage": stage, "time": 1_750_000_600.0} | both)
    rewound = {"event": "rewound", "stage": "search_2", "time": 1_750_000_300.0, "update": 307, "to": 300}
    journal.append(rewound | {"slower": 0.5})
    journal.append({"event": "restarts", "stage": "search", "time": 1_750_000_601.0, "losses": [4.6, 4.5], "best": 2})
    for arm in ("found", "transformer", "random_architecture", "uniform_sampling"):
        journal += losses(arm, 1200)
    return journal


def write_search(folder: Path, layers: int = 2, splits: int = 2) -> Path:
    """Writes a finished run of a differentiable search."""
    rows = [
        row("found", "DARTSformer", 31.0, 111_000, updates=3600, evaluations=0, architecture=None),
        row("transformer", "Transformer", 30.0, 112_000, updates=1200),
        row("random_architecture", "random architecture, from scratch", 30.6, 110_500, updates=1200),
        row("uniform_sampling", "uniform sampling", 29.0, 111_500, updates=3600, evaluations=250),
    ]
    for one in rows:
        one["architecture"] = reversible(layers, splits)
    write_run(folder, recipe="dartsformer-small", rows=rows, limits={}, correlation=None)
    strategy = {"kind": "darts", "zero": False, "restarts": 2, "training": {"updates": 600}}
    recipe = {
        "kind": "search",
        "name": "dartsformer-small",
        "seed": 0,
        "strategy": strategy,
        "fine_tune": {"updates": 1200},
    }
    (folder / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    lines = "".join(json.dumps(event) + "\n" for event in search_events(layers, splits))
    (folder / "journal.jsonl").write_text(lines, encoding="utf-8")
    return folder
