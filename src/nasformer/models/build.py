"""From an architecture to a network: on the meta device (a shape without weights) or with freshly drawn weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nasformer.models import image_cell, program, reversible, sequence_cell, transformer
from nasformer.models.image_cell import ImageSettings
from nasformer.models.transformer import ModelSettings
from nasformer.operators.operator import reset

Settings = ModelSettings | ImageSettings
"""What a network needs besides its architecture: those of sequences, or those of images."""


@dataclass(frozen=True)
class Family:
    """What there is to know of a family: the network it becomes, its parts, and what counts besides them."""

    network: Callable[..., Any]
    parts: Callable[[Any], Iterator[tuple[str, int, Any]]]
    frame_parameters: Callable[[Any], int]
    frame_flops: Callable[[Any, int, int], int]
    table_parameters: Callable[[Any, Any], int]


_TRANSFORMER = (transformer.parts, transformer.frame_parameters, lambda *_: 0, transformer.table_parameters)
_REVERSIBLE = (
    reversible.parts,
    reversible.frame_parameters,
    reversible.frame_flops,
    reversible.table_parameters,
)
_SEQUENCE_CELLS = (
    sequence_cell.parts,
    sequence_cell.frame_parameters,
    lambda *_: 0,
    sequence_cell.table_parameters,
)
_IMAGES = (image_cell.parts, lambda _: 0, lambda *_: 0, image_cell.table_parameters)
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
    "cell_decoder_only": Family(sequence_cell.CellLanguageModel, *_SEQUENCE_CELLS),
    "cell_encoder_decoder": Family(sequence_cell.CellEncoderDecoderModel, *_SEQUENCE_CELLS),
    "image_cells": Family(image_cell.ImageCellsModel, *_IMAGES),
    "staged_cells": Family(image_cell.StagedCellsModel, *_IMAGES),
    "block_chain": Family(image_cell.BlockChainModel, *_IMAGES),
}
"""Every family of architectures, by its name."""


def outline(architecture: Any, settings: Settings) -> nn.Module:
    """The network on the meta device: every shape, no weights."""
    with torch.device("meta"):
        return FAMILIES[architecture.family].network(architecture, settings)


def build(architecture: Any, settings: Settings, *, seed: int) -> nn.Module:
    """The network with weights drawn from `seed` alone; the global generators are left as they were."""
    model: nn.Module = FAMILIES[architecture.family].network(architecture, settings)
    reset(model, torch.Generator().manual_seed(seed))
    return model
