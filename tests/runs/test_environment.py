"""The environment of a run: complete, JSON, and silent about the machine's owner."""

from __future__ import annotations

import json
import platform
import subprocess
from datetime import datetime
from pathlib import Path

import numpy
import torch

from nasformer.runs.environment import commit, environment


def test_it_tells_what_one_needs_to_repeat_the_run() -> None:
    told = environment(11, "nasformer search demo")
    assert json.loads(json.dumps(told)) == told
    assert (told["seed"], told["command"]) == (11, "nasformer search demo")
    versions = told["versions"]
    assert versions.keys() == {
        "python",
        "nasformer",
        "torch",
        "transformers",
        "tokenizers",
        "sacrebleu",
        "numpy",
        "pillow",
    }
    assert versions["python"] == platform.python_version()
    assert (versions["torch"].split("+")[0], versions["numpy"]) == (torch.__version__.split("+")[0], numpy.__version__)
    assert told["threads"] == torch.get_num_threads()
    assert told["cpus"] >= 1
    assert told["processor"].startswith(platform.machine() + " ")
    assert (told["device"] == "cpu") == (not torch.cuda.is_available())
    assert datetime.fromisoformat(told["started"]).tzinfo is not None


def test_it_does_not_tell_whose_machine_it_is() -> None:
    told = environment(1, "x")
    assert "node" not in told
    assert str(Path.home()) + "/" not in json.dumps(told)
    assert str(Path(torch.__file__).parent) not in json.dumps(told)


def test_the_commit_is_the_checkouts_own(tmp_path: Path) -> None:
    package = tmp_path / "src" / "thing"
    package.mkdir(parents=True)
    assert commit(package) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert commit(package) is None  # no commit yet
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert commit(package) == head
    installed = tmp_path / "packages" / "thing"
    installed.mkdir(parents=True)
    assert commit(installed) is None
