"""Claim: a training step of our Transformer takes at most 0.85 of the step of `torch.nn.Transformer` of the same shape.

Both sides share the embeddings with their sinusoidal positions and dropout, the output projection, our label-smoothed
cross-entropy and fused AdamW, so what differs is the stacks. Dropout of 0.1 falls on the residual branches on both
sides; what nn.Transformer drops besides (attention weights, inner feed-forward units) is switched off, and so are its
two final norms, except in the figures `…_as_built`, for information, where it is as its constructor makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.figure import Figure, Options, clock_name, figure, in_turn
from benchmarks.material import batches, corpus, translation
from benchmarks.material import plain_step as training_step
from nasformer.models.build import build
from nasformer.models.transformer import PAD, Embedding, ModelSettings, Output
from nasformer.operators.catalogue import Dropout
from nasformer.operators.operator import reset
from nasformer.spaces.named import transformer

SHAPES = ((256, 3), (128, 3), (256, 6), (128, 6))
TOKENS, BATCHES, BAR = 1_024, 8, 0.85


class TorchTransformer(nn.Module):
    """`torch.nn.Transformer` between our embeddings and our output projection."""

    def __init__(self, dim: int, layers: int, settings: ModelSettings, as_built: bool) -> None:
        super().__init__()
        assert settings.source_vocabulary is not None
        residual = settings.residual_dropout(dim)
        self.source_embedding = Embedding(settings.source_vocabulary, dim, dim, residual)
        self.embedding = Embedding(settings.target_vocabulary, dim, dim, residual)
        self.output = Output(settings.target_vocabulary, dim)
        self.stacks = nn.Transformer(
            dim, 4, layers, layers, dim_feedforward=2 * dim, dropout=residual, batch_first=True, norm_first=False
        )
        reset(self, torch.Generator().manual_seed(1))
        if not as_built:
            self.stacks.encoder.norm = self.stacks.decoder.norm = None
            for layer in (*self.stacks.encoder.layers, *self.stacks.decoder.layers):
                layer.dropout.p = 0.0
                for attention in (layer.self_attn, getattr(layer, "multihead_attn", None)):
                    if attention is not None:
                        attention.dropout = 0.0

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """source (batch, source), target (batch, target) → logits (batch, target, vocab)."""
        hidden, hidden_target = (_padding(tokens) for tokens in (source, target))
        future = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool, device=target.device).triu(1)
        decoded = self.stacks(
            self.source_embedding(source, hidden),
            self.embedding(target, hidden_target),
            tgt_mask=future,
            src_key_padding_mask=hidden,
            tgt_key_padding_mask=hidden_target,
            memory_key_padding_mask=hidden,
            # The shortcut for causal masks is open only where nothing is padded.
            tgt_is_causal=hidden_target is None,
        )
        return self.output(decoded)


def _padding(tokens: Tensor) -> Tensor | None:
    padding = tokens == PAD
    return padding if padding.any() else None


def plain_step(options: Options) -> Iterator[Figure]:
    """Each shape, strictly and as built; then bfloat16 autocast of ours against float32."""
    task = translation(options.data)
    settings = task.model_settings(Dropout(residual=0.1))
    found = batches(task, TOKENS, BATCHES)
    for dim, layers in SHAPES:
        torch_sides = [TorchTransformer(dim, layers, settings, as_built) for as_built in (False, True)]
        models = [build(transformer(dim, layers, layers), settings, seed=1), *torch_sides]
        steps = [training_step(task, model) for model in models]
        times = _over_batches(steps, found, options)
        shape = (
            f"dim {dim}, {layers} + {layers} layers, 4 heads, inner width {2 * dim}, post-norm, {TOKENS:,} tokens of "
            f"{corpus(options.data)}; {clock_name()}; the same cross_entropy and fused AdamW on both sides"
        )
        name = f"plain_step_{dim}x{layers}"
        how = f"our training step / nn.Transformer's with the same dropout; {shape}"
        yield figure(name, times[:, 0] / times[:, 1], BAR, how)
        how = f"our training step / nn.Transformer's as built (dropout also inside); {shape}"
        yield figure(f"{name}_as_built", times[:, 0] / times[:, 2], None, how)


def plain_step_bfloat16(options: Options) -> Iterator[Figure]:
    """Whether autocast to bfloat16 is worth it on this machine."""
    task = translation(options.data)
    settings = task.model_settings(Dropout(residual=0.1))
    model = build(transformer(256, 3, 3), settings, seed=1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    steps = [training_step(task, model, torch.autocast(device, torch.bfloat16)), training_step(task, model)]
    times = _over_batches(steps, batches(task, TOKENS, BATCHES), options)
    how = f"our training step in bfloat16 autocast / float32; dim 256, 3 + 3 layers, {TOKENS:,} tokens; {clock_name()}"
    yield figure("plain_step_bfloat16", times[:, 0] / times[:, 1], None, how)


def _over_batches(steps: list[Callable], found: list, options: Options) -> np.ndarray:
    """Seconds (batches, steps): the median of repeats in turn on each batch."""
    rows = []
    for number, batch in enumerate(found):
        calls = [lambda s=step, b=batch: s(b) for step in steps]  # type: ignore[misc]
        rows.append(np.median(in_turn(calls, options.repeats(4), warmup=1 if number else 2), axis=0))
    return np.array(rows)
