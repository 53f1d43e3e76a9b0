"""The image task: splits and streams that keep their promises, exact changes, right scores, folders that load."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_folders import class_folder, packed, pixels
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModelForImageClassification

from nasformer.errors import RequestError
from nasformer.models.build import build
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.known_cells import s4
from nasformer.spaces.named import ARCHITECTURES
from nasformer.tasks import image_data
from nasformer.tasks.augmentation import Augmentation, moved, squares
from nasformer.tasks.image_data import SPLITS, Chosen, ImageBatch, ImageData, ImageStream, Normalisation
from nasformer.tasks.image_files import digits
from nasformer.tasks.images import EVALUATION_IMAGES, Images, ImageTask


@pytest.fixture(scope="module")
def task() -> ImageTask:
    """The digits."""
    return Images().open()


def small(task: ImageTask, channels: int = 8) -> nn.Module:
    """A network of three of DARTS' cells."""
    architecture = ARCHITECTURES["darts-v2"]().but(cells=3, channels=channels)
    return build(architecture, task.model_settings(Dropout()), seed=1)


def test_every_image_is_in_one_split(task: ImageTask) -> None:
    assert [len(task.data[split]) for split in SPLITS] == [1437, 180, 180]
    seen = [image.tobytes() for split in SPLITS for image in task.data[split].images]
    source = digits().splits["train"]
    everything = Chosen(source, np.arange(len(source.labels)))
    whole = [image.tobytes() for image in image_data.decode(everything, None, None, None, "all").images]
    assert sorted(seen) == sorted(whole)
    assert len(set(task.digests().values())) == 3
    assert Images(data_seed=2).open().digests() != task.digests()


def test_limits_take_the_first_of_the_same_order(task: ImageTask) -> None:
    limited = Images(train_images=50, evaluation_images=20).open()
    assert [len(limited.data[split]) for split in SPLITS] == [50, 20, 20]
    for split in SPLITS:
        assert np.array_equal(limited.data[split].images, task.data[split].images[: len(limited.data[split])])
        assert np.array_equal(limited.data[split].labels, task.data[split].labels[: len(limited.data[split])])
    assert limited.digests() == task.digests()


def test_an_epoch_shows_each_image_once_and_parts_share_none(task: ImageTask) -> None:
    streams = [task.stream(100, seed, part) for seed, part in ((3, (0.0, 0.5)), (4, (0.5, 1.0)))]
    rows: list[set[int]] = []
    for stream in streams:
        epoch = [row for _ in range(7) for row in stream.next().rows]
        assert len(epoch) == len(set(epoch)) == 700
        assert stream.state_dict() == {"epoch": 0, "position": 7}
        longer = {row for _ in range(70) for row in stream.next().rows}
        rows.append(set(epoch) | longer)
    assert sorted(rows[0] | rows[1]) == list(range(1437))
    assert not rows[0] & rows[1]
    with pytest.raises(RequestError, match=r"a batch of 719 images is more than the 718.*training\.batch_tokens"):
        task.stream(719, 1, (0.0, 0.5))


def test_a_search_has_no_cutout() -> None:
    task = Images(flip=True, cutout=0.5, train_images=100).open()
    searching = task.for_search()
    assert (task.augmentation.cutout, searching.augmentation) == (4, replace(task.augmentation, cutout=0))
    ours, theirs = (one.stream(30, 5, (0.5, 1.0)).next() for one in (task, searching))
    assert ours.labels.equal(theirs.labels)
    assert (ours.images == 0).sum() > (theirs.images == 0).sum() + 30 * 4


def test_batches_are_a_function_of_seed_and_place() -> None:
    task = Images(flip=True, cutout=0.5, train_images=100).open()
    batches, places = [], []
    stream = task.stream(30, 5)
    for _ in range(8):
        places.append(stream.state_dict())
        batches.append(stream.next())
    for number in (7, 3, 5):
        again = task.stream(30, 5)
        again.load_state_dict(places[number])
        assert torch.equal(again.next().images, batches[number].images)
    other = task.stream(30, 6).next()
    assert other.rows != batches[0].rows


