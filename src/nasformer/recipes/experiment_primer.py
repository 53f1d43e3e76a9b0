"""A search of programs carried out: evolution, its best retrained from fresh starts, and the controls at equal budget.

Every arm is trained several times from different starts on the same calibrated budget, at its own best rate where the
recipe gives none; the search has that of its start. What is chosen is chosen on the
validation split; what is reported comes from fresh starts that the choice has not seen, and only they read the test
split.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

from torch import nn

from nasformer.errors import RequestError, RunError
from nasformer.measures.speedup import speedup
from nasformer.models.program import rescaled, widened
from nasformer.models.size import core_flops, core_parameters, total_parameters
from nasformer.recipes.experiment import LABELS, VOCABULARIES, Experiment, hand_over
from nasformer.recipes.measure import interval_data, interval_of, pooled
from nasformer.recipes.recipe import Recipe
from nasformer.runs.run import Run
from nasformer.runs.stage import Display
from nasformer.spaces.known_programs import PROGRAMS
from nasformer.spaces.program import Program, digest
from nasformer.spaces.program_changes import changes
from nasformer.spaces.program_space import ProgramSpace
from nasformer.spaces.program_text import program_text
from nasformer.strategies.drive import drive
from nasformer.strategies.evaluate_program import Evaluation, Trial, step_seconds, trained
from nasformer.strategies.primer import Primer, PrimerSearch
from nasformer.strategies.program_rate import rated
from nasformer.strategies.workers import Job, evaluator
from nasformer.tasks.scorecard import Scorecard

FIXED = ("transformer_program", "gelu", "squared_relu", "convolved", "transformer_plus_plus", "primer_ez", "primer")
LARGER = {"longer": "found", "longer_start": "start", "wider": "found", "wider_start": "start"}
MARKS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 3 / 8, *(part / 20 for part in range(10, 20)))
"""At which parts of its budget the loss of what is reported is measured: close together where curves are compared."""


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
        """Raises `RequestError` where a batch holds no sequence; limits are checked when the search begins."""
        self.task.stream(self.strategy.training.batch_tokens, self.recipe.seed)

    @cached_property
    def trial(self) -> Trial:
        """How a program is trained to the end of the budget after the search: all on the same validation text, another
        than that of the search."""
        return self.strategy.trial(self.space.template).but(hurdles=0, validation_seed=self.seed("validation"))

    def find(self) -> dict[str, Any]:
        """Search, retrain the best, and choose among them on validation; the row of the chosen one."""
        chosen, evaluations = self._best("search", self.strategy)
        self.run.write_text("architectures/best.txt", program_text(chosen))
        row = self._row("found", chosen, evaluations=evaluations) | {"search": self._searched("search")}
        return row if self.strategy.programs else row | {"label": "start, other fresh starts"}

    def control(self, name: str, found: Any) -> dict[str, Any]:
        """The row of a control."""
        start = self.space.template
        if name == "random_mutation":
            chosen, evaluations = self._best("random_mutation_search", self.strategy.but(tournament=1))
            searched = self._searched("random_mutation_search")
            return self._row(name, chosen, evaluations=evaluations) | {"search": searched}
        if name == "start":
            return self._row(name, start, runs=self.strategy.confirmation.noise)
        if name in LARGER:
            program = found if LARGER[name] == "found" else start
            if name.startswith("wider"):
                return self._row(name, widened(program, 2), self.trial.but(parameters=None))
            return self._row(name, program, self.trial.but(budget=3 * self.trial.budget))
        settings = getattr(self.recipe.space, "settings", {"depth": start.depth})
        program = PROGRAMS[f"program-{name.removesuffix('_program').replace('_', '-')}"](**settings)
        return self._row(name, rescaled(program, core_parameters(start)))

    def _best(self, stage: str, strategy: Primer) -> tuple[Program, int]:
        """The program of a search with the best mean validation loss over fresh starts, and how many were tried."""
        trial, _ = self._rated("search", self.space.template, self.trial)
        search = strategy.but(training=trial.training).begin(
            self.space,
            self.recipe.objective,
            self.task,
            self.seed(stage),
            settings=self.recipe.task,
            cache=self.run.path / VOCABULARIES,
        )
        place = self.stage(stage)
        place.progress(0, strategy.programs + 1, "evaluating the start")
        try:
            drive(search, place)
        finally:
            search.close()
        top = [member.program for member in search.top(strategy.confirmation.top)]
        losses = self._retrained(f"{stage}_confirmation", top)
        self._remember(stage, search, top, losses)
        return top[_best_of(losses)], len(search.members)

    def _rated(self, name: str, program: Program, trial: Trial) -> tuple[Trial, dict[str, Any]]:
        """How a program is tried at its own best rate; that and what the sweep cost, in updates and in seconds of the
        budget, as rows tell it."""
        seed = self.seed("sweep", name)
        found, swept = rated(program, self.task, trial, self.recipe.sweep, seed, self.stage(name))
        told: dict[str, Any] = {"peak": found.training.schedule.peak, "sweep_updates": 0, "sweep_seconds": 0.0}
        if swept is not None and swept.updates:
            told |= {
                "sweep_updates": swept.updates,
                "sweep_seconds": swept.updates * step_seconds(program, self.task, trial),
            }
        return found, told

    def _searched(self, stage: str) -> dict[str, Any]:
        """A search in numbers, with the rate that it had."""
        _, told = self._rated("search", self.space.template, self.trial)
        return dict(self.run.read_json(f"evolution/{stage}.json")["summary"]) | told

    def _retrained(self, stage: str, programs: Sequence[Program]) -> list[list[float]]:
        """The final validation losses of each program from each fresh start."""
        place, runs = self.stage(stage), self.strategy.confirmation.runs
        paths = [[f"rows/retrained/{_key(one)}-{j + 1}.json" for j in range(runs)] for one in programs]
        jobs: dict[str, Job] = {}
        for program, row in zip(programs, paths, strict=True):
            for j, path in enumerate(row):  # a program that is there several times is trained once
                jobs.setdefault(path, Job(int(_key(program)[:8], 16) * 1000 + j, program, ()))
        missing = [path for path in jobs if not (self.run.path / path).exists()]
        with evaluator(
            self.strategy.workers if missing else 1,
            self.task,
            self.recipe.task,
            self.run.path / VOCABULARIES,
            self.trial,
            self.seed("confirmation"),
        ) as work:
            for done, path in enumerate(missing):
                place.progress(done, len(missing), "finding rates")
                trial, _ = self._rated(f"program_{_key(jobs[path].program)[:8]}", jobs[path].program, self.trial)
                work.submit(replace(jobs[path], peak=trial.training.schedule.largest()))
            for done, path in enumerate(missing, start=len(jobs) - len(missing)):
                place.progress(done, len(jobs), "training from fresh starts")
                self.run.write_json(path, work.take(jobs[path].number).data())
        if jobs:
            place.progress(len(jobs), len(jobs), "trained from fresh starts")
        return [[Evaluation.read(self.run.read_json(path)).fitness for path in row] for row in paths]

    def _row(
        self, name: str, program: Program, trial: Trial | None = None, *, runs: int | None = None, evaluations: int = 0
    ) -> dict[str, Any]:
        """A program trained from several fresh starts, this arm's own: quality as mean and 95 % interval over those
        that give numbers; where none does, the row says why and has no scorecard."""
        trial, rate = self._rated(name, program, (trial or self.trial).but(marks=MARKS))
        stage, seed = self.stage(name), self.seed("report", name)
        count = runs or self.strategy.confirmation.runs
        models: dict[int, nn.Module | None] = {}
        tried: list[tuple[Evaluation, dict[str, Any] | None]] = []
        for run in range(count):
            last = f", the last loss {tried[-1][0].fitness:.4f}" if tried else ""
            stage.progress(run, count, f"training from a fresh start{last}")
            path = f"rows/{name}/{run + 1}.json"
            if not (self.run.path / path).exists():
                evaluation, models[run] = trained(program, self.task, trial, seed, run)
                quality = None if models[run] is None else self.task.quality(models[run], "test")  # type: ignore[arg-type]
                self.run.write_json(path, {"evaluation": evaluation.data(), "quality": quality})
            written = self.run.read_json(path)
            tried.append((Evaluation.read(written["evaluation"]), written["quality"]))
        done = [(run, evaluation, quality) for run, (evaluation, quality) in enumerate(tried) if quality is not None]
        row = {"architecture": program.data(), "curves": [_curve(one) for _, one, _ in done], "budget": trial.budget}
        row |= rate
        if not done:
            reason = f"it fails from every fresh start: {tried[0][0].reason}"
            if name == "found":
                raise RunError(f"the found program cannot be handed over: {reason}")
            return row | {"failed": reason, "label": f"{LABELS[name]} (fails to train)"}
        mean = fmean([one.fitness for _, one, _ in done])
        stage.progress(count, count, f"mean loss {mean:.4f}")
        stage.restore()  # forgets points that an interrupted run wrote
        for run, evaluation, _ in done:
            for point in evaluation.curve:
                stage.record("point", run=run + 1, cost=point.cost, update=point.updates, loss=point.loss)
        if name == "found":
            best = min(done, key=lambda entry: entry[1].fitness)[0]
            model = models.get(best) or trained(program, self.task, trial, seed, best)[1]
            assert model is not None
            hand_over(model, self.task, self.run)
        card = Scorecard(
            quality=pooled([quality for _, _, quality in done]),
            core_parameters=core_parameters(program),
            total_parameters=total_parameters(program, self.settings),
            flops=core_flops(program),
            updates=round(fmean([one.updates for _, one, _ in done])) + rate["sweep_updates"],
            evaluations=evaluations,
            seconds=sum(one.seconds for one, _ in tried),
        )
        failed = {"failed": f"{count - len(done)} of {count} fresh starts"} if len(done) < count else {}
        return row | {"scorecard": card.data(), "validation_loss": mean} | failed

    def _changes(self, found: Program) -> list[dict[str, Any]]:
        """What each change brings: losses of the start with it alone, and of the found program without it."""
        start, size = self.space.template, core_parameters(self.space.template)
        table: list[tuple[str, str, Program]] = []
        failed: dict[tuple[str, str], str] = {}
        for change in changes(start, found):
            for way, program in (("inserted", change.inserted), ("ablated", change.ablated)):
                if program is not None:
                    try:
                        table.append((change.name, way, rescaled(program, size)))
                    except RequestError as error:
                        failed[change.name, way] = str(error)
        losses = self._retrained("changes", [program for _, _, program in table])
        told: dict[str, dict[str, Any]] = {name: {"change": name} for name in [row[0] for row in table]}
        for (name, way, _), values in zip(table, losses, strict=True):
            told[name][way] = interval_of(values)
        for (name, way), reason in failed.items():
            told.setdefault(name, {"change": name})[way] = {"reason": reason}
        return list(told.values())

    def _lineage(self, search: PrimerSearch, found: Program, *, retrained: bool) -> list[dict[str, Any]]:
        """From the start to the found program, what each mutation changed and what its program scored."""
        number = next(member.number for member in search.members if member.program == found)
        line = search.lineage(number)
        losses = self._retrained("lineage", [member.program for member in line]) if retrained else []
        return [
            {
                "number": member.number,
                "mutation": member.mutation,
                "change": member.change,
                "fitness": member.fitness if math.isfinite(member.fitness) else None,
                "retrained": interval_of(losses[place]) if retrained else None,
            }
            for place, member in enumerate(line)
        ]

    def _remember(
        self, stage: str, search: PrimerSearch, top: Sequence[Program], losses: Sequence[Sequence[float]]
    ) -> None:
        """What the report tells of a search."""
        best = _best_of(losses)
        first, settings = stage == "search", self.strategy.confirmation
        told = {
            "summary": search.summary(),
            "lineage": self._lineage(search, top[best], retrained=first and settings.lineage),
            "texts": {"start": program_text(self.space.template), "found": program_text(top[best])},
            "changes": self._changes(top[best]) if first and settings.changes else [],
            "top": [
                {"digest": digest(program), "losses": [loss if math.isfinite(loss) else None for loss in row]}
                for program, row in zip(top, losses, strict=True)
            ],
        }
        self.run.write_json(f"evolution/{stage}.json", told)

    def _write(
        self, rows: list[dict[str, Any]], correlation: dict[str, Any] | None, *, complete: bool = True
    ) -> dict[str, Any]:
        result = super()._write(rows, correlation, complete=complete)
        told = self.run.read_json("evolution/search.json")
        rows = [row for row in rows if row["curves"]]
        curves = {row["name"]: row["curves"] for row in rows}
        pairs = {name: [tuple(zip(*run, strict=True)) for run in runs] for name, runs in curves.items()}
        speedups = {}
        for row in rows:
            start = "start" if row["budget"] == self.trial.budget else "longer_start"
            if row["name"].startswith("wider"):
                start = "wider_start"
            if start in pairs and row["name"] != start:
                speedups[row["name"]] = interval_data(speedup(pairs[start], pairs[row["name"]]))
        noise = next((row for row in rows if row["name"] == "start"), None)
        result["evolution"] = {
            "budget": self.trial.budget,
            "hurdles": list(self.strategy.hurdle_times()),
            "lineage": told["lineage"],
            "changes": told.get("changes", []),
            "texts": told["texts"],
            "failures": told["summary"]["invalid"],
            "summary": told["summary"],
            "curves": curves,
            "trainings": [
                {"program": LARGER.get(row["name"], row["name"]), "budget": row["budget"], "losses": _finals(row)}
                for row in rows
            ],
            "speedups": speedups,
            "noise": _noise(_finals(noise)) if noise else None,
        }
        self.run.write_json("result.json", result)
        return result


def _key(program: Program) -> str:
    """What tells programs apart, their size too."""
    return hashlib.sha256(program_text(program).encode()).hexdigest()[:16]


def _best_of(losses: Sequence[Sequence[float]]) -> int:
    """The place of the row with the fewest failed runs, and among those with the lowest mean of the rest."""

    def key(place: int) -> tuple[int, float]:
        finite = [loss for loss in losses[place] if math.isfinite(loss)]
        return len(losses[place]) - len(finite), fmean(finite) if finite else math.inf

    return min(range(len(losses)), key=key)


def _finals(row: dict[str, Any]) -> list[float]:
    """The last loss from each fresh start."""
    return [run[-1][1] for run in row["curves"]]


def _noise(finals: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation of the final losses over fresh starts."""
    return {"mean": fmean(finals), "spread": stdev(finals) if len(finals) > 1 else 0.0, "runs": len(finals)}


def _curve(evaluation: Evaluation) -> list[list[float]]:
    """Loss by cost; of points at the same number of updates the last."""
    return [list(pair) for pair in {point.cost: point.loss for point in evaluation.curve}.items()]
