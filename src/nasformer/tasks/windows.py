"""Packed sequences: one stream of tokens cut into windows, in batches that are a function of seed and epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nasformer.errors import RequestError
from nasformer.tasks.vocabulary import PAD, written_whole

BLOCKS = 100
"""Into how many blocks of neighbouring windows the data are cut where only a part of them is used."""
DRAWN_BATCH = 4_096
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class WindowBatch:
    """Windows as int64 tensors (windows, time): `target` is what comes after each token of `input`.

    Where a text ends within its last window, both are padded with PAD. `rows` are the numbers of the windows.
    """

    input: Tensor
    target: Tensor
    rows: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """The number of tokens to predict (padding does not count)."""
        return int((self.target != PAD).sum())

    def to(self, device: torch.device | str) -> WindowBatch:
        """The same batch on a device."""
        return WindowBatch(self.input.to(device), self.target.to(device), self.rows)

    def split(self, parts: int) -> list[WindowBatch]:
        """The same windows as several batches (fewer where there are fewer windows)."""
        pieces = np.array_split(np.arange(len(self.rows)), min(parts, len(self.rows)))
        slices = [slice(int(piece[0]), int(piece[-1]) + 1) for piece in pieces]
        return [WindowBatch(self.input[piece], self.target[piece], self.rows[piece]) for piece in slices]


class Windows:
    """A stream of tokens (count,) cut into windows of `length` predictions, one after another.

    A window has length + 1 tokens, the last of which is the first of the next one. Its length counts the whole
    windows; one more row holds the rest of the stream, padded, where there is a rest.
    Raises `RequestError` where the stream is shorter than one window; `origin` says whose it is.
    """

    def __init__(self, tokens: np.ndarray, length: int, origin: str) -> None:
        if len(tokens) <= length:
            raise RequestError(
                f"expected at least one sequence of {length + 1:,} tokens in {origin}, got {len(tokens):,} tokens; "
                f"give more text, or lower task.length"
            )
        self.tokens, self.length = tokens, length

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.length

    def scored(self, tokens: int | None) -> np.ndarray:
        """The rows that predict every token of the stream once; or evenly spaced whole windows with about so many."""
        if tokens is None or tokens >= len(self.tokens) - 1:
            return np.arange(-(-(len(self.tokens) - 1) // self.length))
        count = max(1, tokens // self.length)
        return (np.arange(count) * len(self)) // count

    def collate(self, rows: np.ndarray | Sequence[int]) -> WindowBatch:
        """The batch of some rows, in their order."""
        rows = np.asarray(rows, dtype=np.int64)
        places = rows[:, None] * self.length + np.arange(self.length + 1)
        inside = places < len(self.tokens)
        found = np.where(inside, self.tokens[np.minimum(places, len(self.tokens) - 1)], PAD).astype(np.int64)
        inputs = np.where(inside[:, 1:], found[:, :-1], PAD)
        return WindowBatch(torch.from_numpy(inputs), torch.from_numpy(found[:, 1:].copy()), tuple(rows.tolist()))

    def batches(self, rows: np.ndarray, tokens: int) -> Iterator[WindowBatch]:
        """Some rows in their order, in batches of about `tokens` tokens."""
        count = max(1, tokens // self.length)
        for first in range(0, len(rows), count):
            yield self.collate(rows[first : first + count])

    def draw(self, tokens: int, generator: np.random.Generator) -> list[WindowBatch]:
        """Fresh random windows with about `tokens` tokens, in batches of about 4,096."""
        rows = generator.permutation(len(self))[: -(-tokens // self.length)]
        return list(self.batches(rows, DRAWN_BATCH))

    def part(self, part: tuple[float, float], seed: int) -> np.ndarray:
        """The windows between two fractions of all, in an order of blocks of neighbours that `seed` alone decides."""
        blocks = np.array_split(np.arange(len(self)), min(BLOCKS, len(self)))
        order = np.random.Generator(np.random.PCG64(seed)).permutation(len(blocks))
        first, last = (round(fraction * len(self)) for fraction in part)
        return np.sort(np.concatenate([blocks[number] for number in order])[first:last])


class WindowStream:
    """Training batches of `tokens` tokens without end, of some rows; its state is the epoch and the position in it.

    Raises `RequestError` where a batch holds no window, or there are no rows.
    """

    def __init__(self, windows: Windows, tokens: int, seed: int, among: np.ndarray) -> None:
        if tokens < windows.length:
            raise RequestError(
                f"a batch of {tokens} tokens holds no sequence of {windows.length}; raise training.batch_tokens, or "
                f"lower task.length"
            )
        if not len(among):
            raise RequestError(f"this part of the {len(windows):,} training sequences has none; give more text")
        self._windows, self._seed, self._among = windows, seed, among
        self._count = tokens // windows.length
        self.load_state_dict({"epoch": 0, "position": 0})

    def next(self) -> WindowBatch:
        """The next batch; a new epoch, in a new order, begins when one is over."""
        first = self._position * self._count
        if first >= len(self._order):
            self.load_state_dict({"epoch": self._epoch + 1, "position": 0})
            first = 0
        self._position += 1
        return self._windows.collate(self._order[first : first + self._count])

    def state_dict(self) -> dict[str, int]:
        """Where the stream stands: {"epoch", "position"}."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes to where a stream of the same windows, tokens and seed stood."""
        self._epoch, self._position = state["epoch"], state["position"]
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self._seed, self._epoch])))
        self._order = generator.permutation(self._among)


def kept_tokens(parts: Iterable[np.ndarray], vocabulary: int, path: Path | None) -> np.ndarray:
    """A stream of tokens (count,) below `vocabulary`, given in parts.

    Where a path is given the stream is memory-mapped from that file, which is written whole or not at all; where a good
    one is there already, `parts` is not touched. A file is a SHA-256 and the tokens that it is of.
    """
    kind = np.dtype("<u2" if vocabulary <= 1 << 16 else "<i4")
    if path is not None and (kept := _mapped(path, kind)) is not None:
        return kept
    tokens = np.concatenate([part.astype(kind) for part in parts])
    if path is None:
        return tokens
    with suppress(OSError), written_whole(path) as file:  # without its cache the work only takes longer
        file.write(hashlib.sha256(tokens.data).digest())
        file.write(tokens.data)
    kept = _mapped(path, kind)
    return tokens if kept is None else kept


def _mapped(path: Path, kind: np.dtype) -> np.ndarray | None:
    """The tokens in a file; None where there is none, or a damaged one."""
    try:
        size = path.stat().st_size - _DIGEST
        if size <= 0 or size % kind.itemsize:
            return None
        tokens = np.memmap(path, dtype=kind, mode="r", offset=_DIGEST)
        with path.open("rb") as file:
            good = file.read(_DIGEST) == hashlib.sha256(tokens.data).digest()
        return tokens if good else None
    except OSError:
        return None
