"""Checkpoints: whole or absent, the newest valid one loads, and neither a kill nor a full disk costs the last one."""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from nasformer.errors import RunError
from nasformer.runs import files
from nasformer.runs.checkpoints import newest, save


def save_step(folder: Path, step: int) -> None:
    save(folder, step, {"weight": torch.full((100,), float(step))}, {"step": step})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": base, "same": base, "turned": base.t(), "part": base[1:, :2], "none": torch.empty(0, 3),
               "random": torch.get_rng_state(), "half": torch.tensor(1.5, dtype=torch.bfloat16),
               "learnt": torch.nn.Parameter(torch.ones(2))}  # fmt: skip
    state = {"best": math.inf, "low": -math.inf, "loss": 0.1 + 0.2, "big": 2**80, "deep": [{"x": None}, True, "ü"]}
    save(tmp_path, 123, tensors, state | {"bad": math.nan})
    found = newest(tmp_path)
    assert found is not None
    assert found.step == 123
    assert math.isnan(found.state.pop("bad"))
    assert found.state == state
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor.detach()), name
    assert names(tmp_path) == ["step-00000123"]
    assert names(tmp_path / "step-00000123") == ["state.json", "tensors.safetensors"]


def test_without_tensors_and_without_a_folder(tmp_path: Path) -> None:
    assert newest(tmp_path / "nowhere") is None
    save(tmp_path, 0, {}, {})
    found = newest(tmp_path)
    assert found is not None
    assert (found.step, found.tensors, found.state) == (0, {}, {})


def test_state_that_would_come_back_changed_is_refused(tmp_path: Path) -> None:
    for state in ({"x": {1: 2}}, {"x": object()}, {"x": torch.ones(1)}):
        with pytest.raises(TypeError, match="JSON"):
            save(tmp_path, 1, {}, state)
    with pytest.raises(ValueError, match="at least 0"):
        save(tmp_path, -1, {}, {})
    assert names(tmp_path) == []


