"""One table for source, target and output of an encoder–decoder Transformer."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForSeq2SeqLM

from nasformer.errors import RequestError
from nasformer.models.build import build, outline
from nasformer.models.pretrained import beam_search
from nasformer.models.size import core_parameters, total_parameters
from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.named import OPERATORS, shrinknas, transformer, uniform
from nasformer.supernets.adam import SliceAdam
from nasformer.supernets.transformer import TransformerSupernet
from nasformer.tasks.pretrained import load_pretrained, save_pretrained
from nasformer.tasks.translation import TranslationTask
from nasformer.training.trainer import borrow

NONE = Dropout(residual=0.0, attention=0.0, weight=0.0)
TIED = ModelSettings(source_vocabulary=30, target_vocabulary=30, dropout=NONE, shared_vocabulary=True, tied=True)
APART = TIED.but(tied=False)
SPACE = shrinknas(dims=(8, 16, 24), encoder_layers=2, decoder_layers=(1, 2), kernels=(3, 5))
WIDTHS = [(16, 16), (8, 16), (16, 8)]


def _architecture(source: int, target: int, norm: Any = "post") -> Any:
    """A small Transformer whose two sides have these widths."""
    sides = [uniform("attention", dim, ratio=2.0, encoder_layers=2, decoder_layers=2) for dim in (source, target)]
    return sides[0].but(norm=norm, decoder=sides[1].decoder)


def _tokens(time: int, seed: int) -> Tensor:
    """Tokens (3, time), the first row's last two padded."""
    found = torch.randint(1, 30, (3, time), generator=torch.Generator().manual_seed(seed))
    found[0, -2:] = 0
    return found


SOURCE, TARGET = _tokens(7, 1), _tokens(6, 2)


def _loss(model: Any) -> Tensor:
    return F.cross_entropy(model(SOURCE, TARGET).flatten(0, 1), TARGET.roll(-1, 1).flatten(), ignore_index=0)


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("widths", WIDTHS)
def test_there_is_one_table_as_wide_as_the_wider_side(widths: tuple[int, int], norm: str) -> None:
    architecture = _architecture(*widths, norm)
    sizes = {name: weight.numel() for name, weight in build(architecture, TIED, seed=1).named_parameters()}
    assert total_parameters(architecture, TIED) == sum(sizes.values())
    assert total_parameters(architecture, TIED) - core_parameters(architecture) == sizes["tokens.weight"]
    assert sizes["tokens.weight"] == 30 * max(widths)
    assert total_parameters(architecture, APART) - core_parameters(architecture) == 30 * (widths[0] + 2 * widths[1])


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_fixed_architecture_of_equal_widths_has_one_table(operator: Any) -> None:
    architecture = uniform(operator, 16, ratio=1.0, encoder_layers=1, decoder_layers=1)
    sizes = [parameter.numel() for parameter in outline(architecture, TIED).parameters()]
    assert sum(sizes) == total_parameters(architecture, TIED) == core_parameters(architecture) + 30 * 16


@pytest.mark.parametrize(("dim", "heads", "published"), [(512, 8, 61.1e6), (1024, 16, 210.4e6)])
def test_the_published_sizes_of_the_transformer(dim: int, heads: int, published: float) -> None:
    """docs/papers/dartsformer.md §6: without the biases of attention, and 33,260 to 33,294 tokens."""
    settings = TIED.but(source_vocabulary=33_277, target_vocabulary=33_277)
    architecture = uniform("attention", dim, ratio=4.0, heads=heads)
    biases = (6 + 2 * 6) * 4 * dim
    assert total_parameters(architecture, settings) - biases == pytest.approx(published, abs=0.05e6)


@pytest.mark.parametrize("widths", WIDTHS)
def test_it_computes_what_three_equal_tables_do(widths: tuple[int, int]) -> None:
    architecture = _architecture(*widths)
    tied: Any = build(architecture, TIED, seed=1).double().train()
    apart: Any = build(architecture, APART, seed=2).double().train()
    table = tied.tokens.weight
    own = dict(apart.named_parameters())
    uses = {"source_embedding.weight": widths[0], "embedding.weight": widths[1], "output.weight": widths[1]}
    with torch.no_grad():
        for name, parameter in tied.named_parameters():
            if name != "tokens.weight":
                own[name].copy_(parameter)
        for name, dim in uses.items():
            own[name].copy_(table[:, :dim])
    assert torch.allclose(tied(SOURCE, TARGET), apart(SOURCE, TARGET), rtol=0, atol=1e-12)
    _loss(tied).backward()
    _loss(apart).backward()
    summed = torch.zeros_like(table)
    for name, dim in uses.items():
        summed[:, :dim] += own[name].grad
    assert torch.allclose(table.grad, summed, rtol=0, atol=1e-12)
    cache: dict[str, Any] = {}
    tied.eval()
    memory, whole = tied.encode(SOURCE), tied.decode(TARGET, tied.encode(SOURCE))
    steps = [tied.decode(TARGET[:, t : t + 1], memory, cache) for t in range(6)]
    assert torch.allclose(torch.cat(steps, 1)[TARGET != 0], whole[TARGET != 0], rtol=0, atol=1e-12)


