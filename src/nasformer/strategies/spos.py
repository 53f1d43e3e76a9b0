"""SPOS: Single Path One-Shot Neural Architecture Search with Uniform Sampling (Guo et al., arXiv 1904.00420).

A supernet is trained on uniformly sampled architectures; then evolution on inherited weights finds the best. How ours
differs: it is ShrinkNAS with a single round at the very end, whose evolution gets the evaluations that all rounds of
the compared ShrinkNAS search get together, so that the two differ in shrinking alone.
"""

from __future__ import annotations

from nasformer.strategies.shrinknas import ShrinkNas


def spos(like: ShrinkNas) -> ShrinkNas:
    """Uniform single-path search with the updates and evaluations of a ShrinkNAS search."""
    exploration = like.exploration
    evaluations = like.evaluations()
    iterations = 1 + max(1, round((evaluations - exploration.first_ranking) / exploration.members))
    return like.but(rounds=1, exploration=exploration.but(iterations=iterations), shrinking="explore")
