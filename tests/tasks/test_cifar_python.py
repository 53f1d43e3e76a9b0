"""CIFAR's Python version: what Python 2 and 3 pickle is read, anything else is refused, and nothing is run."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasformer.errors import RequestError
from nasformer.tasks.cifar_python import PIXELS, read_names, read_records

PROTOCOLS = (2, 3, 4, 5)
IMAGES = np.random.default_rng(1).integers(0, 256, (6, PIXELS), dtype=np.uint8)
LABELS = [3, 0, 1, 255, 2, 9]
RECORDS = np.concatenate([np.array(LABELS, np.uint8)[:, None], IMAGES], axis=1)


def batch(**changes: Any) -> dict[bytes, Any]:
    """What a file of images holds, with some of it changed."""
    found = {"batch_label": b"training batch 1 of 5", "labels": LABELS, "data": IMAGES}
    return {key.encode(): value for key, value in (found | {"filenames": [b"a_cat.png"] * 6} | changes).items()}


def python_2(images: np.ndarray = IMAGES, labels: list[int] = LABELS) -> bytes:
    """A file of images as Python 2's cPickle wrote it with NumPy 1: protocol 2, bytes as text, a memo from 1."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    shape = b"".join(b"M" + struct.pack("<H", size) for size in images.shape) + b"\x86"
    return b"".join(
        [
            b"\x80\x02}q\x01(" + text(b"batch_label") + b"q\x02" + text(b"training batch 1 of 5") + b"q\x03",
            text(b"labels") + b"q\x04]q\x05(" + numbers + b"e",
            text(b"data") + b"q\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85",
            text(b"b") + b"\x87Rq\x09(K\x01" + shape + b"cnumpy\ndtype\nq\x0a" + text(b"u1") + b"K\x00K\x01\x87Rq\x0b",
            b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + struct.pack("<i", images.size) + images.tobytes() + b"tb",
            text(b"filenames") + b"r\x0c\x00\x00\x00]r\x0d\x00\x00\x00(" + text(b"a_cat.png") * len(labels) + b"eu.",
        ]
    )


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., None]:
    """Whether a file of such bytes is refused for such a reason, naming it."""

    def check(content: bytes, reason: str) -> None:
        path = tmp_path / "data_batch_1"
        path.write_bytes(content)
        with pytest.raises(RequestError, match=rf"data_batch_1: expected (?s:.*){reason}") as caught:
            read_records(path, "labels")
        assert len(str(caught.value)) < 600 + len(str(path))

    return check