def test_no_two_batches_are_changed_alike() -> None:
    data = ImageData(np.full((40, 8, 8, 1), 200, np.uint8), np.zeros(40, np.int64))
    changes = Augmentation(shift=1, flip=False, cutout=3)
    stream = ImageStream(data, 20, 1, np.arange(40), Normalisation((0.5,), (1.0,)), changes)
    batches = [stream.next().images for _ in range(6)]  # three epochs
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(batches, 2))


def test_what_is_changed_is_changed_exactly() -> None:
    image = np.arange(1, 10, dtype=np.uint8).reshape(1, 3, 3, 1)
    still, flip = np.array([False]), np.array([True])

    def shown(offsets: tuple[int, int], flips: np.ndarray = still) -> list[list[int]]:
        found: list[list[int]] = moved(image, np.array([offsets]), flips)[0, :, :, 0].tolist()
        return found

    assert shown((0, 0)) == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert shown((1, -1)) == [[0, 4, 5], [0, 7, 8], [0, 0, 0]]
    assert shown((0, 0), flip) == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]
    assert shown((-1, 1), flip) == [[0, 0, 0], [0, 3, 2], [0, 6, 5]]
    assert shown((3, 0)) == [[0] * 3] * 3
    blank = squares(np.array([[0, 3], [2, 2]]), (4, 4), 2).astype(int)
    assert blank[0].tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert blank[1].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert squares(np.array([[2, 2]]), (5, 5), 3)[0, 1:4, 1:4].sum() == 9


def test_changes_are_spread_evenly() -> None:
    point = np.zeros((4000, 5, 5, 1), np.uint8)
    point[:, 2, 2] = 1
    images, blank = Augmentation(shift=1, flip=True, cutout=1).draw(point, np.random.default_rng(1))
    assert blank is not None
    where = images[..., 0].mean(0)
    assert where.sum() == pytest.approx(1)
    assert where[1:4, 1:4] == pytest.approx(np.full((3, 3), 1 / 9), abs=0.03)
    assert blank.mean(0) == pytest.approx(np.full((5, 5), 1 / 25), abs=0.01)
    asymmetric = np.zeros((4000, 1, 2, 1), np.uint8)
    asymmetric[:, :, 0] = 1
    for flip, share in ((True, 0.5), (False, 0.0)):
        images, blank = Augmentation(shift=0, flip=flip).draw(asymmetric, np.random.default_rng(1))
        assert images[:, 0, 1].mean() == pytest.approx(share, abs=0.03)
        assert blank is None


def test_the_settings_are_shares_of_the_size() -> None:
    assert Images(path="x", cutout=0.5).augmentation(32) == Augmentation(shift=4, flip=True, cutout=16)
    assert Images(path="x", flip=False).augmentation(16) == Augmentation(shift=2, flip=False, cutout=0)
    assert Images().augmentation(8) == Augmentation(shift=1, flip=False, cutout=0)


def test_normalised_by_the_training_images(tmp_path: Path) -> None:
    packed(tmp_path / "train.npz", pixels(40), np.arange(40) % 2)
    packed(tmp_path / "test.npz", pixels(10, seed=2), np.arange(10) % 2)
    task = Images(path=str(tmp_path), shift=0, flip=False, cutout=0.25).open()
    train = task.data["train"].images / 255
    assert task.normalisation.mean == pytest.approx(tuple(train.mean((0, 1, 2))))
    assert task.normalisation.deviation == pytest.approx(tuple(train.std((0, 1, 2))))
    batch = task.data["train"].collate(np.arange(36), task.normalisation)
    assert batch.images.mean((0, 2, 3)).abs().max() < 1e-5
    assert batch.images.std((0, 2, 3), correction=0).numpy() == pytest.approx(np.ones(3), abs=1e-5)
    drawn = task.stream(36, 1).next()
    plain = task.data["train"].collate(drawn.rows, task.normalisation).images
    blank = (drawn.images == 0).all(1)
    assert 16 <= blank.sum((1, 2)).min() < blank.sum((1, 2)).max() <= 64
    assert torch.equal(drawn.images, plain.where(~blank.unsqueeze(1), 0.0))


