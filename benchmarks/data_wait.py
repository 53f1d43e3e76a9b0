"""Claim: a training step waits for its batch at most 2 % of its time."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figure import Figure, Options, clock, clock_name, figure, in_turn, seconds
from benchmarks.material import corpus, plain_step, translation
from nasformer.models.build import build
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.named import transformer
from nasformer.tasks.batching import epoch_batches

TOKENS, STEPS = 1_024, 24


def data_wait(options: Options) -> Iterator[Figure]:
    """With the smallest model that anyone trains here, for which waiting would show first."""
    task = translation(options.data)
    data = task.data["train"]
    model = build(transformer(64, 3, 3), task.model_settings(Dropout()), seed=1)
    step, stream = plain_step(task, model), task.stream(TOKENS, seed=1)
    step(stream.next())
    begins = in_turn([lambda: epoch_batches(data, TOKENS, 1, 0)], repeats=3, warmup=0).mean()
    begins /= len(epoch_batches(data, TOKENS, 1, 0))
    shares = []
    for _ in range(options.repeats(STEPS)):
        start = clock()
        batch = stream.next()
        waited = clock() - start + begins
        shares.append(waited / (waited + seconds(lambda: step(batch))))  # noqa: B023
    how = (
        f"time in stream.next(), with its share of beginning an epoch, / time of a whole training step of a "
        f"Transformer of dim 64, 3 + 3 layers, on {TOKENS:,} tokens of {corpus(options.data)}; "
        f"{clock_name()}; median of steps"
    )
    yield figure("data_wait", shares, 0.02, how)
