"""Claim: the predicted peak memory of a search is within 0.15 of what the allocator has given out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.figure import Figure, Options
from benchmarks.reversible import SENTENCES, SETTINGS, TIME, Network, OneBatch, allocated_peak, space
from nasformer.strategies.darts import Darts
from nasformer.strategies.memory import BatchShape, MemoryModel, Way
from nasformer.strategies.objective import Objective
from nasformer.supernets.named import supernet_of
from nasformer.tasks.batching import Batch
from nasformer.training.trainer import Training

STORED, TOGETHER = Way(), Way(backward="rebuilt")
ONE = TOGETHER.but(one_at_a_time=True)
CASES: tuple[tuple[int, int, Way], ...] = (
    (96, 4, STORED),
    (96, 4, STORED.but(micro_batches=2)),
    (96, 12, ONE),
    (240, 4, STORED),
    (240, 4, TOGETHER),
    (240, 12, ONE),
    (240, 4, ONE.but(micro_batches=4)),
)
"""Dim, layers, way."""


def search_peak(dim: int, depth: int, way: Way) -> int:
    """Bytes at the peak of a whole step of a search that records, and keeps its state, at every update: what the search
    holds, and what the allocator gives out during its second step."""
    where = space(depth, dim)
    network = Network.of(where)
    task: Any = OneBatch(Batch(network.source, network.target, network.target, tuple(range(SENTENCES))))
    training = Training(updates=3, batch_tokens=SENTENCES * TIME, record_every=1).at(1e-3)
    strategy = Darts(training=training, **way.model_dump())
    supernet = supernet_of(where, SETTINGS, seed=1, **strategy.ways)
    search = strategy.begin(where, Objective(), task, supernet, seed=1)
    search.step()  # what is made once is there
    held = sum(tensor.nbytes for tensor in search.tensors().values())
    return held + allocated_peak(search.step)


def memory_prediction(options: Options) -> Iterator[Figure]:
    """How far off, as a part of what was measured."""
    for dim, depth, way in CASES:
        measured = search_peak(dim, depth, way)
        shape = BatchShape(sentences=SENTENCES, source=TIME, target=TIME)
        predicted = MemoryModel(space(depth, dim), SETTINGS, exact=Darts().exact).peak_bytes(way, shape)
        off = abs(predicted / measured - 1)
        how = (
            f"|predicted ({predicted / 2**20:.1f} MiB) / measured ({measured / 2**20:.1f} MiB) − 1|: a step of a "
            f"search (weights, logits, recording, keeping the last good state), what it holds and the peak of the rest "
            f"by the profiler's record of allocations; {way.text}, d = {dim}, {depth} + {depth} layers, 13 and 14 "
            f"options, {SENTENCES} × {TIME} tokens"
        )
        kind = way.backward + (
            "" if way.backward == "stored" else "_one_at_a_time" if way.one_at_a_time else "_all_at_once"
        )
        yield Figure(f"memory_prediction_{dim}x{depth}_{kind}_{way.micro_batches}", off, 0.15, (off, off), how)
