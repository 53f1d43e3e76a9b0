"""The recipes that ship with the package. A variant changes fields of another."""

from __future__ import annotations

from nasformer.operators.catalogue import Dropout
from nasformer.recipes.recipe import Recipe
from nasformer.strategies.objective import Objective
from nasformer.strategies.shrinknas import Exploration, ShrinkNas
from nasformer.tasks.translation import Translation
from nasformer.training.schedule import InverseSquareRoot
from nasformer.training.train import Training


def shrinknas_paper() -> Recipe:
    """ShrinkNAS as published: 50,000 + 30,000 updates of 4,096 tokens, for a GPU (docs/papers/shrinknas.md §3).

    The paper does not state n and i; these fit its cost of 1.23 times plain training (our reading 13's n = 1,000 costs
    1.77: docs/results.md).
    """
    return Recipe(
        name="shrinknas-paper",
        space="shrinknas",
        strategy=ShrinkNas(
            training=Training(updates=50_000, schedule=InverseSquareRoot(warmup=10_000)),
            exploration=Exploration(members=250, first_ranking=500),
        ),
        fine_tune=Training(updates=30_000, schedule=InverseSquareRoot(warmup=10_000)),
    )


def _scaled(
    recipe: Recipe, *, updates: int, fine_tune: int, batch_tokens: int, peak: float, exploration: Exploration
) -> Recipe:
    schedule = InverseSquareRoot(peak=peak, warmup=updates // 5)
    return recipe.but(
        strategy=recipe.strategy.but(
            training=Training(updates=updates, batch_tokens=batch_tokens, schedule=schedule), exploration=exploration
        ),
        fine_tune=Training(updates=fine_tune, batch_tokens=batch_tokens, schedule=schedule),
    )


def shrinknas() -> Recipe:
    """The paper's space with a schedule for some tens of thousands of sentence pairs: a twentieth of the paper's."""
    return _scaled(
        shrinknas_paper().but(name="shrinknas", task=Translation(vocabulary=4_000)),
        updates=2_500,
        fine_tune=1_500,
        batch_tokens=2_048,
        peak=1e-3,
        exploration=Exploration(members=100, iterations=2, first_ranking=200, validation_tokens=2_048),
    )


def shrinknas_small() -> Recipe:
    """The small-scale protocol for two CPU cores (docs/papers/shrinknas.md §8)."""
    return _scaled(
        shrinknas().but(name="shrinknas-small", space="shrinknas-small", dropout=Dropout(residual=0.1)),
        updates=1_500,
        fine_tune=900,
        batch_tokens=1_024,
        peak=1e-3,
        exploration=Exploration(members=64, iterations=2, first_ranking=128, validation_tokens=1_024),
    )


def demo() -> Recipe:
    """A search that ends in minutes, on the corpus that the package makes itself."""
    recipe = _scaled(
        shrinknas_small().but(
            name="demo",
            task=Translation(vocabulary=2_000, test_sentences=300, beams=4, embedded_pairs=12_000),
            controls=("random_search", "transformer", "lite_transformer"),
            objective=Objective(max_core_parameters=200_000),
        ),
        updates=400,
        fine_tune=240,
        batch_tokens=1_024,
        peak=2e-3,
        exploration=Exploration(members=32, iterations=2, first_ranking=64, validation_tokens=512),
    )
    return recipe.but(strategy=recipe.strategy.but(divergence_members=50, divergence_tokens=128))


RECIPES = {
    "shrinknas": shrinknas,
    "shrinknas-paper": shrinknas_paper,
    "shrinknas-small": shrinknas_small,
    "demo": demo,
}
"""Every recipe, by name."""