def test_images_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folder(tmp_path / "data", {name: [Image.fromarray(i) for i in pixels(20, size=8)] for name in ("a", "b")})
    settings, cache = Images(path=str(tmp_path / "data")), tmp_path / "cache"
    fresh = settings.open().data["train"]
    kept = settings.open(cache).data["train"]
    assert np.array_equal(kept.images, fresh.images)
    monkeypatch.setattr(image_data, "_arrays", lambda *_: pytest.fail("decoded again"))
    again = settings.open(cache).data["train"]
    assert isinstance(again.images, np.memmap)
    assert np.array_equal(again.images, fresh.images)
    monkeypatch.undo()
    for path in cache.iterdir():
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert np.array_equal(settings.open(cache).data["train"].images, fresh.images)
    assert settings.but(size=4).open(cache).size == 4


class Fixed(nn.Module):
    """Gives the same logits for all images; with a second pair in training. Notes the sizes of its batches."""

    def __init__(self, classes: int, auxiliary: bool = False) -> None:
        super().__init__()
        self.logits, self.auxiliary, self.sizes = nn.Parameter(torch.arange(float(classes))), auxiliary, [0]

    def forward(self, images: Tensor) -> Any:
        """images (batch, channels, height, width) → logits (batch, classes)."""
        self.sizes.append(len(images))
        logits = self.logits.expand(len(images), -1)
        return (logits, -logits) if self.auxiliary and self.training else logits


def test_loss_and_scores_are_those_of_the_formula(task: ImageTask) -> None:
    model, batch = Fixed(10), task.stream(64, 1).next()
    logits = torch.arange(10.0).expand(64, -1)
    plain = F.cross_entropy(logits, batch.labels)
    assert torch.allclose(task.loss(model, batch), plain)
    weighted = ImageTask(Images(auxiliary_weight=0.4, label_smoothing=0.1), digits())
    expected = sum(
        weight * F.cross_entropy(sign * logits, batch.labels, label_smoothing=0.1)
        for weight, sign in ((1, 1), (0.4, -1))
    )
    assert torch.allclose(weighted.loss(Fixed(10, auxiliary=True), batch), torch.as_tensor(expected))
    quality, labels = task.quality(Fixed(10, auxiliary=True), "test"), torch.from_numpy(task.data["test"].labels)
    assert quality["accuracy"]["value"] == pytest.approx(100 * float((labels == 9).double().mean()))
    assert quality["accuracy"]["low"] < quality["accuracy"]["value"] < quality["accuracy"]["high"]
    assert quality["loss"] == pytest.approx(float(F.cross_entropy(torch.arange(10.0).expand(180, -1), labels)))
    valid = torch.from_numpy(task.data["valid"].labels)
    expected_valid = float(F.cross_entropy(torch.arange(10.0).expand(180, -1), valid))
    assert task.validation_loss(model) == pytest.approx(expected_valid)


def test_scored_in_batches_of_nearly_one_size() -> None:
    data = ImageData(np.zeros((551, 2, 2, 1), np.uint8), np.zeros(551, np.int64))
    sizes = [b.tokens for b in data.batches(np.arange(551), EVALUATION_IMAGES, Normalisation((0.0,), (1.0,)))]
    assert sizes == [184, 184, 183]


