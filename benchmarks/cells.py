"""What the benchmarks of cell searches work on: the DARTS space S0, its supernet, and passes of each method over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.measures.cost import saved_bytes
from nasformer.models.build import build
from nasformer.models.image_cell import ImageSettings
from nasformer.spaces.named import ARCHITECTURES, NamedSpace
from nasformer.spaces.space import Space
from nasformer.strategies.bilevel import frozen
from nasformer.strategies.darts import Darts, Softmax
from nasformer.strategies.rome import Sampled
from nasformer.strategies.rules import Gathering, Moment, Rules
from nasformer.supernets.cell import CellSupernet
from nasformer.supernets.named import supernet_of
from nasformer.supernets.selection import Selection
from nasformer.supernets.sgd import SliceSgd

CHANNELS, CELLS, IMAGES, SIZE = 16, 8, 32, 32
SHAPE = f"S0, {CELLS} cells, {CHANNELS} channels, {IMAGES} images of {SIZE}×{SIZE}"
SETTINGS = ImageSettings(classes=10, size=SIZE)
RATE = 0.01
Batch = tuple[Tensor, Tensor]


def batch() -> Batch:
    """Random images (batch, channels, height, width) and their classes (batch,)."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(IMAGES, 3, SIZE, SIZE, generator=generator)
    return images, torch.randint(0, 10, (IMAGES,), generator=generator)


def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of a training pass."""
    found: Tensor = F.cross_entropy(model.train()(images), labels)
    return found


def space() -> Space:
    """S0 at the size of the search."""
    found: Any = NamedSpace(name="s0", settings={"channels": CHANNELS, "cells": CELLS}).open()
    return found


def methods(space: Space) -> dict[str, Rules]:
    """How each method draws a selection, with the temperature of half its search."""
    single = Gathering()
    return {
        "rome": Sampled(single, space, "top", (1.0, 1.0)),
        "gdas": Sampled(single, space, "all", (1.0, 1.0)),
        "darts": Softmax(Darts(), space),
    }


@dataclass
class Searching:
    """A method's passes over a supernet that all methods share."""

    rules: Rules
    supernet: CellSupernet
    optimizer: SliceSgd
    batch: Batch
    generator: torch.Generator

    @staticmethod
    def of(rules: Rules, supernet: CellSupernet) -> Searching:
        """With logits near zero."""
        optimizer = SliceSgd(supernet.weights)
        return Searching(rules, supernet, optimizer, batch(), torch.Generator().manual_seed(1))

    def draw(self, logits: Mapping[str, Tensor] | None = None) -> Selection:
        """The next selection; its weights differentiate into the logits, where given."""
        return self.rules.select(logits or self.logits(), Moment(1, 1, 1), self.generator)

    def logits(self, differentiated: bool = False) -> dict[str, Tensor]:
        """One vector a choice, all equal."""
        return {name: torch.zeros(size).requires_grad_(differentiated) for name, size in self.rules.sizes.items()}

    def weights_loss(self, selection: Selection) -> Tensor:
        """The forward pass of an update of the weights."""
        return loss(self.supernet.at(selection), *self.batch)

    def weights_step(self, samples: int = 1) -> None:
        """An update of the weights, samples gathered."""
        parameters: dict[Any, None] = {}
        for _ in range(samples):
            model = self.supernet.at(self.draw())
            loss(model, *self.batch).backward()
            parameters |= dict.fromkeys(model.parameters())
        self.optimizer.step(parameters, RATE)

    def logits_step(self, samples: int = 1) -> None:
        """The gradients of the logits, the weights held still."""
        logits = self.logits(True)
        for _ in range(samples):
            model = self.supernet.at(self.draw(logits))
            with frozen(model):
                loss(model, *self.batch).backward()

    def step(self) -> None:
        """A search step: one update of the logits and one of the weights."""
        self.logits_step()
        self.weights_step()

    def logits_loss(self, selection: Selection) -> Tensor:
        """The forward pass of an update of the logits, into which the selection's weights differentiate."""
        model = self.supernet.at(selection)
        with frozen(model):
            return loss(model, *self.batch)

    def kept(self, draws: int) -> list[int]:
        """Bytes kept for the backward pass of the half of an update (weights, logits) that keeps more, draw by draw."""
        found = []
        for _ in range(draws):
            halves = partial(self.weights_loss, self.draw()), partial(self.logits_loss, self.draw(self.logits(True)))
            found.append(max(map(saved_bytes, halves)))
        return found


def searches() -> dict[str, Searching]:
    """Every method over one supernet."""
    searched = space()
    supernet = supernet_of(searched, SETTINGS, seed=1)
    found = {name: Searching.of(rules, supernet) for name, rules in methods(searched).items()}
    supernet.at(found["darts"].draw())  # every option is made once, as after the first few updates of a search
    return found


def discrete_step() -> Callable[[], None]:
    """A training step of DARTS_V2 at the size of the search, with PyTorch's SGD."""
    architecture = ARCHITECTURES["darts-v2"]().but(channels=CHANNELS, cells=CELLS)
    return plain_step(build(architecture, SETTINGS, seed=1))


def plain_step(model: nn.Module) -> Callable[[], None]:
    """A training step of a plain network with PyTorch's SGD."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=3e-4, foreach=True)
    images, labels = batch()

    def step() -> None:
        loss(model, images, labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
