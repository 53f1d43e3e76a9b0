"""Kill a tiny search at many random moments, resume it until it ends, and compare it with an uninterrupted one.

Run: make torture. Prints a line a trial and exits with 1 at the first difference.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from test_search import same_outcome
from tiny import TINY

PROGRAM = [sys.executable, "-c", "from nasformer.cli import main; main()"]


def run(words: list[str], seconds: float | None) -> bool:
    """Run a command, killed after some seconds where given; whether it ended by itself, without an error."""
    child = subprocess.Popen([*PROGRAM, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return child.wait(timeout=seconds) == 0
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        child.wait()
        return False


def main(trials: int = 20, seed: int = 1) -> None:
    """`trials` searches, each killed up to three times."""
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        began = time.monotonic()
        assert run(["search", "demo", *TINY, "--run", str(whole)], None)
        length = time.monotonic() - began
        for trial in range(trials):
            path = Path(folder) / f"trial-{trial}"
            kills = [moments.uniform(0.1, 1.0) * length for _ in range(3)]
            words = ["search", "demo", *TINY, "checkpoint_seconds=0", "--run", str(path)]
            for seconds in kills:
                if run(words, seconds):
                    break
                words = ["resume", str(path)] if (path / "recipe.json").exists() else words
            else:
                assert run(words, None), "the last resume failed"
            same_outcome(whole, path)
            print(f"trial {trial}: killed after {', '.join(f'{s:.1f}' for s in kills)} s: same", flush=True)


if __name__ == "__main__":
    main()
