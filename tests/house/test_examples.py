"""The examples run."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from nasformer.operators.catalogue import MIXERS

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = dict(MIXERS)
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()
    for name in MIXERS.keys() - before.keys():  # what an example lists is taken back
        del MIXERS[name]
