"""Hard draws that logits learn from: one option, the best edges of a node, or a whole set of them.

Of every draw only what was chosen comes back, with straight-through weights w = hard + (soft − stop_gradient(soft)):
each is exactly 1.0, and its gradient reaches every logit of the draw through the softmax (docs/papers/rome.md §2.2; our
readings 3 and 4). Logits need no normalising: β + g and log_softmax(β) + g draw the same and have the same gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import torch
from torch import Tensor

from nasformer.errors import RequestError, RunError
from nasformer.supernets.selection import Chosen


class NotFinite(RunError):  # noqa: N818
    """Logits that are no numbers: nothing can be drawn from them, and to draw again does not help."""


def gumbel_noise(shape: int | Sequence[int], generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """−log(−log u) in this shape, u uniform, on the generator's device; drawn again where it is infinite or no number
    (reading 7)."""
    size = (shape,) if isinstance(shape, int) else tuple(shape)
    while True:
        uniform = torch.rand(size, generator=generator, device=generator.device, dtype=dtype)
        if bool((noise := -(-uniform.log()).log()).isfinite().all()):
            return noise


def one(logits: Tensor, temperature: float, noise: Tensor) -> Chosen:
    """The option with the largest logit + noise, logits and noise (options,), with its weight (1,) (Eq. 2 and 3).

    The gradient of the logits is (1/τ) u soft_o (δ_o − soft), u the gradient of the weight. Raises `NotFinite`.
    """
    return top(logits, 1, temperature, noise)


def top(logits: Tensor, count: int, temperature: float, noise: Tensor) -> Chosen:
    """The `count` edges with the largest logits + noise, ascending, logits and noise (predecessors,), with their
    weights (count,): Gumbel-Top2 for two (Eq. 7 and 8), drawing without replacement.

    The gradient of logit k is (1/τ) Σ_i u_i soft_i (δ_ik − soft_k) over the chosen i; over all k it sums to 0. Raises
    `RequestError` where there are fewer predecessors than `count`, `NotFinite` for logits that are no numbers.
    """
    if not 0 < count <= len(logits):
        raise RequestError(f"expected to draw between 1 and {len(logits)} of {len(logits)} logits, got {count}")
    perturbed = logits + noise
    values = _on_host(perturbed)
    chosen = sorted(sorted(range(len(values)), key=values.__getitem__)[-count:])
    return Chosen(tuple(chosen), _straight_through((perturbed / temperature).softmax(0), chosen))


def pairs(logits: Tensor, predecessors: int, temperature: float, noise: Tensor, count: int = 2) -> Chosen:
    """The edges of the set with the largest logit + noise, ascending, with their weights (count,): Gumbel-Max over the
    unordered pairs of predecessors (or sets of `count`), logits and noise (sets,) in the order of `edge_sets`
    (Eq. 4 to 6).

    An edge's soft weight is that of all sets which contain it. Raises `NotFinite`, and `RequestError` where there are
    not as many logits as sets.
    """
    sets = edge_sets(predecessors, count)
    if len(logits) != len(sets):
        raise RequestError(
            f"{predecessors} predecessors have {len(sets)} sets of {count}, one logit each; got {len(logits)} logits"
        )
    perturbed = logits + noise
    values = _on_host(perturbed)
    chosen = sets[values.index(max(values))]
    soft = (perturbed / temperature).softmax(0) @ _membership(predecessors, count).to(perturbed)
    return Chosen(chosen, _straight_through(soft, chosen))


@lru_cache
def edge_sets(predecessors: int, count: int = 2) -> tuple[tuple[int, ...], ...]:
    """The sets of `count` of the predecessors, each ascending, in lexicographic order: (0, 1), (0, 2), … Raises
    `RequestError` where there are none."""
    if not 0 < count <= predecessors:
        raise RequestError(f"expected sets of 1 to {predecessors} of {predecessors} predecessors, got {count}")
    return tuple(combinations(range(predecessors), count))


def inclusion(logits: Tensor, count: int = 2) -> Tensor:
    """How probable it is that each edge is among the `count` that `top` draws, (predecessors,), sum `count`.

    For two: p_i + Σ_{j≠i} p_j p_i / (1 − p_j), p the softmax of the logits (§2.2).
    """
    if not 0 < count <= len(logits):
        raise RequestError(f"expected between 1 and {len(logits)} of {len(logits)} logits, got {count}")
    probabilities = logits.softmax(0)
    if count == 1:
        return probabilities
    found = probabilities.clone()
    for first in range(len(logits)):
        others = [edge for edge in range(len(logits)) if edge != first]
        found[others] += probabilities[first] * inclusion(logits[others], count - 1)
    return found


def pair_inclusion(logits: Tensor, predecessors: int, count: int = 2) -> Tensor:
    """The same for `pairs`: (predecessors,), the probabilities of the sets that contain each edge, added up."""
    return logits.softmax(0) @ _membership(predecessors, count).to(logits)


def _on_host(perturbed: Tensor) -> list[float]:
    """The values as plain numbers, so that a draw looks at them once."""
    values: list[float] = perturbed.detach().tolist()
    if not all(map(math.isfinite, values)):
        raise NotFinite(
            f"expected finite logits to draw from, got {', '.join(f'{value:.4g}' for value in values)} with noise; go "
            f"back to the last good state, or lower the rate of the logits"
        )
    return values


def _straight_through(soft: Tensor, chosen: Sequence[int]) -> Tensor | None:
    """For each chosen one exactly 1.0, with the gradient of `soft`; None where that has none: one is no weight."""
    if not soft.requires_grad:
        return None
    own = soft[chosen[0] : chosen[0] + 1] if len(chosen) == 1 else soft[list(chosen)]
    return 1.0 + (own - own.detach())


@lru_cache
def _membership(predecessors: int, count: int) -> Tensor:
    """(sets, predecessors): 1 where the set contains the predecessor."""
    found = torch.zeros(math.comb(predecessors, count), predecessors)
    for row, chosen in enumerate(edge_sets(predecessors, count)):
        found[row, list(chosen)] = 1.0
    return found
