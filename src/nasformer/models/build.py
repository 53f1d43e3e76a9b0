"""From an architecture to a network: on the meta device (a shape without weights) or with freshly drawn weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nasformer.models.transformer import DecoderOnlyModel, EncoderDecoderModel, ModelSettings
from nasformer.operators.operator import reset

FAMILIES: dict[str, Any] = {"encoder_decoder": EncoderDecoderModel, "decoder_only": DecoderOnlyModel}
"""Every family of architectures, by its name, and the network it becomes."""


def outline(architecture: Any, settings: ModelSettings) -> nn.Module:
    """The network on the meta device: every shape, no weights."""
    with torch.device("meta"):
        return FAMILIES[architecture.family](architecture, settings)


def build(architecture: Any, settings: ModelSettings, *, seed: int) -> nn.Module:
    """The network with weights drawn from `seed` alone; the global generators are left as they were."""
    model = FAMILIES[architecture.family](architecture, settings)
    reset(model, torch.Generator().manual_seed(seed))
    return model
