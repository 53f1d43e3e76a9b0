"""The supernet of a space, by the family of its architectures."""

from __future__ import annotations

from typing import Any

from nasformer.models.build import Settings
from nasformer.models.image_cell import ImageSettings
from nasformer.spaces.space import Space
from nasformer.supernets.cell import CellSupernet
from nasformer.supernets.reversible import ReversibleSupernet
from nasformer.supernets.transformer import TransformerSupernet

SUPERNETS: dict[str, Any] = {
    "encoder_decoder": TransformerSupernet,
    "decoder_only": TransformerSupernet,
    "reversible": ReversibleSupernet,
    "reversible_decoder_only": ReversibleSupernet,
    "image_cells": CellSupernet,
    "staged_cells": CellSupernet,
    "block_chain": CellSupernet,
    "cell_decoder_only": CellSupernet,
    "cell_encoder_decoder": CellSupernet,
}
WAYS: dict[Any, tuple[str, ...]] = {
    TransformerSupernet: (),
    ReversibleSupernet: ("backward", "one_at_a_time", "exact"),
    CellSupernet: ("partial", "bypass"),
}
"""What can be said of each kind of supernet besides its space and settings."""


def supernet_of(space: Space, settings: Settings, *, seed: int, **ways: Any) -> Any:
    """The supernet that holds every architecture of the space; `ways` of another kind of supernet are passed over.

    Image networks get norms that keep no statistics (`searching`), and what is for training one network by itself is
    off. Raises `TypeError` for what is a way of none.
    """
    if unknown := ways.keys() - {way for known in WAYS.values() for way in known}:
        raise TypeError(f"no kind of supernet knows of {sorted(unknown)[0]!r}")
    kind = SUPERNETS[space.template.family]  # type: ignore[attr-defined]
    if isinstance(settings, ImageSettings):
        settings = settings.but(searching=True, auxiliary=False, drop_path=0.0)
    return kind(space, settings, seed=seed, **{name: way for name, way in ways.items() if name in WAYS[kind]})
