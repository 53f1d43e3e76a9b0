"""The small frozen values of the watch over searches of cells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CellCounts:
    """Of a type of cell as derived at some time: its edges, how many are skips, how many learn nothing (skips too)."""

    cell: str
    edges: int
    skips: int
    parameter_free: int


@dataclass(frozen=True)
class Warned:
    """A warning that a type of cell looks collapsed, in words."""

    cell: str
    text: str


@dataclass(frozen=True)
class Epoch:
    """One equal part of a search: the derived cells at its end, the variance of the logits' gradients in it (None of
    single samples), and the warnings of collapse."""

    number: int
    update: int
    cells: tuple[CellCounts, ...]
    variance: float | None = None
    warnings: tuple[Warned, ...] = ()


@dataclass(frozen=True)
class EdgeShares:
    """For each operator of an edge the share of all updates in which it was trained."""

    edge: str
    operators: tuple[str, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class WatchedSearch:
    """A search of cells by its stage: its epochs, (update, entropy) of the operators and of the edges, the shares of
    training by the last epoch, their mean and unevenness (standard deviation over mean), and in the end what each rule
    derived: (rule, architecture in a line, core parameters)."""

    stage: str
    epochs: tuple[Epoch, ...]
    operator_entropy: tuple[tuple[int, float], ...] = ()
    edge_entropy: tuple[tuple[int, float], ...] = ()
    shares: tuple[EdgeShares, ...] = ()
    coverage: float | None = None
    unevenness: float | None = None
    derived: tuple[tuple[str, str, float | None], ...] = ()

    @property
    def warnings(self) -> tuple[Warned, ...]:
        """What the last epoch warned of."""
        return self.epochs[-1].warnings

    @property
    def warned_before(self) -> tuple[int, ...]:
        """The numbers of the epochs before the last that gave a warning."""
        return tuple(epoch.number for epoch in self.epochs[:-1] if epoch.warnings)


@dataclass(frozen=True)
class Watch:
    """The watched searches of a run: that of the found cells, its other starts, and those of controls."""

    search: WatchedSearch | None
    starts: tuple[WatchedSearch, ...] = ()
    controls: tuple[WatchedSearch, ...] = ()

    @property
    def all(self) -> tuple[WatchedSearch, ...]:
        """Every one of them, the search first."""
        return (*([self.search] if self.search else []), *self.starts, *self.controls)
