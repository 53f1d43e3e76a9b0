"""The reversible family: stacks of multi-split layers, one node per split (docs/papers/dartsformer.md §2).

Every class is an architecture's part, and with open fields a space's (`nasformer.spaces.open`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Tag, model_validator

from nasformer.errors import RequestError
from nasformer.spaces.open import is_open
from nasformer.spaces.transformer import CrossAttention, Mixers, Positive
from nasformer.spaces.value import BY_KIND, Value

NodeOperator = Annotated[Mixers | Annotated[CrossAttention, Tag("cross_attention")], BY_KIND]
"""What a node can do; all but zero and identity are wrapped as LayerNorm(h + operator(h))."""


class ReversibleLayer(Value):
    """One layer: the operator of each split's node."""

    nodes: tuple[NodeOperator, ...]


class ReversibleStack(Value):
    """`layers`, repeated: depth is repeats · len(layers). Repeats share operators, never weights (our reading 22)."""

    dim: Positive
    layers: tuple[ReversibleLayer, ...]
    repeats: Positive = 1

    @property
    def splits(self) -> int:
        """Into how many parts dim is cut."""
        return len(self.layers[0].nodes)

    @property
    def width(self) -> int:
        """The channels of one split."""
        return self.dim // self.splits

    @property
    def depth(self) -> int:
        """How many layers run."""
        return self.repeats * len(self.layers)

    def operator(self, layer: int, node: int) -> Any:
        """The operator of a node of the layer that runs as number `layer`."""
        return self.layers[layer % len(self.layers)].nodes[node]


class Reversible(Value):
    """A sequence-to-sequence network of two reversible stacks.

    Token embeddings of `embedding_dim` are mapped to each stack's dim and back (factorised); `pooling` makes one input
    of the other splits; with `final_norm` what leaves a stack is normalised (our reading 13).
    """

    family: Literal["reversible"] = "reversible"
    embedding_dim: Positive
    pooling: Literal["max", "mean"] = "max"
    final_norm: bool = True
    encoder: ReversibleStack
    decoder: ReversibleStack

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not is_open(self):
            _check(self.encoder, "encoder", cross=False)
            _check(self.decoder, "decoder", cross=True)
        return self


class ReversibleDecoderOnly(Value):
    """A language model of one reversible stack of causal nodes."""

    family: Literal["reversible_decoder_only"] = "reversible_decoder_only"
    embedding_dim: Positive
    pooling: Literal["max", "mean"] = "max"
    final_norm: bool = True
    decoder: ReversibleStack

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not is_open(self):
            _check(self.decoder, "decoder", cross=False)
        return self


def _check(stack: ReversibleStack, name: str, *, cross: bool) -> None:
    if not stack.layers or len(stack.layers[0].nodes) < 2:
        raise RequestError(f"{name}: expected at least one layer of at least two splits")
    if stack.dim % stack.splits:
        raise RequestError(f"{name}.dim is {stack.dim}, which {stack.splits} splits do not divide")
    if stack.dim % 2:
        raise RequestError(f"{name}.dim is {stack.dim}; positions need an even number")
    for index, layer in enumerate(stack.layers):
        if len(layer.nodes) != stack.splits:
            raise RequestError(
                f"{name}.layers.{index} has {len(layer.nodes)} nodes, the first layer {stack.splits}; expected one "
                f"number of splits in a stack"
            )
        for k, operator in enumerate(layer.nodes):
            place = f"{name}.layers.{index}.nodes.{k}"
            if operator.kind == "cross_attention" and (not cross or operator.span != 1):
                raise RequestError(
                    f"{place}: cross-attention belongs into a decoder beside an encoder, with span 1: of a reversible "
                    f"encoder only the last output is there"
                )
            if not operator.fits(stack.width):
                raise RequestError(
                    f"{place}: {operator.label} {operator.data()} does not fit the split of {stack.width} channels "
                    f"({stack.dim} in {stack.splits}); heads must divide the width, kernels are odd"
                )
