"""A recipe: a whole experiment as one frozen value."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationError, model_validator

from nasformer.errors import RequestError, nearest
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.families import FILES, Architecture, read_architecture_file
from nasformer.spaces.named import SPACES, NamedSpace
from nasformer.spaces.open import to_data
from nasformer.spaces.program import Program
from nasformer.spaces.program_space import ProgramSpace
from nasformer.spaces.space import Space
from nasformer.spaces.value import BY_KIND, Count, Value
from nasformer.strategies.darts import Darts
from nasformer.strategies.darts_minus import DartsMinus
from nasformer.strategies.early_stopping import EarlyStopping
from nasformer.strategies.evaluate_program import NO_DROPOUT
from nasformer.strategies.gdas import Gdas
from nasformer.strategies.objective import Objective
from nasformer.strategies.pc_darts import PcDarts
from nasformer.strategies.primer import Primer
from nasformer.strategies.rome import Rome
from nasformer.strategies.shrinknas import ShrinkNas
from nasformer.tasks.corpora import absolute
from nasformer.tasks.images import Images
from nasformer.tasks.language import Language
from nasformer.tasks.translation import Translation
from nasformer.training.schedule import AUTO, SCHEDULES, InverseSquareRoot
from nasformer.training.sweep import Sweep
from nasformer.training.trainer import Training

Control = Literal[
    "random_search",
    "spos",
    "space_reduction",
    "selection",
    "sizes_only",
    "shuffled",
    "random_architecture",
    "retrained",
    "transformer",
    "light_convolution",
    "lite_transformer",
    "plain_darts",
    "uniform_sampling",
    "other_zero",
    "start",
    "random_mutation",
    "transformer_program",
    "gelu",
    "squared_relu",
    "convolved",
    "transformer_plus_plus",
    "primer_ez",
    "primer",
    "longer",
    "longer_start",
    "wider",
    "wider_start",
    "darts_v2",
    "gdas_v1",
    "gdas",
    "darts",
    "second_order",
    "pc_darts",
    "darts_minus",
    "early_stopping",
    "all_edges",
    "single_sample",
    "gathered_weights",
    "gathered_logits",
    "pairs",
    "joint",
    "table_best",
    "tuned_transformer",
    "tuned_fixed",
    "tuned_transformer_total",
    "tuned_fixed_total",
    "halving",
    "average",
    "fine_tuned",
]
"""What can stand beside the found architecture:

