"""The program family made into a network: token embeddings, the block `depth` times, a final norm, the tied output."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.errors import RequestError
from nasformer.models.transformer import PAD, Embedding, ModelSettings, padding_of
from nasformer.operators.normalization import LayerNorm
from nasformer.operators.operator import Cache, reset
from nasformer.operators.program import ProgramBlock, weight_shapes
from nasformer.spaces.program import BRANCHINGS, Graph, Program, Resolved, graph_of, resolve


class LeakError(RequestError):
    """A program whose outputs depend on what comes later."""


class SizeError(RequestError):
    """A program that no unit brings to the size asked for."""


TOLERANCE = 0.08
"""How far the size of a rescaled program may be from the one asked for (our reading 9)."""


@lru_cache(maxsize=256)
def _resolved(program: Program) -> Resolved:
    return resolve(program)


@dataclass(frozen=True)
class ProgramPart:
    """One block of a program's network (as `nasformer.models.transformer.Part` is one sub-layer)."""

    program: Program

    @property
    def dim(self) -> int:
        """The channels of the stream."""
        return self.program.width

    def build(self, settings: ModelSettings) -> nn.Module:
        """The block, on the current default device, weights not yet drawn."""
        return ProgramBlock(_resolved(self.program), self.program.length)

    def example(self, time: int, source: int) -> tuple[Tensor, ...]:
        """What it reads of one sequence of `time` tokens, on the meta device."""
        return (torch.empty(1, time, self.dim, device="meta"),)


def parts(program: Program) -> Iterator[tuple[str, int, ProgramPart]]:
    """Every block: stack name, index, part."""
    for index in range(program.depth):
        yield "decoder", index, ProgramPart(program)


def frame_parameters(program: Program) -> int:
    """Core parameters outside the blocks: the final norm."""
    return 2 * program.width


def table_parameters(program: Program, settings: ModelSettings) -> int:
    """Parameters of the embeddings, which are the output matrix too."""
    return settings.target_vocabulary * program.width


