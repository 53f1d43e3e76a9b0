"""The supernet of a space, by the family of its architectures."""

from __future__ import annotations

from typing import Any

from nasformer.models.transformer import ModelSettings
from nasformer.spaces.families import is_reversible
from nasformer.spaces.space import Space
from nasformer.supernets.reversible import ReversibleSupernet
from nasformer.supernets.transformer import TransformerSupernet

SUPERNETS: dict[str, Any] = {
    "encoder_decoder": TransformerSupernet,
    "decoder_only": TransformerSupernet,
    "reversible": ReversibleSupernet,
    "reversible_decoder_only": ReversibleSupernet,
}


def supernet_of(space: Space, settings: ModelSettings, *, seed: int, **ways: Any) -> Any:
    """The supernet that holds every architecture of the space; `ways` say how a reversible one differentiates."""
    family = space.template.family  # type: ignore[attr-defined]
    return SUPERNETS[family](space, settings, seed=seed, **(ways if is_reversible(space.template) else {}))
