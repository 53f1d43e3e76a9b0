"""What several test files need: a small translation task, opened once."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes share two cores; children inherit it

from collections.abc import Iterator

import pytest
import torch

from nasformer.tasks.embedded import embedded_text
from nasformer.tasks.translation import Translation, TranslationTask
from nasformer.tasks.vocabulary import learn


@pytest.fixture
def float64() -> Iterator[None]:
    """New tensors are in float64. Where two trainings or two ways to a gradient are compared to rounding they are
    compared so: how float32 rounds depends on the processor, and updates make much of a last bit."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def tiny_task() -> TranslationTask:
    """1,000 pairs to train on, 120 to validate and 80 to test on, 400 tokens of vocabulary."""
    settings = Translation(vocabulary=400, beams=1, embedded_pairs=1_000)
    text = embedded_text(pairs=1_000, valid=120, test=80, seed=1)
    source, target = learn(*text.splits["train"], size=400, shared=False, lowercase=False)
    return TranslationTask(settings, text, source, target)
