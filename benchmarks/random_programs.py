"""The share of random programs of the Transformer's length that cannot be trained (paper: 78 %), by cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

from benchmarks.figure import Figure, Options, figure
from nasformer.errors import RequestError
from nasformer.models.program import SizeError, rescaled
from nasformer.models.size import core_parameters
from nasformer.spaces.known_programs import transformer
from nasformer.spaces.program_space import ProgramSpace
from nasformer.strategies.evaluate_program import Trial, evaluate
from nasformer.tasks.language import Language
from nasformer.training.schedule import InverseSquareRoot
from nasformer.training.trainer import Training

PROGRAMS, BUDGET = 200, 1.0


def random_programs(options: Options) -> Iterator[Figure | str]:
    """Programs drawn uniformly, brought to the Transformer's size where that can be done, and trained for a second."""
    start, random = transformer(), Random(1)
    space, size = ProgramSpace(start), core_parameters(start)
    task = Language(length=64, embedded_bytes=500_000).open()
    training = Training(batch_tokens=4096, weight_decay=0.0, schedule=InverseSquareRoot(peak=3e-3, warmup=20))
    trial = Trial(budget=BUDGET, hurdles=0, training=training, validation_tokens=4096)
    causes: Counter[str] = Counter()
    count = options.repeats(PROGRAMS)
    for number in range(count):
        program = space.sample(random)
        try:
            program = rescaled(program, size)
        except SizeError:
            pass  # tried at the size that it has
        except RequestError:
            causes["no valid shape"] += 1
            continue
        found = evaluate(program, task, trial, (), 1, number)
        causes[found.cause or "trains"] += 1
    yield "# " + ", ".join(f"{cause}: {times}" for cause, times in causes.most_common())
    how = f"random programs that cannot be trained / {count} drawn; those that train may have learnt nothing"
    yield figure("random_programs", [1 - causes["trains"] / count], None, how)
