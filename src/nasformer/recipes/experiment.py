"""A recipe carried out, arm by arm: search and fine-tune, then every control with the same updates and evaluations.

Each arm ends with a row of the result (`rows/NAME.json`); an arm whose row is there is not done again, so a run that
was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random
from typing import Any

import numpy as np
from torch import nn

from nasformer.errors import RequestError, nearest
from nasformer.measures.training_cost import update_flops
from nasformer.models.build import build
from nasformer.models.program import check_causal, check_trained
from nasformer.models.size import core_flops, core_parameters, total_parameters
from nasformer.recipes.controls import CONTROLS, check, check_size
from nasformer.recipes.fixed import depth_of, of_layers, sized_decoder
from nasformer.recipes.from_scratch import rated
from nasformer.recipes.recipe import Recipe, TrainRecipe
from nasformer.report.roles import role_of
from nasformer.runs.run import Run
from nasformer.runs.stage import Display, Stage
from nasformer.spaces.families import is_reversible, read_architecture
from nasformer.spaces.named import sized
from nasformer.spaces.program import Program
from nasformer.spaces.program_space import ProgramSpace
from nasformer.spaces.space import Space
from nasformer.strategies.objective import Objective
from nasformer.tasks.scorecard import Scorecard
from nasformer.tasks.task import Task, TaskSettings
from nasformer.training.randomness import derive
from nasformer.training.sweep import Swept, plain_rate
from nasformer.training.train import train
from nasformer.training.trainer import Training

LABELS = {
    "random_search": "random search",
    "spos": "SPOS",
    "space_reduction": "Space Reduction",
    "selection": "shrinking without exploration",
    "sizes_only": "sizes only",
    "shuffled": "shuffled scores",
    "random_architecture": "random architecture, from scratch",
    "retrained": "found, from scratch",
    "transformer": "Transformer",
    "light_convolution": "LightConv",
    "lite_transformer": "Lite Transformer",
    "plain_darts": "DARTS on the plain Transformer",
    "uniform_sampling": "uniform sampling",
    "other_zero": "derived with the other rule for Zero",
    "start": "start (Transformer)",
    "random_mutation": "random mutation, no selection",
    "transformer_program": "Transformer",
    "gelu": "GELU",
    "squared_relu": "squared ReLU",
    "convolved": "multi-dconv-head attention",
    "transformer_plus_plus": "Transformer++",
    "primer_ez": "Primer-EZ",
    "primer": "Primer",
    "longer": "found, three times the budget",
    "longer_start": "start, three times the budget",
    "wider": "found, twice the width",
    "wider_start": "start, twice the width",
    "darts_v2": "DARTS (published cells)",
    "gdas_v1": "GDAS (published cells)",
    "gdas": "GDAS",
    "darts": "DARTS",
    "second_order": "DARTS, second order",
    "pc_darts": "PC-DARTS",
    "darts_minus": "DARTS−",
    "early_stopping": "R-DARTS, early stopping",
    "all_edges": "ROME without topology",
    "single_sample": "ROME with single samples",
    "gathered_weights": "ROME, gathering for weights alone",
    "gathered_logits": "ROME, gathering for logits alone",
    "pairs": "ROME, edges drawn in sets",
    "joint": "ROME, derived by the other rule",
    "table_best": "best in the table",
    "fine_tuned": "found, fine-tuned",
    **{name: control.label for name, control in CONTROLS.items()},
}
"""What reports call the controls."""


VOCABULARIES = "vocabularies"
"""The folder of a run for what its task makes of the data once: vocabularies, tokens, decoded images."""


def label(name: str, strategy: str, space: Space) -> str:
    """What reports call an arm; the found one by the strategy's name, and DARTS on a reversible space DARTSformer. The
    start of a search of programs is the Transformer, but in a space of one's own."""
    if name == "start" and space.name != "primer":
        return "start"
    for training in ("fine_tuned", "retrained"):
        if name.endswith(f"_{training}"):
            whose = LABELS[name.removesuffix(f"_{training}")]
            return f"{whose}, {LABELS[training].removeprefix('found, ')}"
    many, _, number = name.rpartition("_")
    if many in ("random_architecture", "average"):
        return f"{LABELS[many]}, {number}"
    if name != "found":
        return LABELS[name]
    darts = "DARTSformer" if is_reversible(space.template) else "DARTS"
    named = {"shrinknas": "ShrinkNAS", "darts": darts, "rome": "ROME", "primer": "found program"}
    return named.get(strategy) or LABELS[strategy]


def open_task(settings: TaskSettings, run: Run) -> Task:
    """The task of a run; raises `RequestError` where its data are no longer what they were when the run began."""
    task = settings.open(run.path / VOCABULARIES)
    if not (run.path / "data.json").exists():
        run.write_json("data.json", task.digests())
    then, now = run.read_json("data.json"), task.digests()
    if changed := [split for split in now if then.get(split) != now[split]]:
        raise RequestError(
            f"the {' and '.join(changed)} data at {task.facts()['path']} changed since this run began; restore it, or "
            f"start a new run"
        )
    return task


