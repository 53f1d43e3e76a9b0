"""Checkpoints: tensors and state at one step, written whole or not at all; the newest valid one is used."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from nasformer.runs.files import OLD, TEMPORARY, full_disk_explained, whole_folder, write_synced

TENSORS, STATE = "tensors.safetensors", "state.json"
_KEEP = 2


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
    is full (the earlier checkpoints stay), `TypeError` where the state is not JSON data, `ValueError` for a step < 0.
    """
    if step < 0:
        raise ValueError(f"expected a step of at least 0, got {step}")
    text = json.dumps(_encoded(state), sort_keys=True, allow_nan=False)
    content = safetensors.torch.save(_separate(tensors))
    entry = {"step": step, "tensors_sha256": _hash(content), "state_sha256": _hash(text.encode())}
    target = folder / f"step-{step:08d}"
    with full_disk_explained(target, _run_of(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        _remove_temporary(folder)
        with whole_folder(target) as part:
            write_synced(part / TENSORS, content)
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
        content = (path / TENSORS).read_bytes()
        text = json.dumps(entry["state"], sort_keys=True)
        if entry["tensors_sha256"] != _hash(content) or entry["state_sha256"] != _hash(text.encode()):
            return None
        return Checkpoint(int(entry["step"]), safetensors.torch.load(content), _decoded(entry["state"]))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors that share no memory, as safetensors asks."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        address = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if address in seen else tensor
        seen.add(address)
    return separate


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
