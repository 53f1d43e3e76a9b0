"""Images as they lie on disk: packed JPEGs, CIFAR's files, folders of classes, scikit-learn's digits.

A format gives for each split a `Source`: labels, and one image at a time, which is decoded only when it is asked for.
"""

from __future__ import annotations

import hashlib
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from nasformer.errors import RequestError
from nasformer.tasks.cifar_python import PIXELS, read_names, read_records

SPLITS = {"train": ("train",), "valid": ("valid", "val", "validation", "dev"), "test": ("test",)}
"""The splits, and what they may be called on disk."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
"""How the names of image files end."""
BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
"""The files of CIFAR-10's training images."""
FORMATS = (
    "train.npz and test*.npz of packed JPEGs, CIFAR's binary files (data_batch_1.bin, … or train.bin) or Python's "
    "(batches.meta and data_batch_1, … or meta and train), or folders train/CLASS/*.png (valid/… and test/… beside it)"
)


_DAMAGED = (
    OSError, ValueError, KeyError, EOFError, NotImplementedError, SyntaxError,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip
"""What NumPy raises on reading a damaged .npz."""


@dataclass(frozen=True)
class Source:
    """The images of one split: labels (images,) from 0, a SHA-256 of images and labels, and `image`, which decodes the
    image in a row (it raises `RequestError` where that one is damaged, naming file and number)."""

    labels: np.ndarray
    digest: str
    image: Callable[[int], Image.Image]


@dataclass(frozen=True)
class Sources:
    """The splits that there are ("train", and perhaps "valid" and "test"), and the names of the classes."""

    splits: dict[str, Source]
    classes: tuple[str, ...]


def read_images(path: str | Path) -> Sources:
    """The images in a folder of one of the `FORMATS`. Raises `RequestError` where there are none, or they are damaged
    or have labels without a class."""
    folder = Path(path)
    if not folder.is_dir():
        raise RequestError(f"expected a folder of images with {FORMATS}; there is no folder {folder}")
    for inner in (folder, folder / "cifar-10-batches-bin", folder / "cifar-100-binary"):
        if (inner / "data_batch_1.bin").exists() or (inner / "train.bin").exists():
            return _cifar_binary(inner)
    if list(folder.glob("train*.npz")):
        return _packed(folder)
    for inner in (folder, folder / "cifar-10-batches-py", folder / "cifar-100-python"):
        if (inner / "batches.meta").is_file() or ((inner / "meta").is_file() and (inner / "train").is_file()):
            return _cifar_python(inner)
    return _class_folders(folder)


def digits() -> Sources:
    """The 1,797 handwritten digits of 8×8 pixels that come with scikit-learn, in grey, as one split."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)
    labels = found.target.astype(np.int64)
    source = Source(labels, _digest(pixels.tobytes(), labels.tobytes()), lambda row: Image.fromarray(pixels[row]))
    return Sources({"train": source}, tuple(map(str, range(10))))


def _packed(folder: Path) -> Sources:
    splits, classes = {}, None
    for split, names in SPLITS.items():
        files = sorted({file for name in names for file in folder.glob(f"{name}*.npz")})
        if len(files) > 1:
            raise RequestError(f"expected one {split} file in {folder}, got {', '.join(f.name for f in files)}")
        if files:
            splits[split], its = _packed_file(files[0])
            if classes not in (None, its):
                raise RequestError(f"expected the classes {', '.join(classes)} in {files[0]}, got {', '.join(its)}")
            classes = its
    return Sources(splits, classes or ())


def _packed_file(path: Path) -> tuple[Source, tuple[str, ...]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            jpeg, offset, label, classes = (file[name] for name in ("jpeg", "offset", "label", "classes"))
    except _DAMAGED as error:
        raise RequestError(
            f"expected an .npz with the arrays jpeg, offset, label and classes, got {path}: {error}; fetch it again"
        ) from None
    offset, labels, names = offset.astype(np.int64), label.astype(np.int64), tuple(map(str, classes.tolist()))
    if len(offset) != len(labels) + 1 or offset[0] != 0 or offset[-1] != len(jpeg) or (np.diff(offset) < 0).any():
        raise RequestError(
            f"{path}: expected {len(labels) + 1:,} ascending offsets from 0 to {len(jpeg):,} for {len(labels):,} "
            f"labels, got {len(offset):,} of another kind"
        )
    _check_labels(labels, len(names), path)

    def image(row: int) -> Image.Image:
        with _named(f"{path}, image {row}"):
            return _decoded(BytesIO(jpeg[offset[row] : offset[row + 1]].tobytes()))

    return Source(labels, _digest(jpeg.data, offset.tobytes(), labels.tobytes()), image), names


def _cifar_binary(folder: Path) -> Sources:
    """CIFAR-10 and CIFAR-100 as binary files: records of one or two label bytes (the last is the class) and 32×32
    pixels of red, green and blue."""
    ten = (folder / "data_batch_1.bin").exists()
    files = {
        "train": [folder / f"{batch}.bin" for batch in BATCHES] if ten else [folder / "train.bin"],
        "test": [folder / ("test_batch.bin" if ten else "test.bin")],
    }
    meta = folder / ("batches.meta.txt" if ten else "fine_label_names.txt")
    try:
        classes = tuple(meta.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"expected the names of the classes in {meta}: {error}; fetch it again") from None
    return _cifar(files, classes, lambda file: _binary_records(file, 1 if ten else 2))


def _cifar_python(folder: Path) -> Sources:
    """CIFAR-10 and CIFAR-100 as Python pickled them, brought to the records of the binary version."""
    ten = (folder / "batches.meta").is_file()
    files = {
        "train": [folder / batch for batch in BATCHES] if ten else [folder / "train"],
        "test": [folder / ("test_batch" if ten else "test")],
    }
    meta, key = ("batches.meta", "label_names") if ten else ("meta", "fine_label_names")
    labels = ("labels",) if ten else ("coarse_labels", "fine_labels")
    return _cifar(files, read_names(folder / meta, key), lambda file: read_records(file, *labels))


def _cifar(files: dict[str, list[Path]], classes: tuple[str, ...], read: Callable[[Path], np.ndarray]) -> Sources:
    """Splits of files of which `read` makes records: uint8 (images, labels + pixels), the last label is the class."""
    return Sources({split: _cifar_split(parts, len(classes), read) for split, parts in files.items()}, classes)


def _cifar_split(files: list[Path], classes: int, read: Callable[[Path], np.ndarray]) -> Source:
    parts = []
    for file in files:
        parts.append(read(file))
        _check_labels(parts[-1][:, -PIXELS - 1], classes, file)
    records = np.concatenate(parts)
    labels = records[:, -PIXELS - 1].astype(np.int64)

    def image(row: int) -> Image.Image:
        return Image.fromarray(np.ascontiguousarray(records[row, -PIXELS:].reshape(3, 32, 32).transpose(1, 2, 0)))

    return Source(labels, _digest(records.data), image)


def _binary_records(file: Path, label_bytes: int) -> np.ndarray:
    record = label_bytes + PIXELS
    try:
        data = np.fromfile(file, np.uint8)
    except OSError as error:
        raise RequestError(f"expected a readable file at {file}: {error.strerror}; fetch it again") from None
    if not len(data) or len(data) % record:
        raise RequestError(f"{file}: expected whole records of {record:,} bytes, got {len(data):,} bytes")
    return data.reshape(-1, record)


def _class_folders(folder: Path) -> Sources:
    found = {
        split: next((folder / name for name in names if (folder / name).is_dir()), None)
        for split, names in SPLITS.items()
    }
    train = found["train"] or (folder if not any(found.values()) else None)
    if train is None:
        raise RequestError(
            f"expected a folder train beside {', '.join(f.name for f in found.values() if f)} in {folder}"
        )
    classes = tuple(sorted(inner.name for inner in _inner(train)))
    if len(classes) < 2:
        raise RequestError(
            f"expected images in {folder} as {FORMATS}; got {len(classes)} folders of classes in {train}"
        )
    splits = {}
    for split, place in (found | {"train": train}).items():
        if place is not None:
            splits[split] = _class_folder_split(place, classes)
    missing = set(range(len(classes))) - set(splits["train"].labels.tolist())
    if missing:
        names = ", ".join(classes[number] for number in sorted(missing)[:5])
        raise RequestError(f"expected images ({', '.join(SUFFIXES)}) of every class in {train}, got none of {names}")
    return Sources(splits, classes)


def _class_folder_split(folder: Path, classes: tuple[str, ...]) -> Source:
    unknown = [inner.name for inner in _inner(folder) if inner.name not in classes]
    if unknown:
        raise RequestError(f"{folder}: the class {unknown[0]!r} is not among those to train on: {', '.join(classes)}")
    files = [
        (file, number)
        for number, name in enumerate(classes)
        for file in sorted((folder / name).rglob("*"))
        if file.suffix.lower() in SUFFIXES and not _hidden(file.relative_to(folder / name)) and not file.is_dir()
    ]
    if not files:
        raise RequestError(f"expected images ({', '.join(SUFFIXES)}) in folders of classes in {folder}, got none")
    labels = np.array([number for _, number in files], dtype=np.int64)

    def image(row: int) -> Image.Image:
        with _named(f"{files[row][0]} (image {row} of {folder})"):
            return ImageOps.exif_transpose(_decoded(files[row][0]))

    digest = hashlib.sha256(labels.tobytes())
    for row, (file, _) in enumerate(files):
        with _named(f"{file} (image {row} of {folder})"):
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return Source(labels, digest.hexdigest(), image)


def _inner(folder: Path) -> list[Path]:
    return [inner for inner in folder.iterdir() if inner.is_dir() and not inner.name.startswith(".")]


def _hidden(path: Path) -> bool:
    """What other programs leave beside images: `.ipynb_checkpoints`, `._cat.png`."""
    return any(part.startswith(".") for part in path.parts)


def _decoded(file: Path | BytesIO) -> Image.Image:
    with Image.open(file) as image:
        image.load()
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # 16 bits, which Pillow cuts off at 255
        if image.mode in ("I", "F"):
            raise ValueError(f"its values are of 32 bits (mode {image.mode}), of which nobody knows the range")
        return image


@contextmanager
def _named(place: str) -> Iterator[None]:
    try:
        yield
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise RequestError(
            f"expected an image that can be decoded, got a damaged one: {place}: {str(error).splitlines()[0]}; "
            f"replace it, or leave it out"
        ) from None


def _check_labels(labels: np.ndarray, classes: int, path: Path) -> None:
    if not len(labels):
        raise RequestError(f"expected images in {path}, got none")
    if classes < 2:
        raise RequestError(f"expected at least two classes in {path}, got {classes}")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise RequestError(
            f"{path}: expected labels from 0 to {classes - 1}, got {int(labels[wrong[0]])} for image {int(wrong[0])}"
        )


def _digest(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
