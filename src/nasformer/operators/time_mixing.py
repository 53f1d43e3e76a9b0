"""What sequence cells have besides attention: average pool, Fourier and depthwise convolution mix time, noise does not
(docs/papers/rome.md §8).

All take x (batch, time, dim) with padding at either end of a row, and count positions among real ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.operators.convolution import convolve, reach
from nasformer.operators.depthwise import as_convolution, filtered
from nasformer.operators.operator import Cache, Linear, with_past, zero_padding
from nasformer.operators.positions import positions


class AveragePool(nn.Module):
    """The mean over the real ones among `kernel` positions: centred, or (causal) the position and those before it."""

    def __init__(self, *, kernel: int, causal: bool = False) -> None:
        super().__init__()
        self.kernel, self.causal = kernel, causal

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """x (batch, time, dim) → (batch, time, dim)."""
        real = x.new_ones(*x.shape[:2], 1) if padding is None else (~padding).unsqueeze(-1).to(x.dtype)
        counted = with_past(torch.cat([zero_padding(x, padding), real], dim=-1), self.kernel, cache)
        sums = convolve(counted, x.new_ones(1, self.kernel), causal=self.causal)[:, -x.shape[1] :]
        return sums[..., :-1] / sums[..., -1:].clamp(min=1)


class Fourier(nn.Module):
    """Mixing over time by a fixed Fourier matrix, without parameters (FNet, arXiv 2105.03824; ours differs).

    The matrix is that of the discrete Hartley transform over the N real positions of a row,

        H[t, s] = (cos + sin)(2π t s / N) / √N,

    real part less imaginary part of the discrete Fourier transform. FNet takes the real part of the transform over time
    *and* channels; over time alone the real part gives the positions t and N − t the same, while H is orthogonal: it
    keeps norms and loses nothing. Causal: row t is the last row of the matrix of the first t + 1 positions (N = t + 1),
    so every row has norm 1 and its present position never weight 0 (docs/papers/rome.md, our readings 20 and 21).
    """

    def __init__(self, *, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """x (batch, time, dim) → (batch, time, dim)."""
        time = x.shape[1]
        if cache is not None:
            if padding is None and "hidden" in cache:
                padding = x.new_zeros(x.shape[:2], dtype=torch.bool)
            if "past" in cache:
                x = torch.cat([cache["past"], x], dim=1)
                if padding is not None:
                    before = cache.get("hidden", padding.new_zeros(x.shape[0], x.shape[1] - time))
                    padding = torch.cat([before, padding], dim=1)
            cache["past"] = x
            if padding is not None:
                cache["hidden"] = padding
        return self._matrix(x, padding, time) @ x

    def _matrix(self, x: Tensor, padding: Tensor | None, new: int) -> Tensor:
        """(batch or 1, new, time), its last rows; zero where a source is padded or, if causal, to come."""
        counted = positions(padding, x.shape[1])
        at = torch.arange(x.shape[1], device=x.device).unsqueeze(0) if counted is None else counted
        target, source = at[:, -new:].unsqueeze(2), at.unsqueeze(1)
        length = target + 1 if self.causal else at.amax(dim=1)[:, None, None] + 1
        # t · s mod N, in whole numbers, keeps the angle exact for long sequences; half precision would not.
        exact = torch.promote_types(x.dtype, torch.float32)
        angle = (2 * math.pi) * (target * source % length).to(exact) / length
        matrix = ((angle.cos() + angle.sin()) / length.to(exact).sqrt()).to(x.dtype)
        if padding is not None:
            matrix = matrix.masked_fill(padding.unsqueeze(1), 0.0)
        return matrix.tril(x.shape[1] - new) if self.causal else matrix


class DepthwiseConvolution(nn.Module):
    """A convolution over time with taps for each channel, centred or causal, then a linear map of the channels."""

    def __init__(self, dim: int, *, kernel: int, causal: bool = False) -> None:
        super().__init__()
        self.taps = Taps(dim, kernel)
        self.output = Linear(dim, dim)
        self.kernel, self.causal = kernel, causal

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """x (batch, time, dim) → (batch, time, dim)."""
        time, (_, ahead) = x.shape[1], reach(self.kernel, self.causal)
        x = F.pad(with_past(zero_padding(x, padding), self.kernel, cache), (0, 0, 0, ahead))
        return self.output(self.taps(x)[:, -time:])


class Taps(nn.Module):
    """y_t[c] = Σ_s weight[c, s] · x_{t − s}[c], zeros before the start."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, kernel))

    def reset(self, generator: torch.Generator) -> None:
        """Uniform with variance 1 / kernel, so that the sum over taps keeps the variance."""
        bound = math.sqrt(3.0 / self.weight.shape[1])
        with torch.no_grad():
            self.weight.uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, time, dim) → (batch, time, dim)."""
        return filtered(x, self.weight)

    def convolved(self, x: Tensor) -> Tensor:
        """The same sum as one convolution."""
        return as_convolution(x, self.weight)


class Noise(nn.Module):
    """N(0, 1) noise in the shape of the input, of which it does not depend.

    While training it is drawn afresh at each call from PyTorch's generator, as dropout is. In evaluation it is a fixed
    draw for each position, the same in every row and call, so that scores repeat and neither padding nor step-wise
    decoding changes anything (docs/papers/rome.md, our reading 25).
    """

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """x (batch, time, dim) → noise (batch, time, dim)."""
        if self.training:
            return torch.randn_like(x)
        seen = 0 if cache is None else cache.get("seen", 0)
        if cache is not None:
            new = x.shape[1] if padding is None else (~padding).sum(1, keepdim=True)
            cache["seen"] = seen + new + torch.zeros(x.shape[0], 1, dtype=torch.long, device=x.device)
        at = positions(padding, x.shape[1], seen)
        if x.device.type == "meta":
            return torch.empty_like(x)
        longest = x.shape[1] if at is None else int(at.max()) + 1
        table = _fixed_noise(longest, x)
        return table.expand_as(x) if at is None else table[at].expand_as(x)


def _fixed_noise(length: int, like: Tensor) -> Tensor:
    """(length, dim) of N(0, 1); the first positions are the same for every length."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(like.shape[-1], generator=generator, dtype=torch.float64) for _ in range(length)]
    return torch.stack(rows).to(like)