class ProgramModel(nn.Module):
    """A language model whose block is a program: tokens → logits of the next token.

    Dropout stands on the embeddings alone. Step-wise decoding runs the whole program anew at each step, for a program
    may keep any sum over the past; what it gives is what one run over all tokens gives.
    """

    def __init__(self, architecture: Program, settings: ModelSettings) -> None:
        super().__init__()
        self.architecture, self.settings = architecture, settings
        width = architecture.width
        self.embedding = Embedding(settings.target_vocabulary, width, width, settings.residual_dropout(width))
        self.blocks = nn.ModuleList(part.build(settings) for _, _, part in parts(architecture))
        self.norm = LayerNorm(width)

    def decode(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """tokens (batch, time) → hidden states (batch, time, width); with a cache, of the new positions."""
        new = tokens.shape[1]
        if cache is not None:
            tokens = torch.cat([cache["tokens"], tokens], dim=1) if "tokens" in cache else tokens
            cache["tokens"] = tokens
        padding = padding_of(tokens)
        if padding is None:
            return self._run(tokens)[:, -new:]
        # Padding goes to the end, where what is causal does not see it.
        order = padding.int().argsort(dim=1, stable=True)
        hidden = self._run(tokens.gather(1, order))
        back = order.argsort(dim=1).unsqueeze(-1).expand_as(hidden)
        return hidden.gather(1, back)[:, -new:]

    def _run(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens, None)
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed

    def output(self, hidden: Tensor) -> Tensor:
        """hidden (…, width) → logits (…, vocab)."""
        return F.linear(hidden, self.embedding.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (batch, time) → logits (batch, time, vocab)."""
        return self.output(self.decode(tokens))


def check_causal(program: Program, length: int, seed: int) -> None:
    """The causality guard at birth (our reading 6): with random weights, what stands after t is changed and outputs at
    t and before must not move, for several t.

    Three times over: inputs without order; inputs that are much alike, as tokens with shared positions are, since among
    unlike ones attention without a mask sees itself alone; and changes four times as large, for a maximum over the
    future shows only where the future is large. What slips through is caught once it is trained (`check_trained`).
    Raises `LeakError` where an output moves, and `RequestError` where random inputs give no numbers.
    """
    time = length if program.length is not None else min(length, 12)
    generator = torch.Generator().manual_seed(seed)
    block = ProgramBlock(_resolved(program), program.length).double()
    reset(block, generator)
    cuts = sorted({0, time // 3, time // 2, time - 2} - {-1})
    with torch.no_grad():
        for weight in block.parameters():
            if (weight == weight.flatten()[0]).all():  # gains and biases start alike
                weight.add_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype), alpha=0.1)
        before = torch.randn(3, 1, time, program.width, generator=generator, dtype=torch.float64)
        after = torch.randn(3, len(cuts), time, program.width, generator=generator, dtype=torch.float64)
        common = torch.randn(1, 1, program.width, generator=generator, dtype=torch.float64)
        before[1], after[1] = common + 0.05 * before[1], common + 0.05 * after[1]
        after[2] *= 4
        rows = torch.stack([torch.where(torch.arange(time)[:, None] <= t, before[:, 0], after[:, i])
                            for i, t in enumerate(cuts)], dim=1)  # fmt: skip
        out = block(torch.cat([before, rows], dim=1).flatten(0, 1)).unflatten(0, (3, len(cuts) + 1))
    if not torch.isfinite(out[:2]).all() or not torch.isfinite(out[:, 0]).all():
        raise RequestError("random inputs give no numbers")
    for i, t in enumerate(cuts):
        # Large changes may overflow, which says nothing of the past.
        numbers = torch.isfinite(out[:, i + 1]).flatten(1).all(1)
        _check_past(out[numbers, 0, : t + 1], out[numbers, i + 1, : t + 1], t, 1e-9)


@torch.no_grad()
def check_trained(model: nn.Module, tokens: Tensor) -> None:
    """The causality guard of a trained model: tokens (batch, time) after t are changed to those of the next row, or
    where that has the same, to the next of the vocabulary, for several t, and no logits at t and before may move.

    Raises `LeakError` where they do.
    """
    model.eval()
    logits, other = model(tokens), tokens.roll(1, 0)
    following = 1 + tokens % max(1, logits.shape[-1] - 1)  # among the tokens that are no padding
    other = torch.where((other == tokens) & (tokens != PAD), following, other)
    time = tokens.shape[1]
    for t in sorted({0, time // 3, 2 * time // 3}):
        changed = torch.cat([tokens[:, : t + 1], other[:, t + 1 :]], dim=1)
        _check_past(logits[:, : t + 1], model(changed)[:, : t + 1], t, 1e-4)


def _check_past(past: Tensor, changed: Tensor, t: int, tolerance: float) -> None:
    if (past - changed).abs().max() > tolerance * (1 + past.abs().max()):
        raise LeakError(f"it leaks from the future: what comes after position {t} changes what stands there")


def rescaled(program: Program, parameters: int) -> Program:
    """The program as it is where its core parameters are within 8 % of `parameters`, otherwise with the unit, of those
    tried, that brings them nearest.

    The unit is found by bisection. Where widths do not fit at a unit on the way, that unit is passed over, and those
    near the end of the search that make some dim a whole number of channels are tried too.
    Raises `SizeError` where it cannot be brought within 8 % (our reading 9), and `RequestError` where its widths fit
    together neither as it is nor at any unit tried.
    """
    units = _Units(program)
    own = units.size(program.unit)
    if own is not None and abs(own / parameters - 1) <= TOLERANCE:
        return program
    low, high = 0.25, 4096.0
    while high / low > 1.0005:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if units.about(middle) < parameters else (low, middle)
    if units.refused is not None:
        for unit in _whole_units(program, (low * high) ** 0.5):
            units.size(unit)
    sizes = {unit: size for unit, size in units.sizes.items() if unit != program.unit} or units.sizes
    unit = min(sizes, key=lambda unit: abs(sizes[unit] / parameters - 1))
    if abs(sizes[unit] / parameters - 1) > TOLERANCE:
        raise SizeError(
            f"no unit brings the program within {TOLERANCE:.0%} of {parameters:,} core parameters; the nearest has "
            f"{sizes[unit]:,}"
        )
    return program.but(unit=unit)


def widened(program: Program, times: float) -> Program:
    """The program with `times` its unit or, where its widths do not fit there, with the unit nearest to that, of those
    that make some dim a whole number of channels, at which they do. Where they fit at none, `times` its unit."""
    units, unit = _Units(program), times * program.unit
    fitting = (other for other in (unit, *_whole_units(program, unit)) if units.size(other) is not None)
    return program.but(unit=next(fitting, unit))


class _Units:
    """The sizes of a program at the units tried so far; `refused` says why the first of those at which its widths do
    not fit is none."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.sizes: dict[float, int] = {}
        self.graph: Graph | None = None
        self.refused: RequestError | None = None
        self._tried: set[float] = set()

    def size(self, unit: float) -> int | None:
        """Core parameters at a unit; None where the widths do not fit."""
        if unit not in self._tried:
            self._tried.add(unit)
            try:
                self.graph = self.graph or graph_of(self.program)
                self.sizes[unit] = _size(self.program.but(unit=unit), self.graph)
            except RequestError as error:
                self.refused = self.refused or error
        return self.sizes.get(unit)

    def about(self, unit: float) -> float:
        """Core parameters at a unit; where the widths do not fit, those at the nearest one tried (the nearest whole one
        among them), as if they grew with the square of the unit. Raises `RequestError` where they fit at none."""
        size = self.size(unit)
        if size is not None:
            return size
        self.size(max(1.0, float(round(unit))))
        if not self.sizes:
            assert self.refused is not None
            raise self.refused
        near = min(self.sizes, key=lambda other: abs(math.log(other / unit)))
        return self.sizes[near] * (unit / near) ** 2


def _whole_units(program: Program, unit: float) -> list[float]:
    """The units, nearest first, within a tenth of `unit` that make a dim a whole number of channels, or of channels for
    each branch; at most a dozen."""
    found = set()
    for dim in program.dims:
        for step in BRANCHINGS:
            below = math.floor(unit * dim / step) * step
            found |= {below / dim, (below + step) / dim}
    near = [other for other in found if abs(other / unit - 1) <= 0.1]
    return sorted(near, key=lambda other: (abs(math.log(other / unit)), other))[:12]


def _size(program: Program, graph: Graph) -> int:
    """Core parameters. Raises `RequestError` where the widths do not fit together."""
    shapes = weight_shapes(resolve(program, graph), program.length).values()
    return program.depth * sum(math.prod(shape) for shape in shapes) + frame_parameters(program)
