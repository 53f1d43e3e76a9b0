"""Where a run ran: what one needs to know to get the same numbers again."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import nasformer

_PACKAGES = ("torch", "transformers", "tokenizers", "sacrebleu", "numpy", "pillow")


def environment(seed: int, command: str) -> dict[str, Any]:
    """Versions, platform, device, git commit (`None` outside a checkout), seed, command and start time, as plain data.

    The processor is told with the widest vector instructions that PyTorch uses on it: with others the same seed may
    give other numbers. Holds no host name, user name or path of the machine.
    """
    cuda = torch.cuda.is_available()
    return {
        "versions": {"python": platform.python_version(), "nasformer": nasformer.__version__}
        | {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "commit": commit(Path(nasformer.__file__).resolve().parent),
        "seed": seed,
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def commit(package: Path) -> str | None:
    """The commit of the checkout that a package folder (`ROOT/src/NAME`) belongs to, else `None`.

    A checkout that merely has the package installed somewhere below it does not count.
    """
    root = package.parent.parent
    if package.parent.name != "src" or not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "--verify", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
