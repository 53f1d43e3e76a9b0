"""`nasformer export`: the trained model of a run as a folder for `transformers`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from rich.console import Console

from nasformer.commands.trained import trained_model
from nasformer.errors import RequestError
from nasformer.runs.files import full_disk_explained
from nasformer.runs.run import Run


def export(folder: Path, to: str, out: Path, console: Console) -> Path:
    """Copy `folder/model` to `out`, all of it or nothing.

    Raises `RequestError` for an unknown format, a missing model or a target that holds files, and `RunError` where the
    disk is full.
    """
    if to != "hf":
        raise RequestError(f"expected --to hf (a folder that transformers loads), got {to!r}")
    model = trained_model(Run.look(folder))
    if out.exists() and any(out.iterdir()):
        raise RequestError(f"expected an empty or new folder for the export, got {out}")
    with full_disk_explained(out, folder, again=f"nasformer export --out {out}"):
        try:
            shutil.copytree(model, out, dirs_exist_ok=True)
        except BaseException:
            shutil.rmtree(out.resolve(), ignore_errors=True)
            raise
    classes = json.loads((out / "config.json").read_text(encoding="utf-8"))["auto_map"]
    auto = next(name for name in classes if name.startswith("AutoModel"))
    console.print(f"exported to {out}: {auto}.from_pretrained({str(out)!r}, trust_remote_code=True)")
    return out
