"""A run folder as a search leaves it, written from synthetic numbers."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

KINDS = ("attention", "light_convolution", "dynamic_convolution", "long_short")


def architecture() -> dict[str, Any]:
    """An encoder-decoder with every kind of mixer and every span."""

    def layer(number: int, cross: bool) -> dict[str, Any]:
        kind = KINDS[number % 4]
        mixer: dict[str, Any] = {"kind": kind, "heads": 4}
        mixer |= {} if kind == "attention" else {"kernel": 7 + 8 * (number % 2)}
        mixer |= {"filter": "dynamic"} if kind == "long_short" else {}
        made: dict[str, Any] = {"mixer": mixer}
        if cross:
            made["cross"] = {"kind": "cross_attention", "heads": 2, "span": 1 + number % 3}
        ratio = {"ratio": 1.5, "width": None, "activation": "relu", "gated": number == 1}
        return made | {"feed_forward": {"kind": "feed_forward", **ratio}}

    encoder = {"dim": 160, "layers": [layer(number, False) for number in range(6)]}
    decoder = {"dim": 240, "layers": [layer(number, True) for number in range(4)]}
    return {"family": "encoder_decoder", "norm": "post", "encoder": encoder, "decoder": decoder}


def events(seed: int = 0) -> list[dict[str, Any]]:
    """The journal of a short search with three rounds, the found model's training and three controls."""
    draw = random.Random(seed)
    time = 1_750_000_000.0
    journal: list[dict[str, Any]] = []

    def add(event: str, stage: str, **fields: Any) -> None:
        journal.append({"event": event, "time": time + len(journal), "stage": stage, **fields})

    for update in range(10, 901, 10):
        loss = 3.4 + 5 * math.exp(-update / 200) + draw.gauss(0, 0.15)
        add("update", "search", update=update, loss=loss, learning_rate=3e-4, tokens=update * 1024, seconds=update / 10)
        if update % 300 == 0:
            number = update // 300
            add("divergence", "search", round=number, when="before", variance=0.5 / number, normalised=1.0, members=200)
            for iteration in range(1, 4):
                best = 5.0 - 0.5 * number - 0.05 * iteration
                add("exploration", "search", round=number, iteration=iteration, members=128, best=best,
                    median=best + 0.4 / iteration, evaluations=128, refilled=0)  # fmt: skip
            shares = {}
            for stack, depth in (("encoder", 6), ("decoder", 4)):
                for layer in range(depth):
                    weights = [draw.random() ** number + (number * (kind == layer % 4)) for kind in range(4)]
                    total = sum(weights)
                    shares[f"{stack}.layers.{layer}.mixer"] = dict(
                        zip(KINDS, [w / total for w in weights], strict=True)
                    )
            shares["encoder.dim"] = {"160": 0.3, "240": 0.6, "320": 0.1}
            sizes = [draw.uniform(0.9e6, 1.8e6) for _ in range(64)]
            scores = [[size, 5.2 - 0.5 * number - size / 4e6 + draw.gauss(0, 0.1)] for size in sizes]
            add("round", "search", round=number, update=update, members=64, shares=shares, scores=scores)
            add("divergence", "search", round=number, when="after", variance=0.3 / number, normalised=0.6, members=200)
    add("finished", "search", seconds=311.0)
    for stage, floor in (("found", 2.4), ("transformer", 2.7), ("lite_transformer", 2.6), ("random_search", 2.55)):
        for update in range(10, 1201, 10):
            loss = floor + 5 * math.exp(-update / 250) + draw.gauss(0, 0.12)
            add("update", stage, update=update, loss=loss, learning_rate=3e-4, tokens=update * 1024, seconds=update / 8)
            if update % 300 == 0:
                add("validation", stage, update=update, loss=loss + 0.1)
        add("finished", stage, seconds=150.0)
    return journal


def row(name: str, label: str, bleu: float | None, core: float, **changed: Any) -> dict[str, Any]:
    """One entry of `rows` in a `result.json`."""
    signature = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.5.1"
    quality = None if bleu is None else {"value": bleu, "low": bleu - 0.8, "high": bleu + 0.8, "signature": signature}
    card = {"split": "test", "bleu": quality, "bleu_lowercase": None, "loss": 2.31,
            "core_parameters": core, "total_parameters": core + 1_300_000,
            "flops": 1_234_567_890, "updates": 1200, "seconds": 512.0}  # fmt: skip
    return {"name": name, "label": label, "architecture": architecture(), "scorecard": card | changed}


def result() -> dict[str, Any]:
    """The result of the search."""
    chrf = {"value": 54.2, "low": 53.4, "high": 55.0, "signature": "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|version:2.5.1"}
    rows = [
        row("found", "ShrinkNAS (found)", 32.1, 1_700_000, chrf=chrf),
        row("transformer", "Transformer", 30.2, 1_790_000),
        row("lite_transformer", "Lite Transformer", 31.0, 1_760_000, updates=900),
        row("random_search", "Random <search>", 31.9, 1_650_000),
        row("light_convolution", "LightConv", None, 1_950_000, flops=None),
    ]
    return {
        "recipe": "shrinknas",
        "task": {"name": "translation", "source": "de", "target": "en", "train_pairs": 29000},
        "limits": {"max_core_parameters": 1_800_000},
        "rows": rows,
        "divergence": [],
        "correlation": {"kendall": 0.51, "low": 0.2, "high": 0.7, "members": 20},
    }


def write_run(folder: Path, seed: int = 0, **changed: Any) -> Path:
    """Writes a finished run folder; `changed` replaces parts of its result."""
    (folder / "architectures").mkdir(parents=True)
    command = f"nasformer search shrinknas seed={seed} --run runs/{folder.name}"
    environment = {"python": "3.11.2", "torch": "2.13.0", "nasformer": "0.1.0", "device": "cpu", "cpu_count": 8,
                   "commit": "0123abcd", "seed": seed, "command": command, "started": "2025-06-15"}  # fmt: skip
    recipe = {"name": "shrinknas", "seed": seed, "strategy": {"rounds": 3, "note": "<b>&</b>"}}
    for name, value in (("environment", environment), ("recipe", recipe), ("result", result() | changed)):
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    (folder / "architectures" / "best.json").write_text(json.dumps(architecture()), encoding="utf-8")
    lines = "".join(json.dumps(event) + "\n" for event in events(seed))
    (folder / "journal.jsonl").write_text(lines, encoding="utf-8")
    return folder
