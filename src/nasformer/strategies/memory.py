"""What one search update takes in memory, known before it runs, and the fastest way of it that fits into a limit.

Nothing is computed by formula: the update itself is run on tensors without memory (`nasformer.measures.memory`) and its
live bytes are followed. A deep reversible network is not run whole: the peak of each part of the update (forward, loss,
decoder, encoder) is linear in the number of repeats, so one and two of them tell the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nasformer.errors import RequestError
from nasformer.measures.cost import saved_bytes
from nasformer.measures.memory import LiveBytes, imagined
from nasformer.models.transformer import PAD, ModelSettings
from nasformer.operators.reversible import Backward
from nasformer.spaces.families import is_reversible
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import Positive
from nasformer.spaces.value import Value
from nasformer.supernets.adam import SliceAdam
from nasformer.supernets.named import supernet_of
from nasformer.supernets.selection import softmax
from nasformer.tasks.cross_entropy import cross_entropy

SMOOTHING = 0.1
"""The label smoothing of the loss that is run; how large it is changes no byte."""


class BatchShape(Value):
    """The padded shape of a batch; a language model has no source."""

    sentences: Positive
    source: Positive
    target: Positive

    def part(self, micro_batches: int) -> BatchShape:
        """The largest of so many parts, by sentences."""
        return self.but(sentences=-(-self.sentences // micro_batches))


class Way(Value):
    """How an update is done: the backward pass (`nasformer.operators.reversible`), and in how many parts of a batch."""

    backward: Backward = "stored"
    one_at_a_time: bool = False
    micro_batches: Positive = 1

    @property
    def text(self) -> str:
        """In words."""
        options = ("one option at a time" if self.one_at_a_time else "all options at once") + ", "
        parts = "the whole batch" if self.micro_batches == 1 else f"{self.micro_batches} micro-batches"
        return f"{self.backward}, {options if self.backward == 'rebuilt' else ''}{parts}"


class MemoryPlan(Value):
    """The way that was chosen, the peak in bytes that it is predicted to have, and why in one line."""

    backward: Backward
    one_at_a_time: bool
    micro_batches: Positive
    predicted_bytes: Positive
    text: str


class MemoryModel:
    """The memory of search updates on a space, all operators of every choice mixed and every size at its greatest.

    Counted are weights, gradients and Adam's moments of the shared weights and of one logit an option, the copy of
    these that a search goes back to after a loss that is no number, what is kept for the backward pass, and every other
    tensor of the update, as on a CPU in float32. Batches are taken to have padding, and weights and logits to be
    differentiated at once: a search does one after the other and takes up to a few percent less.

    Args:
        space: a space of Transformers or of reversible networks.
        settings: the settings of every model.
        exact: whether reversible networks rebuild their streams to the bit (`nasformer.operators.reversible`).
    """

    def __init__(self, space: Space, settings: ModelSettings, *, exact: bool) -> None:
        self._imagined = imagined()
        self.reversible = is_reversible(space.template)
        self._peaks: dict[tuple[Way, BatchShape], int] = {}
        sizes, self._repeats = _shallow(space.largest())
        with self._imagined:
            self._samples = [_Sample(Space(size, space.name), settings, exact) for size in sizes]

    def kept_bytes(self, way: Way, shape: BatchShape) -> int:
        """What the forward pass of one micro-batch keeps for its backward pass."""
        with self._imagined:
            return round(max(self._extended([[s.kept(way, shape.part(way.micro_batches))] for s in self._samples])))

    def peak_bytes(self, way: Way, shape: BatchShape) -> int:
        """The most bytes at once during one update; each way and shape of its parts is run once."""
        several, part = way.micro_batches > 1, shape.part(way.micro_batches)
        key = way.but(micro_batches=1 + several), part
        if key not in self._peaks:
            with self._imagined:
                found = [sample.peaks(way, part, several=several) for sample in self._samples]
            self._peaks[key] = round(max(self._extended(found)))
        return self._peaks[key]

    def least_bytes(self) -> int:
        """What no way can go below: all that a search holds, and a gradient of every weight. Nothing is run for it."""
        return round(max(self._extended([[sample.least] for sample in self._samples])))

    def _extended(self, found: Sequence[Sequence[int]]) -> list[float]:
        """From the values of one and of two repeats, those of all."""
        if len(found) == 1:
            return list(map(float, found[0]))
        one, two = (np.array(values, dtype=float) for values in found)
        return (one + (two - one) * (self._repeats - 1)).tolist()


def plan(
    space: Space,
    settings: ModelSettings,
    batch_tokens: int,
    longest: int,
    memory_limit: int,
    *,
    exact: bool,
    tell: Callable[[Way], None] = lambda way: None,
) -> MemoryPlan:
    """The fastest way of an update on batches of `batch_tokens` that stays within `memory_limit` bytes.

    Batches are taken to hold as many sentences of `longest` tokens as they can, the case that takes most. In order of
    speed: stored; rebuilt; rebuilt one option at a time; that in 2, 4, 8, … micro-batches. Networks that are not
    reversible only have stored ways. `tell` hears of every way before it is tried, which takes seconds; where the
    limit is below what any way takes, the smallest alone is tried.
    Raises `RequestError` where no way fits, saying the least that can be reached.
    """
    shape = BatchShape(sentences=max(1, batch_tokens // longest), source=longest, target=longest)
    model = MemoryModel(space, settings, exact=exact)
    whole = [Way()]
    if model.reversible:
        whole += [Way(backward="rebuilt"), Way(backward="rebuilt", one_at_a_time=True)]
    parts = [whole[-1].but(micro_batches=number) for number in _powers(shape.sentences)]
    peaks: dict[Way, int] = {}

    def fits(way: Way) -> bool:
        if way not in peaks:
            tell(way)
            peaks[way] = model.peak_bytes(way, shape)
        return peaks[way] <= memory_limit

    smallest = (whole + parts)[-1]
    within_reach = model.least_bytes() <= memory_limit
    found = next((way for way in whole if fits(way)), None) if within_reach else None
    if found is None and fits(smallest):
        found = _fewest(parts, fits)
    if found is None:
        least = min(peaks, key=peaks.__getitem__)
        raise RequestError(
            f"no way of an update fits into {size(memory_limit)}: the least is {size(peaks[least])} with {least.text}; "
            f"expected at least that, or a narrower space, shorter sentences or a smaller vocabulary"
        )
    ways = whole + parts
    faster = [way for way in ways[: ways.index(found)] if way in peaks]
    missed = f"; {faster[-1].text} would take {size(peaks[faster[-1]])}" if faster else ""
    text = f"{found.text}: {size(peaks[found])} of {size(memory_limit)}{missed}"
    return MemoryPlan(**found.model_dump(), predicted_bytes=peaks[found], text=text)


def _fewest(ways: Sequence[Way], fits: Callable[[Way], bool]) -> Way:
    """The first way that fits, where every way takes less than the one before it and the last one fits."""
    below, found = -1, len(ways) - 1
    while found - below > 1:
        middle = (below + found) // 2
        below, found = (below, middle) if fits(ways[middle]) else (middle, found)
    return ways[found]


def size(count: int) -> str:
    """A number of bytes as readers write it."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _powers(sentences: int) -> Iterator[int]:
    number = 2
    while number < sentences:
        yield number
        number *= 2
    if sentences > 1:
        yield sentences


