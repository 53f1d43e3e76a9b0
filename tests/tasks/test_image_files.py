"""Images as they lie on disk: every format read as Pillow and NumPy read it, every damage told clearly."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_folders import cifar, class_folder, packed, pixels
from PIL import Image

from nasformer.errors import RequestError
from nasformer.tasks.image_data import choose, decode
from nasformer.tasks.image_files import Sources, digits, read_images

LABELS = np.arange(12) % 2


def decoded(sources: Sources, split: str, size: int | None = None) -> np.ndarray:
    """The images of a split in the order of the file."""
    source = sources.splits[split]
    chosen = choose(Sources({"train": source, "valid": source, "test": source}, sources.classes), 1, **PARTS)["train"]
    images = decode(chosen, size, None, None, split).images
    return images[np.argsort(chosen.rows)]


def cifar_python(path: Path, images: np.ndarray, **labels: np.ndarray) -> None:
    """Write images as a file of CIFAR's Python version."""
    found = {"data": images.transpose(0, 3, 1, 2).reshape(len(images), 3072)}
    found |= {key: part.tolist() for key, part in labels.items()}
    path.write_bytes(pickle.dumps({key.encode(): value for key, value in found.items()}, 2))


PARTS: dict[str, Any] = {"valid_part": 0.1, "test_part": 0.1}
BATCHES = ((0, 3), (3, 6), (6, 8), (8, 10), (10, 12))
"""Which images stand in which of CIFAR-10's files."""


def test_packed_jpegs_are_what_pillow_reads(tmp_path: Path) -> None:
    train = packed(tmp_path / "train.npz", pixels(12), LABELS)
    test = packed(tmp_path / "test-even.npz", pixels(4, seed=2), LABELS[:4])
    sources = read_images(tmp_path)
    assert sources.classes == ("cat", "dog")
    assert np.array_equal(decoded(sources, "train"), np.stack(train))
    assert np.array_equal(decoded(sources, "test"), np.stack(test))
    assert sources.splits["train"].labels.tolist() == LABELS.tolist()
    assert "valid" not in sources.splits


def test_a_packed_file_with_any_byte_damaged_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.npz"
    packed(path, pixels(12), LABELS)
    with np.load(path) as arrays:
        np.savez_compressed(path, **arrays)
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            read_images(tmp_path)
        except RequestError:
            refused += 1
    assert refused > 0.8 * len(whole) / 7


