"""Batches of sentence pairs by token budget: a function of seed and epoch, resumable anywhere, with little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from nasformer.errors import RequestError
from nasformer.tasks.vocabulary import BOS, PAD

DRAWN_BATCH = 4_096


@dataclass(frozen=True)
class Batch:
    """Sentence pairs as int64 tensors padded on the right with PAD, and the row of the data that each comes from.

    `source` (batch, source); `target_input` (batch, target): BOS and the tokens; `target_output` (batch, target): the
    tokens and EOS.
    """

    source: Tensor
    target_input: Tensor
    target_output: Tensor
    rows: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """The number of target tokens to predict (EOS included, padding not)."""
        return int((self.target_output != PAD).sum())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        return Batch(self.source.to(device), self.target_input.to(device), self.target_output.to(device), self.rows)

    def split(self, parts: int) -> list[Batch]:
        """The same pairs as several batches (fewer where there are fewer pairs), each cut to its own longest side."""
        found = []
        for rows in np.array_split(np.arange(len(self.rows)), min(parts, len(self.rows))):
            start, stop = int(rows[0]), int(rows[-1]) + 1
            source, output = self.source[start:stop], self.target_output[start:stop]
            longest, width = int((source != PAD).sum(1).max()), int((output != PAD).sum(1).max())
            target = self.target_input[start:stop, :width]
            found.append(Batch(source[:, :longest], target, output[:, :width], self.rows[start:stop]))
        return found


class PairData:
    """Encoded pairs (each side ends with EOS) in flat arrays. Pairs with a side over `max_length` are never trained on.

    `source_lengths` and `target_lengths` (pairs) count tokens with EOS.
    Raises `RequestError` if the sides differ in number or a sequence is empty.
    """

    def __init__(
        self, source: Sequence[Sequence[int]], target: Sequence[Sequence[int]], max_length: int | None = None
    ) -> None:
        if len(source) != len(target):
            raise RequestError(f"expected as many sources as targets, got {len(source):,} and {len(target):,}")
        self.max_length = max_length
        self._source, self._source_starts, self.source_lengths = _flat(source)
        self._target, self._target_starts, self.target_lengths = _flat(target)
        self.longest_sides = np.maximum(self.source_lengths, self.target_lengths)
        if len(source) and min(self.source_lengths.min(), self.target_lengths.min()) == 0:
            raise RequestError("expected at least EOS in every sequence, got an empty one; encode with a Vocabulary")

    def __len__(self) -> int:
        return len(self.source_lengths)

    def usable(self, tokens: int) -> np.ndarray:
        """The rows (pairs,) whose sides fit into a batch of `tokens` and into `max_length`."""
        return np.flatnonzero(self.longest_sides <= min(tokens, self.max_length or tokens))

    def left_out(self, tokens: int) -> int:
        """The number of pairs that are too long for batches of `tokens`."""
        return len(self) - len(self.usable(tokens))

    def collate(self, rows: np.ndarray | Sequence[int]) -> Batch:
        """The batch of some rows, in their order."""
        rows = np.asarray(rows, dtype=np.int64)
        source, _ = _padded(self._source, self._source_starts[rows], self.source_lengths[rows])
        output, inside = _padded(self._target, self._target_starts[rows], self.target_lengths[rows])
        shifted = np.full_like(output, BOS)
        shifted[:, 1:] = output[:, :-1]
        shifted[~inside] = PAD
        tensors = torch.from_numpy(source), torch.from_numpy(shifted), torch.from_numpy(output)
        return Batch(*tensors, tuple(rows.tolist()))


def _flat(sequences: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
    flat = np.fromiter(chain.from_iterable(sequences), np.int32, int(lengths.sum()))
    return flat, np.cumsum(lengths) - lengths, lengths


def _padded(flat: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    columns = np.arange(lengths.max(initial=0))
    inside = columns < lengths[:, None]
    padded = np.full(inside.shape, PAD, dtype=np.int64)
    padded[inside] = flat[(starts[:, None] + columns)[inside]]
    return padded, inside


def _sorted(data: PairData, rows: np.ndarray) -> np.ndarray:
    """Rows by target length, then source length, up and down in turn so that neighbours differ little on both sides."""
    target, source = data.target_lengths[rows], data.source_lengths[rows]
    return rows[np.lexsort((np.where(target % 2, source, -source), target))]


def _grouped(data: PairData, rows: np.ndarray, tokens: int) -> list[np.ndarray]:
    """Neighbouring rows put together while rows × longest side stays within `tokens` (a longer pair stands alone)."""
    bounds, start, longest = [], 0, 0
    for number, side in enumerate(data.longest_sides[rows].tolist()):
        longest = max(longest, side)
        if (number - start + 1) * longest > tokens and number > start:
            bounds.append(number)
            start, longest = number, side
    return np.split(rows, bounds) if len(rows) else []


def part_of(data: PairData, part: tuple[float, float], seed: int) -> np.ndarray:
    """The rows between two fractions of all pairs in an order that `seed` alone decides; (0, 1) are all."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(data))
    first, last = (round(fraction * len(data)) for fraction in part)
    return np.sort(order[first:last])