def train_alone(recipe: TrainRecipe, run: Run, display: Display) -> dict[str, Any]:
    """One architecture trained from scratch; returns (and writes) the result with its single row. Raises `LeakError`
    for a program that sees the future."""
    recipe.task.check(recipe.architecture)
    task = open_task(recipe.task, run)
    tell_task(task, run)
    settings = task.model_settings(recipe.dropout)
    if isinstance(recipe.architecture, Program):
        check_causal(recipe.architecture, recipe.task.longest, derive(recipe.seed, "guard"))
    seed, stage = derive(recipe.seed, "training"), Stage(run, "found", display, recipe.checkpoint_seconds)

    def fresh() -> nn.Module:
        return build(recipe.architecture, settings, seed=derive(recipe.seed, "weights"))

    training, swept = plain_rate(recipe.training, fresh, task, seed, recipe.sweep, stage)
    model = train(fresh(), task, training, stage, seed=seed)
    if isinstance(recipe.architecture, Program):
        tokens = task.draw(1, np.random.default_rng(0))[0].input[:4]
        check_trained(model, tokens.to(next(model.parameters()).device))
    updates = training.updates + (swept.updates if swept else 0)
    flops = updates * update_flops(recipe.architecture, settings, training.batch_tokens)
    cost: dict[str, Any] = {"updates": updates, "evaluations": 0, "seconds": stage.seconds, "flops": flops}
    row = score(model, task, settings, stage, **cost) | rate_of(training, swept)
    hand_over(model, task, run)
    run.write_json("architectures/best.json", recipe.architecture.data())
    rows = [{"name": "found", "label": recipe.name} | row]
    result = {"recipe": recipe.name, "task": task.facts(), "limits": {}, "rows": rows, "correlation": None}
    run.write_json("result.json", result)
    return result


def tell_task(task: Task, run: Run) -> None:
    """The facts of the task as the first event of the journal: what is trained on, and what is left out."""
    if not run.events("task"):
        run.record("task", **task.facts())


def hand_over(model: nn.Module, task: Task, run: Run) -> None:
    """Write the model as the folder `model` of the run, whole or not at all."""
    with run.write_folder("model") as folder:
        task.save(model, folder)


def rate_of(training: Training, swept: Swept | None) -> dict[str, Any]:
    """What a row says of the rate: the peak, and the updates of the sweep where there was one."""
    return {"peak": training.schedule.peak, "sweep_updates": swept.updates if swept else 0}


def score(
    model: nn.Module,
    task: Task,
    settings: Any,
    stage: Stage,
    *,
    updates: int,
    evaluations: int,
    seconds: float,
    flops: float | None = None,
) -> dict[str, Any]:
    """The row of a trained model: its architecture, its scorecard on the test split, its validation loss."""
    stage.progress(1, 1, "scoring")
    architecture: Any = model.architecture
    scorecard = Scorecard(
        quality=task.quality(model, "test"),
        core_parameters=core_parameters(architecture),
        total_parameters=total_parameters(architecture, settings),
        flops=core_flops(architecture),
        updates=updates,
        evaluations=evaluations,
        seconds=seconds,
        training_flops=flops,
    )
    stage.record("finished", seconds=seconds)
    loss = task.validation_loss(model)
    return {"architecture": architecture.data(), "scorecard": scorecard.data(), "validation_loss": loss}


PLAIN = ("transformer", "light_convolution", "lite_transformer")
"""Controls that are one plain network at the depth of the space."""


