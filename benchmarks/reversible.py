"""What the benchmarks of reversible networks work on: mixed supernets in three backward passes, and measured memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from nasformer.measures.cost import saved_bytes
from nasformer.models.transformer import PAD, ModelSettings
from nasformer.operators.attention import Memory
from nasformer.operators.catalogue import Dropout
from nasformer.operators.reversible import ReversibleStack
from nasformer.spaces.named import dartsformer
from nasformer.spaces.space import Space
from nasformer.supernets.reversible import ReversibleSupernet
from nasformer.supernets.selection import single, softmax
from nasformer.supernets.transformer import TransformerSupernet
from nasformer.tasks.batching import Batch
from nasformer.tasks.cross_entropy import cross_entropy

VOCABULARY, DIM, HEADS, EMBEDDING = 4_000, 240, 8, 64
SENTENCES, TIME = 40, 26
SHAPE = f"batch of {SENTENCES} × {TIME} tokens (some padded), dropout 0.1"
SETTINGS = ModelSettings(
    source_vocabulary=VOCABULARY, target_vocabulary=VOCABULARY, shared_vocabulary=True, dropout=Dropout(residual=0.1)
)

Way = Literal["stored", "checkpoint", "rebuilt all at once", "rebuilt one at a time"]
"""How a network differentiates; "checkpoint" recomputes each layer of the stored one."""


def space(depth: int, dim: int = DIM, **settings: Any) -> Space:
    """The paper's space with one searched layer, repeated: 2 and 3 splits, 13 and 14 operators by default."""
    return dartsformer(dim=dim, embedding_dim=EMBEDDING, searched=1, depth=depth, heads=HEADS, **settings)


@dataclass(frozen=True)
class Network:
    """A supernet on random tokens; its loss with all options mixed, or with one of each node."""

    supernet: Any
    logits: dict[str, Tensor]
    source: Tensor
    target: Tensor

    @staticmethod
    def of(space: Space, sentences: int = SENTENCES, time: int = TIME) -> Network:
        """Freshly drawn weights; logits near zero, one an option."""
        reversible = space.template.family == "reversible"  # type: ignore[attr-defined]
        supernet: Any = (ReversibleSupernet if reversible else TransformerSupernet)(space, SETTINGS, seed=1)
        generator = torch.Generator().manual_seed(1)
        choices = [choice for choice in space.choices if choice.operators]
        logits = {c.name: torch.randn(len(c.options), generator=generator).mul_(1e-3).requires_grad_() for c in choices}
        tokens = torch.randint(4, VOCABULARY, (2, sentences, time), generator=generator)
        tokens[:, 0, time // 2 :] = PAD
        return Network(supernet, logits, tokens[0], tokens[1])

    def loss(self, way: Way, *, mixed: bool = True, parts: int = 1) -> Tensor:
        """The forward pass of the batch, or of the first of several parts of it."""
        self.supernet.backward = "rebuilt" if way.startswith("rebuilt") else "stored"
        self.supernet.one_at_a_time = way == "rebuilt one at a time"
        code = self.supernet.space.encode(self.supernet.space.close(self._option))
        model = self.supernet.at(softmax(code, self.logits) if mixed else single(code)).train()
        if way == "checkpoint":
            for name in ("encoder", "decoder"):
                setattr(model, name, Checkpointed(getattr(model, name)))
        source, target = (tokens[: -(-len(tokens) // parts)] for tokens in (self.source, self.target))
        return cross_entropy(model(source, target).flatten(0, 1), target.flatten(), smoothing=0.1, ignore=PAD)

    def step(self, way: Way, *, mixed: bool = True, parts: int = 1) -> None:
        """Forward and backward; gradients are dropped at the end."""
        for _ in range(parts):
            self.loss(way, mixed=mixed, parts=parts).backward()
        for tensor in self.differentiated():
            tensor.grad = None

    def logits_peak(self, way: Way) -> int:
        """Bytes at the peak of an update of the logits, in which weights get no gradients; weights are left out."""
        self.loss(way)  # lends the weights
        for weight in self.supernet._lender._lent.values():
            weight.requires_grad_(False)
        self.step(way)
        found = allocated_peak(lambda: self.step(way))
        for weight in self.supernet._lender._lent.values():
            weight.requires_grad_(True)
        return found

    def kept(self, way: Way) -> int:
        """Bytes kept for the backward pass."""
        return saved_bytes(lambda: self.loss(way))

    def peak(self, way: Way, parts: int = 1) -> int:
        """Bytes at the peak of a step, weights and gradients among them."""
        self.step(way, parts=parts)  # what is made once is there
        weights = sum(weight.nbytes for weight in self.supernet.weights.values())
        return weights + allocated_peak(lambda: self.step(way, parts=parts))

    def differentiated(self) -> Iterable[Tensor]:
        """Everything that a step leaves a gradient on."""
        yield from self.logits.values()
        yield from self.supernet._lender._lent.values()

    def _option(self, choice: Any) -> int:
        """Feed-forward in the first node, attention in the second: what most found networks have."""
        wanted = "attention" if choice.name.endswith("1") else "feed_forward"
        return choice.options.index(wanted) if wanted in choice.options else 0


class OneBatch:
    """A task that is one batch again and again, and its stream."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def stream(self, *_: object) -> OneBatch:
        """Itself."""
        return self

    def next(self) -> Batch:
        """The batch."""
        return self.batch

    def state_dict(self) -> dict[str, int]:
        """It has one place."""
        return {}

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """Nats per token, smoothed."""
        logits = model(batch.source, batch.target_input).flatten(0, 1)
        return cross_entropy(logits, batch.target_output.flatten(), smoothing=0.1, ignore=PAD) / batch.tokens


class Checkpointed(nn.Module):
    """The stored pass of a stack, with `torch.utils.checkpoint` around each layer."""

    def __init__(self, stack: ReversibleStack) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, x: Tensor, padding: Tensor | None, memory: Memory | None, **_: Any) -> Tensor:
        splits = x.chunk(self.stack.splits, dim=-1)
        for nodes in self.stack.nodes():

            def layer(*before: Tensor, nodes: list[Any] = nodes) -> tuple[Tensor, ...]:
                after = list(before)
                for k, node in enumerate(nodes):
                    after[k] = after[k] + node(after[k + 1 :] + after[:k], padding, memory)
                return tuple(after)

            splits = checkpoint(layer, *splits, use_reentrant=False)
        return torch.cat(splits, dim=-1)


def allocated_peak(function: Callable[[], Any]) -> int:
    """The most bytes that PyTorch's CPU allocator had given out at once while the function ran, beyond those before.

    Summed over the profiler's record of every allocation and release.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
