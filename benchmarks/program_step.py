"""Claim: a training step of a block written as a program takes at most 1.10 of the step of the same block written by
hand (`benchmarks/written.py`), at the size at which programs are searched on a processor and at twice that width.

Both sides have the same weights, the same cross-entropy and fused AdamW.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.figure import Figure, Options, clock_name, figure, in_turn
from benchmarks.material import adamw
from benchmarks.written import copy_weights, written
from nasformer.models.build import build
from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.known_programs import PROGRAMS

NAMES = ("program-transformer", "program-primer-ez", "program-primer")
WIDTHS, DEPTH, HEADS, INNER = (64, 128), 2, 4, 4
SEQUENCES, LENGTH, VOCABULARY = 64, 64, 256
BAR, REPEATS = 1.10, 30


def program_step(options: Options) -> Iterator[Figure]:
    """Each known program at each width; with `--compiled`, also what `torch.compile` makes of the program."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = ModelSettings(target_vocabulary=VOCABULARY, dropout=Dropout(residual=0.0))
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, VOCABULARY, (SEQUENCES, LENGTH + 1), generator=generator).to(device)
    for width in WIDTHS:
        for name in NAMES:
            program = build(PROGRAMS[name](width, DEPTH, HEADS, INNER), settings, seed=1).to(device)
            twin = written(name, VOCABULARY, width, DEPTH, HEADS, INNER).to(device)
            copy_weights(program, twin)
            steps = [training_step(program, tokens), training_step(twin, tokens)]
            if options.compiled:
                steps += [training_step(torch.compile(program), tokens), training_step(torch.compile(twin), tokens)]
            times = in_turn(steps, options.repeats(REPEATS), warmup=3)
            how = (
                f"training step as a program / by hand; width {width}, {DEPTH} blocks, {HEADS} heads, inner {INNER}x, "
                f"{SEQUENCES} sequences of {LENGTH}, {VOCABULARY} tokens; {clock_name()}; {len(times)} in turn"
            )
            figure_name = f"program_step_{name.removeprefix('program-')}_{width}"
            yield figure(figure_name, times[:, 0] / times[:, 1], BAR, how)
            if options.compiled:
                yield figure(f"{figure_name}_compiled", times[:, 2] / times[:, 1], None, f"compiled: {how}")
                both = f"both compiled: {how}"
                yield figure(f"{figure_name}_both_compiled", times[:, 2] / times[:, 3], None, both)


def training_step(model: nn.Module, tokens: Tensor) -> Callable[[], None]:
    """One update on the same tokens (batch, time + 1)."""
    optimiser = adamw(model.train())

    def step() -> None:
        logits = model(tokens[:, :-1])
        F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimiser.step()
        optimiser.zero_grad()

    return step