`random_search` on the same supernet; `spos`, uniform training without shrinking; `space_reduction`, `selection` and
`shuffled`, variants of shrinking and its negative control; `sizes_only`, attention everywhere; `random_architecture` of
equal core size and `retrained`, the found one, from scratch; the fixed architectures of equal core size. Of a
differentiable search: `plain_darts`, the same search on the plain Transformer; `uniform_sampling` of single paths;
`other_zero`, what is derived with Zero allowed (or not, where it was). Of a search of programs: `start`, where it
began; `random_mutation`, the same search without selection; known programs of the start's size, at equal budget;
`longer` and `wider`, the found program at three times the budget and at twice the width, and the start beside it. Of a
search of cells: known cells at the same sizes (`darts_v2`, `gdas_v1`); other methods on the same supernet and budget
(`gdas`, `darts`, `second_order`, `pc_darts`, `darts_minus`, `early_stopping`, which is R-DARTS, `spos`); ROME without
one of its parts (`all_edges`: without topology, `single_sample`, `gathered_weights` and `gathered_logits`: samples
gathered for these alone), with edges drawn as sets (`pairs`), derived otherwise (`joint`); the best in a table
(`table_best`). As strong as one can make them, at the cost of the found one (`nasformer.recipes.controls`):
`tuned_transformer` and `tuned_fixed`, the best plain networks of its core size, with `_total` of its total size;
`halving` of random members; `average`, the mean of random members. `fine_tuned` and `retrained` are the two trainings
of the found one, of which the better is handed over.
"""
STRONGEST: tuple[Control, ...] = (
    *("tuned_transformer", "tuned_fixed", "tuned_transformer_total", "tuned_fixed_total", "halving", "average"),
)
"""What stands beside every search of layers unless a recipe says otherwise."""
Strategy = Annotated[
    Annotated[ShrinkNas, Tag("shrinknas")]
    | Annotated[Darts, Tag("darts")]
    | Annotated[Primer, Tag("primer")]
    | Annotated[Rome, Tag("rome")]
    | Annotated[Gdas, Tag("gdas")]
    | Annotated[PcDarts, Tag("pc_darts")]
    | Annotated[DartsMinus, Tag("darts_minus")]
    | Annotated[EarlyStopping, Tag("early_stopping")],
    BY_KIND,
]
"""How a recipe can search."""
STRATEGIES: dict[str, type[Value]] = {
    kind.model_fields["kind"].default: kind for kind, _ in map(get_args, get_args(get_args(Strategy)[0]))
}
"""Every strategy, by its kind."""
KINDS: dict[str, dict[str, type[Value]]] = {"strategy": STRATEGIES, "schedule": SCHEDULES}
"""What comes in several kinds, wherever it stands in a recipe; tasks do too."""
TASKS: dict[str, type[Translation] | type[Language] | type[Images]] = {
    "translation": Translation,
    "language": Language,
    "images": Images,
}
"""Every task, by its kind."""
Task = Annotated[
    Annotated[Translation, Tag("translation")]
    | Annotated[Language, Tag("language")]
    | Annotated[Images, Tag("images")],
    Discriminator(lambda value: value.get("kind", "translation") if isinstance(value, dict) else value.kind),
]
"""What models are made for; a task without a kind is translation."""


def task_for(architecture: Any, path: str | None = None) -> Translation | Language | Images:
    """The task that an architecture is made for, on the data at `path`: by whether it reads images, else by whether it
    has an encoder."""
    return next(task for task in TASKS.values() if task.fits(architecture))(path=path)


def read_task(data: dict[str, Any]) -> Translation | Language | Images:
    """The task that plain data describe."""
    return TASKS[data.get("kind", "translation")].read(data)


class TrainRecipe(Value):
    """One architecture trained on a task; where the schedule's peak is `auto`, `sweep` says how it is found."""

    kind: Literal["train"] = "train"
    name: str = "train"
    architecture: Architecture
    task: Task = Translation()
    training: Training = Training()
    sweep: Sweep = Sweep()
    dropout: Dropout = Dropout(residual=0.2)
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 120.0
    seed: int = 1

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        """The warm-up is no longer than the training."""
        self.training.schedule.fitted(self.training.updates)
        return self


_EARLIER = Training(averaged=10, schedule=InverseSquareRoot(peak=5e-4, warmup=10_000))
"""What `Training()` was before rates were found, in the recipes of earlier runs."""
UNUSED: dict[str, tuple[str, tuple[Value, ...]]] = {
    "dropout": ("regularisation is off", (Dropout(residual=0.2), Dropout(residual=0.0), NO_DROPOUT)),
    "fine_tune": ("every program is trained from scratch, by strategy.training", (Training(), _EARLIER)),
}
"""What a search of programs leaves aside: why, and the values that may stand there all the same (the defaults, and what
the named recipes say)."""