def test_a_training_file_of_cifar_that_is_missing_is_named(tmp_path: Path) -> None:
    for number in (1, 2, 4, 5):
        cifar(tmp_path / f"data_batch_{number}.bin", pixels(2), LABELS[:2])
    (tmp_path / "batches.meta.txt").write_text("cat\ndog\n")
    with pytest.raises(RequestError, match=r"data_batch_3\.bin"):
        read_images(tmp_path)
    (tmp_path / "batches.meta.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match=r"names of the classes in .*batches\.meta\.txt"):
        read_images(tmp_path)


@pytest.mark.parametrize("hundred", [False, True])
def test_cifars_binary_version(tmp_path: Path, hundred: bool) -> None:
    images = pixels(12)
    folder = tmp_path / ("cifar-100-binary" if hundred else "cifar-10-batches-bin")
    folder.mkdir()
    if hundred:
        cifar(folder / "train.bin", images, 1 - LABELS, LABELS)
        cifar(folder / "test.bin", images[:3], 1 - LABELS[:3], LABELS[:3])
        (folder / "fine_label_names.txt").write_text("cat\ndog\n")
    else:
        for number, (first, last) in enumerate(BATCHES, 1):
            cifar(folder / f"data_batch_{number}.bin", images[first:last], LABELS[first:last])
        cifar(folder / "test_batch.bin", images[:3], LABELS[:3])
        (folder / "batches.meta.txt").write_text("cat\ndog\n\n")
    for place in (tmp_path, folder):
        sources = read_images(place)
        assert sources.classes == ("cat", "dog")
        assert np.array_equal(decoded(sources, "train"), images)
        assert np.array_equal(decoded(sources, "test"), images[:3])
        assert sources.splits["train"].labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("hundred", [False, True])
def test_cifars_python_version_is_the_same_as_the_binary(tmp_path: Path, hundred: bool) -> None:
    images = pixels(12)
    if hundred:
        binary, python = tmp_path / "binary" / "cifar-100-binary", tmp_path / "python" / "cifar-100-python"
        parts = {"train": (images, 1 - LABELS, LABELS), "test": (images[:3], 1 - LABELS[:3], LABELS[:3])}
        keys, names, meta = ("coarse_labels", "fine_labels"), "fine_label_names", "meta"
    else:
        binary, python = tmp_path / "binary" / "cifar-10-batches-bin", tmp_path / "python" / "cifar-10-batches-py"
        parts = {
            f"data_batch_{i}": (images[first:last], LABELS[first:last]) for i, (first, last) in enumerate(BATCHES, 1)
        }
        parts |= {"test_batch": (images[:3], LABELS[:3])}
        keys, names, meta = ("labels",), "label_names", "batches.meta"
    for folder in (binary, python):
        folder.mkdir(parents=True)
    for name, (its, *labels) in parts.items():
        cifar(binary / f"{name}.bin", its, *labels)
        cifar_python(python / name, its, **dict(zip(keys, labels, strict=True)))
    (binary / ("fine_label_names.txt" if hundred else "batches.meta.txt")).write_text("cat\ndog\n")
    (python / meta).write_bytes(pickle.dumps({names.encode(): [b"cat", b"dog"]}, 2))
    expected = read_images(binary)
    for place in (tmp_path / "python", python):
        sources = read_images(place)
        assert sources.classes == expected.classes == ("cat", "dog")
        for split in ("train", "test"):
            assert np.array_equal(decoded(sources, split), decoded(expected, split))
            assert np.array_equal(sources.splits[split].labels, expected.splits[split].labels)
            assert sources.splits[split].digest == expected.splits[split].digest


def test_cifars_python_version_where_it_is_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    harm = b"cos\nsystem\n(S'touch " + str(tmp_path / "harm").encode() + b"'\ntR."
    (folder / "batches.meta").write_bytes(harm)
    with pytest.raises(RequestError, match=r"batches\.meta: expected .* the name os\.system; nothing of it was run"):
        read_images(tmp_path)
    assert not (tmp_path / "harm").exists()
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"cat", b"dog"]}, 2))
    with pytest.raises(RequestError, match=r"expected a readable file at .*data_batch_1: No such file"):
        read_images(tmp_path)
    cifar_python(folder / "data_batch_1", pixels(2), labels=LABELS[:2] + 1)
    with pytest.raises(RequestError, match=r"data_batch_1: expected labels from 0 to 1, got 2 for image 1"):
        read_images(tmp_path)
    cifar_python(folder / "data_batch_1", pixels(2)[:0], labels=LABELS[:0])
    with pytest.raises(RequestError, match=r"data_batch_1"):
        read_images(tmp_path)
    for number in range(1, 6):
        cifar_python(folder / f"data_batch_{number}", pixels(2), labels=LABELS[:2])
    with pytest.raises(RequestError, match=r"expected a readable file at .*test_batch: No such file"):
        read_images(tmp_path)


def test_folders_of_classes(tmp_path: Path) -> None:
    images = [Image.fromarray(image) for image in pixels(12)]
    class_folder(tmp_path / "train", {"dog": images[:4], "cat": images[4:6]})
    class_folder(tmp_path / "val", {"cat": images[6:7], "dog": []})
    class_folder(tmp_path / "test", {"dog": images[7:9]})
    sources = read_images(tmp_path)
    assert sources.classes == ("cat", "dog")
    assert sources.splits["train"].labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert np.array_equal(decoded(sources, "train"), pixels(12)[[4, 5, 0, 1, 2, 3]])
    assert sources.splits["valid"].labels.tolist() == [0]
    assert sources.splits["test"].labels.tolist() == [1, 1]
    assert list(read_images(tmp_path / "train").splits) == ["train"]


