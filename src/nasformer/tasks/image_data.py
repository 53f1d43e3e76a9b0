"""Images ready for training: splits, decoded once into arrays, and batches that are a function of seed and place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nasformer.errors import RequestError
from nasformer.tasks.augmentation import Augmentation
from nasformer.tasks.image_files import Source, Sources
from nasformer.tasks.vocabulary import written_whole

SPLITS = ("train", "valid", "test")
_HEADER = hashlib.sha256().digest_size + 32
"""Bytes before the pixels in a kept file: a SHA-256, and the four lengths of the axes."""


@dataclass(frozen=True)
class ImageBatch:
    """Images as float tensors (batch, channels, height, width), normalised, their classes (batch,), and the rows of the
    data that they are."""

    images: Tensor
    labels: Tensor
    rows: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """The number of predictions: one an image."""
        return len(self.rows)

    def to(self, device: torch.device | str) -> ImageBatch:
        """The same batch on a device."""
        return ImageBatch(self.images.to(device), self.labels.to(device), self.rows)

    def split(self, parts: int) -> list[ImageBatch]:
        """The same images as several batches of nearly equal size (fewer where there are fewer images); what takes the
        statistics of its batch takes those of smaller batches then."""
        pieces = np.array_split(np.arange(len(self.rows)), min(parts, len(self.rows)))
        slices = [slice(int(piece[0]), int(piece[-1]) + 1) for piece in pieces]
        return [ImageBatch(self.images[piece], self.labels[piece], self.rows[piece]) for piece in slices]


@dataclass(frozen=True)
class Normalisation:
    """For each channel of images with values from 0 to 1 the mean that is taken off, and the deviation that is divided
    by."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, images: np.ndarray, blank: np.ndarray | None = None) -> Tensor:
        """uint8 images (batch, height, width, channels) → float32 (batch, channels, height, width); what is blank
        (batch, height, width) is 0, the mean. In memory the channels lie last."""
        scaled = torch.from_numpy(np.ascontiguousarray(images)).to(torch.float32).div_(255)
        scaled.sub_(torch.tensor(self.mean)).div_(torch.tensor(self.deviation))
        if blank is not None:
            scaled[torch.from_numpy(blank)] = 0.0
        return scaled.permute(0, 3, 1, 2)


def measured(images: np.ndarray) -> Normalisation:
    """Mean and standard deviation of each channel over all pixels of uint8 images (images, height, width, channels),
    from exact counts of their values."""
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[3]):
        counts = np.zeros(256, dtype=np.int64)
        for first in range(0, len(images), 4_096):
            counts += np.bincount(images[first : first + 4_096, ..., channel].ravel(), minlength=256)
        mean = float((counts * values).sum() / counts.sum())
        means.append(mean)
        deviations.append(float(np.sqrt((counts * (values - mean) ** 2).sum() / counts.sum())))
    return Normalisation(tuple(means), tuple(deviation or 1.0 for deviation in deviations))


class ImageData:
    """The images of one split.

    Args:
        images: uint8, (images, height, width, channels), in an order without meaning: neighbours are of any classes.
        labels: (images,).
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def collate(
        self,
        rows: np.ndarray | Sequence[int],
        normalisation: Normalisation,
        augmentation: Augmentation | None = None,
        generator: np.random.Generator | None = None,
    ) -> ImageBatch:
        """The batch of some rows, in their order, changed at random where an augmentation is given."""
        rows = np.asarray(rows, dtype=np.int64)
        images, blank = np.asarray(self.images[rows]), None
        if augmentation is not None and generator is not None:
            images, blank = augmentation.draw(images, generator)
        return ImageBatch(normalisation(images, blank), torch.from_numpy(self.labels[rows]), tuple(rows.tolist()))

    def batches(self, rows: np.ndarray, size: int, normalisation: Normalisation) -> Iterator[ImageBatch]:
        """Some rows in their order, in as few batches of at most `size` as can be, all equally large but for one image:
        a small rest would be judged by statistics of its own."""
        for part in np.array_split(rows, -(-len(rows) // size)):
            yield self.collate(part, normalisation)

    def part(self, part: tuple[float, float], seed: int) -> np.ndarray:
        """The rows between two fractions of all, in an order that `seed` alone decides."""
        order = np.random.Generator(np.random.PCG64(seed)).permutation(len(self))
        first, last = (round(fraction * len(self)) for fraction in part)
        return np.sort(order[first:last])


class ImageStream:
    """Training batches of `size` images without end, of the rows `among`; its state is the epoch and the position in
    it. An epoch is a new order of the rows; a rest that fills no batch is left out of it. What is changed at random is
    a function of seed, epoch and position.

    Raises `RequestError` where there are fewer rows than a batch has.
    """

    def __init__(
        self,
        data: ImageData,
        size: int,
        seed: int,
        among: np.ndarray,
        normalisation: Normalisation,
        augmentation: Augmentation,
    ) -> None:
        if len(among) < size:
            raise RequestError(
                f"a batch of {size:,} images is more than the {len(among):,} of this part of the training split; lower "
                f"training.batch_tokens (of an image task: images), or give more images"
            )
        self._data, self._size, self._seed, self._among = data, size, seed, among
        self._normalisation, self._augmentation = normalisation, augmentation
        self.load_state_dict({"epoch": 0, "position": 0})

    def next(self) -> ImageBatch:
        """The next batch; a new epoch begins when one is over."""
        if (self._position + 1) * self._size > len(self._order):
            self.load_state_dict({"epoch": self._epoch + 1, "position": 0})
        first = self._position * self._size
        self._position += 1
        changes = _generator(self._seed, self._epoch, self._position)
        rows = self._order[first : first + self._size]
        return self._data.collate(rows, self._normalisation, self._augmentation, changes)

    def state_dict(self) -> dict[str, int]:
        """Where the stream stands: {"epoch", "position"}."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes to where a stream of the same data, batches and seed stood."""
        self._epoch, self._position = state["epoch"], state["position"]
        self._order = _generator(self._seed, self._epoch).permutation(self._among)


