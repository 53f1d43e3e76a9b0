"""One architecture of the reversible family made into a plain network (docs/papers/dartsformer.md §2.4, reading 13).

Tokens → embedding of e channels → linear e → dim → positions → reversible layers → norm → linear dim → e → the same
table. The table is one for both sides where they share a vocabulary. The wiring stays multi-split after the search; the
backward pass that rebuilds activations is a switch (`backward`), off by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.models.transformer import ModelSettings, Part, Tokens, add_positions, count_seen, padding_of
from nasformer.operators.attention import Memory
from nasformer.operators.dropout import dropout
from nasformer.operators.normalization import LayerNorm
from nasformer.operators.operator import Cache, Linear
from nasformer.operators.reversible import Backward, Node, ReversibleStack
from nasformer.spaces.reversible import Reversible, ReversibleDecoderOnly
from nasformer.spaces.reversible import ReversibleStack as Layers

BARE = ("zero", "identity")
"""The operators that a node does not wrap in residual and norm."""


def node_part(architecture: Reversible | ReversibleDecoderOnly, stack: str, node: int, operator: Any) -> Part:
    """An operator as a node of a stack would have it."""
    memory_dim = architecture.encoder.dim if isinstance(architecture, Reversible) else 0
    return Part(
        role=f"nodes.{node}",
        value=operator,
        dim=getattr(architecture, stack).width,
        memory_dim=memory_dim if operator.kind == "cross_attention" else 0,
        causal=stack == "decoder",
        norm="bare" if operator.kind in BARE else "post",
    )


def parts(architecture: Reversible | ReversibleDecoderOnly) -> Iterator[tuple[str, int, Part]]:
    """Every node in the order of the computation: stack name, layer index (repeats counted on), part."""
    for stack in ("encoder", "decoder"):
        layers: Layers | None = getattr(architecture, stack, None)
        for index in range(layers.depth if layers else 0):
            for node in range(layers.splits):  # type: ignore[union-attr]
                yield stack, index, node_part(architecture, stack, node, layers.operator(index, node))  # type: ignore[union-attr]


def frame_parameters(architecture: Reversible | ReversibleDecoderOnly) -> int:
    """Core parameters outside all parts: the maps into and out of the stacks, and the final norms."""
    encoder = getattr(architecture, "encoder", None)
    return _frame_size(
        architecture.embedding_dim, encoder and encoder.dim, architecture.decoder.dim, architecture.final_norm
    )


def frame_flops(architecture: Reversible | ReversibleDecoderOnly, source: int, target: int) -> int:
    """Operations of the maps into and out of the stacks, two for each multiply-add."""
    encoder = getattr(architecture, "encoder", None)
    channels = 2 * target * architecture.decoder.dim + (source * encoder.dim if encoder else 0)
    return 2 * architecture.embedding_dim * channels


def table_parameters(architecture: Reversible | ReversibleDecoderOnly, settings: ModelSettings) -> int:
    """Parameters of the token tables; the output uses the target's."""
    apart = isinstance(architecture, Reversible) and not settings.shared_vocabulary
    source = (settings.source_vocabulary or 0) if apart else 0
    return (source + settings.target_vocabulary) * architecture.embedding_dim


@lru_cache(maxsize=256)
def _frame_size(e: int, encoder: int | None, decoder: int, norm: bool) -> int:
    with torch.device("meta"):
        return sum(p.numel() for module in _frame(e, encoder, decoder, norm).values() for p in module.parameters())


def _frame(e: int, encoder: int | None, decoder: int, norm: bool) -> dict[str, nn.Module]:
    """The maps between embeddings of e channels and the stacks, and the final norms."""
    frame: dict[str, nn.Module] = {"decoder_input": Linear(e, decoder), "decoder_output": Linear(decoder, e)}
    if encoder is not None:
        frame["encoder_input"] = Linear(e, encoder)
    if norm:
        frame["decoder_norm"] = LayerNorm(decoder)
        if encoder is not None:
            frame["encoder_norm"] = LayerNorm(encoder)
    return frame


MakeNode = Callable[[str, int, int], Node]
"""(stack name, layer index, node index) → the node; how a supernet lends its own."""


