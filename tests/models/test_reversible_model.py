"""Reversible networks: sizes, the two backward passes on a whole model, and the exported folder."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForSeq2SeqLM

from nasformer.models.build import build, outline
from nasformer.models.pretrained import NasformerForSeq2SeqLM, beam_search
from nasformer.models.size import core_flops, core_parameters, total_parameters
from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.named import dartsformer, dartsformer_small, node_operators
from nasformer.spaces.reversible import ReversibleDecoderOnly, ReversibleLayer, ReversibleStack
from nasformer.spaces.space import Choice, Space
from nasformer.tasks.pretrained import load_pretrained, save_pretrained
from nasformer.tasks.translation import TranslationTask

SHARED = ModelSettings(source_vocabulary=30, target_vocabulary=30, shared_vocabulary=True)
APART = ModelSettings(source_vocabulary=30, target_vocabulary=25)
SPACE = dartsformer(dim=24, embedding_dim=8, splits=2, searched=2, depth=4, heads=2)


def members(space: Space, count: int) -> list[Any]:
    """Random members, and those with the fewest and the most parameters (ends of the list of operators aside)."""
    random = Random(2)
    samples = [space.sample(random) for _ in range(count)]
    uniform = [
        space.close(lambda choice, i=i: min(i, len(choice.options) - 1))
        for i in range(max(len(choice.options) for choice in space.choices))
    ]
    uniform.sort(key=core_parameters)
    return [uniform[0], uniform[-1], *samples]


@pytest.mark.parametrize("settings", [SHARED, APART], ids=["shared", "apart"])
@pytest.mark.parametrize("final_norm", [True, False])
def test_predicted_is_built(settings: ModelSettings, final_norm: bool) -> None:
    space = Space(SPACE.template.but(final_norm=final_norm))
    for number, member in enumerate(members(space, 20)):
        model = build(member, settings, seed=1) if number < 5 else outline(member, settings)
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        tables = ("tokens.", "source_tokens.")
        assert core_parameters(member) == sum(n for name, n in sizes.items() if not name.startswith(tables))
        assert total_parameters(member, settings) == sum(sizes.values())


def test_a_language_model_is_counted_too() -> None:
    architecture = language_model()
    count = sum(parameter.numel() for parameter in outline(architecture, APART).parameters())
    assert total_parameters(architecture, APART) == count
    assert core_flops(architecture, target=20) > core_flops(architecture, target=10) > 0


@pytest.mark.parametrize("mixer", ["attention", "dynamic_convolution_7", "convolution_3"])
def test_the_base_size_is_the_papers(mixer: str) -> None:
    """Reading 11: 59 to 69 million for plausible mixtures; the paper reports 60.1 to 66.0."""
    settings = ModelSettings(source_vocabulary=33_000, target_vocabulary=33_000, shared_vocabulary=True)

    def answer(choice: Choice) -> int:
        return choice.options.index(mixer if choice.name.endswith("nodes.0") else "feed_forward")

    assert 59 < total_parameters(dartsformer().close(answer), settings) / 1e6 < 69


def test_the_output_is_tied_to_the_table_and_sides_share_it() -> None:
    member = SPACE.sample(Random(0))
    shared, apart = build(member, SHARED, seed=1), build(member, APART, seed=1)
    assert shared.source_tokens is None
    assert apart.source_tokens.weight.shape == (30, 8)
    for model, width in ((shared, 30), (apart, 25)):
        hidden = torch.randn(2, 3, 24)
        assert torch.equal(model.output(hidden), model.frame["decoder_output"](hidden) @ model.tokens.weight.T)
        assert model.output(hidden).shape[-1] == width


def language_model() -> ReversibleDecoderOnly:
    """Four different layers of three splits."""
    operators = node_operators(heads=2, cross=False)
    layers = tuple(ReversibleLayer(nodes=operators[i : i + 3]) for i in (0, 3, 6, 9))
    return ReversibleDecoderOnly(embedding_dim=8, decoder=ReversibleStack(dim=24, layers=layers, repeats=2))


def tokens(time: int, vocabulary: int, seed: int) -> Tensor:
    """Tokens (3, time), the first row's last two padded."""
    found = torch.randint(1, vocabulary, (3, time), generator=torch.Generator().manual_seed(seed))
    found[0, -2:] = 0
    return found


@pytest.mark.parametrize("number", range(6))
def test_both_backward_passes_agree_with_dropout_on(number: int) -> None:
    settings = APART.but(dropout=Dropout(residual=0.3, attention=0.2, weight=0.2))
    architecture = [language_model(), *members(SPACE, 3)][number] if number < 5 else members(_odd(), 1)[2]
    model: Any = build(architecture, settings, seed=1).double().train()
    source, target = tokens(7, 30, 1), tokens(6, 25, 2)
    given = (target,) if isinstance(architecture, ReversibleDecoderOnly) else (source, target)
    found = []
    for backward in ("stored", "rebuilt"):
        model.backward = backward
        torch.manual_seed(3)
        logits = model(*given)
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=0)
        found.append((logits.detach(), torch.autograd.grad(loss, list(model.parameters()))))
    assert torch.equal(found[0][0], found[1][0])
    for (name, _), one, other in zip(model.named_parameters(), *(gradients for _, gradients in found), strict=True):
        assert float((one - other).norm()) <= 1e-9 * float(one.norm()) + 1e-14, name


def _odd() -> Space:
    """Three splits, mean pooling, no final norm."""
    space = dartsformer(dim=24, embedding_dim=8, splits=3, searched=1, depth=3, heads=2, pooling="mean")
    return Space(space.template.but(final_norm=False))


def test_an_exported_folder_loads_and_generates(tiny_task: TranslationTask, tmp_path: Path) -> None:
    network: Any = build(
        dartsformer_small(dim=48).sample(Random(5)), tiny_task.model_settings(Dropout()), seed=1
    ).eval()
    save_pretrained(network, tiny_task.source, tiny_task.target, tmp_path, {"num_beams": 2})
    source = torch.tensor([[5, 9, 7, 2], [8, 6, 2, 0]])
    target = torch.tensor([[1, 7, 9], [1, 8, 5]])
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    assert isinstance(model, NasformerForSeq2SeqLM)
    mask = (source != 0).long()
    assert torch.equal(model(source, mask, target).logits, network(source, target))
    loaded, _, _ = load_pretrained(tmp_path)
    assert torch.equal(loaded(source, target), network(source, target))
    assert loaded.architecture == network.architecture
    found = model.generate(input_ids=source, attention_mask=mask, max_new_tokens=9)
    rows = [[token for token in row if token > 2] for row in found.tolist()]
    assert rows == beam_search(network, source, beams=2, longest=9)
    assert any(rows)
    greedy = beam_search(network, source, beams=1, longest=9)
    for row, expected in enumerate(greedy):
        seen = [1]
        for _ in range(9):
            logits = network(source[row : row + 1], torch.tensor([seen]))
            seen.append(int(logits[0, -1].argmax()))
        if 2 in seen:
            seen = seen[: seen.index(2)]
        assert [token for token in seen if token > 2] == expected
