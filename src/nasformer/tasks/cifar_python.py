"""CIFAR's Python version, as torchvision keeps it: dicts of images, labels and names, written as pickles.

A pickle is a program. What CIFAR's files hold needs a few of its opcodes, and only those are interpreted here: plain
values are built, nothing that a file names is imported or called, and anything else is refused. What is built is of
the order of the file's size: opcodes are counted, sizes are held against the bytes that there are, and text that is
named again is not encoded again (docs/decisions/0012-one-layout-of-pickles.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from pickletools import genops
from typing import Any

import numpy as np

from nasformer.errors import RequestError

PIXELS = 3 * 32 * 32
"""The bytes of an image: 32×32 of red, then of green and of blue."""
FREE_OPCODES, BYTES_PER_OPCODE = 10_000, 100
"""A file may have so many opcodes, and one more for so many bytes; CIFAR's have one for 300 at the most."""
LONGEST_NAME = 100
"""The most characters of a key, or of the name of a class."""
NEWEST_PROTOCOL = 5
NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): "_reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "_reconstruct",  # NumPy 2
    ("numpy.core.numeric", "_frombuffer"): "_frombuffer",  # protocol 5
    ("numpy._core.numeric", "_frombuffer"): "_frombuffer",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",  # bytes that Python 3 wrote in protocol 2
}
"""What a file may name (module, name), and what we call it."""


def read_records(path: Path, *labels: str) -> np.ndarray:
    """The images of a file as the binary version has them: uint8 (images, labels + 3,072), a row being the labels of
    these names in their order, then the pixels. Raises `RequestError` where the file is no such pickle, or its images
    and labels are of another kind or number."""
    found = _read(path)
    images = found.get("data")
    if not isinstance(images, np.ndarray) or images.shape[1:] != (PIXELS,):
        raise RequestError(f"{path}: expected data of shape (images, {PIXELS:,}), got {_described(images)}")
    columns = [_labels(found.get(name), name, len(images), path) for name in labels]
    return np.ascontiguousarray(np.concatenate([*columns, images], axis=1))


def read_names(path: Path, key: str) -> tuple[str, ...]:
    """The names of the classes, from a file of names. Raises `RequestError` where the file is no such pickle."""
    found = _read(path).get(key)
    if not isinstance(found, list) or not all(map(_short, found)):
        raise RequestError(f"{path}: expected {key}, a list of short names, got {_described(found)}")
    return tuple(map(_text, found))


def _labels(found: Any, name: str, images: int, path: Path) -> np.ndarray:
    """A column (images, 1) of labels, which are a list of numbers or an array."""
    numbers = isinstance(found, list) and all(type(label) is int and 0 <= label < 256 for label in found)
    labels = np.array(found, np.uint8) if numbers else found
    if not isinstance(labels, np.ndarray) or labels.shape != (images,):
        raise RequestError(
            f"{path}: expected {name}, a list of {images:,} numbers from 0 to 255, got {_described(found)}"
        )
    return labels[:, None]


def _short(value: Any) -> bool:
    """Whether it is a short text: one that is decoded each time that it is named must not be long."""
    return isinstance(value, str | bytes) and len(value) <= LONGEST_NAME


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _described(value: Any) -> str:
    """What came, in a few words: what a file holds may be long, or hold itself."""
    if value is None:
        return "none"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return f"a list of {len(value):,}" if isinstance(value, list) else f"a value of type {type(value).__name__}"


