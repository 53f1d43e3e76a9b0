"""The recipes that ship with the package. A variant changes fields of another."""

from __future__ import annotations

from typing import Any

from nasformer.measures.step_cost import StepCost
from nasformer.operators.catalogue import Dropout
from nasformer.recipes.image_protocol import image_task, image_training
from nasformer.recipes.recipe import STRONGEST, Recipe
from nasformer.spaces.named import NamedSpace
from nasformer.strategies.darts import Darts
from nasformer.strategies.gdas import Gdas
from nasformer.strategies.objective import Objective
from nasformer.strategies.primer import Confirmation, Primer
from nasformer.strategies.rome import Rome
from nasformer.strategies.rules import CELL_LOGITS, Logits
from nasformer.strategies.shrinknas import Exploration, ShrinkNas
from nasformer.tasks.images import Images
from nasformer.tasks.language import Language
from nasformer.tasks.translation import Translation
from nasformer.training.schedule import ConstantThenDecay, Cosine, InverseSquareRoot
from nasformer.training.sweep import Sweep
from nasformer.training.trainer import Training

SMALL: dict[str, Any] = {
    "dims": [64, 80, 96, 112],
    "ratios": [0.25, 0.5, 1.0, 2.0],
    "tables": "separate",
    "norm_kinds": ["layer"],
}
"""The space of today for two CPU cores. Tables apart cost no core parameters and are worth two BLEU at 145 k of them;
root mean square norms take two to four times as long on a CPU (docs/results.md)."""


def shrinknas_paper() -> Recipe:
    """ShrinkNAS as published: 50,000 + 30,000 updates of 4,096 tokens, for a GPU (docs/papers/shrinknas.md §3).

    The paper does not state n and i; these fit its cost of 1.23 times plain training (our reading 13's n = 1,000 costs
    1.77: docs/results.md).
    """
    return Recipe(
        name="shrinknas-paper",
        space="shrinknas",
        strategy=ShrinkNas(
            training=Training(updates=50_000, averaged=10, schedule=InverseSquareRoot(peak=5e-4, warmup=10_000)),
            exploration=Exploration(members=250, first_ranking=500),
        ),
        fine_tune=Training(updates=30_000, averaged=10, schedule=InverseSquareRoot(peak=5e-4, warmup=10_000)),
        published=True,
        finalists=1,
        retrain=False,
        controls=("random_search", "spos", "transformer", "lite_transformer", "light_convolution"),
    )