class _Reversible(nn.Module):
    """What both families share: the frame, the tables, and the decoder."""

    def __init__(
        self, architecture: Reversible | ReversibleDecoderOnly, settings: ModelSettings, make: MakeNode | None = None
    ) -> None:
        super().__init__()
        self.architecture: Any = architecture
        self.settings = settings
        self.backward: Backward = "stored"
        self.one_at_a_time, self.exact = True, True
        self.tokens = Tokens(settings.target_vocabulary, architecture.embedding_dim)
        encoder = getattr(architecture, "encoder", None)
        widths = (encoder and encoder.dim, architecture.decoder.dim)
        self.frame = nn.ModuleDict(_frame(architecture.embedding_dim, *widths, architecture.final_norm))
        make = make or self._node
        for name in ("encoder", "decoder"):
            stack: Layers | None = getattr(architecture, name, None)
            if stack is not None:
                layers = [[make(name, index, k) for k in range(stack.splits)] for index in range(stack.depth)]
                self.add_module(name, ReversibleStack(layers))

    def _node(self, stack: str, layer: int, node: int) -> Node:
        operator = getattr(self.architecture, stack).operator(layer, node)
        part = node_part(self.architecture, stack, node, operator)
        return Node([part.build(self.settings)], self.architecture.pooling)

    def _run(
        self,
        stack: str,
        embedded: Tensor,
        padding: Tensor | None,
        memory: Memory | None = None,
        cache: Cache | None = None,
        offset: Tensor | int = 0,
    ) -> Tensor:
        """embedded (batch, time, e) through a stack → (batch, time, dim), normalised."""
        x = self.frame[f"{stack}_input"](embedded)
        x = add_positions(x, padding, offset, self.settings.position_width or x.shape[-1])
        x = dropout(x, self.settings.residual_dropout(x.shape[-1]), self.training)
        ways: dict[str, Any] = {"backward": self.backward, "one_at_a_time": self.one_at_a_time, "exact": self.exact}
        x = getattr(self, stack)(x, padding, memory, **ways, cache=cache)
        return self.frame[f"{stack}_norm"](x) if self.architecture.final_norm else x

    def _decode(self, tokens: Tensor, memory: Memory | None, cache: Cache | None) -> Tensor:
        padding = padding_of(tokens)
        offset = count_seen(tokens, padding, cache)
        return self._run("decoder", self.tokens.look_up(tokens), padding, memory, cache, offset)

    def output(self, hidden: Tensor) -> Tensor:
        """hidden (…, decoder dim) → logits (…, vocab)."""
        return F.linear(self.frame["decoder_output"](hidden), self.tokens.weight)


class ReversibleModel(_Reversible):
    """A sequence-to-sequence network: source and target tokens → logits of the next target token."""

    def __init__(self, architecture: Reversible, settings: ModelSettings, make: MakeNode | None = None) -> None:
        super().__init__(architecture, settings, make)
        assert settings.source_vocabulary is not None, "an encoder needs a source vocabulary"
        shared = settings.shared_vocabulary
        self.source_tokens = None if shared else Tokens(settings.source_vocabulary, architecture.embedding_dim)

    def encode(self, source: Tensor) -> Memory:
        """source (batch, source) → the output of the encoder."""
        padding = padding_of(source)
        embedded = (self.source_tokens or self.tokens).look_up(source)
        return Memory([self._run("encoder", embedded, padding)], padding)

    def decode(self, target: Tensor, memory: Memory, cache: Cache | None = None) -> Tensor:
        """target (batch, target) → hidden states (batch, target, decoder dim); with a cache, of the new positions."""
        return self._decode(target, memory, cache)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """source (batch, source), target (batch, target) → logits (batch, target, vocab)."""
        return self.output(self.decode(target, self.encode(source)))


class ReversibleLanguageModel(_Reversible):
    """A language model: tokens → logits of the next token."""

    def decode(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """tokens (batch, time) → hidden states (batch, time, dim); with a cache, of the new positions."""
        return self._decode(tokens, None, cache)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (batch, time) → logits (batch, time, vocab)."""
        return self.output(self.decode(tokens))
