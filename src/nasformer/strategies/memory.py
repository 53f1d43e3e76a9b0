"""What one search update takes in memory, known before it runs, and the fastest way of it that fits into a limit.

Nothing is computed by formula: the update itself is run on tensors without memory (`nasformer.measures.memory`) and its
live bytes are followed. A deep reversible network is not run whole: the peak of each part of the update (forward, loss,
decoder, encoder) is linear in the number of repeats, so one and two of them tell the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    tensor of the update, as on a CPU in float32. Batches are taken to have padding.

    Args:
        space: a space of Transformers or of reversible networks.
        settings: the settings of every model.
    """

    def __init__(self, space: Space, settings: ModelSettings) -> None:
        self._imagined = imagined()
        self.reversible = is_reversible(space.template)
        sizes, self._repeats = _shallow(space.largest())
        with self._imagined:
            self._samples = [_Sample(Space(size, space.name), settings) for size in sizes]

    def kept_bytes(self, way: Way, shape: BatchShape) -> int:
        """What the forward pass of one micro-batch keeps for its backward pass."""
        with self._imagined:
            return round(max(self._extended([[s.kept(way, shape.part(way.micro_batches))] for s in self._samples])))

    def peak_bytes(self, way: Way, shape: BatchShape) -> int:
        """The most bytes at once during one update."""
        with self._imagined:
            return round(max(self._extended([sample.peaks(way, shape) for sample in self._samples])))

    def _extended(self, found: Sequence[Sequence[int]]) -> list[float]:
        """From the values of one and of two repeats, those of all."""
        if len(found) == 1:
            return list(map(float, found[0]))
        one, two = (np.array(values, dtype=float) for values in found)
        return (one + (two - one) * (self._repeats - 1)).tolist()


def plan(space: Space, settings: ModelSettings, batch_tokens: int, longest: int, memory_limit: int) -> MemoryPlan:
    """The fastest way of an update on batches of `batch_tokens` that stays within `memory_limit` bytes.

    Batches are taken to hold as many sentences of `longest` tokens as they can, the case that takes most. In order of
    speed: stored; rebuilt; rebuilt one option at a time; that in 2, 4, 8, … micro-batches. Networks that are not
    reversible only have stored ways.
    Raises `RequestError` where no way fits, saying the least that can be reached.
    """
    shape = BatchShape(sentences=max(1, batch_tokens // longest), source=longest, target=longest)
    model = MemoryModel(space, settings)
    whole = [Way()]
    if model.reversible:
        whole += [Way(backward="rebuilt"), Way(backward="rebuilt", one_at_a_time=True)]
    missed = ""
    for way in whole:
        peak = model.peak_bytes(way, shape)
        if peak <= memory_limit:
            return _plan(way, peak, memory_limit, missed)
        missed = f"{way.text} would take {size(peak)}"
    parts = [whole[-1].but(micro_batches=number) for number in _powers(shape.sentences)]
    return _fewest(model, parts, shape, memory_limit, missed)


def _fewest(model: MemoryModel, ways: Sequence[Way], shape: BatchShape, limit: int, missed: str) -> MemoryPlan:
    """The first way that fits, where every way takes less than the one before it."""
    peaks: dict[int, int] = {}

    def fits(index: int) -> bool:
        peaks[index] = model.peak_bytes(ways[index], shape)
        return peaks[index] <= limit

    if not ways:
        raise RequestError(f"one sentence of {shape.target} tokens does not fit into {size(limit)}: {missed}")
    below, found = -1, len(ways) - 1
    if not fits(found):
        raise RequestError(
            f"no way of an update fits into {size(limit)}: the least is {size(peaks[found])} with {ways[found].text}; "
            f"expected at least that, or a narrower space, shorter sentences or a smaller vocabulary"
        )
    while found - below > 1:
        middle = (below + found) // 2
        below, found = (below, middle) if fits(middle) else (middle, found)
    if below in peaks:
        missed = f"{ways[below].text} would take {size(peaks[below])}"
    return _plan(ways[found], peaks[found], limit, missed)


def _plan(way: Way, peak: int, limit: int, missed: str) -> MemoryPlan:
    text = f"{way.text}: {size(peak)} of {size(limit)}" + (f"; {missed}" if missed else "")
    return MemoryPlan(**way.model_dump(), predicted_bytes=peak, text=text)


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

    def __init__(self, space: Space, settings: ModelSettings) -> None:
        self.supernet: Any = supernet_of(space, settings, seed=1)
        choices = [choice for choice in space.choices if choice.operators]
        self.logits = {choice.name: torch.zeros(len(choice.options), requires_grad=True) for choice in choices}
        self.code = space.encode(space.close(lambda _: 0))
        adams = [SliceAdam(self.supernet.weights), SliceAdam(self.logits)]
        moments = [moment for adam in adams for part in (adam.first, adam.second) for moment in part.values()]
        live = [*self.supernet.weights.values(), *self.logits.values(), *moments]
        self.held = [*live, *(torch.empty_like(tensor) for tensor in live)]  # and the last good state

    def kept(self, way: Way, shape: BatchShape) -> int:
        """Bytes kept for the backward pass of a batch."""
        source, target = _tokens(shape)
        with LiveBytes(number=shape.target - 1):
            return saved_bytes(lambda: self._loss(self._model(way), source, target, None))

    def peaks(self, way: Way, shape: BatchShape) -> list[int]:
        """The peaks of the parts of one update, of which the second micro-batch stands for all later ones."""
        part = shape.part(way.micro_batches)
        source, target = _tokens(part)
        with LiveBytes([*self.held, source, target], number=max(part.source, part.target) - 1) as live:
            for _ in range(min(2, way.micro_batches)):
                model = self._model(way)
                self._loss(model, source, target, live).backward()
                live.mark()
        for parameter in (*model.parameters(), *self.logits.values()):
            parameter.grad = None
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
