"""Claim: one option at a time, 14 options take at most 1.2 of the memory of 4."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.figure import Figure, Options
from benchmarks.reversible import DIM, SHAPE, Network, Way, space
from nasformer.spaces.named import node_operators

DEPTH, COUNTS = 4, (4, 8, 14)
FIRST = ("attention", "feed_forward", "gated_linear", "dynamic_convolution")
"""The four that are always there: one of each kind, of dynamic convolutions the widest, which takes most."""


def some_operators(count: int) -> Any:
    """`node_operators` cut to so many (encoder nodes, without cross-attention, have one less of 14)."""

    def operators(*, heads: int, cross: bool) -> tuple[Any, ...]:
        everything = node_operators(heads=heads, cross=cross)
        kinds = {operator.kind: operator for operator in everything}  # the last of a kind: the widest
        first = [kinds[kind] for kind in FIRST]
        return (*first, *(operator for operator in everything if operator not in first))[:count]

    return operators


def reversible_options(options: Options) -> Iterator[Figure]:
    """Kept, and at the peak of an update of the logits: weights and their gradients are left out, since any network
    with more options has more of them."""
    for way, bar in (("rebuilt one at a time", 1.2), ("rebuilt all at once", None), ("stored", None)):
        yield from _figures(way, bar)  # type: ignore[arg-type]


def _figures(way: Way, bar: float | None) -> Iterator[Figure]:
    kept, peaks, whole = {}, {}, {}
    for count in COUNTS:
        network = Network.of(space(DEPTH, operators=some_operators(count)))
        kept[count], peaks[count], whole[count] = network.kept(way), network.logits_peak(way), network.peak(way)
    setting = f"{way}, {DEPTH} + {DEPTH} layers, d = {DIM}, {SHAPE}"
    for name, found, words in (
        ("kept", kept, "bytes kept for backward"),
        ("peak", peaks, "peak of an update of the logits, weights left out"),
        ("whole_peak", whole, "peak of a step, weights and gradients (one set of each an option) in it"),
    ):
        mib = ", ".join(f"{count}: {found[count] / 2**20:.1f}" for count in COUNTS)
        ratio = found[COUNTS[-1]] / found[COUNTS[0]]
        how = f"{words}, {COUNTS[-1]} options / {COUNTS[0]}; {setting}; MiB by options {{{mib}}}"
        label = f"reversible_options_{name}_{way.replace(' ', '_')}"
        yield Figure(label, ratio, None if name == "whole_peak" else bar, (ratio, ratio), how)
