"""From an architecture to a network: on the meta device (a shape without weights) or with freshly drawn weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nasformer.models import program, reversible, transformer
from nasformer.models.transformer import ModelSettings
from nasformer.operators.operator import reset


@dataclass(frozen=True)
class Family:
    """What there is to know of a family: the network it becomes, its parts, and what counts besides them."""

    network: Callable[..., Any]
    parts: Callable[[Any], Iterator[tuple[str, int, Any]]]
    frame_parameters: Callable[[Any], int]
    frame_flops: Callable[[Any, int, int], int]
    table_parameters: Callable[[Any, ModelSettings], int]


_TRANSFORMER = (transformer.parts, transformer.frame_parameters, lambda *_: 0, transformer.table_parameters)
_REVERSIBLE = (
    reversible.parts,
    reversible.frame_parameters,
    reversible.frame_flops,
    reversible.table_parameters,
)
FAMILIES: dict[str, Family] = {
    "encoder_decoder": Family(transformer.EncoderDecoderModel, *_TRANSFORMER),
    "decoder_only": Family(transformer.DecoderOnlyModel, *_TRANSFORMER),
    "reversible": Family(reversible.ReversibleModel, *_REVERSIBLE),
    "reversible_decoder_only": Family(reversible.ReversibleLanguageModel, *_REVERSIBLE),
    "program": Family(
        program.ProgramModel,
        program.parts,
        program.frame_parameters,
        lambda *_: 0,
        program.table_parameters,
    ),
}
"""Every family of architectures, by its name."""


def outline(architecture: Any, settings: ModelSettings) -> nn.Module:
    """The network on the meta device: every shape, no weights."""
    with torch.device("meta"):
        return FAMILIES[architecture.family].network(architecture, settings)


def build(architecture: Any, settings: ModelSettings, *, seed: int) -> nn.Module:
    """The network with weights drawn from `seed` alone; the global generators are left as they were."""
    model: nn.Module = FAMILIES[architecture.family].network(architecture, settings)
    reset(model, torch.Generator().manual_seed(seed))
    return model
