"""Claim: the predicted peak memory of a search update is within 0.15 of what the allocator has given out."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figure import Figure, Options
from benchmarks.reversible import SENTENCES, SETTINGS, TIME, Network, space
from benchmarks.reversible import Way as Names
from nasformer.strategies.memory import BatchShape, MemoryModel, Way

CASES: tuple[tuple[int, int, Names, int], ...] = (
    (96, 4, "stored", 1),
    (96, 4, "stored", 2),
    (96, 12, "rebuilt one at a time", 1),
    (240, 4, "stored", 1),
    (240, 4, "rebuilt all at once", 1),
    (240, 12, "rebuilt one at a time", 1),
    (240, 4, "rebuilt one at a time", 4),
)
"""Dim, layers, way, micro-batches."""


def memory_prediction(options: Options) -> Iterator[Figure]:
    """How far off, as a part of what was measured."""
    for dim, depth, names, parts in CASES:
        network = Network.of(space(depth, dim))
        weights = sum(weight.nbytes for weight in network.supernet.weights.values())
        measured = network.peak(names, parts) + 5 * weights  # two moments, and the copy of weights and moments
        way = Way(
            backward="rebuilt" if names.startswith("rebuilt") else "stored",
            one_at_a_time=names == "rebuilt one at a time",
            micro_batches=parts,
        )
        shape = BatchShape(sentences=SENTENCES, source=TIME, target=TIME)
        predicted = MemoryModel(space(depth, dim), SETTINGS).peak_bytes(way, shape)
        off = abs(predicted / measured - 1)
        how = (
            f"|predicted ({predicted / 2**20:.1f} MiB) / measured ({measured / 2**20:.1f} MiB) − 1|: weights, "
            f"gradients, Adam's moments and the last good state (the last two not in the measured step, added) and "
            f"the peak of the rest by the profiler's record of allocations; {way.text}, d = {dim}, {depth} + {depth} "
            f"layers, 13 and 14 options, {SENTENCES} × {TIME} tokens"
        )
        name = f"memory_prediction_{dim}x{depth}_{names.replace(' ', '_')}_{parts}"
        yield Figure(name, off, 0.15, (off, off), how)
