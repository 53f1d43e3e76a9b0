"""Claims: ROME keeps at most 0.75 of GDAS' and 0.11 of DARTS' bytes for backward, whatever its number of samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.profiler import ProfilerActivity, profile

from benchmarks.cells import SHAPE, Searching, searches
from benchmarks.figure import Figure, Options, figure

DRAWS = 48


def rome_gdas_memory(options: Options) -> Iterator[Figure]:
    """One sampled cell of eight edges against one of fourteen."""
    found = searches()
    yield _kept("rome_gdas_memory", found["rome"], found["gdas"], "GDAS", 0.75, options)


def rome_darts_memory(options: Options) -> Iterator[Figure]:
    """One sampled cell of eight edges against all operators on all edges."""
    found = searches()
    yield _kept("rome_darts_memory", found["rome"], found["darts"], "DARTS", 0.11, options)


def rome_samples_memory(options: Options) -> Iterator[Figure]:
    """The largest sum of live allocations within an update of weights and logits, seven samples against one."""
    found = searches()["rome"]
    ratios = []
    for _ in range(options.repeats(3)):
        state = found.generator.get_state()
        many = _peak(found, 7)
        found.generator.set_state(state)
        ratios.append(many / max(_peak(found, 1) for _ in range(7)))  # of the same seven draws the largest
    how = f"peak of the allocator in an update, K = 7 / the largest of the same 7 draws one by one; {SHAPE}"
    yield figure("rome_samples_memory", ratios, 1.02, how)


def _kept(name: str, ours: Searching, theirs: Searching, title: str, bar: float, options: Options) -> Figure:
    draws = options.repeats(DRAWS)
    first = np.array(ours.kept(draws))
    second = np.array(theirs.kept(draws if title != "DARTS" else 1))
    how = (
        f"bytes kept for backward by the half of an update that keeps more, ROME's mean over {draws} draws "
        f"({first.mean() / 2**20:.1f} MiB) / {title} ({second.mean() / 2**20:.1f} MiB); {SHAPE}; exact, logits at zero"
    )
    ratios = first / second.mean()
    low, high = np.quantile(ratios, [0.25, 0.75])
    return Figure(name, float(first.mean() / second.mean()), bar, (float(low), float(high)), how)


def _peak(found: Searching, samples: int) -> int:
    """The largest sum of bytes allocated and not yet freed within an update of the weights."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        found.weights_step(samples)
    live, most = 0, 0
    for event in profiler.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            live += event.nbytes()
            most = max(most, live)
    return most
