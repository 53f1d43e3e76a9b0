"""Images changed at random for training: moved, mirrored, a square left blank. Every change is exact and drawn by a
generator that is given (DARTS' protocol: docs/papers/rome.md §3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Augmentation:
    """How images are changed: moved by up to `shift` pixels in each direction, mirrored with probability ½ where
    `flip`, and a square with sides of `cutout` pixels left blank (0: none)."""

    shift: int = 4
    flip: bool = True
    cutout: int = 0

    def draw(self, images: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """images (batch, height, width, channels) → images so changed, and where they are blank, (batch, height,
        width), None without cutout."""
        count, height, width, _ = images.shape
        if self.shift or self.flip:
            offsets = generator.integers(-self.shift, self.shift + 1, (count, 2))
            flips: np.ndarray = np.less(generator.random(count), 0.5 if self.flip else 0.0)
            images = moved(images, offsets, flips)
        blank = None
        if self.cutout:
            centres = generator.integers(0, (height, width), (count, 2))
            blank = squares(centres, (height, width), self.cutout)
        return images, blank


def moved(images: np.ndarray, offsets: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """Each image of (batch, height, width, channels) moved up and left by its `offsets` (batch, 2), with black where
    nothing was, then mirrored left to right where `flips` (batch,) is true: a crop of the padded image."""
    count, height, width, channels = images.shape
    rows = np.arange(height) + offsets[:, :1]
    columns = np.where(flips[:, None], np.arange(width)[::-1], np.arange(width)) + offsets[:, 1:]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
    starts = np.arange(count)[:, None] * height + rows
    places = starts[:, :, None] * width + columns[:, None, :]
    found: np.ndarray = images.reshape(-1, channels).take(places, axis=0)
    found *= inside[..., None]
    return found


def squares(centres: np.ndarray, size: tuple[int, int], side: int) -> np.ndarray:
    """Where the squares with sides of `side` around `centres` (batch, 2) lie in images of `size`, (batch, height,
    width): from centre − side // 2 on, cut off at the borders (DeVries and Taylor, arXiv 1708.04552)."""
    within = [
        (np.arange(length) >= first[:, None]) & (np.arange(length) < first[:, None] + side)
        for length, first in zip(size, (centres - side // 2).T, strict=True)
    ]
    return within[0][:, :, None] & within[1][:, None, :]
