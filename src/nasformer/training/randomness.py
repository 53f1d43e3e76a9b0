"""Every random state from one seed: a step's dropout is a function of the seed and of what the step is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *names: str | int) -> int:
    """A seed for the named purpose, far from every other purpose's."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


@contextmanager
def seeded(seed: int, *names: str | int) -> Iterator[None]:
    """PyTorch's generators (of the CPU and of the current CUDA device) start from `derive(seed, …)` inside; outside
    they are as they were."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, *names))
        yield