def epoch_batches(
    data: PairData, tokens: int, seed: int, epoch: int, among: np.ndarray | None = None
) -> list[np.ndarray]:
    """The batches of one epoch, each an array of rows (of those `among`) with rows × longest side ≤ `tokens`; depends
    on nothing else.

    Raises `RequestError` if no pair fits.
    """
    rows = data.usable(tokens)
    rows = rows if among is None else np.intersect1d(rows, among, assume_unique=True)
    if not len(rows):
        limit = min(tokens, data.max_length or tokens)
        raise RequestError(
            f"expected pairs of at most {limit} tokens a side, got none among {len(data):,}; allow longer batches"
        )
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
    batches = _grouped(data, _sorted(data, generator.permutation(rows)), tokens)
    return [batches[number] for number in generator.permutation(len(batches))]


class BatchStream:
    """Training batches without end, of the rows `among` (all where None); its state is the epoch and the position in
    it, both whole numbers."""

    def __init__(self, data: PairData, tokens: int, seed: int, among: np.ndarray | None = None) -> None:
        self._data, self._tokens, self._seed, self._among = data, tokens, seed, among
        self.load_state_dict({"epoch": 0, "position": 0})

    def next(self) -> Batch:
        """The next batch; a new epoch begins when one is over."""
        if self._position >= len(self._batches):
            self.load_state_dict({"epoch": self._epoch + 1, "position": 0})
        self._position += 1
        return self._data.collate(self._batches[self._position - 1])

    def state_dict(self) -> dict[str, int]:
        """Where the stream stands: {"epoch", "position"}."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes to where a stream of the same data, tokens and seed stood."""
        self._epoch, self._position = state["epoch"], state["position"]
        self._batches = epoch_batches(self._data, self._tokens, self._seed, self._epoch, self._among)


def in_order(data: PairData, tokens: int) -> Iterator[Batch]:
    """Every pair once, sorted by length, for evaluation; `rows` tells which. A pair over `tokens` stands alone."""
    for rows in _grouped(data, _sorted(data, np.arange(len(data))), tokens):
        yield data.collate(rows)


def draw(data: PairData, tokens: int, generator: np.random.Generator) -> list[Batch]:
    """A fresh random subset of about `tokens` target tokens, as length-sorted batches with little padding.

    Each batch may have a quarter of `tokens` padded positions a side, but at least 1,024 (smaller ones cost more in
    calls than they save in padding) and at most 4,096.
    """
    rows = generator.permutation(data.usable(DRAWN_BATCH))
    count = int(np.searchsorted(np.cumsum(data.target_lengths[rows]), tokens)) + 1
    limit = min(DRAWN_BATCH, max(1_024, tokens // 4))
    return [data.collate(batch) for batch in _grouped(data, _sorted(data, rows[:count]), limit)]
