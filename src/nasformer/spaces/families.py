"""Every family of architectures, told apart by its field `family`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from nasformer.errors import RequestError, nearest
from nasformer.spaces.image_cell import BlockChain, ImageCells, StagedCells
from nasformer.spaces.program import Program
from nasformer.spaces.program_text import read_program_file
from nasformer.spaces.reversible import Reversible, ReversibleDecoderOnly
from nasformer.spaces.sequence_cell import CellDecoderOnly, CellEncoderDecoder
from nasformer.spaces.transformer import DecoderOnly, EncoderDecoder
from nasformer.spaces.value import read_data

_BY_FAMILY = Discriminator(
    lambda value: value.get("family") if isinstance(value, dict) else getattr(value, "family", None)
)
Architecture = Annotated[
    Annotated[EncoderDecoder, Tag("encoder_decoder")]
    | Annotated[DecoderOnly, Tag("decoder_only")]
    | Annotated[Reversible, Tag("reversible")]
    | Annotated[ReversibleDecoderOnly, Tag("reversible_decoder_only")]
    | Annotated[Program, Tag("program")]
    | Annotated[CellDecoderOnly, Tag("cell_decoder_only")]
    | Annotated[CellEncoderDecoder, Tag("cell_encoder_decoder")]
    | Annotated[ImageCells, Tag("image_cells")]
    | Annotated[StagedCells, Tag("staged_cells")]
    | Annotated[BlockChain, Tag("block_chain")],
    _BY_FAMILY,
]
"""An architecture (or, with open fields, a space) of any family."""
FAMILIES: dict[str, Any] = {
    "encoder_decoder": EncoderDecoder,
    "decoder_only": DecoderOnly,
    "reversible": Reversible,
    "reversible_decoder_only": ReversibleDecoderOnly,
    "program": Program,
    "cell_decoder_only": CellDecoderOnly,
    "cell_encoder_decoder": CellEncoderDecoder,
    "image_cells": ImageCells,
    "staged_cells": StagedCells,
    "block_chain": BlockChain,
}
PROGRAM_FILES = (".txt", ".program")
"""How the names of files end in which a program stands as text."""
FILES = (".json", ".yaml", ".yml", *PROGRAM_FILES)
"""How the names of files end in which an architecture stands."""


def is_reversible(architecture: Any) -> bool:
    """Whether an architecture, or a space's template, is of a reversible family."""
    return isinstance(architecture, Reversible | ReversibleDecoderOnly)


def reads_images(architecture: Any) -> bool:
    """Whether an architecture, or a space's template, is of a family of networks for images."""
    return isinstance(architecture, ImageCells | StagedCells | BlockChain)


def read_architecture(data: Any) -> Any:
    """The architecture (or open architecture) that plain data describe.

    Raises `RequestError` where the family is unknown (it names the nearest) or a field is wrong.
    """
    family = data.get("family") if isinstance(data, dict) else None
    if family not in FAMILIES:
        known = nearest(family, FAMILIES) if isinstance(family, str) else f"one of {', '.join(FAMILIES)}"
        raise RequestError(f"expected an architecture with a known family, got {family!r}; {known}")
    return FAMILIES[family].read(data)


def read_architecture_file(path: Path) -> Any:
    """The architecture (or open architecture) in a `.json`, `.yaml` or `.yml` file, or the program in a text file."""
    if Path(path).suffix in PROGRAM_FILES:
        return read_program_file(path)
    return read_architecture(read_data(path, "architecture"))