def _scaled(recipe: Recipe, *, updates: int, fine_tune: int, batch_tokens: int, exploration: Exploration) -> Recipe:
    """A published recipe at other lengths: the rate is found, and the better of two trainings handed over."""
    schedule = ConstantThenDecay()
    return recipe.but(
        published=False,
        finalists=8,
        retrain=True,
        controls=STRONGEST,
        strategy=recipe.strategy.but(
            training=Training(updates=updates, batch_tokens=batch_tokens, schedule=schedule),
            exploration=exploration,
            use=0.8,
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
        exploration=Exploration(members=100, iterations=2, first_ranking=200, validation_tokens=2_048),
    )


def shrinknas_small() -> Recipe:
    """The space of today at a size for two CPU cores (docs/papers/shrinknas.md §8)."""
    return _scaled(
        shrinknas().but(
            name="shrinknas-small",
            space=NamedSpace(name="modern", settings=SMALL),
            dropout=Dropout(residual=0.1),
        ),
        updates=1_500,
        fine_tune=900,
        batch_tokens=1_024,
        exploration=Exploration(members=64, iterations=2, first_ranking=128, validation_tokens=1_024),
    )


def demo() -> Recipe:
    """A search that ends in minutes, on the corpus that the package makes itself."""
    recipe = _scaled(
        shrinknas_small().but(
            name="demo",
            task=Translation(vocabulary=2_000, test_sentences=300, beams=4, embedded_pairs=12_000),
            objective=Objective(max_core_parameters=200_000),
        ),
        updates=360,
        fine_tune=240,
        batch_tokens=1_024,
        exploration=Exploration(members=32, iterations=2, first_ranking=64, validation_tokens=512),
    )
    return recipe.but(
        finalists=4,
        strategy=recipe.strategy.but(divergence_members=50, divergence_tokens=128),
        controls=("tuned_transformer", "tuned_fixed", "halving"),
    )


def dartsformer_paper() -> Recipe:
    """DARTSformer as published: 30,000 + 30,000 updates of 5,000 tokens at e = 256, d = 960, for GPUs
    (docs/papers/dartsformer.md §3); trained from scratch by our reading 21."""
    search = InverseSquareRoot(peak=5e-4, warmup=10_000)
    return Recipe(
        name="dartsformer-paper",
        task=Translation(vocabulary=33_000, shared_vocabulary=True, beams=4, length_penalty=0.6),
        space="dartsformer",
        strategy=Darts(
            training=Training(updates=30_000, batch_tokens=5_000, schedule=search),
            logits=Logits(),
            weight_part=5 / 9,
            zero=False,
        ),
        fine_tune=Training(updates=100_000, averaged=10, schedule=InverseSquareRoot(peak=7e-4, warmup=4_000)),
        dropout=Dropout(residual=0.1, attention=0.1, weight=0.1),
        published=True,
        controls=("uniform_sampling", "transformer", "lite_transformer"),
    )


def _dartsformer(
    name: str, settings: dict[str, Any], *, updates: int, fine_tune: int, batch_tokens: int, restarts: int = 1
) -> Recipe:
    schedule = ConstantThenDecay()
    paper = dartsformer_paper()
    return paper.but(
        name=name,
        published=False,
        task=Translation(vocabulary=4_000, shared_vocabulary=True, max_length=60),
        space=NamedSpace(name="dartsformer", settings=settings),
        strategy=Darts(
            training=Training(updates=updates, batch_tokens=batch_tokens, schedule=schedule),
            logits=Logits(rate=3e-3),
            weight_part=0.6,
            zero=False,
            restarts=restarts,
        ),
        fine_tune=Training(updates=fine_tune, batch_tokens=batch_tokens, schedule=schedule),
        dropout=Dropout(residual=0.1),
        controls=("tuned_transformer", "tuned_transformer_total", "tuned_fixed_total", "average", "uniform_sampling"),
    )


def dartsformer() -> Recipe:
    """Some tens of thousands of sentence pairs on one GPU: e = 64, d = 240, two searched layers, two repeats."""
    settings: dict[str, Any] = {"dim": 240, "embedding_dim": 64, "splits": 2, "searched": 2, "depth": 4, "heads": 4}
    settings["pooling"] = "max"
    return _dartsformer("dartsformer", settings, updates=2_500, fine_tune=5_000, batch_tokens=4_096)


def dartsformer_small() -> Recipe:
    """The small-scale protocol for two CPU cores (docs/papers/dartsformer.md §8).

    Ours: logits learn ten times as fast as in the paper, which has fifty times as many updates of them.
    """
    settings: dict[str, Any] = {"dim": 96, "embedding_dim": 32, "splits": 2, "searched": 1, "depth": 2, "heads": 4}
    settings["pooling"] = "max"
    return _dartsformer("dartsformer-small", settings, updates=600, fine_tune=1_200, batch_tokens=1_024)


def primer_paper() -> Recipe:
    """Primer as published, in kind: 25,000 programs from the Transformer of 35 M parameters, a population of 100,
    tournaments of 10, four hurdles in seven hours of one accelerator (docs/papers/primer.md §3); Adam for Adafactor.

    Hours are charged, not taken: a GFLOP costs what the published totals make of it, 1,145.8 TPUv2-days for 2.14×10²¹
    FLOPs (§2.2), and the other prices stand to it as on a CPU core. That gives the start 16,000 updates to the first
    hurdle, of which the published warm-up takes 10,000. For the hours of another machine measure its prices at this
    size with `nasformer.strategies.evaluate_program.calibrated`, set `strategy.step_cost`, and keep the warm-up below
    the updates at the first hurdle.
    """
    return Recipe(
        name="primer-paper",
        task=Language(vocabulary=32_000, length=64),
        space=NamedSpace(name="primer", settings={"width": 512, "depth": 6, "heads": 8}),
        strategy=Primer(
            programs=25_000,
            budget=25_200,
            step_cost=StepCost(gflop=4.6e-5, elements=7e-6, operation=0.0, constant=2.1e-5),
            confirmation=Confirmation(top=100, runs=5),
            training=Training(weight_decay=0.0, schedule=InverseSquareRoot(peak=1e-3, warmup=10_000)),
        ),
        dropout=Dropout(residual=0.0),
        published=True,
        controls=("start", "random_mutation", "gelu", "transformer_plus_plus", "primer_ez", "primer"),
    )


def primer() -> Recipe:
    """Some hundred programs for one machine: the small-scale protocol for two CPU cores (docs/papers/primer.md §8).

    Batches are a quarter of the paper's, so that the budget gives the start 400 updates and rates can be told apart.
    """
    return primer_paper().but(
        name="primer",
        published=False,
        task=Language(length=64, evaluation_tokens=262_144),
        space=NamedSpace(name="primer", settings={"width": 64, "depth": 2, "heads": 4}),
        strategy=Primer(
            programs=400,
            population=24,
            tournament=6,
            hurdles=2,
            budget=10.0,
            pool=48,
            workers=2,
            confirmation=Confirmation(top=10, runs=5),
            training=Training(batch_tokens=1_024, weight_decay=0.0, schedule=InverseSquareRoot()),
        ),
        controls=(
            *("start", "random_mutation", "gelu", "squared_relu", "convolved", "transformer_plus_plus", "primer_ez"),
            *("primer", "longer", "longer_start", "wider", "wider_start"),
        ),
    )


def primer_demo() -> Recipe:
    """A search of programs that ends in a few minutes, on the source text of Python's standard library."""
    recipe = primer()
    small = {"programs": 24, "population": 8, "tournament": 3, "budget": 2.0, "together": 4}
    confirmation = Confirmation(top=3, runs=2, noise=3, lineage=False, changes=False)
    training = recipe.strategy.training.but(batch_tokens=256)
    strategy = recipe.strategy.but(**small, confirmation=confirmation, training=training)
    return recipe.but(name="primer-demo", strategy=strategy, sweep=Sweep(share=0.25), controls=("start", "primer_ez"))


def rome_paper() -> Recipe:
    """ROME as published, on CIFAR-10: S0 at 8 cells and 16 channels, 50 epochs of half the 50,000 images, seven samples
    an update; retrained at 20 cells and 36 channels for 600 epochs, for a GPU (docs/papers/rome.md §3). Epochs are
    counted of all images; of those that validation leaves they are a ninth more."""
    return Recipe(
        name="rome-paper",
        task=image_task(),
        space=NamedSpace(name="s0", settings={"channels": 16, "cells": 8}),
        strategy=Rome(
            training=image_training(updates=19_550, images=64).but(schedule=Cosine(peak=0.05, end=0.001)), samples=7
        ),
        fine_tune=image_training(updates=312_500),
        trained={"channels": 36, "cells": 20},
        published=True,
        controls=("random_architecture", "gdas", "darts", "darts_v2", "gdas_v1"),
        random_architectures=3,
    )


def gdas_paper() -> Recipe:
    """GDAS as its code has it, on CIFAR-10: all 14 edges of S5 at 6 cells and 16 channels, 250 epochs of half the
    images in batches of 256, SGD with Nesterov's momentum; retrained as `rome-paper` (docs/papers/rome.md §7.1)."""
    paper = rome_paper()
    training = image_training(updates=24_500, images=256).but(
        schedule=Cosine(peak=0.025, end=0.001), weight_decay=5e-4, nesterov=True
    )
    return paper.but(
        name="gdas-paper",
        space=NamedSpace(name="s5", settings={"channels": 16, "cells": 6}),
        strategy=Gdas(training=training, epochs=250),
        controls=("random_architecture", "gdas_v1"),
    )


IMAGES_SWEPT = Sweep(validation_tokens=512)
"""Of an image task what is counted are images, of which fewer tell rates apart than tokens."""


def _images(updates: int, images: int = 96) -> Training:
    """How image networks and supernets are trained at a rate that is found."""
    return image_training(updates=updates, images=images).but(schedule=Cosine(warmup=0.125))


def rome() -> Recipe:
    """Images in colours, or the handwritten digits, for one GPU: S0 at half the paper's channels, retrained at 8 cells
    and 16 channels. On a CPU take `rome-small`.

    Ours: logits learn faster than in the paper, which has twenty times as many updates (our reading 44).
    """
    return rome_paper().but(
        name="rome",
        published=False,
        sweep=IMAGES_SWEPT,
        task=Images(),
        space=NamedSpace(name="s0", settings={"channels": 8, "cells": 5}),
        strategy=Rome(training=_images(updates=1_000, images=64), samples=4, logits=CELL_LOGITS.but(rate=5e-3)),
        fine_tune=_images(updates=3_000),
        trained={"channels": 16, "cells": 8},
        controls=("halving", "average", "gdas", "darts_v2"),
    )


def rome_small() -> Recipe:
    """S2 for two CPU cores, at images of 16×16 (docs/papers/rome.md §8): what the supernet trains, nothing enlarged."""
    return rome().but(
        name="rome-small",
        task=Images(size=16, evaluation_images=2_000),
        space=NamedSpace(name="s2", settings={"channels": 8, "cells": 5}),
        strategy=Rome(training=_images(updates=320, images=64), samples=3, logits=CELL_LOGITS.but(rate=1e-2)),
        fine_tune=_images(updates=800, images=64),
        trained={},
        controls=("halving", "average", "gdas", "darts"),
    )


def rome_nasbench201() -> Recipe:
    """NAS-Bench-201's cells with two inputs a node, a cell a stage, to be looked up in a table (`table=PATH`) where one
    is at hand, otherwise trained at the benchmark's five cells a stage (docs/papers/rome.md §6.3)."""
    return rome_small().but(
        name="rome-nasbench201",
        space=NamedSpace(name="nasbench201-two-inputs", settings={"channels": 16, "cells": 1}),
        strategy=Rome(training=_images(updates=400, images=64), samples=4, logits=CELL_LOGITS.but(rate=1e-2)),
        trained={"cells": 5},
        controls=("random_architecture", "gdas", "darts"),
    )


def rome_language() -> Recipe:
    """Cells for language models for two CPU cores: T0 (docs/papers/rome.md §8), beside the Transformer of its size."""
    training = Training(updates=600, batch_tokens=2_048)
    return Recipe(
        name="rome-language",
        task=Language(length=64, evaluation_tokens=262_144),
        space=NamedSpace(name="t0", settings={"dim": 48, "blocks": 2}),
        strategy=Rome(training=training, samples=3, logits=CELL_LOGITS.but(rate=1e-2)),
        fine_tune=training.but(updates=1_000),
        dropout=Dropout(residual=0.0),
        controls=("tuned_transformer", "tuned_fixed", "halving", "average", "gdas"),
        random_architectures=5,
    )


def rome_transformer() -> Recipe:
    """T5 (docs/papers/rome.md §8): cells that can be Transformer layers, at the sizes of `rome-language`."""
    return rome_language().but(name="rome-transformer", space=NamedSpace(name="t5", settings={"dim": 48, "blocks": 2}))


RECIPES = {
    "shrinknas": shrinknas,
    "shrinknas-paper": shrinknas_paper,
    "shrinknas-small": shrinknas_small,
    "dartsformer": dartsformer,
    "dartsformer-paper": dartsformer_paper,
    "dartsformer-small": dartsformer_small,
    "gdas-paper": gdas_paper,
    "primer": primer,
    "primer-demo": primer_demo,
    "primer-paper": primer_paper,
    "rome": rome,
    "rome-language": rome_language,
    "rome-nasbench201": rome_nasbench201,
    "rome-paper": rome_paper,
    "rome-small": rome_small,
    "rome-transformer": rome_transformer,
    "demo": demo,
}
"""Every recipe, by name."""
