"""Claim: with weights and batch held, the variance of the logits' gradient falls as 1/K: slope −1 ± 0.1 (papers/rome.md
§2.3); with a batch that the K samples share, the batch's own part stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.figure import Figure, Options
from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.named import NamedSpace
from nasformer.strategies.bilevel import frozen
from nasformer.strategies.rome import Sampled
from nasformer.strategies.rules import Gathering, Moment
from nasformer.supernets.named import supernet_of

SAMPLES = (1, 2, 4, 8, 16)
UPDATES, VOCABULARY, SEQUENCES, TIME = 200, 64, 8, 16


def variance_law(options: Options) -> Iterator[Figure]:
    """The slope of log variance against log K, the variance over updates of the mean gradient of K samples."""
    updates = options.repeats(UPDATES)
    gradient, batch = _material()
    held_batch = batch(0)
    ways: tuple[tuple[str, Callable[[int, int], Tensor], float | None], ...] = (
        ("held", lambda update, sample: held_batch, 0.1),
        ("shared", lambda update, sample: batch(update), None),
        ("fresh", lambda update, sample: batch(update * max(SAMPLES) + sample), None),
    )
    for name, of, bar in ways:
        drawn = np.array(
            [[gradient(of(u, s)).numpy() for s in range(max(SAMPLES))] for u in range(updates)], dtype=np.float64
        )  # (updates, samples, logits)
        slopes = [_slope(drawn[part]) for part in np.array_split(np.arange(updates), 4)]
        slope = _slope(drawn)
        how = (
            f"|slope + 1| of log variance against log K in {SAMPLES}, slope {slope:.3f}; {updates} updates, means of K "
            f"samples, weights held, batch {name}; T2, dim 16, one block; quartiles over quarters of the updates"
        )
        low, high = np.quantile(np.abs(np.array(slopes) + 1), [0.25, 0.75])
        yield Figure(f"variance_law_{name}", abs(slope + 1), bar, (float(low), float(high)), how)


def _slope(drawn: np.ndarray) -> float:
    variances = [drawn[:, :count].mean(1).var(0, ddof=1).sum() for count in SAMPLES]
    return float(np.polyfit(np.log(SAMPLES), np.log(variances), 1)[0])


def _material() -> tuple[Callable[[Tensor], Tensor], Callable[[int], Tensor]]:
    """The gradient (logits,) of a fresh sample on tokens (batch, time + 1); and tokens by number."""
    space = NamedSpace(name="t2", settings={"dim": 16, "blocks": 1}).open()
    dropout = Dropout(residual=0.0, attention=0.0, weight=0.0)
    supernet = supernet_of(space, ModelSettings(target_vocabulary=VOCABULARY, dropout=dropout), seed=1)  # type: ignore[arg-type]
    rules = Sampled(Gathering(), space, "top", (1.0, 1.0))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(2)

    def batch(number: int) -> Tensor:
        own = torch.Generator().manual_seed(1_000 + number)
        return torch.randint(1, VOCABULARY, (SEQUENCES, TIME + 1), generator=own)

    def gradient(tokens: Tensor) -> Tensor:
        logits = {name: torch.zeros(size, requires_grad=True) for name, size in rules.sizes.items()}
        model = supernet.at(rules.select(logits, Moment(1, 1, 1), generator))
        with frozen(model):
            found = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
            found.backward()
        return torch.cat([torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in logits.values()])

    return gradient, batch