def _generator(*seeds: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(seeds))))


@dataclass(frozen=True)
class Chosen:
    """The rows of a source that make up a split."""

    source: Source
    rows: np.ndarray

    @property
    def digest(self) -> str:
        """A SHA-256 of the images and of which they are."""
        return hashlib.sha256(self.source.digest.encode() + self.rows.astype("<i8").tobytes()).hexdigest()

    def first(self, count: int | None) -> Chosen:
        """The first `count` rows (None: all)."""
        return Chosen(self.source, self.rows[:count])


def choose(sources: Sources, seed: int, *, valid_part: float, test_part: float) -> dict[str, Chosen]:
    """Train, valid and test, each in an order that `seed` alone decides; where one of the last two is missing it is cut
    off the training images. Raises `RequestError` where a split is left without images."""
    splits = {
        split: Chosen(source, _generator(seed, number).permutation(len(source.labels)))
        for number, split in enumerate(SPLITS)
        if (source := sources.splits.get(split)) is not None
    }
    whole = splits["train"].rows
    for split, part in (("test", test_part), ("valid", valid_part)):
        if split not in splits:
            count = round(part * len(whole))
            rest = splits["train"].rows
            splits[split] = Chosen(splits["train"].source, rest[:count])
            splits["train"] = Chosen(splits["train"].source, rest[count:])
    for split in SPLITS:
        if not len(splits[split].rows):
            raise RequestError(f"the {split} split has no images; give more images, or raise task.{split}_part")
    return {split: splits[split] for split in SPLITS}


def decode(chosen: Chosen, size: int | None, channels: int | None, cache: Path | None, origin: str) -> ImageData:
    """The images of a split in arrays, decoded once: with a cache they are memory-mapped from a file in it.

    `size` is the side that they are brought to, by averaging over areas, after cutting off what is not square; None
    takes them as they are. `channels` is 1 (grey) or 3; None: grey where all are. Raises `RequestError` where images
    are damaged, or of different sizes that nobody brought together.
    """
    path = cache / f"{_key(chosen, size, channels)}.images" if cache is not None else None
    labels = chosen.source.labels[chosen.rows]
    if path is not None and (kept := _mapped(path)) is not None:
        return ImageData(kept, labels)
    images = _arrays(chosen, size, channels, origin)
    if path is not None:
        with suppress(OSError), written_whole(path) as file:  # without its cache the work only takes longer
            shape = np.array(images.shape, dtype="<i8").tobytes()
            file.write(hashlib.sha256(shape + images.tobytes()).digest() + shape)
            file.write(images.data)
        if (kept := _mapped(path)) is not None:
            return ImageData(kept, labels)
    return ImageData(images, labels)


def _key(chosen: Chosen, size: int | None, channels: int | None) -> str:
    return hashlib.sha256(f"images 1 {chosen.digest} {size} {channels}".encode()).hexdigest()


def _arrays(chosen: Chosen, size: int | None, channels: int | None, origin: str) -> np.ndarray:
    decoded = [_brought(chosen.source.image(int(row)), size) for row in chosen.rows]
    if channels is None:
        channels = 1 if all(image.mode in ("1", "L") for image in decoded) else 3
    sizes = sorted({image.size for image in decoded})
    if len(sizes) > 1 or sizes[0][0] != sizes[0][1]:
        told = ", ".join(f"{width}×{height}" for width, height in sizes[:3])
        raise RequestError(
            f"expected square images of one size in {origin}, got {told}{', …' * (len(sizes) > 3)}; set task.size, and "
            f"they are cut square and brought to it"
        )
    mode = "L" if channels == 1 else "RGB"
    arrays = np.stack([np.asarray(image.convert(mode)) for image in decoded])
    return arrays.reshape(len(decoded), sizes[0][1], sizes[0][0], channels)


def _brought(image: Image.Image, size: int | None) -> Image.Image:
    if size is None or image.size == (size, size):
        return image
    if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.resize((size, size), Image.Resampling.BOX, (left, top, left + side, top + side))


def _mapped(path: Path) -> np.ndarray | None:
    """The images in a file; None where there is none, or a damaged one."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
        shape = tuple(np.frombuffer(header[-32:], dtype="<i8").tolist())
        images = np.memmap(path, dtype=np.uint8, mode="r", offset=_HEADER, shape=shape)
        digest = hashlib.sha256(header[-32:])
        digest.update(images.data)
        return images if digest.digest() == header[:-32] and path.stat().st_size == _HEADER + images.size else None
    except (OSError, ValueError):
        return None
