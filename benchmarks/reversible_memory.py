"""Claim: at 12 layers with the paper's operators a rebuilt backward pass keeps at most 0.10 of what stored activations
take, both in the same reversible supernet (`reversible_memory_kept`) and in plain DARTS, a supernet of a Transformer of
6 + 6 layers (`reversible_memory_plain_kept`). The two peaks are for information."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figure import Figure, Options
from benchmarks.reversible import DIM, SHAPE, Network, space
from nasformer.spaces.named import darts_transformer

DEPTH = 12


def reversible_memory(options: Options) -> Iterator[Figure]:
    """Kept (with a bar) and at the peak, against the same supernet stored, and against plain DARTS."""
    network = Network.of(space(DEPTH))
    plain = Network.of(darts_transformer(dim=DIM, layers=DEPTH // 2))
    ours = "rebuilt one at a time"
    sides = (
        ("", network, f"the same supernet with backward='stored', {DEPTH} + {DEPTH} layers"),
        (
            "_plain",
            plain,
            f"plain DARTS on a Transformer of {DEPTH // 2} + {DEPTH // 2} layers, 13 options a mixer",
        ),
    )
    kept, peak = network.kept(ours), network.peak(ours)
    for name, other, words in sides:
        theirs, most = other.kept("stored"), other.peak("stored")
        setting = f"{words}; all options mixed, d = {DIM}, {SHAPE}"
        how = f"bytes kept for backward, {ours} ({_mib(kept)}) / {words} ({_mib(theirs)}); {setting}; exact"
        yield _exact(f"reversible_memory{name}_kept", kept / theirs, 0.1, how)
        how = (
            f"peak of a step, {ours} ({_mib(peak)}) / ({_mib(most)}), weights and gradients in it; {setting}; allocator"
        )
        yield _exact(f"reversible_memory{name}_peak", peak / most, None, how)


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


def _exact(name: str, ratio: float, bar: float | None, how: str) -> Figure:
    return Figure(name, ratio, bar, (ratio, ratio), how)
