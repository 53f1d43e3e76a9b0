"""A search of programs carried out: evolution, its best retrained from fresh starts, and the controls at equal budget.

Every arm is trained several times from different starts on the same calibrated budget. What is chosen is chosen on the
validation split; the test split is read once an arm, when the choice is made.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from torch import nn

from nasformer.errors import RunError
from nasformer.measures.speedup import power_law, speedup
from nasformer.measures.statistics import mean_interval
from nasformer.models.program import rescaled
from nasformer.models.size import core_flops, core_parameters, total_parameters
from nasformer.recipes.experiment import VOCABULARIES, Experiment, hand_over
from nasformer.recipes.recipe import Recipe
from nasformer.runs.run import Run
from nasformer.runs.stage import Display
from nasformer.spaces.known_programs import PROGRAMS
from nasformer.spaces.program import Program, digest
from nasformer.spaces.program_space import ProgramSpace
from nasformer.spaces.program_text import program_text
from nasformer.strategies.drive import drive
from nasformer.strategies.evaluate_program import Evaluation, Trial, trained
from nasformer.strategies.primer import Primer, PrimerSearch
from nasformer.strategies.workers import Job, evaluator
from nasformer.tasks.scorecard import Scorecard

FIXED = ("transformer_program", "gelu", "squared_relu", "convolved", "transformer_plus_plus", "primer_ez", "primer")
LARGER = {"longer": "found", "longer_start": "start", "wider": "found", "wider_start": "start"}
POINTS = 5
"""How many times the loss is measured on the way, at doubling distances."""


class PrimerExperiment(Experiment):
    """`found` is the best program of the search by its mean over fresh starts; `start` is where it began."""

    controls = ("start", "random_mutation", *FIXED, *LARGER)

    def __init__(self, recipe: Recipe, run: Run, display: Display) -> None:
        assert isinstance(recipe.strategy, Primer)
        self.strategy = recipe.strategy
        super().__init__(recipe, run, display)
        start: Program = self.space.template
        if self.strategy.length_bound:
            start = start.but(length=recipe.task.longest)
        self.space = ProgramSpace(start, self.space.name)

    def check(self) -> None:
        """Limits are checked when the search begins."""

    @cached_property
    def trial(self) -> Trial:
        """How a program is trained to the end of the budget, with the loss measured on the way."""
        return self.strategy.trial(self.space.template).but(hurdles=POINTS, parameters=None)

    def find(self) -> dict[str, Any]:
        """Search, retrain the best, and choose among them on validation; the row of the chosen one."""
        chosen, evaluations = self._best("search", self.strategy)
        return self._row("found", chosen, evaluations=evaluations)

    def control(self, name: str, found: Any) -> dict[str, Any]:
        """The row of a control."""
        start = self.space.template
        if name == "random_mutation":
            chosen, evaluations = self._best("random_mutation_search", self.strategy.but(tournament=1))
            return self._row(name, chosen, evaluations=evaluations)
        if name == "start":
            return self._row(name, start, runs=self.strategy.confirmation.noise)
        if name in LARGER:
            program = found if LARGER[name] == "found" else start
            if name.startswith("wider"):
                return self._row(name, program.but(unit=2 * program.unit))
            return self._row(name, program, self.trial.but(budget=3 * self.trial.budget))
        settings = {} if isinstance(self.recipe.space, str | Program) else getattr(self.recipe.space, "settings", {})
        program = PROGRAMS[f"program-{name.removesuffix('_program').replace('_', '-')}"](**settings)
        return self._row(name, rescaled(program, core_parameters(start)))

    def _best(self, stage: str, strategy: Primer) -> tuple[Program, int]:
        """The program of a search with the best mean validation loss over fresh starts, and how many were tried."""
        search = strategy.begin(
            self.space,
            self.recipe.objective,
            self.task,
            self.seed(stage),
            settings=self.recipe.task,
            cache=self.run.path / VOCABULARIES,
        )
        try:
            drive(search, self.stage(stage))
        finally:
            search.close()
        top = [member.program for member in search.top(strategy.confirmation.top)]
        losses = self._retrained(f"{stage}_confirmation", top)
        self._remember(stage, search, top, losses)
        best = min(range(len(top)), key=lambda i: _mean(losses[i]))
        return top[best], len(search.members)

    def _retrained(self, stage: str, programs: Sequence[Program]) -> list[list[float]]:
        """The final validation losses of each program from each fresh start."""
        place, runs = self.stage(stage), self.strategy.confirmation.runs
        jobs = {
            (i, j): Job(self._number(program, j), program, (None,) * POINTS)
            for i, program in enumerate(programs)
            for j in range(runs)
        }
        found: dict[tuple[int, int], float] = {}
        paths = {key: f"rows/{stage}/{digest(job.program)[:16]}-{key[1] + 1}.json" for key, job in jobs.items()}
        missing = [key for key, path in paths.items() if not (self.run.path / path).exists()]
        with evaluator(
            self.strategy.workers if missing else 1,
            self.task,
            self.recipe.task,
            self.run.path / VOCABULARIES,
            self.trial,
            self.seed("confirmation"),
        ) as work:
            for key in missing:
                work.submit(jobs[key])
            for done, key in enumerate(missing):
                place.progress(len(jobs) - len(missing) + done, len(jobs), "retraining the best from fresh starts")
                self.run.write_json(paths[key], work.take(jobs[key].number).data())
        for key, path in paths.items():
            found[key] = Evaluation.read(self.run.read_json(path)).fitness
        return [[found[i, j] for j in range(runs)] for i in range(len(programs))]

    def _number(self, program: Program, run: int) -> int:
        """A number of its own for each program and start, from which weights and batches are drawn."""
        return int(digest(program)[:8], 16) * 1000 + run

    def _row(
        self, name: str, program: Program, trial: Trial | None = None, *, runs: int | None = None, evaluations: int = 0
    ) -> dict[str, Any]:
        """A program trained from several fresh starts: quality as mean and 95 % interval over them."""
        trial, stage = trial or self.trial, self.stage(name)
        count = runs or self.strategy.confirmation.runs
        tried: list[Evaluation] = []
        qualities: list[dict[str, Any]] = []
        best: tuple[float, nn.Module | None] = (math.inf, None)
        for run in range(count):
            stage.progress(run, count, "training from a fresh start")
            path = f"rows/{name}/{run + 1}.json"
            if not (self.run.path / path).exists() or name == "found":
                evaluation, model = trained(
                    program, self.task, trial, self.seed("confirmation"), self._number(program, run)
                )
                if model is None:
                    raise RunError(f"the program of {name} failed from a fresh start: {evaluation.reason}")
                best = min(best, (evaluation.fitness, model), key=lambda pair: pair[0])
                quality = self.task.quality(model, "test")
                self.run.write_json(path, {"evaluation": evaluation.data(), "quality": quality})
                for point in evaluation.curve:
                    stage.record("point", run=run + 1, cost=point.cost, update=point.updates, loss=point.loss)
            written = self.run.read_json(path)
            tried.append(Evaluation.read(written["evaluation"]))
            qualities.append(written["quality"])
        if name == "found":
            assert best[1] is not None
            hand_over(best[1], self.task, self.run)
        card = Scorecard(
            quality=_pooled(qualities),
            core_parameters=core_parameters(program),
            total_parameters=total_parameters(program, self.settings),
            flops=core_flops(program),
            updates=round(_mean([evaluation.updates for evaluation in tried])),
            evaluations=evaluations,
            seconds=sum(evaluation.seconds for evaluation in tried),
        )
        return {
            "architecture": program.data(),
            "scorecard": card.data(),
            "validation_loss": _mean([evaluation.fitness for evaluation in tried]),
            "curves": [_curve(evaluation) for evaluation in tried],
            "budget": trial.budget,
        }

    def _remember(
        self, stage: str, search: PrimerSearch, top: Sequence[Program], losses: Sequence[Sequence[float]]
    ) -> None:
        """What the report tells of a search."""
        best = min(range(len(top)), key=lambda i: _mean(losses[i]))
        winner = next(member for member in search.top(len(top)) if digest(member.program) == digest(top[best]))
        causes = Counter(m.evaluation.cause for m in search.members if m.evaluation and m.evaluation.cause)
        lineage: list[dict[str, Any]] = [
            {
                "number": member.number,
                "mutation": member.mutation,
                "change": member.change,
                "fitness": member.fitness if math.isfinite(member.fitness) else None,
                "retrained": None,
            }
            for member in search.lineage(winner.number)
        ]
        if self.strategy.confirmation.lineage and stage == "search":
            line = [member.program for member in search.lineage(winner.number)]
            for entry, values in zip(lineage, self._retrained("lineage", line), strict=True):
                entry["retrained"] = _interval(values)
        told = {
            "summary": search.summary(),
            "failures": dict(causes),
            "lineage": lineage,
            "texts": {"start": program_text(self.space.template), "found": program_text(top[best])},
            "top": [{"digest": digest(program), "losses": list(row)} for program, row in zip(top, losses, strict=True)],
        }
        self.run.write_json(f"evolution/{stage}.json", told)

    def _write(self, rows: list[dict[str, Any]], correlation: dict[str, Any] | None) -> dict[str, Any]:
        result = super()._write(rows, correlation)
        told = self.run.read_json("evolution/search.json")
        curves = {row["name"]: row["curves"] for row in rows}
        pairs = {name: [tuple(zip(*run, strict=True)) for run in runs] for name, runs in curves.items()}
        speedups, laws = {}, {}
        for row in rows:
            start = "start" if row["budget"] == self.trial.budget else "longer_start"
            if row["name"].startswith("wider"):
                start = "wider_start"
            if start in pairs and row["name"] != start:
                speedups[row["name"]] = _data(speedup(pairs[start], pairs[row["name"]], seed=self.seed("bootstrap")))
            points = [point for run in pairs[row["name"]] for point in zip(*run, strict=True)]
            law = power_law([cost for cost, _ in points], [loss for _, loss in points])
            laws[row["name"]] = {"a": law.a, "k": law.k}
        noise = next((row for row in rows if row["name"] == "start"), None)
        finals = [run[-1][1] for run in noise["curves"]] if noise else []
        result["evolution"] = {
            "budget": self.trial.budget,
            "hurdles": list(self.strategy.hurdle_times()),
            "lineage": told["lineage"],
            "texts": told["texts"],
            "failures": told["failures"],
            "summary": told["summary"],
            "curves": curves,
            "speedups": speedups,
            "power_laws": laws,
            "noise": {"mean": _mean(finals), "spread": _spread(finals), "runs": len(finals)} if finals else None,
        }
        self.run.write_json("result.json", result)
        return result


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _spread(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))


def _curve(evaluation: Evaluation) -> list[list[float]]:
    """Loss by cost; of points at the same number of updates the last."""
    return [list(pair) for pair in {point.cost: point.loss for point in evaluation.curve}.items()]


def _interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and 95 % interval over fresh starts; without an interval where there is one run."""
    return _data(mean_interval(values)) if len(values) > 1 else {"value": values[0]}


def _data(interval: Any) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _pooled(qualities: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The qualities of several runs as one: means, with the interval over the runs."""
    pooled: dict[str, Any] = {"split": qualities[0]["split"]}
    for name, first in qualities[0].items():
        if isinstance(first, dict):
            pooled[name] = first | _interval([quality[name]["value"] for quality in qualities])
        elif isinstance(first, float):
            pooled[name] = _mean([quality[name] for quality in qualities])
    return pooled
