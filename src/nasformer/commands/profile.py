"""`nasformer profile`: what an architecture costs, part by part."""

from __future__ import annotations

from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from nasformer.commands.architectures import find_architecture
from nasformer.measures.cost import parameters, saved_bytes, time_ratio
from nasformer.models.build import build
from nasformer.models.image_cell import ImageSettings
from nasformer.models.size import (
    core_flops,
    core_parameters,
    part_flops,
    part_parameters,
    parts,
    published_parameters,
)
from nasformer.models.transformer import ModelSettings
from nasformer.spaces.families import reads_images

TIME = 30


def profile(name: str, vocabulary: int, console: Console) -> dict[str, Any]:
    """Parameters and FLOPs by layer, and bytes kept for backward, for a sentence of 30 tokens or an image of 32×32
    pixels of 10 classes."""
    architecture = find_architecture(name)
    images = reads_images(architecture)
    table = Table(title=f"{name}: parts, for one {'image of 32×32 pixels' if images else f'sentence of {TIME} tokens'}")
    for column in ("part", "operator", "parameters", "FLOPs"):
        table.add_column(column, justify="left" if column in ("part", "operator") else "right")
    lines: dict[tuple[str, str], list[int]] = {}
    for stack, index, part in parts(architecture):
        place = "around the cells" if stack == "frame" else f"{stack} {index + 1} {getattr(part, 'role', '')}".strip()
        line = lines.setdefault((place, _operator(part, architecture)), [0, 0, 0])
        line[:] = line[0] + 1, line[1] + part_parameters(part), line[2] + part_flops(part, TIME, TIME)
    for (place, operator), (count, size, cost) in lines.items():
        table.add_row(place, f"{count} × {operator}" if count > 1 else operator, f"{size:,}", f"{cost:,}")
    generator = torch.Generator().manual_seed(1)
    settings: Any = ImageSettings(classes=10)
    inputs: tuple[torch.Tensor, ...] = (torch.randn(1, 3, 32, 32, generator=generator),)
    if not images:
        seq2seq = hasattr(architecture, "encoder")
        settings = ModelSettings(source_vocabulary=vocabulary if seq2seq else None, target_vocabulary=vocabulary)
        inputs = (torch.randint(4, vocabulary, (1, TIME), generator=generator),) * (2 if seq2seq else 1)
    model = build(architecture, settings, seed=1)
    found: dict[str, Any] = {"core_parameters": core_parameters(architecture)}
    if hasattr(architecture, "decoder"):  # the output matrix of a program is its table of embeddings
        found["published_parameters"] = published_parameters(architecture, vocabulary)
    found |= {
        "total_parameters": parameters(model),
        "core_flops": core_flops(architecture, TIME, TIME),
        "bytes_for_backward": saved_bytes(lambda: model(*inputs).sum()),
        "forward_seconds": time_ratio(lambda: model(*inputs), lambda: None, repeats=5).first_seconds,
        **({"classes": 10} if images else {"vocabulary": vocabulary}),
    }
    console.print(table)
    for what, value in found.items():
        console.print(f"{what:22} {value:,}" if isinstance(value, int) else f"{what:22} {value:.4f}")
    return found


def _operator(part: Any, architecture: Any) -> str:
    """What a part does, in a word: the label of its operator, or what stands around operators."""
    value = getattr(part, "value", None)
    if hasattr(part, "arguments"):  # of an image network
        value = next((argument for argument in part.arguments if hasattr(argument, "label")), None)
        return str(value.label) if value is not None else str(part.make.__name__)
    if value is not None:
        return str(value.label)
    return "linear" if hasattr(part, "role") else str(architecture.label)  # a program is its block