def test_what_python_2_wrote(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(python_2())
    assert pickle.loads(python_2(), encoding="bytes")[b"labels"] == LABELS  # as cPickle would read it
    assert np.array_equal(read_records(tmp_path / "data_batch_1", "labels"), RECORDS)


@pytest.mark.parametrize("dumps", [pickle.dumps, pickle._dumps], ids=["C", "Python"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_python_3_writes(tmp_path: Path, protocol: int, dumps: Callable[..., bytes]) -> None:
    path = tmp_path / "data_batch_1"
    text = {key.decode(): value for key, value in batch().items()}
    for found in (batch(), text, batch(data=np.asfortranarray(IMAGES)), batch(labels=np.array(LABELS, np.uint8))):
        path.write_bytes(dumps(found, protocol))
        records = read_records(path, "labels")
        assert records.dtype == np.uint8
        assert records.flags.c_contiguous
        assert np.array_equal(records, RECORDS)
    path.write_bytes(
        dumps({b"label_names": [b"cat", "dog"], b"num_cases_per_batch": 10000, b"num_vis": 3072}, protocol)
    )
    assert read_names(path, "label_names") == ("cat", "dog")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_1_and_2_name_their_functions_apart(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps(batch(), protocol)
    core, other = (b"numpy._core.", b"numpy.core.") if b"numpy._core." in content else (b"numpy.core.", b"numpy._core.")
    longer = len(other) - len(core)
    for name in (b"multiarray", b"numeric"):  # protocols from 4 on say how long a name is
        content = content.replace(
            bytes([len(core + name)]) + core + name, bytes([len(core + name) + longer]) + other + name
        )
    content = content.replace(b"c" + core, b"c" + other)
    assert other in content
    assert core not in content
    (tmp_path / "data_batch_1").write_bytes(content)
    assert np.array_equal(read_records(tmp_path / "data_batch_1", "labels"), RECORDS)


def test_several_labels_stand_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "train"
    path.write_bytes(pickle.dumps(batch(coarse_labels=[1] * 6, fine_labels=LABELS), 2))
    assert np.array_equal(read_records(path, "coarse_labels", "fine_labels")[:, :2].T, [[1] * 6, LABELS])


class Harm:
    """What an attacker would pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 1, *PROTOCOLS])
def test_nothing_is_run(tmp_path: Path, protocol: int, refused: Callable[..., None]) -> None:
    harm = tmp_path / "harm"
    content = pickle.dumps(batch(labels=Harm(harm)), protocol)
    refused(content, r"the name \w+\.system|the opcode")
    assert not harm.exists()
    pickle.loads(content)
    assert harm.exists()  # it would have harmed


def test_nothing_is_imported(refused: Callable[..., None]) -> None:
    assert "this" not in sys.modules
    refused(b"\x80\x02cthis\ns\n)R.", r"\(byte 2\) the name this\.s; nothing of it was run")
    refused(b"\x80\x04\x8c\x04this\x8c\x01s\x93.", r"the name this\.s")
    refused(b"\x80\x02(ithis\ns\n.", "the opcode INST")
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "exhausted before seeing STOP"),
        (b"\x80\x02\xff.", r"opcode b'\\xff' unknown"),
        (b"\x80\x06}.", "protocol 6"),
        (b"\x80\x02}2.", "the opcode DUP"),
        (b"\x80\x02}K\x00\x82\x01.", "the opcode EXT1"),
        (b"\x80\x02cnumpy\nload\n.", r"the name numpy\.load"),
        (b"\x80\x02cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R.", "values of type b'O8'"),
        (b"\x80\x02cnumpy\nndarray\nK\x00\x85R.", "a call of ndarray"),
        (b"\x80\x02U\x03abcK\x00\x85R.", "a call of no function"),
        (b"\x80\x02}}b.", "the state of something that is no array"),
        (b"\x80\x02}U\x01aK\x00\x86K\x00s.", "a key that is no short text"),
        (b"\x80\x02}(U\x01au.", "a key without a value"),
        (b"\x80\x02}U\x01as.", "no dict where one is needed"),
        (b"\x80\x02]K\x00K\x00a.", "no list where one is needed"),
        (b"\x80\x02\x85.", "no value"),
        (b"\x80\x02t.", "no mark"),
        (b"\x80\x02}q.", "not enough data|exhausted"),
        (b"\x80\x02h\x01.", "a value that was not kept before"),
        (b"\x80\x02}}.", "other than one value"),
        (b"\x80\x02}(.", "other than one value"),
        (b"\x80\x02].", "no dict"),
        (b"\x80\x02}..", "more bytes after the end"),
        (b"\x80\x02}.", "data of shape .* got none"),
        (b"\x80\x04K\x00K\x00\x93.", "a name that is no text"),
        (b"\x80\x02T\xff\xff\xff\x7fabc.", "expected 2147483647 bytes in a string4, but only 4 remain"),
        (b"\x80\x05\x96" + b"\xff" * 7 + b"\x7fabc.", "bytes in a bytearray8, but only 4 remain"),
    ],
    ids=repr,
)
def test_other_streams_are_refused(content: bytes, reason: str, refused: Callable[..., None]) -> None:
    refused(content, reason)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_truncated_file_is_refused(protocol: int, refused: Callable[..., None]) -> None:
    for content in (pickle.dumps(batch(), protocol), python_2()):
        for length in (*range(0, 400, 7), len(content) // 2, len(content) - 1):
            refused(content[:length], "got")


def test_damage_is_refused_or_read_as_it_is(tmp_path: Path) -> None:
    path, content = tmp_path / "data_batch_1", python_2(IMAGES[:2], [1, 2])
    generator = np.random.default_rng(1)
    for place in range(content.index(IMAGES[:2].tobytes())):
        for value in generator.integers(0, 256, 2):
            path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            with contextlib.suppress(RequestError):
                assert read_records(path, "labels").shape == (2, 1 + PIXELS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": IMAGES[:, :-1]}, r"data of shape \(images, 3,072\), got an array of shape \(6, 3071\)"),
        ({"data": IMAGES.reshape(6, 3, 32, 32)}, "an array of another shape"),
        ({"data": IMAGES.astype(np.int16)}, "values of type 'i2'|values of type b'i2'"),
        ({"data": np.array([None] * 6)}, "values of type '[O|]"),
        ({"data": [1, 2]}, "data of shape .* got a list of 2"),
        ({"labels": LABELS[:5]}, "labels, a list of 6 numbers from 0 to 255, got a list of 5"),
        ({"labels": [*LABELS[:5], 256]}, "labels, a list of 6 numbers"),
        ({"labels": [*LABELS[:5], -1]}, "labels, a list of 6 numbers"),
        ({"labels": [*LABELS[:5], True]}, "labels, a list of 6 numbers"),
        ({"labels": [*LABELS[:5], 2**999]}, "labels, a list of 6 numbers"),
        ({"labels": [*LABELS[:5], 1.0]}, "the opcode BINFLOAT"),
        ({"labels": None}, "labels, a list of 6 numbers .* got none"),
        ({"labels": {"a": 1}}, "labels, a list of 6 numbers .* got a value of type dict"),
    ],
)
def test_other_images_and_labels_are_refused(
    protocol: int, changes: dict[str, Any], reason: str, refused: Callable[..., None]
) -> None:
    refused(pickle.dumps(batch(**changes), protocol), reason)


def test_a_shape_is_held_against_the_bytes(refused: Callable[..., None]) -> None:
    content, shape = python_2(), b"M\x06\x00M\x00\x0c\x86"
    assert shape in content
    refused(content.replace(shape, b"M\x07\x00M\x00\x0c\x86"), r"an array of shape \(7, 3072\) with 18,432 bytes")
    most = b"\x8a\x08" + b"\xff" * 7 + b"\x7f"
    refused(content.replace(shape, most + most + b"\x86"), "an array of another shape than its 18,432 bytes")
    minus = b"J\xfa\xff\xff\xffJ\x00\xf4\xff\xff\x86"  # (-6, -3072), of which the product would fit
    refused(content.replace(shape, minus), "an array of another shape")


SIZE = 2**20
TEXT, BYTES = (kind + struct.pack("<I", SIZE) + b"a" * SIZE + b"q\x01" for kind in (b"X", b"B"))
"""A million characters, kept as 1."""
UINT8 = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1\x89\x88\x87Rq\x02"
"""The type, kept as 2."""
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
COLUMNS = b"(K\x01J\x00\x04\x00\x00J\x00\x04\x00\x00\x86h\x02\x88h\x01tb"
"""Its million bytes, kept as 1, as 1,024 columns."""
BOMBS = {
    "text encoded": TEXT + b"(" + b"c_codecs\nencode\nh\x01X\x06\x00\x00\x00latin1\x86R" * 2000,
    "keys": BYTES + b"}(" + b"h\x01N" * 4000 + b"u.",
    "names": b"}U\x0blabel_names](" + BYTES + b"h\x01" * 4000 + b"es.",
    "arrays": BYTES + UINT8 + b"(" + (ARRAY + COLUMNS) * 500 + b"t.",
    "dicts": b"}" * 10**6,
    "marks": b"(" * 10**6,
    "tuples": b"K\x00" + b"\x85" * 10**6,
    "keeping": b"}" + b"\x94" * 10**6,
    "doubling": b"K\x00\x85q\x01" + b"h\x01h\x01\x86q\x01" * 1900 + b"}h\x01K\x00s.",
    "doubled names": b"}U\x0blabel_names(K\x00\x85q\x01" + b"h\x01h\x01\x86q\x01" * 1900 + b"ts.",
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_a_file_takes_memory_of_the_order_of_its_size(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "batches.meta"
    path.write_bytes(b"\x80\x04" + content)
    tracemalloc.start()
    try:
        with pytest.raises(RequestError) as caught:
            read_names(path, "label_names")
        assert tracemalloc.get_traced_memory()[1] < 2**22 + 8 * len(content)
        assert len(str(caught.value)) < 600 + len(str(path))
    finally:
        tracemalloc.stop()
