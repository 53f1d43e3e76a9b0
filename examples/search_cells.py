"""A search of image cells from Python, with a space of one's own: ROME on the handwritten digits, in seconds.

Run: python examples/search_cells.py
"""

from nasformer.models.build import build
from nasformer.models.size import core_parameters
from nasformer.operators.catalogue import Dropout
from nasformer.recipes.image_protocol import image_training
from nasformer.spaces.cell import MaxPool, SeparableConvolution, Skip, chosen_inputs
from nasformer.spaces.image_cell import ImageCells
from nasformer.spaces.space import Space
from nasformer.strategies.collapse import counted
from nasformer.strategies.objective import Objective, summary
from nasformer.strategies.rome import Rome
from nasformer.strategies.rules import CELL_LOGITS
from nasformer.supernets.named import supernet_of
from nasformer.tasks.images import Images
from nasformer.training.trainer import Trainer


def main() -> None:
    """Write a space, search it, look at the cells, and train the found network for a moment."""
    operators = (Skip(), MaxPool(), SeparableConvolution(kernel=3))
    # Two nodes, of which the second takes two of its three inputs; an operator to be chosen on each of the five edges.
    cell = chosen_inputs([operators] * 5, nodes=2)
    space = Space(ImageCells(channels=4, cells=3, normal=cell, reduction=cell), "two-nodes")
    print(f"{space.size:,} members; what is left open:")
    for choice in space.choices[:2]:
        print(f"  {choice.name}: {choice.count} of {', '.join(choice.options)}")

    task = Images(train_images=600, evaluation_images=100).open()
    settings = task.model_settings(Dropout())
    supernet = supernet_of(space, settings, seed=1)
    training = image_training(updates=30, images=32, peak=0.05)
    method = Rome(training=training, logits=CELL_LOGITS.but(rate=0.05), samples=2, epochs=3)
    search = method.begin(space, Objective(), task, supernet, seed=1)
    while not search.finished():
        search.step()
    found = search.best()
    print(f"found: {summary(found)}")
    for name, counts in counted(found).items():
        print(f"  {name}: {counts.skips} skips, {counts.parameter_free} without parameters, of {counts.edges} edges")
    print(f"loss on the shared weights: {task.validation_loss(supernet.at(found)):.3f}")

    model = build(found, settings, seed=1)
    trainer = Trainer(model, task, training, seed=1)
    while trainer.updates < training.updates:
        trainer.update()
    print(f"by itself: loss {task.validation_loss(model):.3f}, {core_parameters(found):,} core parameters")


if __name__ == "__main__":
    main()
