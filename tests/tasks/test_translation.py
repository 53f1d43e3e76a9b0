"""A translation task tells what it trains on, and what it leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasformer.models.build import build
from nasformer.models.size import core_parameters
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.named import dartsformer, transformer
from nasformer.tasks.batching import epoch_batches
from nasformer.tasks.translation import Translation


def test_pairs_left_out_are_told(tmp_path: Path) -> None:
    sentences = [f"a sentence about thing {number}" for number in range(400)]
    for split, lines in (("train", sentences[:300]), ("valid", sentences[300:350]), ("test", sentences[350:])):
        for language in ("de", "en"):
            lines = list(lines)
            if split == "train":
                lines[7 if language == "de" else 8] = " "
                lines[20:23] = [" ".join(["word"] * 50)] * 3
            (tmp_path / f"{split}.{language}").write_text("\n".join(lines), encoding="utf-8")
    task = Translation(path=str(tmp_path), vocabulary=400, max_length=40).open()
    facts = task.facts()
    assert (facts["train_pairs"], facts["blank_pairs_left_out"], facts["long_pairs_left_out"]) == (298, 2, 3)
    trained = sum(map(len, epoch_batches(task.data["train"], 1_024, seed=1, epoch=0)))
    assert trained == facts["train_pairs"] - facts["long_pairs_left_out"]


@pytest.mark.parametrize("shared", [True, False])
def test_a_shared_vocabulary_has_one_table_in_every_family(shared: bool) -> None:
    task = Translation(vocabulary=400, shared_vocabulary=shared, embedded_pairs=1_000).open()
    settings = task.model_settings(Dropout())
    reversible = dartsformer(dim=24, embedding_dim=16, splits=2, searched=1, depth=1, heads=2).close(lambda _: 0)
    outside = []
    for architecture in (transformer(16, 1, 1), reversible):
        model = build(architecture, settings, seed=1)
        outside.append(sum(p.numel() for p in model.parameters()) - core_parameters(architecture))
    source, target = task.source.size, task.target.size
    assert (source == target) == shared
    assert outside == ([16 * target] * 2 if shared else [16 * (source + 2 * target), 16 * (source + target)])