class Recipe(Value):
    """Task, space, limits, strategy, fine-tuning and controls; everything random follows from `seed`.

    `space` is the name of a space, a name with settings, or an architecture with open fields. Where a schedule's peak
    is `auto`, `sweep` says how it is found, for every arm alike; with `published` the schedule is a paper's and stays
    as it is. Of a search whose weights are inherited the best `finalists` are fine-tuned under hurdles; with `retrain`
    they are trained from scratch under hurdles, the best is fine-tuned too, and of the two what has the lower
    validation loss is handed over. `correlation` is
    the number of architectures that are also trained from scratch to see how inherited scores rank them (0: none).
    `random_architectures` is how many the controls `average` and `random_architecture` train. What a search of cells
    derives is trained at the sizes in `trained` (of images channels and cells, of sequences dim and blocks; without:
    those of the search), for which the limits hold; with `table`, the path of a published table, it is looked up there
    instead, as the accuracy on `table_data`.
    """

    kind: Literal["search"] = "search"
    name: str
    task: Task = Translation()
    space: str | NamedSpace | Architecture = "shrinknas"
    objective: Objective = Objective()
    strategy: Strategy = ShrinkNas()
    fine_tune: Training = Training()
    dropout: Dropout = Dropout(residual=0.2)
    sweep: Sweep = Sweep()
    published: bool = False
    finalists: Annotated[int, Field(ge=1)] = 4
    retrain: bool = True
    controls: tuple[Control, ...] = STRONGEST
    correlation: Annotated[int, Field(ge=0)] = 0
    random_architectures: Annotated[int, Field(ge=1)] = 3
    trained: dict[Literal["channels", "cells", "dim", "blocks"], Annotated[Count, Field(ge=1)]] = Field(
        default_factory=dict
    )
    table: str | None = None
    table_data: str = "cifar10"
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 120.0
    seed: int = 1

    @model_validator(mode="after")
    def _fair(self) -> Self:
        """Search, fine-tuning and controls are trained alike, nothing is set that does nothing, and a correlation has
        something to correlate."""
        inherits = self.strategy.kind == "shrinknas"
        for name in ("batch_tokens", "schedule", "weight_decay", "precision") if inherits else ():
            search, tuning = getattr(self.strategy.training, name), getattr(self.fine_tune, name)
            if search != tuning:
                raise RequestError(
                    f"strategy.training.{name} is {search} and fine_tune.{name} is {tuning}; controls are trained with "
                    f"the second, so a fair comparison needs both alike: change both"
                )
        for name, (_, defaults) in UNUSED.items() if self.strategy.kind == "primer" else ():
            if getattr(self, name) not in defaults:
                raise _unused(name)
        self._check_schedules(inherits)
        if self.correlation == 1:
            raise RequestError("correlation=1 correlates nothing; expected 0 (none) or at least 2 architectures")
        return self

    def _check_schedules(self, inherits: bool) -> None:
        """Warm-ups are no longer than what they begin, and published schedules have the published rate."""
        own: Training = getattr(self.strategy, "darts", self.strategy).training
        of_primer = self.strategy.kind == "primer"  # whose budget says how many updates there are
        places = {"strategy.training": (own, self.total_updates() if inherits else own.updates)}
        places |= {} if of_primer else {"fine_tune": (self.fine_tune, self.total_updates())}
        for place, (training, updates) in places.items():
            if self.published and training.schedule.peak == AUTO:
                raise RequestError(
                    f"{place}.schedule.peak=auto, but the recipe {self.name} follows a published schedule; expected a "
                    f"number, or published=false"
                )
            if of_primer:
                continue
            try:
                training.schedule.fitted(updates)
            except RequestError as error:
                raise RequestError(f"{place}.{error}") from None

    def open_space(self) -> Space | ProgramSpace:
        """The space, by name or as written; a program is where a search of programs starts."""
        space = NamedSpace(name=self.space) if isinstance(self.space, str) else self.space
        if isinstance(space, Program):
            return ProgramSpace(space)
        if not isinstance(space, NamedSpace):
            return Space(space)
        try:
            return space.open()
        except RequestError:
            if space.name in SPACES:  # settings may be wrong because the whole space is
                self.task.check(space.but(settings={}).open().template)
            raise

    def total_updates(self) -> int:
        """What every arm is trained for: the updates of search and fine-tuning together where weights are inherited,
        otherwise those of training from scratch."""
        inherited = self.strategy.training.updates if self.strategy.kind == "shrinknas" else 0
        return inherited + self.fine_tune.updates


def _unused(name: str) -> RequestError:
    return RequestError(f"{name} does nothing in a search by primer: {UNUSED[name][0]}; leave it out")


R = TypeVar("R", Recipe, TrainRecipe)


