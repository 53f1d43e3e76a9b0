"""The fixture of this room."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_run import write_run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A finished run."""
    return write_run(tmp_path / "seed0")
