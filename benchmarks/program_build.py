"""Claim: all that is done before a program's first update – to bring it to the size asked for, count its parameters and
what an update takes, run the causality guard and build the model – takes at most 0.05 of the shortest hurdle of the
small protocol (docs/papers/primer.md §8: 1.43 s of processor time)."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from benchmarks.figure import Figure, Options, clock_name, figure, seconds
from nasformer.errors import RequestError
from nasformer.measures.step_cost import features
from nasformer.models.build import build
from nasformer.models.program import check_causal, rescaled
from nasformer.models.size import core_parameters
from nasformer.models.transformer import ModelSettings
from nasformer.spaces.known_programs import PROGRAMS
from nasformer.spaces.program import Program
from nasformer.spaces.program_space import mutant_of
from nasformer.strategies.evaluate_program import Trial

SHORTEST_HURDLE, BAR = 1.43, 0.05
MUTANTS, AWAY, BATCH, LENGTH, VOCABULARY = 50, 3, 64, 64, 256


def program_build(options: Options) -> Iterator[Figure]:
    """Mutants a few mutations away from the Transformer at width 64 with 2 blocks, prepared in the order and with the
    memory of earlier ones that a search has."""
    random, settings = Random(1), ModelSettings(target_vocabulary=VOCABULARY)
    start = PROGRAMS["program-transformer"]()
    size = core_parameters(start)
    _prepared(start, size, settings)
    taken = []
    for _ in range(options.repeats(MUTANTS)):
        program = start
        for _ in range(AWAY):
            program = mutant_of(program, random).program
        taken.append(seconds(lambda p=program: _prepared(p, size, settings)))  # type: ignore[misc]
    mean = sum(taken) / len(taken) / SHORTEST_HURDLE
    how = (
        f"rescaling, counting parameters and cost, causality guard and building / the shortest hurdle, "
        f"{SHORTEST_HURDLE} s; median (mean {mean:.3f}) over {len(taken)} programs {AWAY} mutations from the "
        f"Transformer, width 64, 2 blocks; {clock_name()}"
    )
    yield figure("program_build", [each / SHORTEST_HURDLE for each in taken], BAR, how)


def _prepared(program: Program, size: int, settings: ModelSettings) -> None:
    try:
        program = rescaled(program, size)
        core_parameters(program)
        if Trial().refused(features(program, settings, BATCH, LENGTH)):
            return  # too large to be begun
        check_causal(program, LENGTH, seed=1)
        build(program, settings, seed=1)
    except RequestError:
        pass  # what leaks costs time, too
