"""Image classification: pictures and their classes, cross-entropy, accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.errors import RequestError
from nasformer.measures.accuracy import accuracy
from nasformer.models.image_cell import ImageSettings
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.families import reads_images
from nasformer.spaces.image_cell import ImageCells
from nasformer.spaces.value import Count, Value
from nasformer.tasks.augmentation import Augmentation
from nasformer.tasks.image_data import SPLITS, ImageBatch, ImageStream, Normalisation, choose, decode, measured
from nasformer.tasks.image_files import Sources, digits, read_images

EVALUATION_IMAGES = 250
"""How many images are scored at once; models that take the statistics of their batch take those of so many."""
AUXILIARY_SIZES = (29, 40)
"""The images for which DARTS' auxiliary head finds features of the size that it reads."""
Part = Annotated[float, Field(gt=0, lt=0.5)]


class Images(Value):
    """The settings of an image classification task.

    `path` is a folder that `nasformer.tasks.image_files.read_images` reads; None: scikit-learn's handwritten digits.
    Images are brought to `size` pixels a side (None: as they are). A validation or test split that is missing is cut
    off the training images, `valid_part` or `test_part` of them; of what remains the first `train_images` train, and
    `evaluation_images` each of validation and test are scored, in an order by `data_seed` (None: all).

    Training images are moved by up to `shift` of their size (0.125: 4 of 32 pixels), mirrored where `flip` (None: all
    but the digits), and have a square with sides of `cutout` of their size blanked (0.5: 16 of 32). `auxiliary_weight`
    is that of the auxiliary classifier's loss (0: there is none), `drop_path` the probability at the end of training
    that an edge of a network that is trained by itself brings nothing. Searches of cells have none of these three. In
    `Training`, `batch_tokens` counts images.
    """

    kind: Literal["images"] = "images"
    path: str | None = None
    size: Annotated[int, Field(ge=4)] | None = None
    valid_part: Part = 0.1
    test_part: Part = 0.1
    train_images: Annotated[Count, Field(ge=1)] | None = None
    evaluation_images: Annotated[Count, Field(ge=1)] | None = None
    shift: Annotated[float, Field(ge=0, lt=1)] = 0.125
    flip: bool | None = None
    cutout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    auxiliary_weight: Annotated[float, Field(ge=0)] = 0.0
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    data_seed: Annotated[int, Field(ge=0)] = 1

    @property
    def longest(self) -> int:
        """The most positions of a sequence that is trained on: an image is one."""
        return 1

    @staticmethod
    def fits(architecture: Any) -> bool:
        """Whether models of this architecture (or space) can do the task: they read images."""
        return reads_images(architecture)

    def check(self, architecture: Any) -> None:
        """Raises `RequestError` where the architecture (or space) does not fit."""
        if not self.fits(architecture):
            raise RequestError(
                f"the family {architecture.family} reads tokens; expected one that reads images (image_cells, "
                f"staged_cells, block_chain), or task.kind=language or translation"
            )
        if self.auxiliary_weight and not isinstance(architecture, ImageCells):
            raise RequestError(
                f"the family {architecture.family} has no auxiliary classifier; set task.auxiliary_weight=0"
            )

    def augmentation(self, size: int) -> Augmentation:
        """How training images of so many pixels a side are changed."""
        flip = self.path is not None if self.flip is None else self.flip
        return Augmentation(round(self.shift * size), flip, round(self.cutout * size))

    def open(self, cache: Path | None = None) -> ImageTask:
        """Read and decode the images; `cache` is a folder for the decoded ones."""
        return ImageTask(self, self._sources(), cache)

    def load(self, folder: Path, cache: Path | None = None) -> tuple[nn.Module, ImageTask]:
        """The network of a model folder, and the task with that folder's classes and normalisation."""
        from nasformer.tasks.pretrained import load_image_classifier  # transformers takes seconds to import

        network, classes, (mean, deviation) = load_image_classifier(folder)
        sources = self._sources()
        if sources.classes != classes:
            ours, theirs = ", ".join(classes), ", ".join(sources.classes)
            raise RequestError(f"the model in {folder} tells apart {ours}; the images are of other classes: {theirs}")
        return network, ImageTask(self, sources, cache, Normalisation(mean, deviation), network.settings)

    def _sources(self) -> Sources:
        return digits() if self.path is None else read_images(self.path)


