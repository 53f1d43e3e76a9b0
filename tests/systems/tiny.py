"""A whole search, as small as it can be and still do everything."""

from __future__ import annotations

TINY = [
    "task.embedded_pairs=1000",
    "task.vocabulary=400",
    "task.test_sentences=12",
    "task.beams=2",
    "strategy.training.updates=12",
    "strategy.training.batch_tokens=256",
    "strategy.training.record_every=3",
    "strategy.rounds=2",
    "strategy.exploration.members=6",
    "strategy.exploration.first_ranking=8",
    "strategy.exploration.validation_tokens=128",
    "strategy.divergence_members=3",
    "fine_tune.updates=6",
    "fine_tune.batch_tokens=256",
    "fine_tune.record_every=2",
    "objective.max_core_parameters=120k",
    "controls=[random_search,transformer]",
]
"""Changes to the demo's recipe."""