def test_a_split_that_is_missing_is_cut_off_train(tmp_path: Path) -> None:
    images = [Image.fromarray(image) for image in pixels(20, size=8)]
    class_folder(tmp_path, {"a": images[:10], "b": images[10:]})
    splits = choose(read_images(tmp_path), 1, valid_part=0.2, test_part=0.1)
    rows = [splits[split].rows.tolist() for split in ("train", "valid", "test")]
    assert [len(part) for part in rows] == [14, 4, 2]
    assert sorted(row for part in rows for row in part) == list(range(20))
    others = choose(read_images(tmp_path), 2, valid_part=0.2, test_part=0.1)
    assert others["test"].rows.tolist() != splits["test"].rows.tolist()
    with pytest.raises(RequestError, match=r"the test split has no images.*task\.test_part"):
        choose(read_images(tmp_path), 1, valid_part=0.2, test_part=0.01)


def test_images_are_cut_square_and_averaged(tmp_path: Path) -> None:
    array = np.zeros((4, 6, 3), np.uint8)
    array[:2, 1:3], array[2:, 3:5, 1] = (40, 80, 120), 200  # the middle 4×4
    array[:, 0], array[:, 5] = 255, 255  # cut off
    array[0, 1] = (44, 84, 124)
    class_folder(tmp_path, {"a": [Image.fromarray(array)] * 5, "b": [Image.fromarray(array.transpose(1, 0, 2))] * 5})
    sources = read_images(tmp_path)
    with pytest.raises(RequestError, match=r"square images of one size.*4×6, 6×4; set task\.size"):
        decoded(sources, "train")
    expected = np.zeros((2, 2, 3), np.uint8)
    expected[0, 0], expected[1, 1, 1] = (41, 81, 121), 200
    found = decoded(sources, "train", size=2)
    assert np.array_equal(found[0], expected)
    assert np.array_equal(found[9], expected.transpose(1, 0, 2))


def test_grey_images_stay_grey_where_all_are(tmp_path: Path) -> None:
    grey = [Image.fromarray(image[..., 0]) for image in pixels(6, size=8)]
    class_folder(tmp_path / "grey", {"a": grey[:3], "b": grey[3:]})
    assert np.array_equal(decoded(read_images(tmp_path / "grey"), "train")[..., 0], pixels(6, size=8)[..., 0])
    class_folder(tmp_path / "mixed", {"a": grey[:3], "b": [grey[3].convert("RGBA"), grey[4].convert("P")]})
    found = decoded(read_images(tmp_path / "mixed"), "train")
    assert found.shape == (5, 8, 8, 3)
    assert np.array_equal(found[3, ..., 2], pixels(6, size=8)[3, ..., 0])


