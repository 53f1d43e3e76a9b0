"""`nasformer evaluate`: the model of a run on a split of its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from nasformer.errors import RequestError
from nasformer.runs.files import plain
from nasformer.runs.run import Run
from nasformer.tasks.pretrained import load_pretrained
from nasformer.tasks.translation import Translation, TranslationTask, read_text


def evaluate(folder: Path, split: str, console: Console) -> dict[str, Any]:
    """BLEU, chrF and loss of `folder/model` on a split; raises `RequestError` where there is no trained model."""
    if split not in ("valid", "test"):
        raise RequestError(f"expected the split valid or test, got {split!r}")
    run = Run.look(folder)
    if not (folder / "model" / "config.json").exists():
        raise RequestError(f"expected a trained model in {folder / 'model'}; finish the run: nasformer resume {folder}")
    settings = Translation.read(run.recipe()["task"])
    network, source, target = load_pretrained(folder / "model")
    quality = plain(TranslationTask(settings, read_text(settings), source, target).quality(network, split))
    bleu, chrf = quality["bleu"], quality["chrf"]
    console.print(
        f"{split}: BLEU {bleu['value']:.2f} ({bleu['low']:.2f}–{bleu['high']:.2f}), chrF {chrf['value']:.2f}, "
        f"loss {quality['loss']:.4f} nats per token"
    )
    console.print(bleu["signature"])
    return quality
