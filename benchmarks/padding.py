"""Claim: at most 5 % of the positions of training batches are padding."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figure import Figure, Options
from benchmarks.material import corpus, translation
from nasformer.models.transformer import PAD
from nasformer.tasks.batching import epoch_batches

SIZES = (1_024, 2_048, 4_096)


def padding(options: Options) -> Iterator[Figure]:
    """One figure for each size of batch."""
    task = translation(options.data)
    data = task.data["train"]
    for tokens in SIZES:
        padded, whole = [0, 0], [0, 0]
        for rows in epoch_batches(data, tokens, seed=1, epoch=0):
            batch = data.collate(rows)
            for side, positions in enumerate((batch.source, batch.target_input)):
                padded[side] += int((positions == PAD).sum())
                whole[side] += positions.numel()
        sides = sorted((padded[0] / whole[0], padded[1] / whole[1]))
        how = (
            f"padding positions / all positions of source and target in one epoch of {corpus(options.data)} at "
            f"{tokens:,} tokens; the spread is the two sides"
        )
        yield Figure(f"padding_{tokens}", sum(padded) / sum(whole), 0.05, (sides[0], sides[1]), how)
