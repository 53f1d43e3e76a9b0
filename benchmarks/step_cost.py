"""The prices of `nasformer.measures.step_cost.StepCost`: fitted to real steps, and how far predictions are off."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np

from benchmarks.figure import Figure, Options, clock_name, figure
from nasformer.errors import RequestError
from nasformer.measures.step_cost import StepCost
from nasformer.models.program import check_causal, rescaled
from nasformer.models.size import core_parameters
from nasformer.spaces.known_programs import PROGRAMS
from nasformer.spaces.program import Program
from nasformer.spaces.program_space import mutant_of
from nasformer.strategies.evaluate_program import calibrated
from nasformer.tasks.language import Language
from nasformer.training.trainer import Training

MUTANTS, LENGTH, TOKENS = 40, 64, 4096


def step_cost(options: Options) -> Iterator[Figure | str]:
    """The known programs and mutants of them, 4,096 bytes a batch in sequences of 64, width 64, 2 blocks."""
    programs = [*(make() for make in PROGRAMS.values()), *_mutants()]
    task = Language(length=LENGTH, embedded_bytes=500_000).open()
    prices, errors = calibrated(programs, task, Training(batch_tokens=TOKENS).at(1e-3), repeats=options.repeats(9))
    yield f"# prices fitted here: {prices}; the default: {StepCost()}"
    how = (
        f"|predicted / measured − 1| of a training step with prices fitted here, over {len(programs)} programs; "
        f"at most {np.abs(errors).max():.2f}; {clock_name()}"
    )
    yield figure("step_cost", np.abs(errors).tolist(), None, how)


def _mutants() -> Iterator[Program]:
    """Programs along random walks from the known ones that can be trained."""
    random, made = Random(1), [make() for make in PROGRAMS.values()]
    size = core_parameters(made[0])
    known = len(made)
    while len(made) < known + MUTANTS:
        try:
            program = rescaled(mutant_of(random.choice(made), random).program, size)
            check_causal(program, LENGTH, seed=1)
        except RequestError:
            continue
        made.append(program)
        yield program