class _Sample:
    """A supernet without memory, and the update on it."""

    def __init__(self, space: Space, settings: ModelSettings, exact: bool) -> None:
        self.supernet: Any = supernet_of(space, settings, seed=1, exact=exact)
        choices = [choice for choice in space.choices if choice.operators]
        self.logits = {choice.name: torch.zeros(len(choice.options), requires_grad=True) for choice in choices}
        self.code = space.encode(space.close(lambda _: 0))
        adams = [SliceAdam(self.supernet.weights), SliceAdam(self.logits)]
        moments = [moment for adam in adams for part in (adam.first, adam.second) for moment in part.values()]
        live = [*self.supernet.weights.values(), *self.logits.values(), *moments]
        self.held = [*live, *(torch.empty_like(tensor) for tensor in live)]  # and the last good state
        self.least = sum(tensor.nbytes for tensor in (*self.held, *self.supernet.weights.values()))

    def kept(self, way: Way, shape: BatchShape) -> int:
        """Bytes kept for the backward pass of a batch."""
        source, target = _tokens(shape)
        with LiveBytes(number=shape.target - 1):
            return saved_bytes(lambda: self._loss(self._model(way), source, target, None))

    def peaks(self, way: Way, shape: BatchShape, *, several: bool) -> list[int]:
        """The peaks of the parts of one update on a batch; of `several` micro-batches of this shape, a later one."""
        source, target = _tokens(shape)
        model = self._model(way)
        leaves = [*model.parameters(), *self.logits.values()]
        if several:  # the gradients of the first one are there
            for leaf in leaves:
                leaf.grad = torch.empty_like(leaf)
        gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
        with LiveBytes([*self.held, *gradients, source, target], number=max(shape.source, shape.target) - 1) as live:
            del gradients
            self._loss(model, source, target, live).backward()
        for leaf in leaves:
            leaf.grad = None
        return live.peaks

    def _model(self, way: Way) -> Any:
        self.supernet.backward, self.supernet.one_at_a_time = way.backward, way.one_at_a_time
        return self.supernet.at(softmax(self.code, self.logits)).train()

    def _loss(self, model: Any, source: Tensor, target: Tensor, live: LiveBytes | None) -> Tensor:
        """The loss; on its way back the gradient marks where it enters the decoder and the encoder."""
        memory = model.encode(source) if hasattr(model, "encode") else None
        hidden = model.decode(target) if memory is None else model.decode(target, memory)
        if live is not None:
            for tensor in [hidden] if memory is None else [hidden, memory.outputs[0]]:
                tensor.register_hook(lambda _: live.mark())
        logits = model.output(hidden).flatten(0, 1)
        if live is not None:
            live.mark()
        return cross_entropy(logits, target.flatten(), smoothing=SMOOTHING, ignore=PAD) / 1.0


def _tokens(shape: BatchShape) -> tuple[Tensor, Tensor]:
    return tuple(torch.empty(shape.sentences, n, dtype=torch.int64) for n in (shape.source, shape.target))  # type: ignore[return-value]


def _shallow(template: Any) -> tuple[list[Any], int]:
    """The template, or where it is a deep reversible one, the same with one and with two repeats; and how many it has.

    Layers that are open in the same way count as repeats of one.
    """
    stacks = {name: getattr(template, name) for name in ("encoder", "decoder") if hasattr(template, name)}
    if not is_reversible(template):
        return [template], 1
    blocks = {name: stack.layers[:1] if len(set(stack.layers)) == 1 else stack.layers for name, stack in stacks.items()}
    repeats = {stack.depth // len(blocks[name]) for name, stack in stacks.items()}
    if len(repeats) > 1 or max(repeats) <= 2:
        return [template], 1

    def deep(number: int) -> Any:
        return template.but(**{n: s.but(layers=blocks[n], repeats=number) for n, s in stacks.items()})

    return [deep(1), deep(2)], repeats.pop()
