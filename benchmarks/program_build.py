"""Claim: to build a program's model and to run the causality guard takes at most 0.05 of the shortest hurdle of the
small protocol (docs/papers/primer.md §8: 1.43 s of processor time)."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from benchmarks.figure import Figure, Options, clock_name, figure, seconds
from nasformer.errors import RequestError
from nasformer.models.build import build
from nasformer.models.program import check_causal
from nasformer.models.transformer import ModelSettings
from nasformer.spaces.known_programs import PROGRAMS
from nasformer.spaces.program import Program
from nasformer.spaces.program_space import mutant_of

SHORTEST_HURDLE, BAR = 1.43, 0.05
MUTANTS, AWAY, LENGTH, VOCABULARY = 50, 3, 64, 256


def program_build(options: Options) -> Iterator[Figure]:
    """Mutants a few mutations away from the Transformer at width 64 with 2 blocks."""
    random, settings = Random(1), ModelSettings(target_vocabulary=VOCABULARY)
    taken = []
    for _ in range(options.repeats(MUTANTS)):
        program = PROGRAMS["program-transformer"]()
        for _ in range(AWAY):
            program = mutant_of(program, random).program
        taken.append(seconds(lambda p=program: _made(p, settings)))  # type: ignore[misc]
    how = (
        f"building a program's model and the causality guard / the shortest hurdle, {SHORTEST_HURDLE} s; median over "
        f"{len(taken)} programs {AWAY} mutations from the Transformer, width 64, 2 blocks; {clock_name()}"
    )
    yield figure("program_build", [each / SHORTEST_HURDLE for each in taken], BAR, how)


def _made(program: Program, settings: ModelSettings) -> None:
    try:
        check_causal(program, LENGTH, seed=1)
        build(program, settings, seed=1)
    except RequestError:
        pass  # what leaks costs time, too