def test_a_drawn_part_of_the_validation_split(task: ImageTask) -> None:
    first, again, other = (task.draw(100, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert [batch.tokens for batch in first] == [100]
    assert first[0].rows == again[0].rows != other[0].rows
    plain = task.data["valid"].collate(first[0].rows, task.normalisation)
    assert torch.equal(first[0].images, plain.images)
    parts = first[0].split(3)
    assert [part.tokens for part in parts] == [34, 33, 33]
    assert torch.equal(torch.cat([part.images for part in parts]), first[0].images)
    assert sum((part.rows for part in parts), ()) == first[0].rows


def test_a_network_of_noise_is_scored_alike_each_time(task: ImageTask) -> None:
    space = s4(channels=4, cells=3)
    architecture = space.close(lambda choice: 0 if choice.count == 1 else (0, 1))
    model = build(architecture, task.model_settings(Dropout()), seed=1)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    scores = []
    for _ in range(2):
        batches = task.draw(60, np.random.default_rng(1))
        scores.append([task.validation_loss(model), float(task.hidden(model, batches[0]).sum())])
        torch.randn(1)
    assert scores[0] == scores[1]
    torch.set_rng_state(state)


def test_hidden_is_what_the_classifier_reads(task: ImageTask) -> None:
    model: Any = small(task)
    batch = task.draw(7, np.random.default_rng(1))[0]
    hidden = task.hidden(model, batch)
    assert hidden.shape[0] == 7
    assert torch.allclose(model.classifier(hidden), model(batch.images))


def test_an_exported_folder_gives_the_same_logits(task: ImageTask, tmp_path: Path) -> None:
    model = small(task)
    with torch.no_grad():
        for _ in range(3):  # statistics of its own
            model.train()(task.stream(64, 2).next().images)
    model.eval()
    task.save(model, tmp_path / "model")
    batch = task.draw(9, np.random.default_rng(1))[0]
    expected = model(batch.images)
    loaded: Any = AutoModelForImageClassification.from_pretrained(tmp_path / "model").eval()
    assert torch.equal(loaded(pixel_values=batch.images).logits, expected)
    assert loaded.config.id2label[3] == "3"
    with torch.no_grad():
        loss = loaded(pixel_values=batch.images, labels=batch.labels).loss
    assert float(loss) == pytest.approx(task.evaluate(model, [batch]), abs=1e-6)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["auto_map"]["AutoModelForImageClassification"].endswith("NasformerForImageClassification")
    network, again = Images().load(tmp_path / "model")
    assert torch.equal(network(batch.images), expected)
    assert again.normalisation == task.normalisation
    assert again.quality(network, "valid") == task.quality(model, "valid")


def test_an_exported_folder_prepares_images_alike(tmp_path: Path) -> None:
    packed(tmp_path / "train.npz", pixels(30), np.arange(30) % 2)
    task = Images(path=str(tmp_path), size=16).open()
    model = small(task)
    task.save(model, tmp_path / "model")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "model")
    images = pixels(5, seed=3)
    prepared = processor([Image.fromarray(image) for image in images], return_tensors="pt")["pixel_values"]
    small_ones = np.stack([np.asarray(Image.fromarray(i).resize((16, 16), Image.Resampling.BOX)) for i in images])
    assert torch.allclose(prepared, task.normalisation(small_ones), atol=1e-5)
    wide = np.stack([np.pad(image, ((0, 0), (16, 16), (0, 0)), constant_values=255) for image in images])
    cut = processor([Image.fromarray(image) for image in wide], return_tensors="pt")["pixel_values"]
    assert torch.allclose(cut, prepared, atol=1e-5)  # the middle, as in training, not all of it made narrower
    for mode in ("L", "RGBA"):
        image = Image.fromarray(images[0]).convert(mode)
        expected = task.normalisation(np.asarray(image.convert("RGB").resize((16, 16), Image.Resampling.BOX))[None])
        assert torch.allclose(processor(image, return_tensors="pt")["pixel_values"], expected, atol=1e-5)
    packed(tmp_path / "train.npz", pixels(30), np.arange(30) % 2, classes=np.array(["dog", "cat"]))
    with pytest.raises(RequestError, match=r"tells apart cat, dog; the images are of other classes: dog, cat"):
        Images(path=str(tmp_path)).load(tmp_path / "model")


def test_settings_that_do_not_fit_are_refused(task: ImageTask) -> None:
    with pytest.raises(RequestError, match=r"29 to 40 pixels, got 8; set task\.auxiliary_weight=0"):
        ImageTask(Images(auxiliary_weight=0.4), digits()).model_settings(Dropout())
    with pytest.raises(RequestError, match=r"decoder_only reads tokens.*task\.kind=language"):
        Images().check(ARCHITECTURES["language-model"]())
    Images(auxiliary_weight=0.4).check(ARCHITECTURES["darts-v2"]())
    settings = task.model_settings(Dropout())
    assert (settings.classes, settings.size, settings.input_channels, settings.auxiliary) == (10, 8, 1, False)
    facts = task.facts()
    assert (facts["train_images"], facts["classes"], facts["size"]) == (1437, 10, 8)
    assert isinstance(json.dumps(facts), str)
    assert isinstance(task.stream(16, 1).next(), ImageBatch)
