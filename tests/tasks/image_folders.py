"""Small images on disk, in each format that is read."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image


def pixels(count: int, seed: int = 1, size: int = 32) -> np.ndarray:
    """Smooth uint8 images (count, size, size, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(image).resize((size, size))) for image in coarse])


def packed(path: Path, images: np.ndarray, labels: np.ndarray, **changes: np.ndarray) -> list[np.ndarray]:
    """Write images as one file of packed JPEGs, with some arrays changed; what Pillow makes of each JPEG."""
    files = []
    for image in images:
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG")
        files.append(file.getvalue())
    arrays = {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offset": np.cumsum([0, *map(len, files)]),
        "label": labels.astype(np.uint8),
        "classes": np.array(["cat", "dog"]),
    }
    np.savez(path, **(arrays | changes))
    return [np.asarray(Image.open(BytesIO(file))) for file in files]


def cifar(path: Path, images: np.ndarray, *labels: np.ndarray) -> None:
    """Write images as records of CIFAR's binary version."""
    flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    path.write_bytes(np.concatenate([*(part[:, None].astype(np.uint8) for part in labels), flat], axis=1).tobytes())


def class_folder(folder: Path, images: dict[str, list[Image.Image]], suffix: str = ".png") -> None:
    """Write images into folders of classes."""
    for name, its in images.items():
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(its):
            image.save(folder / name / f"{number}{suffix}")
