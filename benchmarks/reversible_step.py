"""Claim: a training step with a rebuilt backward pass takes at most 1.35 of a stored one, and no more than one with
`torch.utils.checkpoint` around each layer."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.figure import Figure, Options, clock_name, figure, in_turn
from benchmarks.reversible import DIM, SHAPE, Network, Way, space

CASES: tuple[tuple[str, int, bool, Way, int], ...] = (
    ("plain", 12, False, "rebuilt one at a time", 12),
    ("mixed_all_at_once", 2, True, "rebuilt all at once", 6),
    ("mixed_one_at_a_time", 2, True, "rebuilt one at a time", 6),
)
"""Name, layers, whether all options are mixed, way, repeats."""


def reversible_step(options: Options) -> Iterator[Figure]:
    """One option a node, and all 13 and 14 mixed."""
    for name, depth, mixed, way, repeats in CASES:
        network = Network.of(space(depth))
        ways: list[Way] = [way, "stored", "checkpoint"]
        times = in_turn(
            [lambda w=w, n=network, m=mixed: n.step(w, mixed=m) for w in ways],  # type: ignore[misc]
            options.repeats(repeats),
            warmup=1,
        )
        setting = (
            f"forward and backward; {depth} + {depth} layers, {'all options mixed' if mixed else 'one option a node'}, "
            f"d = {DIM}, {SHAPE}; {clock_name()}; {len(times)} in turn"
        )
        how = f"{way} / stored; {setting}"
        yield figure(f"reversible_step_{name}", times[:, 0] / times[:, 1], 1.35, how)
        if not mixed:
            yield from _parts_of_a_step(network, options.repeats(repeats), setting)
        how = f"{way} / torch.utils.checkpoint(use_reentrant=False) on each layer; {setting}"
        yield figure(f"reversible_step_{name}_checkpoint", times[:, 0] / times[:, 2], 1.0, how)


def _parts_of_a_step(network: Network, repeats: int, setting: str) -> Iterator[Figure]:
    """What bounds the ratio from below (one more forward pass), and what streams rebuilt to the bit cost."""

    def forward() -> None:
        with torch.no_grad():
            network.loss("stored", mixed=False)

    def rebuilt(exact: bool) -> None:
        network.supernet.exact = exact
        network.step("rebuilt one at a time", mixed=False)
        network.supernet.exact = True

    steps = [forward, lambda: network.step("stored", mixed=False), lambda: rebuilt(True), lambda: rebuilt(False)]
    times = in_turn(steps, repeats, warmup=1)
    yield figure("reversible_step_forward", times[:, 0] / times[:, 1], None, f"forward / stored step; {setting}")
    yield figure("reversible_step_exact", times[:, 2] / times[:, 3], None, f"exact / float32 streams; {setting}")
