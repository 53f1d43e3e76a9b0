"""`nasformer profile`: what an architecture costs, part by part."""

from __future__ import annotations

from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from nasformer.commands.architectures import find_architecture
from nasformer.measures.cost import parameters, saved_bytes, time_ratio
from nasformer.models.build import build
from nasformer.models.size import (
    core_flops,
    core_parameters,
    part_flops,
    part_parameters,
    parts,
    published_parameters,
)
from nasformer.models.transformer import ModelSettings

TIME = 30


def profile(name: str, vocabulary: int, console: Console) -> dict[str, Any]:
    """Parameters and FLOPs by layer, and bytes kept for backward, for sentences of 30 tokens."""
    architecture = find_architecture(name)
    table = Table(title=f"{name}: parts, for one sentence of {TIME} tokens")
    for column in ("part", "operator", "parameters", "FLOPs"):
        table.add_column(column, justify="left" if column in ("part", "operator") else "right")
    for stack, index, part in parts(architecture):
        cells = (f"{part_parameters(part):,}", f"{part_flops(part, TIME, TIME):,}")
        role, operator = getattr(part, "role", "block"), getattr(part, "value", architecture)  # a program is its block
        table.add_row(f"{stack} {index + 1} {role}", operator.label, *cells)
    seq2seq = hasattr(architecture, "encoder")
    settings = ModelSettings(source_vocabulary=vocabulary if seq2seq else None, target_vocabulary=vocabulary)
    model = build(architecture, settings, seed=1)
    tokens = torch.randint(4, vocabulary, (1, TIME), generator=torch.Generator().manual_seed(1))
    inputs = (tokens, tokens) if seq2seq else (tokens,)
    found: dict[str, Any] = {"core_parameters": core_parameters(architecture)}
    if hasattr(architecture, "decoder"):  # the output matrix of a program is its table of embeddings
        found["published_parameters"] = published_parameters(architecture, vocabulary)
    found |= {
        "total_parameters": parameters(model),
        "core_flops": core_flops(architecture, TIME, TIME),
        "bytes_for_backward": saved_bytes(lambda: model(*inputs).sum()),
        "forward_seconds": time_ratio(lambda: model(*inputs), lambda: None, repeats=5).first_seconds,
        "vocabulary": vocabulary,
    }
    console.print(table)
    for what, value in found.items():
        console.print(f"{what:22} {value:,}" if isinstance(value, int) else f"{what:22} {value:.4f}")
    return found
