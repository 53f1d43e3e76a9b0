"""Checkpoints: tensors and state at one step, written whole or not at all; the newest valid one is used.

Tensors go to the disk, and come from it, one after the other: besides the tensors themselves a checkpoint takes the
memory of one of them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nasformer.runs.files import OLD, TEMPORARY, full_disk_explained, whole_folder, write_all, write_synced

TENSORS, STATE = "tensors.safetensors", "state.json"
_KEEP = 2
_TYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}
"""What safetensors calls types, in the order (the last first) in which it writes them."""


@dataclass(frozen=True)
class Checkpoint:
    """What was saved at one step: tensors (on the CPU, each with memory of its own) and plain state."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], state: dict[str, Any]) -> None:
    """Writes `folder/step-00000123/`, whole or not at all, and keeps the newest two.

    The state is JSON data with names that are strings; tuples come back as lists, `nan` and `inf` as they were.
    Checkpoints of later steps are removed: who saves step 5 has left them behind. Raises `RunError` where the disk
    is full (the earlier checkpoints stay), `TypeError` where the state is not JSON data or a tensor is of a type that
    checkpoints do not hold, `ValueError` for a step < 0.
    """
    if step < 0:
        raise ValueError(f"expected a step of at least 0, got {step}")
    text = json.dumps(_encoded(state), sort_keys=True, allow_nan=False)
    for name, tensor in tensors.items():
        if tensor.dtype not in _TYPES:
            raise TypeError(f"expected tensors of a type that checkpoints hold, got {name} of {tensor.dtype}")
    target = folder / f"step-{step:08d}"
    with full_disk_explained(target, _run_of(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        _remove_temporary(folder)
        with whole_folder(target) as part:
            written = _write_tensors(part / TENSORS, tensors)
            entry = {"step": step, "tensors_sha256": written, "state_sha256": _hash(text.encode())}
            write_synced(part / STATE, json.dumps(entry | {"state": json.loads(text)}, sort_keys=True).encode())
    _prune(folder, step)


def newest(folder: Path) -> Checkpoint | None:
    """The valid checkpoint of the highest step; damaged and half-written ones are passed over. `None` without any."""
    for _, path in reversed(_steps(folder)):
        checkpoint = _load(path)
        if checkpoint is not None:
            return checkpoint
    return None


def _run_of(folder: Path) -> Path:
    return next((path for path in folder.parents if (path / "recipe.json").is_file()), folder.parent)


def _prune(folder: Path, step: int) -> None:
    earlier = [path for number, path in _steps(folder) if number <= step]
    for _, path in _steps(folder):
        if path not in earlier[-_KEEP:]:
            shutil.rmtree(path, ignore_errors=True)


def _remove_temporary(folder: Path) -> None:
    for path in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


def _steps(folder: Path) -> list[tuple[int, Path]]:
    """Steps and folders, the best last; of one step, the one set aside comes before the one in place."""
    if not folder.is_dir():
        return []
    found = [(match, path) for path in folder.iterdir() if (match := re.fullmatch(rf"step-(\d+)({OLD})?", path.name))]
    found.sort(key=lambda pair: (int(pair[0][1]), pair[0][2] is None))
    return [(int(match[1]), path) for match, path in found]


def _load(path: Path) -> Checkpoint | None:
    try:
        entry = json.loads((path / STATE).read_text(encoding="utf-8"))
        with (path / TENSORS).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        text = json.dumps(entry["state"], sort_keys=True)
        if entry["tensors_sha256"] != found or entry["state_sha256"] != _hash(text.encode()):
            return None
        return Checkpoint(int(entry["step"]), _read_tensors(path / TENSORS), _decoded(entry["state"]))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Writes a new safetensors file, tensor by tensor, and waits until it is on the disk; its SHA-256.

    The file is 8 bytes for the length of the header (little-endian), the header (JSON, padded with spaces to a multiple
    of 8), then the elements, in the order in which safetensors itself writes them: those of the largest type first.
    """
    ranks = {kind: rank for rank, kind in enumerate(_TYPES)}
    names = sorted(tensors, key=lambda name: (-ranks[tensors[name].dtype], name))
    header: dict[str, Any] = {}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        for part in chain([len(text).to_bytes(8, "little") + text], (_bytes(tensors[name]) for name in names)):
            digest.update(part)
            write_all(file, part)
        os.fsync(file)
    finally:
        os.close(file)
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    """The elements of a tensor in order, as bytes: its own memory where it is contiguous and on the CPU."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, each with memory of its own."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


def _encoded(value: Any) -> Any:
    """JSON data in which `nan` and `inf`, for which JSON has no words, are `{"$float": "nan"}`."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, list | tuple):
        return [_encoded(part) for part in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: _encoded(part) for name, part in value.items()}
    raise TypeError(f"expected a state of JSON data whose names are strings, got {type(value).__name__}: {value!r:.60}")


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(part) for part in value]
    if isinstance(value, dict):
        if value.keys() == {"$float"}:
            return float(value["$float"])
        return {name: _decoded(part) for name, part in value.items()}
    return value


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
