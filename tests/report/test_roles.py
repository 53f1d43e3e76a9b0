"""The roles of rows: the names that the table knows are names of arms, and an arm's row states its role."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nasformer.recipes.controls import CONTROLS
from nasformer.recipes.experiment import LABELS, Experiment
from nasformer.report.roles import TUNED, VARIANTS, role_of
from nasformer.runs.run import Run


def test_the_tables_name_arms_that_there_are() -> None:
    assert set(LABELS) >= VARIANTS
    assert set(CONTROLS) >= TUNED
    assert {role_of(name) for name in CONTROLS} == {"control"}
    assert role_of("random_search") == "control"
    assert role_of("random_search_retrained") == "variant"


def test_a_row_states_the_role_of_its_own_name(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}, seed=1, command="") as run:
        recipe = SimpleNamespace(strategy=SimpleNamespace(kind="shrinknas"))
        stub: Any = SimpleNamespace(run=run, recipe=recipe, space=SimpleNamespace(template=None))
        for name, role in (("found", "found"), ("fine_tuned", "variant"), ("halving", "control")):
            row = Experiment.arm(stub, name, lambda: {"role": "variant"})  # found is a copy of a variant's row
            assert (row["name"], row["role"]) == (name, role)
