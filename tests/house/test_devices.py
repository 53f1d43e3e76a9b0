"""Every method works on another device than the CPU: nothing is left behind (see `elsewhere`)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

SETUP = "_setup_privateuseone_for_python_backend"
ELSEWHERE = Path(__file__).with_name("elsewhere.py")
PAIRS = ["task.embedded_pairs=1000", "task.vocabulary=400", "task.test_sentences=4", "task.beams=2"]
BATCHES = ["strategy.training.batch_tokens=64", "fine_tune.batch_tokens=64", "fine_tune.updates=1"]
SEARCHES = {
    "demo": [
        *PAIRS,
        *BATCHES,
        "strategy.training.updates=2",
        "strategy.rounds=1",
        "strategy.exploration.members=2",
        "strategy.exploration.first_ranking=2",
        "strategy.exploration.validation_tokens=64",
        "strategy.divergence_members=2",
        "controls=[random_search]",
    ],
    "dartsformer-small": [*PAIRS, *BATCHES, "strategy.training.updates=1", "controls=[plain_darts]"],
    "primer-demo": [
        "task.length=16",
        "task.evaluation_tokens=1000",
        "space.settings={width: 8, depth: 1, heads: 2}",
        "strategy.programs=4",
        "strategy.population=2",
        "strategy.tournament=2",
        "strategy.hurdles=1",
        "strategy.pool=2",
        "strategy.together=2",
        "strategy.workers=1",
        "strategy.budget=0.01",
        "strategy.step_cost={gflop: 0.01, elements: 0.01, operation: 0, constant: 0.001}",
        "strategy.patience=1e6",
        "strategy.training.batch_tokens=64",
        "strategy.validation_tokens=64",
        "strategy.confirmation={top: 1, runs: 1, noise: 1, lineage: false, changes: false}",
        "controls=[]",
    ],
    "rome-language": [
        *BATCHES,
        "task.length=16",
        "task.evaluation_tokens=1000",
        "space.settings={dim: 8, blocks: 1}",
        "strategy.training.updates=1",
        "controls=[]",
    ],
    "rome-small": [
        "strategy.training.batch_tokens=16",
        "strategy.training.updates=1",
        "fine_tune.batch_tokens=16",
        "fine_tune.updates=1",
        "task.train_images=100",
        "task.evaluation_images=20",
        "task.size=8",
        "space.settings={channels: 4, cells: 2}",
        "controls=[gdas,darts,second_order,pc_darts,darts_minus,early_stopping,spos,pairs,joint]",
    ],
}
AT_EVERY_GATE = ("demo", "rome-language")
"""The others belong to `make torture`."""


def elsewhere(*words: str) -> subprocess.CompletedProcess[str]:
    """The command line in another process, on the other device."""
    return subprocess.run([sys.executable, str(ELSEWHERE), *words], capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(backend_registration, SETUP), reason="this PyTorch has no devices made in Python")
@pytest.mark.parametrize(
    "recipe",
    [pytest.param(name, marks=[pytest.mark.torture] if name not in AT_EVERY_GATE else []) for name in SEARCHES],
)
def test_a_search_works_on_another_device(recipe: str, tmp_path: Path) -> None:
    done = elsewhere("search", recipe, *SEARCHES[recipe], "--run", str(tmp_path / "run"))
    assert done.returncode == 0, done.stdout + done.stderr
    (operations,) = re.findall(r"(\d+) operations elsewhere", done.stdout)
    assert int(operations) > 1000
    assert json.loads((tmp_path / "run" / "result.json").read_text())["complete"]