def _read(path: Path) -> dict[str, Any]:
    """The dict that a file holds: its keys as text, its arrays as uint8 (…) over the bytes of the file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RequestError(f"expected a readable file at {path}: {error.strerror}; fetch it again") from None
    builder, most, place = _Builder(len(content)), FREE_OPCODES + len(content) // BYTES_PER_OPCODE, 0
    try:
        for number, (opcode, argument, at) in enumerate(genops(content)):
            place = at or 0
            if number == most:
                raise ValueError(f"more than {most:,} opcodes, too many for {len(content):,} bytes")
            builder.step(opcode.name, argument)
        if place + 1 != len(content):
            raise ValueError("more bytes after the end")
        found = builder.result()
    except ValueError as error:  # of ours, and of genops: it says no more of what is damaged
        raise RequestError(
            f"{path}: expected a dict of lists, numbers, text and arrays of uint8, as CIFAR's Python version has it, "
            f"got (byte {place:,}) {str(error)[:200]}; nothing of it was run; fetch it again, or the binary version"
        ) from None
    return {key: value.values if isinstance(value, _Array) else value for key, value in found.items()}


@dataclass(frozen=True)
class _Name:
    """What a file names: one of `NAMES`, or "uint8", the one type that is made of them."""

    name: str


@dataclass
class _Array:
    """An array, which a file names first and fills later."""

    values: np.ndarray | None = None


UINT8 = _Name("uint8")


class _Builder:
    """Builds the value that opcodes describe, one `step` after the other; `stack` is of what follows the last mark,
    `outer` of what was before each mark. Everything raises `ValueError`."""

    def __init__(self, size: int) -> None:
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.encodable = size

    def step(self, opcode: str, argument: Any) -> None:
        """What an opcode does."""
        match opcode:
            case "PROTO" if argument > NEWEST_PROTOCOL:
                raise ValueError(f"protocol {argument}")
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "BININT" | "BININT1" | "BININT2" | "LONG1":
                self.push(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINBYTES" | "SHORT_BINBYTES" | "BYTEARRAY8":
                self.push(argument)
            case "BINSTRING" | "SHORT_BINSTRING":  # Python 2's text, which is bytes
                self.push(argument.encode("latin-1"))
            case "NONE":
                self.push(None)
            case "NEWTRUE" | "NEWFALSE":
                self.push(opcode == "NEWTRUE")
            case "EMPTY_DICT":
                self.push({})
            case "EMPTY_LIST":
                self.push([])
            case "MARK":
                self.outer.append(self.stack)
                self.stack = []
            case "TUPLE":
                self.push(tuple(self.since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.push(tuple(self.popped(int(opcode[-1]))))
            case "APPEND" | "APPENDS":
                items = self.since_mark() if opcode == "APPENDS" else self.popped(1)
                self.top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                self.set_items(self.since_mark() if opcode == "SETITEMS" else self.popped(2))
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.top()
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.top()
            case "BINGET" | "LONG_BINGET":
                if argument not in self.memo:
                    raise ValueError("a value that was not kept before")
                self.push(self.memo[argument])
            case "GLOBAL":
                module, _, name = argument.partition(" ")
                self.push(_named(module, name))
            case "STACK_GLOBAL":
                self.push(_named(*self.popped(2)))
            case "REDUCE":
                self.push(self.reduced(*self.popped(2)))
            case "BUILD":
                self.fill(*self.popped(1))
            case _:
                raise ValueError(f"the opcode {opcode}")

    def result(self) -> dict[str, Any]:
        """The one value that remains."""
        if len(self.stack) != 1 or self.outer:
            raise ValueError("other than one value")
        found: dict[str, Any] = self.top(dict)
        return found

    def push(self, value: Any) -> None:
        """Put a value after the others."""
        self.stack.append(value)

    def top(self, kind: type = object) -> Any:
        """The last value, which stays."""
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise ValueError("no value" if kind is object else f"no {kind.__name__} where one is needed")
        return self.stack[-1]

    def popped(self, count: int) -> list[Any]:
        """The last `count` values, which go."""
        if len(self.stack) < count:
            raise ValueError("no value")
        found = self.stack[-count:]
        del self.stack[-count:]
        return found

    def since_mark(self) -> list[Any]:
        """The values after the last mark, which go."""
        if not self.outer:
            raise ValueError("no mark")
        found, self.stack = self.stack, self.outer.pop()
        return found

    def set_items(self, items: list[Any]) -> None:
        """Put keys and values, in turn, into the dict below them."""
        found = self.top(dict)
        if len(items) % 2:
            raise ValueError("a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not _short(key):
                raise ValueError("a key that is no short text")
            found[_text(key)] = value

    def reduced(self, function: Any, arguments: Any) -> Any:
        """What a call with such arguments would give, of the few calls that there are."""
        match function, arguments:
            case _Name("encode"), (str() as text, "latin1"):
                self.encodable -= len(text)
                if self.encodable < 0:
                    raise ValueError("the same text encoded again and again")
                return text.encode("latin-1")
            case _Name("_reconstruct"), (_Name("ndarray"), (0,), "b" | b"b"):
                return _Array()
            case _Name("dtype"), ("u1" | b"u1", _, _):
                return UINT8
            case _Name("_frombuffer"), (
                bytes() | bytearray() as data,
                _Name("uint8"),
                tuple() as shape,
                "C" | "F" as by,
            ):
                return _Array(_array(data, shape, columns=by == "F"))
            case _Name("dtype"), (str() | bytes() as other, *_):
                raise ValueError(f"values of type {other[:20]!r}")
        raise ValueError(f"a call of {function.name}" if isinstance(function, _Name) else "a call of no function")

    def fill(self, state: Any) -> None:
        """Give the array that is the last value its content; a type has a byte order, of which uint8 knows nothing."""
        match self.top(), state:
            case _Array() as array, (1, tuple() as shape, _Name("uint8"), bool() as columns, bytes() as data):
                array.values = _array(data, shape, columns)
            case _Name("uint8"), tuple():
                pass
            case _:
                raise ValueError("the state of something that is no array of uint8")


def _named(module: Any, name: Any) -> _Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("a name that is no text")
    if (module, name) not in NAMES:
        raise ValueError(f"the name {module[:60]}.{name[:60]}")
    return _Name(NAMES[module, name])


def _array(data: bytes | bytearray, shape: tuple[Any, ...], columns: bool) -> np.ndarray:
    """The bytes as an array uint8 of one or two axes; `columns` where the first axis runs fastest."""
    if len(shape) not in (1, 2) or not all(type(size) is int and 0 <= size <= len(data) for size in shape):
        raise ValueError(f"an array of another shape than its {len(data):,} bytes have")
    if math.prod(shape) != len(data):
        raise ValueError(f"an array of shape {shape} with {len(data):,} bytes")
    return np.frombuffer(data, np.uint8).reshape(shape, order="F" if columns else "C")