def override(recipe: R, changes: Sequence[str]) -> R:
    """The recipe with `key.path=value` changes; values are read as YAML. The task's path is made
    absolute, and a space that is a file is read, so that the run depends on neither place.

    `task.kind`, `strategy.kind` and then the kinds of schedules come first, wherever they stand: another kind is
    another task, on the same path and with the settings that it has by itself, or another strategy or schedule with
    its own settings, but for those that the recipe sets and it has too. Where a value is written out
    (`strategy={kind: gdas}`), later changes find its defaults in it.
    Raises `RequestError` for a path that does not exist (naming the nearest), a value out of range, or one that does
    nothing.
    """
    data = recipe.data()
    for change in sorted(changes, key=_kinds_first):
        path, equals, text = change.partition("=")
        if not equals:
            raise RequestError(f"expected key.path=value, got {change!r}")
        if path == "task.kind":
            data["task"] = _task_of(text, data["task"])
            continue
        *outer, last = path.split(".")
        place = data
        for depth, part in enumerate([*outer, last]):
            if not isinstance(place, dict) or (part not in place and place is not data.get("trained")):
                raise RequestError(f"the recipe has no {path!r}; {_nearest_path(path, data, depth)}")
            if depth < len(outer):
                place = place[part]
        if last == "kind" and outer and outer[-1] in KINDS:
            other = _of_kind(outer[-1], text, place)
            place.clear()
            place.update(other)
            continue
        try:
            value = yaml.safe_load(text)
            place[last] = text if isinstance(value, bool) and text not in ("true", "false") else value
        except yaml.YAMLError:
            raise RequestError(f"expected a YAML value in {change!r}") from None
        if isinstance(place[last], dict):
            name = path.partition(".")[0]
            data[name] = _with_defaults(type(recipe), name, data[name])
    space = data.get("space")
    if isinstance(space, str) and Path(space).suffix in FILES:
        data["space"] = read_architecture_file(Path(space)).data()
    if data["task"]["path"] is not None:
        data["task"]["path"] = absolute(str(data["task"]["path"]))
    if data.get("table") is not None:
        data["table"] = absolute(str(data["table"]))
    changed = type(recipe).read(data)
    if isinstance(recipe, Recipe) and isinstance(changed, Recipe):
        for name in UNUSED if recipe.strategy.kind == changed.strategy.kind == "primer" else ():
            if getattr(changed, name) != getattr(recipe, name):
                raise _unused(name)
    return changed


def _task_of(kind: str, task: dict[str, Any]) -> dict[str, Any]:
    if kind not in TASKS:
        raise RequestError(f"unknown task {kind!r}; {nearest(kind, TASKS)}")
    return task if kind == task["kind"] else TASKS[kind](path=task["path"]).data()


def _of_kind(name: str, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """The strategy or schedule of another kind: of what differs from the defaults of its own kind, what the other can
    take, itself or in the DARTS that it watches."""
    kinds = KINDS[name]
    if kind not in kinds:
        raise RequestError(f"unknown {name} {kind!r}; {nearest(kind, kinds)}")
    if kind == data["kind"]:
        return dict(data)
    before, other = _flat(kinds[data["kind"]]().data()), kinds[kind]
    changed = {key: value for key, value in _flat(data).items() if value != before.get(key)}
    kept: dict[str, Any] = {key: value for key, value in changed.items() if _takes(other, key, value)}
    if "darts" in other.model_fields:
        own = {key: value for key, value in changed.items() if _takes(Darts, key, value)}
        kept = {key: value for key, value in kept.items() if key not in own} | {"darts": other().data()["darts"] | own}
    return other.read(kept).data()


def _flat(data: dict[str, Any]) -> dict[str, Any]:
    """The settings of a strategy or schedule, those of the DARTS that it watches among them."""
    return data | data.get("darts", {})


def _kinds_first(change: str) -> int:
    """Where a change stands in the order in which changes are made."""
    path = change.partition("=")[0]
    return 0 if path in ("task.kind", "strategy.kind") else 1 if path.endswith("schedule.kind") else 2


def _takes(kind: type[Value], name: str, value: Any) -> bool:
    try:
        kind.read({name: value})
    except RequestError:
        return False
    return True


def _with_defaults(recipe: type[Value], name: str, data: Any) -> Any:
    """Plain data of a field with the defaults that they leave out; as they are where they are not valid (yet)."""
    field = recipe.model_fields[name]
    kind: Any = Annotated[field.annotation, field]
    try:
        return to_data(TypeAdapter(kind).validate_python(data))
    except ValidationError:
        return data


def _nearest_path(path: str, data: dict[str, Any], depth: int) -> str:
    known = list(_paths(data, ""))
    close = difflib.get_close_matches(path, known, n=1, cutoff=0.3)
    last = [name for name in known if name.rpartition(".")[2] == path.rpartition(".")[2]]
    last = last or [name for name in known if name.startswith(path)]
    return f"did you mean {(last or close)[0]!r}?" if last or close else nearest(path.split(".")[depth], data)


def _paths(data: Any, prefix: str) -> Any:
    for name, value in data.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{name}.")