class ImageTask:
    """The images of a task, decoded, with its loss and scores (see `nasformer.tasks.task.Task`)."""

    def __init__(
        self,
        settings: Images,
        sources: Sources,
        cache: Path | None = None,
        normalisation: Normalisation | None = None,
        like: ImageSettings | None = None,
    ) -> None:
        self.settings, self.classes = settings, sources.classes
        splits = choose(sources, settings.data_seed, valid_part=settings.valid_part, test_part=settings.test_part)
        self._digests = {split: chosen.digest for split, chosen in splits.items()}
        size, channels = (settings.size, None) if like is None else (like.size, like.input_channels)
        self.data = {}
        for split in SPLITS:
            limit = settings.train_images if split == "train" else settings.evaluation_images
            origin = f"the {split} split of {settings.path or 'the digits'}"
            self.data[split] = decode(splits[split].first(limit), size, channels, cache, origin)
            size, channels = self.data[split].images.shape[2:]  # as the training images are
        self.size, self.channels = int(size or 0), int(channels or 0)
        self.normalisation = normalisation or measured(self.data["train"].images)
        self.augmentation = settings.augmentation(self.size)

    def digests(self) -> dict[str, str]:
        """A SHA-256 of each split's images and labels, by which a resumed run knows its data."""
        return dict(self._digests)

    def model_settings(self, dropout: Dropout) -> ImageSettings:
        """Classes and shape of the images, drop-path and auxiliary classifier as the task says; of `dropout`, which is
        for sequences, nothing is used."""
        low, high = AUXILIARY_SIZES
        if self.settings.auxiliary_weight and not low <= self.size <= high:
            raise RequestError(
                f"the auxiliary classifier is for images of {low} to {high} pixels, got {self.size}; set "
                f"task.auxiliary_weight=0"
            )
        return ImageSettings(
            classes=len(self.classes),
            size=self.size,
            input_channels=self.channels,
            drop_path=self.settings.drop_path,
            auxiliary=self.settings.auxiliary_weight > 0,
        )

    def stream(self, tokens: int, seed: int, part: tuple[float, float] = (0.0, 1.0)) -> ImageStream:
        """Training batches of `tokens` images, changed at random, of a part of the images."""
        among = self.data["train"].part(part, self.settings.data_seed)
        return ImageStream(self.data["train"], tokens, seed, among, self.normalisation, self.augmentation)

    def for_search(self) -> ImageTask:
        """The same images without cutout, which DARTS has for training alone (docs/papers/rome.md, our reading 32)."""
        other = copy(self)
        other.augmentation = self.settings.but(cutout=0.0).augmentation(self.size)
        return other

    def loss(self, model: nn.Module, batch: ImageBatch) -> Tensor:
        """Cross-entropy in nats per image, with smoothing, and the auxiliary classifier's times its weight."""
        found, smoothing = model(batch.images), self.settings.label_smoothing
        logits, *others = found if isinstance(found, tuple) else (found,)
        loss = F.cross_entropy(logits.float(), batch.labels, label_smoothing=smoothing)
        for other in others:
            auxiliary = F.cross_entropy(other.float(), batch.labels, label_smoothing=smoothing)
            loss = loss + self.settings.auxiliary_weight * auxiliary
        return loss

    def draw(self, tokens: int, generator: np.random.Generator) -> list[ImageBatch]:
        """About `tokens` random images of the validation split, as they are."""
        data = self.data["valid"]
        rows = generator.permutation(len(data))[:tokens]
        return list(data.batches(rows, EVALUATION_IMAGES, self.normalisation))

    def evaluate(self, model: nn.Module, batches: list[ImageBatch]) -> float:
        """Cross-entropy in nats per image, without smoothing and drop-path. A plain model uses running statistics, a
        supernet's those of each batch."""
        return self._scores(model, batches)[0]

    @torch.no_grad()
    def hidden(self, model: Any, batch: ImageBatch) -> Tensor:
        """What the classifier reads, (images, features), without drop-path."""
        model.eval()
        with _same_noise(batch.images.device):
            hidden: Tensor = model.hidden(batch.images)
        return hidden

    def validation_loss(self, model: nn.Module) -> float:
        """`evaluate` over the validation split (`evaluation_images` of it)."""
        return self._scores(model, self._scored("valid"))[0]

    def quality(self, model: nn.Module, split: str) -> dict[str, Any]:
        """Accuracy in percent with its 95 % interval, and the loss, on a split (`evaluation_images` of it)."""
        loss, correct = self._scores(model, self._scored(split))
        found = accuracy(correct, len(self.data[split]))
        interval = {"value": found.value, "low": found.low, "high": found.high}
        return {"split": split, "accuracy": interval, "loss": loss}

    def save(self, model: Any, folder: Path) -> None:
        """Write the model, its classes and how its images are prepared as a folder that `transformers` loads."""
        from nasformer.tasks.pretrained import save_image_classifier

        save_image_classifier(model, self.classes, (self.normalisation.mean, self.normalisation.deviation), folder)

    def facts(self) -> dict[str, Any]:
        """The classes, the images of each split, and the constants of the normalisation."""
        return {
            "name": "images",
            "path": self.settings.path or "scikit-learn's handwritten digits",
            "classes": len(self.classes),
            "size": self.size,
            "channels": self.channels,
            "mean": list(self.normalisation.mean),
            "deviation": list(self.normalisation.deviation),
        } | {f"{split}_images": len(self.data[split]) for split in SPLITS}

    def _scored(self, split: str) -> Any:
        data = self.data[split]
        return data.batches(np.arange(len(data)), EVALUATION_IMAGES, self.normalisation)

    @torch.no_grad()
    def _scores(self, model: nn.Module, batches: Any) -> tuple[float, int]:
        """The mean loss in nats, and how many images are told right."""
        model.eval()
        device = next(model.parameters()).device
        nats, correct, count = 0.0, 0, 0
        with _same_noise(device):
            for batch in batches:
                there = batch.to(device)
                logits = model(there.images).float()
                nats += float(F.cross_entropy(logits, there.labels, reduction="sum"))
                correct += int((logits.argmax(1) == there.labels).sum())
                count += batch.tokens
        return nats / count, correct


@contextmanager
def _same_noise(device: torch.device) -> Iterator[None]:
    """What a network draws while it is scored (the operator noise) is the same each time; outside, PyTorch's generators
    are as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield
