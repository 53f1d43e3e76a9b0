"""Architectures that no search makes: plain networks of one operator, of a given size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from nasformer.errors import RequestError
from nasformer.models.size import core_parameters, total_parameters
from nasformer.spaces.named import Operator, sized
from nasformer.spaces.transformer import DecoderOnly, EncoderDecoder

Size = Literal["core", "total"]
"""What is equal: the parameters without tables, or all of them."""
RATIOS: dict[Operator, float] = {
    "attention": 2.0,
    "long_short_light": 1.0,
    "light_convolution": 2.0,
    "dynamic_convolution": 2.0,
}
"""The feed-forward ratio that a network of each operator is known with."""


def sized_decoder(operator: Operator, ratio: float, core: int, depth: int, norm: Any) -> DecoderOnly:
    """The language model of one operator, of `depth` layers and the core size `core` (see `sized`)."""

    def size(architecture: EncoderDecoder) -> int:
        return core_parameters(decoder_alone(architecture, norm))

    return decoder_alone(sized(operator, ratio, core, size, encoder_layers=1, decoder_layers=depth), norm)


def decoder_alone(whole: Any, norm: Any = "pre") -> DecoderOnly:
    """The language model that the decoder of a plain Transformer, or of a template of it, is without its
    cross-attention."""
    layers = tuple(layer.but(cross=None) for layer in whole.decoder.layers)
    return DecoderOnly(norm=norm, tables=whole.tables, decoder=whole.decoder.but(layers=layers))


def depth_of(stack: Any) -> int:
    """The layers of a stack, repeats left out; of a stack of cells, nodes that learn two by two."""
    if hasattr(stack, "cell"):
        return max(1, stack.blocks * len(stack.cell.nodes) // 2)
    return getattr(stack, "depth", None) or len(stack.layers)


def of_layers(template: Any) -> bool:
    """Whether every stack of a space's members is made of layers."""
    stacks = [getattr(template, name) for name in ("encoder", "decoder") if hasattr(template, name)]
    return bool(stacks) and all(hasattr(stack, "layers") for stack in stacks)


def plain_networks(space: Any, settings: Any, operators: Sequence[Operator], size: Size, found: Any) -> list[list[Any]]:
    """For each operator and norm its networks of the found one's size, over splits of the depth; pre-norm, shallow
    decoders and encoders of middle depth first. Raises `RequestError` where there is none of this size."""

    def count(architecture: Any) -> int:
        return total_parameters(architecture, settings) if size == "total" else core_parameters(architecture)

    groups = [
        [network for split in _splits(space, found) if (network := _network(operator, norm, split, count, found))]
        for norm in ("pre", "post")
        for operator in operators
    ]
    if not any(groups):
        raise RequestError(f"no network of {', '.join(operators)} alone comes near {count(found):,} parameters")
    return [group for group in groups if group]


def _network(
    operator: Operator, norm: Any, split: tuple[int, int], count: Callable[[Any], int], found: Any
) -> Any | None:
    """A network of one operator, of the found one's size to 3 %; None where there is none."""
    encoder, decoder = split

    def alone(whole: Any) -> Any:
        return whole if encoder else decoder_alone(whole, norm)

    depth = {"encoder_layers": max(1, encoder), "decoder_layers": decoder}
    tables = getattr(found, "tables", "separate")
    try:
        whole = sized(
            operator, RATIOS[operator], count(found), lambda one: count(alone(one)), norm=norm, tables=tables, **depth
        )
    except RequestError:
        return None
    network = alone(whole)
    return network if abs(count(network) / count(found) - 1) <= 0.03 else None


def _splits(space: Any, found: Any) -> list[tuple[int, int]]:
    """(encoder layers, decoder layers), the likeliest first: all encoders up to the deepest with one or two decoder
    layers, and the deepest of both; of a decoder-only space (0, layers). Cells are as deep as those that were found."""
    largest = found if found.family.startswith("cell_") else space.largest()
    decoder = depth_of(getattr(largest, "decoder", largest))
    if not hasattr(largest, "encoder"):
        return [(0, layers) for layers in _few(decoder)]
    encoder = depth_of(largest.encoder)
    splits = [(e, d) for d in (1, 2) if d <= decoder for e in _few(encoder)]
    return splits + ([(encoder, decoder)] if (encoder, decoder) not in splits else [])


def _few(deepest: int) -> list[int]:
    """Depths up to `deepest`, from the middle outwards, at most five."""
    depths = list(range(1, deepest + 1)) if deepest <= 5 else sorted({1, 2, 3, deepest // 2, deepest})
    return sorted(depths, key=lambda depth: abs(depth - min(2.6, deepest)))
