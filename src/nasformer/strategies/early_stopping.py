"""R-DARTS with early stopping (Understanding and Robustifying DARTS, Zela et al., arXiv 1909.09656).

DARTS collapses where the dominant eigenvalue of the Hessian of the validation loss with respect to the logits grows. It
is measured at intervals; where its moving mean exceeds `ratio` times what it was `back` measurements earlier, the
search stops, and what was derived in the middle of that earlier window is found (docs/papers/rome.md §7.1). How ours
differs (our reading 41): the eigenvalue is found by Lanczos iterations on exact products with the Hessian instead of
from the whole matrix, and the validation data are the logits' part of the training data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from nasformer.spaces.space import Space
from nasformer.spaces.value import Count, Value
from nasformer.strategies.bilevel import BilevelSearch
from nasformer.strategies.darts import Darts
from nasformer.strategies.derivation import told
from nasformer.strategies.objective import Objective
from nasformer.strategies.single_path import SinglePath
from nasformer.strategies.strategy import Progress
from nasformer.strategies.unrolled import check_unrolled
from nasformer.supernets.supernet import Supernet
from nasformer.tasks.task import Task
from nasformer.training.randomness import derive, seeded
from nasformer.training.trainer import Training

LANCZOS = 24
"""Products with the Hessian for one eigenvalue, at most."""


class EarlyStopping(Value):
    """DARTS (`darts`) that stops where the dominant eigenvalue grows.

    It is measured every `every` updates (None: 25 times in the search); the mean of the last `window` measurements is
    compared with that of `back` measurements earlier, whose middle is not to lie before the part `not_before` of the
    updates.
    """

    kind: Literal["early_stopping"] = "early_stopping"
    darts: Darts = Darts(backward="stored")
    every: Annotated[Count, Field(ge=1)] | None = None
    window: Annotated[int, Field(ge=1)] = 5
    back: Annotated[int, Field(ge=1)] = 4
    ratio: Annotated[float, Field(gt=0)] = 1.3
    not_before: Annotated[float, Field(ge=0, le=1)] = 0.2

    @property
    def training(self) -> Training:
        """Of the weights."""
        return self.darts.training

    @property
    def ways(self) -> dict[str, Any]:
        """How its supernet is made."""
        return self.darts.ways

    @property
    def interval(self) -> int:
        """Updates between two measurements."""
        return self.every or max(1, self.darts.training.updates // 25)

    @property
    def taken(self) -> int:
        """Where among the measurements, counted from the end, the middle of the earlier window is."""
        return -1 - self.back - self.window // 2

    def begin(self, space: Space, objective: Objective, task: Task, supernet: Supernet, seed: int) -> StoppedSearch:
        """The search under way. Raises `RequestError` as DARTS does, and for a supernet that cannot be differentiated
        twice."""
        check_unrolled(supernet, self.darts.micro_batches)
        return StoppedSearch(self, self.darts.begin(space, objective, task, supernet, seed), task, seed)


class StoppedSearch:
    """A DARTS search that measures itself (see `Search`)."""

    def __init__(self, settings: EarlyStopping, search: BilevelSearch, task: Task, seed: int) -> None:
        self.settings, self.search, self.seed = settings, search, seed
        training = settings.darts.training
        self.stream = task.stream(training.batch_tokens, derive(seed, "eigenvalue"), (settings.darts.weight_part, 1.0))
        self.eigenvalues: list[float] = []
        self.measured: list[int] = []
        self.kept: list[dict[str, Tensor]] = []
        self.stopped = False

    @property
    def supernet(self) -> Any:
        """The shared weights."""
        return self.search.supernet

    @property
    def path(self) -> SinglePath:
        """The training of the shared weights."""
        return self.search.path

    def finished(self) -> bool:
        """Whether all updates are done, or the eigenvalue has grown."""
        return self.stopped or self.search.finished()

    def step(self) -> Progress:
        """One step of DARTS, and at its time a measurement."""
        progress = self.search.step()
        update = self.search.path.updates
        while self.measured and self.measured[-1] > update:  # the search went back
            self.measured, self.eigenvalues = self.measured[:-1], self.eigenvalues[:-1]
            self.kept = self.kept[:-1]
        if not update or update % self.settings.interval or (self.measured and self.measured[-1] == update):
            return progress
        events = [*progress.events, ("eigenvalue", self._measure(update))]
        if self.stopped:
            rules = self.search.rules.derivations()
            events.append(("derived", {name: told(self.best(**rule)) for name, rule in rules.items()}))
        return Progress(progress.done, progress.total, progress.text, tuple(events))

    def best(self, **otherwise: Any) -> Any:
        """What DARTS derives from the logits: those before the eigenvalue grew, where it stopped for that."""
        if not self.stopped:
            return self.search.best(**otherwise)
        now = {name: logits.clone() for name, logits in self.search.logits.items()}
        try:
            self._put(self.kept[self.settings.taken])
            return self.search.best(**otherwise)
        finally:
            self._put(now)

    def _put(self, logits: dict[str, Tensor]) -> None:
        for name, own in self.search.logits.items():
            own.copy_(logits[name])

    def _measure(self, update: int) -> dict[str, Any]:
        settings, back = self.settings, self.settings.back
        self.eigenvalues.append(self._eigenvalue(update))
        self.measured.append(update)
        self.kept.append({name: logits.clone() for name, logits in self.search.logits.items()})
        means = moving_means(self.eigenvalues, settings.window)
        ratio = means[-1] / means[-1 - back] if len(means) > back and means[-1 - back] > 0 else math.nan
        earliest = settings.not_before * settings.darts.training.updates
        self.stopped = ratio > settings.ratio and self.measured[settings.taken] >= earliest
        found = {"eigenvalue": self.eigenvalues[-1], "mean": means[-1] if means else math.nan, "ratio": ratio}
        fields: dict[str, Any] = {"update": update}
        fields |= {name: value if math.isfinite(value) else None for name, value in found.items()}
        return fields | ({"stopped": True, "taken": self.measured[settings.taken]} if self.stopped else {})

    def _eigenvalue(self, update: int) -> float:
        search = self.search
        batch = self.stream.next().to(search.path.device.device)
        leaves = {name: logits.clone().requires_grad_() for name, logits in search.logits.items()}
        with seeded(self.seed, "eigenvalue", update), sdpa_kernel(SDPBackend.MATH):
            model = search.rules.lend(search.supernet, search.selection(logits=leaves), search.moment)
            loss = search.path.task.loss(model, batch)
            own = list(leaves.values())  # those of cells that the network has none of get zeros
            flat = torch.cat(torch.autograd.grad(loss, own, create_graph=True, materialize_grads=True))

            def product(vector: Tensor) -> Tensor:
                return torch.cat(torch.autograd.grad(flat, own, vector, retain_graph=True, materialize_grads=True))

            generator = torch.Generator().manual_seed(derive(self.seed, "eigenvalue", update))
            return dominant_eigenvalue(product, len(flat), generator)

    def tensors(self) -> dict[str, Tensor]:
        """The search's, and the logits at each measurement."""
        kept = {f"kept.{i}.{name}": tensor for i, logits in enumerate(self.kept) for name, tensor in logits.items()}
        return self.search.tensors() | kept

    def state(self) -> dict[str, Any]:
        """The search's, and the measurements."""
        own = {"eigenvalues": self.eigenvalues, "measured": self.measured, "stopped": self.stopped}
        return {"search": self.search.state(), "stream": self.stream.state_dict()} | own

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go to where `tensors` and `state` were taken."""
        self.search.load(tensors, state["search"])
        self.stream.load_state_dict(state["stream"])
        self.eigenvalues, self.measured = list(state["eigenvalues"]), list(state["measured"])
        self.stopped = state["stopped"]
        self.kept = [
            {name: tensors[f"kept.{i}.{name}"].clone() for name in self.search.logits}
            for i in range(len(self.measured))
        ]


def moving_means(values: Sequence[float], window: int) -> list[float]:
    """The mean of every `window` values in a row, the last one last."""
    return [sum(values[end - window : end]) / window for end in range(window, len(values) + 1)]


def dominant_eigenvalue(
    product: Callable[[Tensor], Tensor], size: int, generator: torch.Generator, iterations: int = LANCZOS
) -> float:
    """The largest eigenvalue of a symmetric (size, size) matrix that is given as its `product` with a vector (size,).

    Lanczos iterations with full orthogonalisation, in float64: exact where `iterations` reaches the size. NaN for a
    matrix that is not finite.
    """
    basis: list[Tensor] = []
    vector = torch.randn(size, generator=generator, dtype=torch.float64)
    rows = []
    for _ in range(min(size, iterations)):
        norm = float(vector.norm())
        if norm < 1e-10:
            break
        basis.append(vector / norm)
        image = product(basis[-1].float()).detach().cpu().double()
        if not bool(image.isfinite().all()):
            return math.nan
        rows.append(image)
        vector = image
        for _ in range(2):  # twice is enough
            for known in basis:
                vector = vector - (vector @ known) * known
    found = torch.stack(basis)
    projected = found @ torch.stack(rows).T
    return float(torch.linalg.eigvalsh((projected + projected.T) / 2)[-1])
