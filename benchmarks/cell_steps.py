"""Claims: a search step of DARTS costs at most 22 and of GDAS at most 3 training steps of DARTS_V2 at the same size; a
sampled pass costs at most 1.10 of the same cells as a plain network."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.cells import SHAPE, discrete_step, plain_step, searches
from benchmarks.figure import Figure, Options, clock_name, figure, in_turn, ratio_of

SEARCH = "an update of the logits and one of the weights / a training step of DARTS_V2 (PyTorch's SGD)"


def darts_step(options: Options) -> Iterator[Figure]:
    """First order, all operators on all edges."""
    yield _search_step("darts_step", "darts", 22.0, options.repeats(4), warmup=1)


def gdas_step(options: Options) -> Iterator[Figure]:
    """One operator on every edge; and ROME with a single sample, for information."""
    yield _search_step("gdas_step", "gdas", 3.0, options.repeats(16), warmup=2)
    yield _search_step("rome_search_step", "rome", None, options.repeats(16), warmup=2)


def rome_step(options: Options) -> Iterator[Figure]:
    """Drawing, lending, loss, gradients and SGD of one sample, against the same cells as a plain network."""
    found = searches()["rome"]
    ratios = []
    for _ in range(8):
        state = found.generator.get_state()
        plain = plain_step(found.supernet.inherit(found.supernet.at(found.draw()).architecture))

        def sampled(state: object = state) -> None:
            found.generator.set_state(state)  # type: ignore[arg-type]
            found.weights_step()

        ratios.append(ratio_of(sampled, plain, options.repeats(6), warmup=1))
    how = (
        f"an update of the weights along one sample / a training step of the same cells as a plain network; "
        f"{clock_name()}; median over 8 draws, {options.repeats(6)} pairs in turn; {SHAPE}"
    )
    yield figure("rome_step", ratios, 1.10, how)


def _search_step(name: str, method: str, bar: float | None, repeats: int, warmup: int) -> Figure:
    found = searches()[method]
    times = in_turn([found.step, discrete_step()], repeats, warmup)
    how = f"{SEARCH}; {clock_name()}; median of {repeats} pairs in turn; {SHAPE}"
    return figure(name, list(times[:, 0] / times[:, 1]), bar, how)
