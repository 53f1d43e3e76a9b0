"""A scorecard: measured quality and cost of one trained model, as a small value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from nasformer.measures.statistics import Interval


@dataclass(frozen=True)
class Scorecard:
    """What was measured on one split.

    `bleu` and `chrf` are sacreBLEU scores with 95 % bootstrap intervals and signatures; `loss` is nats per target
    token, without smoothing. `core_parameters` leave out embeddings and output projection, `flops` are of one pass over
    a sentence of 30 tokens, `updates` of all training (of the supernet too), `evaluations` those of the search.
    """

    split: str
    bleu: Interval
    chrf: Interval
    bleu_signature: str
    chrf_signature: str
    bleu_lowercase: float
    bleu_lowercase_compound: float
    loss: float
    core_parameters: int
    total_parameters: int
    flops: int
    updates: int
    evaluations: int
    seconds: float

    def data(self) -> dict[str, Any]:
        """Plain data for `result.json`."""
        plain = asdict(self)
        for name in ("bleu", "chrf"):
            plain[name]["signature"] = plain.pop(f"{name}_signature")
        return plain