def test_grey_images_of_16_bits_keep_their_range(tmp_path: Path) -> None:
    bits = np.random.default_rng(1).integers(0, 2**16, (6, 8, 8)).astype(np.uint16)
    deep = [Image.fromarray(image) for image in bits]
    class_folder(tmp_path / "deep", {"a": deep[:3], "b": deep[3:]})
    assert np.array_equal(decoded(read_images(tmp_path / "deep"), "train")[..., 0], bits // 256)
    floating = [Image.fromarray(image.astype(np.float32)) for image in bits]
    class_folder(tmp_path / "floating", {"a": floating[:3], "b": floating[3:]}, suffix=".tif")
    with pytest.raises(RequestError, match=r"\.tif .*its values are of 32 bits \(mode F\)"):
        decoded(read_images(tmp_path / "floating"), "train")


def test_what_other_programs_leave_beside_images_is_no_image(tmp_path: Path) -> None:
    images = [Image.fromarray(image) for image in pixels(6)]
    class_folder(tmp_path, {"a": images[:3], "b": images[3:]})
    (tmp_path / "a" / ".ipynb_checkpoints").mkdir()
    images[0].save(tmp_path / "a" / ".ipynb_checkpoints" / "0-checkpoint.png")
    (tmp_path / "b" / "._0.png").write_bytes(b"Mac OS X")
    (tmp_path / "b" / "more.png").mkdir()
    assert np.array_equal(decoded(read_images(tmp_path), "train"), pixels(6))
    (tmp_path / "b" / "3.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(RequestError, match=r"b/3\.png \(image 6 of.*No such file"):
        read_images(tmp_path)


def test_digits() -> None:
    sources = digits()
    found = decoded(sources, "train")
    assert found.shape == (1797, 8, 8, 1)
    assert (found.min(), found.max()) == (0, 255)
    assert np.bincount(sources.splits["train"].labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    images = [Image.fromarray(image) for image in pixels(6)]
    class_folder(tmp_path / "folders", {"a": images[:3], "b": images[3:]})
    broken = tmp_path / "folders" / "b" / "1.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(RequestError, match=r"a damaged one: .*b/1\.png \(image 4 of"):
        decoded(read_images(tmp_path / "folders"), "train")
    packed(tmp_path / "train.npz", pixels(6), LABELS[:6])
    with np.load(tmp_path / "train.npz") as file:
        arrays = dict(file)
    start = arrays["offset"][2]
    arrays["jpeg"] = arrays["jpeg"].copy()
    arrays["jpeg"][start : start + 4] = 0
    np.savez(tmp_path / "train.npz", **arrays)
    with pytest.raises(RequestError, match=r"train\.npz, image 2: cannot identify"):
        decoded(read_images(tmp_path), "train")


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    def refused(match: str, place: Path = tmp_path) -> None:
        with pytest.raises(RequestError, match=match):
            read_images(place)

    refused(r"expected a folder of images with train\.npz.*there is no folder", tmp_path / "nothing")
    refused("got 0 folders of classes in")
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
    refused(r"expected images \(\.png.*got none")
    Image.new("L", (8, 8)).save(tmp_path / "train" / "a" / "1.PNG")
    refused("of every class in .*got none of b")
    Image.new("L", (8, 8)).save(tmp_path / "train" / "b" / "1.png")
    (tmp_path / "test" / "c").mkdir(parents=True)
    refused("the class 'c' is not among those to train on: a, b")
    packed(tmp_path / "train.npz", pixels(4), LABELS[:4] + 1)
    refused("expected labels from 0 to 1, got 2 for image 1")
    packed(tmp_path / "train.npz", pixels(4), LABELS[:4], offset=np.array([0, 5, 3, 9, 12]))
    refused("expected 5 ascending offsets from 0 to")
    np.savez(tmp_path / "train.npz", jpeg=np.zeros(3, np.uint8))
    refused("with the arrays jpeg, offset, label and classes.*offset")
    np.savez(tmp_path / "train.npz", jpeg=np.array([{"any": "object"}]), offset=1, label=1, classes=1)
    refused("expected an .npz with the arrays")
    (tmp_path / "train.npz").write_bytes(b"no zip")
    refused("expected an .npz with the arrays")
    cifar(tmp_path / "train.bin", pixels(2), LABELS[:2])
    (tmp_path / "fine_label_names.txt").write_text("cat dog")
    refused("expected whole records of 3,074 bytes, got 6,146 bytes")
    cifar(tmp_path / "train.bin", pixels(2), LABELS[:2], LABELS[:2] + 1)
    refused("train.bin: expected labels from 0 to 1, got 2 for image 1")
    cifar(tmp_path / "train.bin", pixels(2), LABELS[:2], LABELS[:2])
    refused("expected a readable file at .*test.bin: No such file")
    (tmp_path / "fine_label_names.txt").unlink()
    refused("expected the names of the classes in .*fine_label_names.txt")
