"""`python -m benchmarks [NAME …]`: measures, and prints one JSON line a figure."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.attention_forms import attention_forms
from benchmarks.cell_steps import darts_step, gdas_step, rome_step
from benchmarks.convolution_forms import convolution_forms
from benchmarks.data_wait import data_wait
from benchmarks.depthwise_gradients import depthwise_gradients
from benchmarks.figure import Figure, Options
from benchmarks.freed_memory import freed_memory
from benchmarks.hurdle_saving import hurdle_saving
from benchmarks.memory_prediction import memory_prediction
from benchmarks.padding import padding
from benchmarks.plain_step import plain_step, plain_step_bfloat16
from benchmarks.program_build import program_build
from benchmarks.program_step import program_step
from benchmarks.random_programs import random_programs
from benchmarks.reversible_depth import reversible_depth
from benchmarks.reversible_memory import reversible_memory
from benchmarks.reversible_options import reversible_options
from benchmarks.reversible_precision import reversible_precision
from benchmarks.reversible_step import reversible_step
from benchmarks.reversible_table import reversible_table
from benchmarks.rome_memory import rome_darts_memory, rome_gdas_memory, rome_samples_memory
from benchmarks.search_cost import search_cost, search_cost_measured
from benchmarks.shared_cores import shared_cores
from benchmarks.step_cost import step_cost
from benchmarks.supernet_step import supernet_step, supernet_step_small
from benchmarks.variance_law import variance_law
from benchmarks.worker_scaling import worker_scaling
from nasformer.errors import RequestError, nearest
from nasformer.training.memory import keep_freed_memory

BENCHMARKS: dict[str, Callable[[Options], Iterator[Figure | str]]] = {
    "supernet_step": supernet_step,
    "supernet_step_small": supernet_step_small,
    "search_cost": search_cost,
    "search_cost_measured": search_cost_measured,
    "padding": padding,
    "data_wait": data_wait,
    "plain_step": plain_step,
    "plain_step_bfloat16": plain_step_bfloat16,
    "convolution_forms": convolution_forms,
    "attention_forms": attention_forms,
    "freed_memory": freed_memory,
    "reversible_depth": reversible_depth,
    "reversible_memory": reversible_memory,
    "reversible_options": reversible_options,
    "reversible_step": reversible_step,
    "shared_cores": shared_cores,
    "reversible_table": reversible_table,
    "memory_prediction": memory_prediction,
    "reversible_precision": reversible_precision,
    "program_step": program_step,
    "program_build": program_build,
    "step_cost": step_cost,
    "random_programs": random_programs,
    "hurdle_saving": hurdle_saving,
    "worker_scaling": worker_scaling,
    "rome_gdas_memory": rome_gdas_memory,
    "rome_darts_memory": rome_darts_memory,
    "rome_samples_memory": rome_samples_memory,
    "rome_step": rome_step,
    "gdas_step": gdas_step,
    "darts_step": darts_step,
    "depthwise_gradients": depthwise_gradients,
    "variance_law": variance_law,
}
"""Every benchmark, by name."""


def main(arguments: list[str]) -> int:
    """Measure the named benchmarks (all by default); returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)} (all by default)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="parallel text; the embedded corpus by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the lines to this file, too")
    parser.add_argument("--effort", type=float, default=1.0, metavar="X", help="times as many repeats as planned")
    parser.add_argument("--compiled", action="store_true", help="also measure what torch.compile makes")
    given = parser.parse_args(arguments)
    try:
        for name in given.names:
            if name not in BENCHMARKS:
                raise RequestError(f"unknown benchmark {name!r}; {nearest(name, BENCHMARKS)}")
        keep_freed_memory()
        for name in given.names or BENCHMARKS:
            for found in BENCHMARKS[name](Options(given.data, given.effort, given.compiled)):
                _print(found if isinstance(found, str) else found.line(), given.json)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _print(line: str, file: Path | None) -> None:
    print(line, flush=True)
    if file is not None:
        with file.open("a", encoding="utf-8") as out:
            out.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
