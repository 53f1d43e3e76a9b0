"""Claim: a step of a supernet costs at most 1.05 of a step of the same architecture as a plain model."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figure import Figure, Options, clock_name, figure, ratio_of
from benchmarks.material import SupernetSteps, batches, translation
from nasformer.spaces.named import shrinknas, shrinknas_small
from nasformer.spaces.space import Space

TOKENS, ARCHITECTURES = 1_024, 12


def supernet_step(options: Options) -> Iterator[Figure]:
    """In the paper's space."""
    yield _measured("supernet_step", shrinknas(), 0.2, options, repeats=4)


def supernet_step_small(options: Options) -> Iterator[Figure]:
    """In the space of the small-scale protocol."""
    yield _measured("supernet_step_small", shrinknas_small(), 0.1, options, repeats=12)


def _measured(name: str, space: Space, residual: float, options: Options, repeats: int) -> Figure:
    task = translation(options.data)
    steps = SupernetSteps(task, space, residual)
    ratios = []
    for batch in batches(task, TOKENS, ARCHITECTURES):
        architecture = steps.draw()
        plain = steps.plain(architecture)
        ratios.append(
            ratio_of(
                lambda a=architecture, b=batch: steps.draw_and_step(a, b),  # type: ignore[misc]
                lambda p=plain, b=batch: p(b),  # type: ignore[misc]
                options.repeats(repeats),
            )
        )
    how = (
        f"drawing, supernet.at, loss, backward and SliceAdam / loss, backward and fused AdamW of the same "
        f"architecture; {clock_name()}; median over {ARCHITECTURES} random architectures of {space.name}, each on its "
        f"own batch of {TOKENS:,} tokens, {options.repeats(repeats)} pairs in turn"
    )
    return figure(name, ratios, 1.05, how)
