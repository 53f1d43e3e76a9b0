"""A whole search from Python instead of the command line, on the corpus that the package makes itself.

Run: python examples/search_in_python.py
"""

import tempfile
from pathlib import Path

from nasformer.recipes.carry_out import carry_out
from nasformer.recipes.named import demo
from nasformer.recipes.recipe import override
from nasformer.runs.run import Run
from nasformer.runs.stage import Quiet

TINY = [
    "task.embedded_pairs=1000",
    "task.vocabulary=400",
    "task.test_sentences=20",
    "task.beams=1",
    "strategy.training.updates=20",
    "strategy.rounds=2",
    "strategy.exploration.members=6",
    "strategy.exploration.first_ranking=8",
    "strategy.divergence_members=4",
    "fine_tune.updates=10",
    "controls=[transformer]",
]


def main() -> None:
    """Search for a moment, and print what was found beside the Transformer."""
    recipe = override(demo(), TINY)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        with Run.create(path, recipe.data(), seed=recipe.seed, command="examples/search_in_python.py") as run:
            result = carry_out(recipe, run, Quiet())
    for row in result["rows"]:
        card = row["scorecard"]
        size, bleu = card["core_parameters"], card["bleu"]["value"]
        print(f"{row['label']:12} {size:>9,} core, loss {card['loss']:.3f}, BLEU {bleu:.2f}")


if __name__ == "__main__":
    main()
