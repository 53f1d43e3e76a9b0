"""The journal and the result of a search over programs, written from synthetic numbers."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from synthetic_run import row, write_run

from nasformer.spaces.known_programs import primer_ez, transformer
from nasformer.spaces.program_text import program_text

KINDS = ("delete", "insert", "delete and insert", "field", "swap", "bank")
HURDLES = (1.4, 4.3)
BUDGET = 10.0
LONG = (
    "deleted SELF_ATTENTION: s5 = C_MUL(s2, c1); inserted FEED_FORWARD: s4 = "
    "LAYER_NORM(s3) x4 ~ s1 c1 d5; and more words than fit on one line of a box that a reader sees"
)
ARMS = {"found": ("Primer", 1.35), "start": ("start (Transformer)", 1.0), "primer_ez": ("Primer-EZ", 1.3),
        "transformer_plus_plus": ("Transformer++", 1.1), "random_mutation": ("random mutation", 0.85)}  # fmt: skip


def walk(stage: str, count: int = 300, seed: int = 0, gain: float = 0.0004) -> list[dict[str, Any]]:
    """Programs by number; about half pass each hurdle, some fail, and the best falls by and by."""
    draw = random.Random(seed)
    found, good = [], [0]
    for number in range(count):
        at = 2.4 - gain * number + abs(draw.gauss(0, 0.05))
        failed = number > 0 and draw.random() < 0.12
        passed = 2 if number == 0 else (draw.random() < 0.5) + (draw.random() < 0.25)
        fitness = None if failed else at + (2 - passed) * 0.35
        cost = 0.7 if failed else (*HURDLES, BUDGET)[passed]
        parent = draw.choice(good[-20:]) if number else None
        reason = draw.choice(("loss is no number", "leaks from the future", "time-out")) if failed else None
        found.append(
            {"event": "program", "stage": stage, "time": 1_750_000_000.0 + number, "number": number, "parent": parent,
             "mutation": draw.choice(KINDS) if number else None, "digest": f"{number:08x}", "fitness": fitness,
             "change": (LONG if draw.random() < 0.4 else f"c{number % 2} = 0 became 0.25") if number else None,
             "reason": reason, "hurdles": 0 if failed else passed, "cost": cost, "parameters": 120_000,
             "rejected": {"same network as its parent": 2, "ADD": 1} if number else {}}
        )  # fmt: skip
        if passed == 2 and not failed:
            good.append(number)
        if number % 25 == 0:
            found.append({"event": "population", "stage": stage, "number": number, "best": at, "median": at + 0.25})
    return found


def curves(b: float, seeds: int = 3, seed: int = 0) -> list[list[list[float]]]:
    """Power laws l = 3 · (b · c)^−0.15, each seed moved a little."""
    draw = random.Random(f"{seed} {b}")
    moved = [draw.gauss(0, 0.02) for _ in range(seeds)]
    costs = [0.5 * 1.2**step for step in range(20)]
    return [[[cost, 3 * (b * cost) ** -0.15 + one] for cost in costs] for one in moved]


def evolution(events: list[dict[str, Any]], steps: int = 6) -> dict[str, Any]:
    """The field `evolution` of a result."""
    programs = {event["number"]: event for event in events if event["event"] == "program"}
    chosen = [one for one in programs.values() if one["fitness"] and one["fitness"] < 2.45]
    lineage = [
        {name: one[name] for name in ("number", "mutation", "change", "fitness")}
        | {"retrained": {"value": one["fitness"] + 0.01, "low": one["fitness"] - 0.01, "high": one["fitness"] + 0.03}}
        for one in [programs[0], *chosen[1 :: max(1, len(chosen) // steps)][:steps]]
    ]
    lineage[1]["retrained"] = None
    return {
        "budget": BUDGET,
        "hurdles": list(HURDLES),
        "lineage": lineage,
        "changes": [
            {"change": "RELU", "inserted": {"value": 2.38, "low": 2.36, "high": 2.4}, "ablated": {}},
            {"change": "c1 = 0 → 0.25", "inserted": {"reason": "no unit brings it near"}},
        ],
        "texts": {"start": program_text(transformer()), "found": program_text(primer_ez())},
        "failures": {"loss is no number": 5},
        "curves": {name: curves(b) for name, (_, b) in ARMS.items()},
        "speedups": {n: {"value": b, "low": b - 0.08, "high": b + 0.09} for n, (_, b) in ARMS.items() if b != 1},
        "trainings": [
            {"program": name, "budget": cost, "losses": [3 * (b * cost) ** -0.15] * 3}
            for name, (_, b) in ARMS.items()
            for cost in (BUDGET, 3 * BUDGET)
        ],
        "noise": {"mean": 2.41, "spread": 0.014, "runs": 12},
    }


def language_row(name: str, label: str, perplexity: float, **changed: Any) -> dict[str, Any]:
    """A row with the qualities of a language task."""
    loss = math.log(perplexity)
    scores = {"perplexity": {"value": perplexity, "low": perplexity - 0.2, "high": perplexity + 0.2}, "loss": loss,
              "bits_per_byte": {"value": loss / 2, "low": loss / 2 - 0.02, "high": loss / 2 + 0.02}}  # fmt: skip
    made = row(name, label, None, 121_000, **changed)
    made["scorecard"] = {k: v for k, v in made["scorecard"].items() if not k.startswith("bleu")} | scores
    return made | {"architecture": (primer_ez if name in ("found", "primer_ez") else transformer)().data()}


def write_evolution(folder: Path, **changed: Any) -> Path:
    """Writes a finished run of a search over programs; `changed` replaces parts of its field `evolution`."""
    events = walk("search") + walk("random_mutation_search", seed=1, gain=0.0001)
    rows = [language_row(name, label, 9.9 - 2 * (b - 1), updates=round(1000 / b)) for name, (label, b) in ARMS.items()]
    task = {"name": "language", "vocabulary": "bytes"}
    told = evolution(walk("search")) | changed
    write_run(folder, recipe="primer-small", task=task, rows=rows, limits={}, correlation=None, evolution=told)
    recipe = {
        "kind": "search",
        "name": "primer-small",
        "seed": 0,
        "strategy": {"kind": "primer", "budget": BUDGET, "hurdles": 2},
    }
    (folder / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    lines = "".join(json.dumps(event) + "\n" for event in events)
    (folder / "journal.jsonl").write_text(lines, encoding="utf-8")
    return folder