def test_the_newest_two_stay_and_later_steps_left_behind_go(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        save_step(tmp_path, step)
    assert names(tmp_path) == ["step-00000002", "step-00000010"]
    save_step(tmp_path, 5)
    assert names(tmp_path) == ["step-00000002", "step-00000005"]
    save_step(tmp_path, 5)
    found = newest(tmp_path)
    assert found is not None
    assert found.step == 5


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    save_step(tmp_path, 99_999_999)
    save_step(tmp_path, 100_000_000)
    found = newest(tmp_path)
    assert found is not None
    assert found.step == 100_000_000


@pytest.mark.parametrize("damage", ["flip", "cut", "no tensors", "no state", "half state", "other state"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    save_step(tmp_path, 1)
    save_step(tmp_path, 2)
    tensors, state = (tmp_path / "step-00000002" / name for name in ("tensors.safetensors", "state.json"))
    content = tensors.read_bytes()
    if damage == "flip":
        tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        tensors.write_bytes(content[: len(content) // 2])
    elif damage == "no tensors":
        tensors.unlink()
    elif damage == "no state":
        state.unlink()
    elif damage == "half state":
        state.write_text(state.read_text()[:20])
    else:
        state.write_text(state.read_text().replace('"state": {"step": 2}', '"state": {"step": 3}'))
    found = newest(tmp_path)
    assert found is not None
    assert (found.step, found.state) == (1, {"step": 1})
    assert torch.equal(found.tensors["weight"], torch.full((100,), 1.0))


def test_a_half_written_checkpoint_is_never_loaded_and_is_swept_away(tmp_path: Path) -> None:
    save_step(tmp_path, 1)
    save_step(tmp_path, 2)
    (tmp_path / "step-00000002").rename(tmp_path / ".tmp-step-00000009")
    found = newest(tmp_path)
    assert found is not None
    assert found.step == 1
    save_step(tmp_path, 3)
    assert names(tmp_path) == ["step-00000001", "step-00000003"]


@pytest.mark.parametrize("calls_before", [0, 1])
def test_saving_the_same_step_again_never_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls_before: int
) -> None:
    save_step(tmp_path, 4)
    rename, calls = os.rename, []

    def killed(old: Path, new: Path) -> None:
        calls.append(new)
        if len(calls) > calls_before:
            raise KeyboardInterrupt
        rename(old, new)

    monkeypatch.setattr(files.os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 4, {"weight": torch.zeros(1)}, {"second": True})
    monkeypatch.undo()
    found = newest(tmp_path)
    assert found is not None
    assert found.state == {"step": 4}
    save(tmp_path, 4, {"weight": torch.zeros(1)}, {"second": True})
    found = newest(tmp_path)
    assert found is not None
    assert found.state == {"second": True}
    assert names(tmp_path) == ["step-00000004"]


@pytest.mark.slow
def test_killed_in_the_middle_of_saves_the_newest_is_valid(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; from nasformer.runs.checkpoints import save\n"
        "for step in range(10**6):\n"
        "    save(Path(sys.argv[1]), step, {'weight': torch.full((500_000,), float(step))}, {'step': step})\n"
        "    print(step, flush=True)"
    )
    for extra in (0.0, 0.004, 0.011):
        folder = tmp_path / str(extra)
        saver = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE)
        assert saver.stdout is not None
        for _ in range(4):
            saver.stdout.readline()
        time.sleep(extra)
        saver.kill()
        told = [3, *(int(line) for line in saver.stdout.read().split())]
        saver.wait()
        found = newest(folder)
        assert found is not None
        assert found.step >= max(told)
        assert found.state == {"step": found.step}
        assert torch.equal(found.tensors["weight"], torch.full((500_000,), float(found.step)))
        save_step(folder, found.step + 1)
        assert not [name for name in names(folder) if name.startswith(".")]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    folder = tmp_path / "checkpoints" / "search"
    save_step(folder, 1)
    write = os.write

    def full(file: int, content: bytes) -> int:
        if len(content) < 300:
            raise OSError(number, os.strerror(number))
        return write(file, bytes(content[:200]))

    monkeypatch.setattr(files.os, "write", full)
    with pytest.raises(RunError, match=f"disk full.*run is safe.*nasformer resume {tmp_path}`"):
        save_step(folder, 2)
    monkeypatch.undo()
    assert names(folder) == ["step-00000001"]
    found = newest(folder)
    assert found is not None
    assert found.step == 1


def test_other_disk_errors_are_not_called_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(files.os, "write", broken)
    with pytest.raises(OSError, match="broken"):
        save_step(tmp_path, 1)
    assert names(tmp_path) == []


def test_a_file_is_as_safetensors_writes_it(tmp_path: Path) -> None:
    kinds = [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64]
    tensors = {f"{kind} {part}": torch.arange(6).reshape(2, 3).to(kind) for kind in kinds for part in 'b"a'}
    tensors |= {"ü": torch.tensor(2.0), "none": torch.empty(0, 3)}
    save(tmp_path, 1, tensors, {})
    assert (tmp_path / "step-00000001" / "tensors.safetensors").read_bytes() == safetensors.torch.save(tensors)
    with pytest.raises(TypeError, match=r"got odd of torch\.complex64"):
        save(tmp_path, 2, {"odd": torch.ones(1, dtype=torch.complex64)}, {})
    assert names(tmp_path) == ["step-00000001"]


@pytest.mark.slow
def test_saving_takes_the_memory_of_one_tensor(tmp_path: Path) -> None:
    code = (
        "import resource, sys, torch; from pathlib import Path; from nasformer.runs.checkpoints import save\n"
        "tensors = {str(i): torch.ones(1 << 20) for i in range(24)}\n"  # 96 MiB in parts of 4
        "save(Path(sys.argv[1]) / 'first', 1, {'x': torch.ones(1)}, {})\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "save(Path(sys.argv[1]) / 'second', 1, tensors, {})\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 12 * 1024  # KiB