def test_a_copy_has_a_table_of_its_own() -> None:
    model: Any = build(_architecture(16, 16), TIED, seed=1).eval()
    other, before = copy.deepcopy(model), model(SOURCE, TARGET)
    with torch.no_grad():
        other.tokens.weight.mul_(2)
    assert torch.equal(model(SOURCE, TARGET), before)
    hidden = torch.ones(1, 16)
    assert torch.equal(other.output(hidden), 2 * model.output(hidden))


def test_tables_of_different_vocabularies_cannot_be_tied() -> None:
    with pytest.raises(RequestError, match="one vocabulary for both sides; got 30 tokens of the source and 29"):
        TIED.but(target_vocabulary=29)
    with pytest.raises(RequestError, match="got None tokens of the source"):
        ModelSettings(target_vocabulary=29, tied=True)


@pytest.mark.slow
def test_a_supernet_shares_one_table_among_all_widths() -> None:
    supernet = TransformerSupernet(SPACE, TIED, seed=1)
    assert [name for name in supernet.weights if "layers" not in name] == ["tokens.weight"]
    optimizer = SliceAdam(supernet.weights)
    random, widths = Random(1), set()
    for number in range(12):
        architecture = SPACE.sample(random)
        dims = (architecture.encoder.dim, architecture.decoder.dim)
        widths.add((dims[0] > dims[1]) - (dims[0] < dims[1]))
        lent, before = supernet.at(architecture).train(), supernet.weights["tokens.weight"].clone()
        _loss(lent).backward()
        optimizer.step(lent.parameters(), 1e-2)
        moved = (supernet.weights["tokens.weight"] != before).any(0)
        assert moved[: max(dims)].all()
        assert not moved[max(dims) :].any()
        model: Any = supernet.inherit(architecture)
        assert torch.equal(model.eval()(SOURCE, TARGET), lent.eval()(SOURCE, TARGET))
        assert model.tokens.weight.shape == (30, max(dims))
        inherited = optimizer.inherit(supernet.sources(architecture), borrow(model))
        assert torch.equal(inherited.first["tokens.weight"], optimizer.first["tokens.weight"][:, : max(dims)])
        if number == 0:
            assert total_parameters(architecture, model.settings) == sum(p.numel() for p in model.parameters())
    assert widths == {-1, 0, 1}


@pytest.mark.parametrize("widths", WIDTHS)
def test_an_exported_folder_keeps_one_table(
    widths: tuple[int, int], tiny_task: TranslationTask, tmp_path: Path
) -> None:
    network: Any = build(_architecture(*widths), TIED, seed=1).eval()
    save_pretrained(network, tiny_task.source, tiny_task.target, tmp_path, {"num_beams": 2})
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == {f"network.{name}" for name, _ in network.named_parameters()}
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    logits = model(SOURCE, (SOURCE != 0).long(), TARGET).logits
    assert torch.equal(logits, network(SOURCE, TARGET))
    loaded: Any = load_pretrained(tmp_path)[0]
    assert loaded.settings == network.settings
    assert torch.equal(loaded(SOURCE, TARGET), network(SOURCE, TARGET))
    found = model.generate(input_ids=SOURCE, attention_mask=(SOURCE != 0).long(), max_new_tokens=9)
    rows = [[token for token in row if token > 2] for row in found.tolist()]
    assert rows == beam_search(network, SOURCE, beams=2, longest=9)
    assert any(rows)
    with torch.no_grad():
        model.network.tokens.weight.zero_()
    assert not model(SOURCE, (SOURCE != 0).long(), TARGET).logits.any()


def test_a_folder_from_before_tables_were_tied_has_three(tiny_task: TranslationTask, tmp_path: Path) -> None:
    network: Any = build(transformer(16, 1, 1), APART, seed=1).eval()
    save_pretrained(network, tiny_task.source, tiny_task.target, tmp_path, {})
    path = tmp_path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config["settings"]["tied"]
    path.write_text(json.dumps(config), encoding="utf-8")
    loaded: Any = load_pretrained(tmp_path)[0]
    assert {name for name, _ in loaded.named_parameters()} == {name for name, _ in network.named_parameters()}
    assert torch.equal(loaded(SOURCE, TARGET), network(SOURCE, TARGET))
