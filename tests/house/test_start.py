"""What a command costs before it does anything."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("command", ["list", "profile", "report", "search"])
def test_a_command_starts_without_what_takes_seconds(command: str) -> None:
    slow = {"transformers", "torch._dynamo", "lightning_fabric", "scipy.stats"}
    program = f"import sys, nasformer.commands.{command}; print(sorted({slow} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
