"""`nasformer report`: the page of one run, or a table across several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from nasformer.report.compare import compare
from nasformer.report.gather import gather
from nasformer.report.page import write_report
from nasformer.report.table import rich_table


def report(folders: Sequence[Path], console: Console) -> None:
    """Write `report.html` into each run folder, and print the table (of several runs: means over seeds)."""
    for folder in folders:
        console.print(f"report {write_report(folder)}")
    if len(folders) > 1:
        console.print(compare(folders), markup=False)
        return
    run = gather(folders[0])
    if run.comparison.rows:
        console.print(rich_table(run.comparison))
    if run.comparison.note:
        console.print(run.comparison.note, markup=False, highlight=False)
    if not run.finished:
        console.print(f"The run is not finished; go on with: nasformer resume {folders[0]}", markup=False)
