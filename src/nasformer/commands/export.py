"""`nasformer export`: the trained model of a run as a folder for `transformers`."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console

from nasformer.errors import RequestError
from nasformer.runs.run import Run


def export(folder: Path, to: str, out: Path, console: Console) -> Path:
    """Copy `folder/model` to `out`; raises `RequestError` for an unknown format, a missing model or a full target."""
    if to != "hf":
        raise RequestError(f"expected --to hf (a folder that transformers loads), got {to!r}")
    Run.look(folder)
    model = folder / "model"
    if not (model / "config.json").exists():
        raise RequestError(f"expected a trained model in {model}; finish the run: nasformer resume {folder}")
    if out.exists() and any(out.iterdir()):
        raise RequestError(f"expected an empty or new folder for the export, got {out}")
    shutil.copytree(model, out, dirs_exist_ok=True)
    console.print(f"exported to {out}: AutoModelForSeq2SeqLM.from_pretrained({str(out)!r}, trust_remote_code=True)")
    return out
