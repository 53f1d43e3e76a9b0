"""Depth by options: bytes kept for backward, peak and time of a step, against stored activations and checkpointing."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np

from benchmarks.figure import Figure, Options, clock_name, in_turn
from benchmarks.reversible import DIM, Network, Way, space
from benchmarks.reversible_options import COUNTS, some_operators

DEPTHS, SENTENCES, TIME = (4, 8, 16, 32), 16, 26
WAYS: tuple[Way, ...] = ("stored", "checkpoint", "rebuilt all at once", "rebuilt one at a time")


def reversible_table(options: Options) -> Iterator[Figure | str]:
    """A line for each depth and number of options, all options mixed; no bars: they stand in the other benchmarks."""
    yield (
        f"# all options mixed, d = {DIM}, {SENTENCES} × {TIME} tokens, dropout 0.1; kept and peak in MiB (peak with "
        f"weights and gradients), time / stored, {clock_name()}; in the order {', '.join(WAYS)}"
    )
    for depth in DEPTHS:
        for count in COUNTS:
            network = Network.of(space(depth, operators=some_operators(count)), SENTENCES, TIME)
            kept = [network.kept(way) / 2**20 for way in WAYS]
            peak = [network.peak(way) / 2**20 for way in WAYS]
            steps = [lambda w=way, n=network: n.step(w) for way in WAYS]  # type: ignore[misc]
            times = in_turn(steps, options.repeats(3), warmup=0)
            ratios = np.median(times / times[:, :1], axis=0)
            cells = [f"{', '.join(f'{value:.{digits}f}' for value in row)}"
                     for digits, row in ((0, kept), (0, peak), (2, ratios))]  # fmt: skip
            yield f"# {depth} layers, {count} options: kept {cells[0]}; peak {cells[1]}; time {cells[2]}"
            del network, steps
            gc.collect()