class Experiment:
    """A recipe on its way to a result: what all strategies share. Subclasses say how an architecture is found and
    which controls search.

    Args:
        recipe: what is done.
        run: the folder that remembers.
        display: where progress is shown.
    """

    controls: tuple[str, ...] = ("random_architecture", *PLAIN, *CONTROLS)
    """Those that every strategy offers: trained from scratch, of the found architecture's core size."""
    of_cells = False
    """Whether what is found may be trained at other sizes, or looked up in a table."""

    def __init__(self, recipe: Recipe, run: Run, display: Display) -> None:
        self.recipe, self.run, self.display = recipe, run, display
        self.objective = recipe.objective.but(at=recipe.trained) if recipe.trained else recipe.objective
        if unknown := [name for name in recipe.controls if name not in self.controls]:
            known = nearest(unknown[0], self.controls)
            raise RequestError(f"the strategy {recipe.strategy.kind} has no control {unknown[0]!r}; {known}")
        if recipe.correlation and type(self).correlation is Experiment.correlation:
            raise RequestError("correlation is of scores on inherited weights, and this strategy has none; expected 0")
        if (recipe.trained or recipe.table) and not self.of_cells:
            raise RequestError(
                "trained and table are for searches of cells by gradients, and this is another: expected neither"
            )
        self.space: Any = recipe.open_space()
        if isinstance(self.space, ProgramSpace) != (recipe.strategy.kind == "primer"):
            raise RequestError(
                f"the strategy primer, and no other, searches programs; got {recipe.strategy.kind} and the space "
                f"{self.space.name!r}: change strategy.kind or the space"
            )
        for name in recipe.controls:
            if name in CONTROLS:
                check(self, name)
        recipe.task.check(self.space.template)
        self.task = open_task(recipe.task, run)
        tell_task(self.task, run)
        self.settings = self.task.model_settings(recipe.dropout)
        self.check()

    def check(self) -> None:
        """Raises `RequestError` where no member of the space is within the limits, or no network of a control."""
        self.objective.check(self.space, self.settings)
        for name in self.recipe.controls:
            if name in CONTROLS:
                check_size(self, name)
            elif name in PLAIN:
                self.check_plain(name)

    def check_plain(self, name: str) -> None:
        """Raises `RequestError` where no plain network stands beside the members of the space."""
        if not of_layers(self.space.template):
            raise RequestError(
                f"the control {name} is a network of layers, and the space {self.space.name!r} has none; leave it out"
            )

    def carry_out(self) -> dict[str, Any]:
        """All arms in order; returns (and writes) the result."""
        rows = [self.arm("found", self.find)]
        found = read_architecture(rows[0]["architecture"])
        self.run.write_json("architectures/best.json", found.data())
        for name in self._arms():
            rows.append(self.arm(name, partial(self._control, name, found)))
            self._write(rows, None, complete=False)
        return self._write(rows, self.correlation() if self.recipe.correlation else None)

    def _arms(self) -> Iterator[str]:
        """The controls; random architectures as many as the recipe asks for."""
        for name in self.recipe.controls:
            yield name
            if name == "random_architecture":
                yield from (f"{name}_{number}" for number in range(2, self.recipe.random_architectures + 1))

    def find(self) -> dict[str, Any]:
        """Search and train; the row of the found architecture."""
        raise NotImplementedError

    def control(self, name: str, found: Any) -> dict[str, Any]:
        """The row of a control."""
        return self.from_scratch(self.fixed(name, found), name)

    def correlation(self) -> dict[str, Any] | None:
        """How scores on inherited weights rank architectures against training each from scratch; None where a strategy
        has none."""
        return None

    def note(self) -> str | None:
        """What a reader must know of how the rows were measured, where it is not the usual way."""
        return None

    def _write(
        self, rows: list[dict[str, Any]], correlation: dict[str, Any] | None, *, complete: bool = True
    ) -> dict[str, Any]:
        """The result so far, or of the whole run."""
        objective = self.recipe.objective.data()
        limits = {k: v for k, v in objective.items() if k.startswith(("min_", "max_")) and v is not None}
        result = {
            "recipe": self.recipe.name,
            "complete": complete,
            "task": self.task.facts(),
            "space": {"name": self.space.name, "size": self.space.size, "encoded_size": self.space.encoded_size},
            "limits": limits,
            "rows": rows,
            "divergence": self.run.events("divergence"),
            "correlation": correlation,
            "note": self.note(),
        }
        self.run.write_json("result.json", result)
        return result

    def _control(self, name: str, found: Any) -> dict[str, Any]:
        return CONTROLS[name].row(self, name, found) if name in CONTROLS else self.control(name, found)

    def arm(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row of an arm, made by `work` where it is not there yet."""
        path = f"rows/{name}.json"
        if not (self.run.path / path).exists():
            said = {"name": name, "label": label(name, self.recipe.strategy.kind, self.space)}
            row = said | work() | {"role": role_of(name)}
            self.run.write_json(path, row)
        return self.run.read_json(path)

    def stage(self, name: str) -> Stage:
        """A named part of the run."""
        settled = (self.run.path / f"rows/{name}.json").exists()
        return Stage(self.run, name, self.display, self.recipe.checkpoint_seconds, settled=settled)

    def seed(self, *names: str | int) -> int:
        """The recipe's seed for a purpose."""
        return derive(self.recipe.seed, *names)

    def equal(self, found: Any) -> Objective:
        """The recipe's limits, and the core size of the found architecture: controls that search choose among such,
        so that no difference in quality is one in size."""
        return self.objective.near(core_parameters(found))

    def limits(self, space: Any) -> Objective:
        """Within which a search of a space looks."""
        return self.objective

    def sampled_space(self) -> Any:
        """Where random architectures are drawn."""
        return self.space

    def fixed(self, name: str, found: Any) -> Any:
        """The architecture of a control that does not search."""
        core = core_parameters(found)
        if name.startswith("random_architecture"):
            number = name.removeprefix("random_architecture")
            random = Random(self.seed("random architecture", *([number] if number else [])))
            return self.equal(found).sample(self.sampled_space(), random, self.settings)
        operators = {
            "transformer": ("attention", 2.0),
            "light_convolution": ("light_convolution", 2.0),
            "lite_transformer": ("long_short_light", 1.0),
        }
        operator, ratio = operators[name]
        largest = self.space.largest()
        depth = max(depth_of(largest.decoder), depth_of(found.decoder))
        if hasattr(largest, "encoder"):
            layers = {"encoder_layers": depth_of(largest.encoder), "decoder_layers": depth}
            return sized(operator, ratio, core, core_parameters, **layers)  # type: ignore[arg-type]
        return sized_decoder(operator, ratio, core, depth, getattr(largest, "norm", "pre"))  # type: ignore[arg-type]

    def different(self, draw: Callable[[Random], Any], size: int) -> list[Any]:
        """The architectures that a correlation is over: different ones, as many as the recipe asks for or there are."""
        random, members = Random(self.seed("correlation")), list[Any]()
        for _ in range(1_000 * self.recipe.correlation):
            if len(members) == min(self.recipe.correlation, size):
                break
            member = draw(random)
            members += [member] if member not in members else []
        return members

    def alone(self, members: Sequence[Any]) -> list[float]:
        """The validation losses of architectures that are trained from scratch, each once in a run, at a rate that is
        found with the first of them."""
        losses = []

        def fresh(number: int = 0) -> nn.Module:
            return build(members[number], self.settings, seed=self.seed("correlation", number))

        seed, stage = self.seed("alone", 0), self.stage("correlation")
        tuning, _ = plain_rate(self.recipe.fine_tune, fresh, self.task, seed, self.recipe.sweep, stage)
        for number in range(len(members)):
            path = f"rows/correlation/{number}.json"
            if not (self.run.path / path).exists():
                model = fresh(number)
                stage = self.stage(f"correlation_{number}")
                train(model, self.task, tuning, stage, seed=self.seed("alone", number))
                self.run.write_json(path, {"loss": self.task.validation_loss(model)})
                stage.record("finished", seconds=stage.seconds)
            losses.append(self.run.read_json(path)["loss"])
        return losses

    def whole_training(self) -> Training:
        """How an architecture is trained from scratch: for the updates that every arm gets, the same of them averaged
        over, on a schedule that fits."""
        tuning, updates = self.recipe.fine_tune, self.recipe.total_updates()
        part = tuning.averaged_part * tuning.updates / updates
        return tuning.but(updates=updates, averaged_part=part, schedule=tuning.schedule.fitted(updates))

    def spent(self) -> float:
        """The training FLOPs of everything that was run for the found architecture."""
        return float(self.run.read_json("rows/found.json")["scorecard"]["training_flops"] or 0.0)

    def trained(self, architecture: Any, name: str) -> tuple[nn.Module, Stage, dict[str, Any], int]:
        """An architecture trained from scratch, its rate found first where it is to be; the stage, what the row says
        of the rate, and the updates, those of the sweep included."""
        stage = self.stage(name)  # whose seconds count the sweep too
        training, swept = rated(self, architecture, name, self.recipe.sweep)
        model = build(architecture, self.settings, seed=self.seed(name, "weights"))
        model = train(model, self.task, training, stage, seed=self.seed(name))
        return model, stage, rate_of(training, swept), training.updates + (swept.updates if swept else 0)

    def from_scratch(
        self,
        architecture: Any,
        name: str,
        *,
        searched: int = 0,
        evaluations: int = 0,
        seconds: float = 0.0,
        flops: float = 0.0,
    ) -> dict[str, Any]:
        """The row of an architecture trained from scratch for the updates that every arm gets; `searched` updates,
        `evaluations`, `seconds` and `flops` went into finding it."""
        model, stage, rate, updates = self.trained(architecture, name)
        flops += updates * update_flops(architecture, self.settings, self.recipe.fine_tune.batch_tokens)
        return self.row(
            model, name, self.settings, searched + updates, evaluations, seconds + stage.seconds, stage, flops
        ) | (rate | {"searched": searched + updates - self.recipe.total_updates()})

    def row(
        self,
        model: nn.Module,
        name: str,
        settings: Any,
        updates: int,
        evaluations: int,
        seconds: float,
        stage: Stage,
        flops: float | None = None,
    ) -> dict[str, Any]:
        """The row of a trained model; the found one is handed over as the folder `model`."""
        cost: dict[str, Any] = {"updates": updates, "evaluations": evaluations, "seconds": seconds, "flops": flops}
        row = score(model, self.task, settings, stage, **cost)
        if name == "found":
            hand_over(model, self.task, self.run)
        return row
