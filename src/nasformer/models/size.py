"""Exact sizes of an architecture, from its parts on the meta device. No formula is kept by hand.

Equal parts are counted once and remembered, so that thousands of architectures are checked in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nasformer.models.build import FAMILIES, Settings
from nasformer.models.transformer import ModelSettings

_SETTINGS = ModelSettings(target_vocabulary=1)


class Part(Protocol):
    """One layer of a network, as it is counted: hashable, so that equal ones are counted once."""

    def __hash__(self) -> int: ...

    def build(self, settings: Any) -> nn.Module:
        """The layer, on the current default device, weights not yet drawn."""
        ...

    def example(self, time: int, source: int) -> tuple[Any, ...]:
        """What it reads of one sequence of `time` (and `source`) tokens, or of one image, on the meta device."""
        ...


def _outline(part: Part) -> nn.Module:
    with torch.device("meta"):
        return part.build(_SETTINGS)


@lru_cache(maxsize=65536)
def part_parameters(part: Part) -> int:
    """Parameters of one layer, its norm included."""
    return sum(parameter.numel() for parameter in _outline(part).parameters())


@lru_cache(maxsize=65536)
def part_flops(part: Part, time: int, source: int) -> int:
    """Floating-point operations of one layer over one sequence of `time` (and `source`) tokens, or over one image."""
    layer = _outline(part).eval()
    example = part.example(time, source)
    with FlopCounterMode(display=False) as counter:
        layer(*example)
    return counter.get_total_flops()


def parts(architecture: Any) -> Iterator[tuple[str, int, Part]]:
    """Every layer of an architecture of any family: stack name, layer index, part."""
    return FAMILIES[architecture.family].parts(architecture)


def core_parameters(architecture: Any) -> int:
    """Parameters without embeddings and output projection (HAT's convention); maps between the width of an embedding
    and that of a stack count. Of a network for images: all but the classifiers, for three input channels."""
    frame = FAMILIES[architecture.family].frame_parameters(architecture)
    return frame + sum(part_parameters(part) for _, _, part in parts(architecture))


def total_parameters(architecture: Any, settings: Settings) -> int:
    """All parameters of the network, embeddings and output projection included; an auxiliary head is not (as DARTS
    counts), and norms are counted with weights even where `searching` leaves them out."""
    return core_parameters(architecture) + FAMILIES[architecture.family].table_parameters(architecture, settings)


def published_parameters(architecture: Any, target_vocabulary: int) -> int:
    """Core parameters and the untied output matrix (Lite Transformer's convention)."""
    width = getattr(architecture, "embedding_dim", architecture.decoder.dim)
    return core_parameters(architecture) + target_vocabulary * width


def core_flops(architecture: Any, source: int = 30, target: int = 30) -> int:
    """Floating-point operations of one forward pass over one sentence of these lengths, or over one image of 32×32
    pixels, without the output projection.

    As `torch.utils.flop_counter` counts them: two for each multiply-add of a matrix product or convolution.
    """
    frame = FAMILIES[architecture.family].frame_flops(architecture, source, target)
    return frame + sum(
        part_flops(part, source if stack == "encoder" else target, source) for stack, _, part in parts(architecture)
    )
