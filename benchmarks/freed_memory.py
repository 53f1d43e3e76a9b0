"""Claim: keeping freed memory in the process makes a training step on a CPU faster. Two processes, in turn."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.figure import Figure, Options, clock_name, figure, in_turn
from benchmarks.material import VOCABULARY, plain_step
from nasformer.models.build import build
from nasformer.models.transformer import ModelSettings
from nasformer.spaces.named import transformer
from nasformer.tasks.batching import Batch
from nasformer.tasks.cross_entropy import cross_entropy
from nasformer.training.memory import keep_freed_memory

TOKENS, TIME, STEPS = 2_048, 16, 8


def freed_memory(options: Options) -> Iterator[Figure]:
    """Steps of a Transformer of dim 256 with 3 + 3 layers."""
    ratios = [_process("keep") / _process("leave") for _ in range(options.repeats(5))]
    how = (
        f"training step with keep_freed_memory() / without, dim 256, 3 + 3 layers, {TOKENS:,} tokens; {clock_name()}; "
        f"median of {len(ratios)} pairs of processes of {STEPS} steps each"
    )
    yield figure("freed_memory", ratios, 1.0, how)


def _process(mode: str) -> float:
    command = [sys.executable, "-m", "benchmarks.freed_memory", mode]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


class _OnlyLoss:
    """As much of a task as a training step needs, without a corpus."""

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        logits = model(batch.source, batch.target_input).flatten(0, 1)
        return cross_entropy(logits, batch.target_output.flatten(), smoothing=0.1, ignore=0) / batch.tokens


def _median_step() -> float:
    settings = ModelSettings(source_vocabulary=VOCABULARY, target_vocabulary=VOCABULARY)
    step = plain_step(_OnlyLoss(), build(transformer(256, 3, 3), settings, seed=1))  # type: ignore[arg-type]
    tokens = torch.randint(4, VOCABULARY, (TOKENS // TIME, TIME), generator=torch.Generator().manual_seed(1))
    batch = Batch(tokens, tokens, tokens, tuple(range(len(tokens))))
    return float(np.median(in_turn([lambda: step(batch)], STEPS)))


if __name__ == "__main__":
    if sys.argv[1] == "keep":
        keep_freed_memory()
    print(_median_step())
