"""Run the numeric tests under every capability of this processor that PyTorch knows: how float32 rounds depends on
it, and no law may.

Run: make torture. Prints a line a capability, and exits with 1 at the end where a test failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

VARIABLE = "ATEN_CPU_CAPABILITY"
CAPABILITIES = ("default", "avx2", "avx512")
ROOMS = ("laws", "measures", "models", "operators", "strategies", "supernets", "tasks", "training")
TESTS = Path(__file__).parents[1]


def capabilities() -> list[str]:
    """What this machine has, from the narrowest to the widest; a wider one would be an illegal instruction."""
    os.environ.pop(VARIABLE, None)
    widest = torch.backends.cpu.get_cpu_capability().lower()
    return list(CAPABILITIES[: CAPABILITIES.index(widest) + 1]) if widest in CAPABILITIES else ["default"]


def run(capability: str) -> bool:
    """Whether the numeric tests pass under a capability."""
    words = [sys.executable, "-m", "pytest", "-q", "--tb=short", *(str(TESTS / room) for room in ROOMS)]
    done = subprocess.run(
        words, env=os.environ | {VARIABLE: capability}, cwd=TESTS.parent, capture_output=True, text=True
    )
    if done.returncode:
        print(done.stdout + done.stderr)
    print(f"{capability}: {(done.stdout.splitlines() or ['no answer'])[-1]}", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    passed = {capability: run(capability) for capability in capabilities()}
    sys.exit(not all(passed.values()))
