"""Fields of today's Transformers: what they change in a network, and that exported folders keep them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from nasformer.models.build import build
from nasformer.models.pretrained import NasformerForCausalLM, NasformerForSeq2SeqLM, beam_search
from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.operators.normalization import LayerNorm, RMSNorm
from nasformer.operators.operator import scale_output
from nasformer.spaces.modern import modern_language
from nasformer.spaces.named import language_model, transformer
from nasformer.spaces.transformer import Attention, CrossAttention, FeedForward

NONE = Dropout(residual=0.0, attention=0.0, weight=0.0)
SETTINGS = ModelSettings(source_vocabulary=30, target_vocabulary=25, dropout=NONE)
NEW: dict[str, Any] = {"norm_kind": "rms", "tables": "tied_output", "depth_scaled": True}


def _renewed(layer: Any) -> Any:
    attention = Attention(heads=4, key_value_heads=2, query_key_norm=True, convolution=3)
    fields = {"mixer": attention, "feed_forward": FeedForward(ratio=2, activation="swish", gated=True)}
    if getattr(layer, "cross", None):
        fields["cross"] = CrossAttention(heads=4, span=3, query_key_norm=True)
    return layer.but(**fields)


def _new(architecture: Any) -> Any:
    """The architecture with every field of today; its spans reach beyond its encoder."""
    stacks = {name: getattr(architecture, name) for name in ("encoder", "decoder") if hasattr(architecture, name)}
    stacks = {name: stack.but(layers=tuple(map(_renewed, stack.layers))) for name, stack in stacks.items()}
    return architecture.but(**stacks, **NEW)


def _tokens(time: int, vocabulary: int, seed: int) -> Tensor:
    """Tokens (3, time), the first row's last two padded."""
    found = torch.randint(1, vocabulary, (3, time), generator=torch.Generator().manual_seed(seed))
    found[0, -2:] = 0
    return found


SOURCE, TARGET = _tokens(7, 30, 1), _tokens(6, 25, 2)


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("final", [None, True, False])
def test_a_stack_ends_with_a_norm_where_it_is_asked_for(norm: Any, final: bool | None) -> None:
    architecture = transformer(16, 2, 1, norm=norm).but(final_norm=final)
    names = {name for name, _ in build(architecture, SETTINGS, seed=1).named_parameters()}
    normed = norm == "pre" if final is None else final
    assert ("encoder.norm.weight" in names) is ("decoder.norm.weight" in names) is normed


def test_every_norm_is_of_the_kind_asked_for() -> None:
    for kind, norm in (("layer", LayerNorm), ("rms", RMSNorm)):
        model = build(transformer(16, 2, 1, norm="pre").but(norm_kind=kind), SETTINGS, seed=1)
        norms = [part for name, part in model.named_modules() if name.endswith("norm")]
        assert len(norms) == 2 * 2 + 3 + 2
        assert all(type(part) is norm for part in norms)
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    norm = RMSNorm(8)
    norm.weight.data = torch.arange(8.0)
    assert torch.allclose(norm(x), x / x.square().mean(-1, keepdim=True).sqrt() * norm.weight, atol=1e-4)


def test_a_tied_output_reads_the_targets_embedding() -> None:
    for architecture in (transformer(16, 1, 1, tables="tied_output"), language_model(16, 1).but(tables="tied_output")):
        model: Any = build(architecture, SETTINGS, seed=1)
        assert "output.weight" not in dict(model.named_parameters())
        hidden = torch.randn(2, 16)
        assert torch.equal(model.output(hidden), hidden @ model.embedding.weight.T)
        if architecture.family == "encoder_decoder":
            assert model.source_embedding.weight.shape == (30, 16)


def test_weights_that_end_a_branch_start_smaller_in_a_deep_stack() -> None:
    plain = transformer(16, 3, 2, norm="pre")
    found = [
        dict(build(plain.but(depth_scaled=scaled), SETTINGS, seed=1).named_parameters()) for scaled in (False, True)
    ]
    factors = {"encoder": 6**-0.5, "decoder": 6**-0.5}  # 3 layers of 2 branches, 2 layers of 3
    for name, weight in found[0].items():
        factor = factors[name.split(".")[0]] if name.endswith("operator.output.weight") else 1.0
        assert torch.allclose(found[1][name], factor * weight, rtol=1e-5, atol=1e-7), name
    assert sum(name.endswith("operator.output.weight") for name in found[0]) == 12


def test_every_operator_of_the_modern_space_has_maps_to_scale() -> None:
    space = modern_language(dims=(16,), layers=(1,))
    for number in range(6):
        member = space.decode({choice.name: 0 for choice in space.choices} | {"decoder.layers.0.mixer": number})
        model: Any = build(member, SETTINGS, seed=1)
        operator = model.decoder.layers[0]["mixer"].operator
        before = [part.gain for part in operator.modules() if hasattr(part, "gain")]
        scale_output(operator, 0.5)
        assert [part.gain for part in operator.modules() if hasattr(part, "gain")] != before


def test_an_exported_encoder_decoder_keeps_them(tmp_path: Path) -> None:
    network: Any = build(_new(transformer(16, 2, 1)), SETTINGS, seed=1).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    assert network.decoder.layers[0]["cross"].operator.span == 2
    NasformerForSeq2SeqLM.of(network).save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == {f"network.{name}" for name, _ in network.named_parameters()}
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    assert model.network.architecture == network.architecture
    assert torch.equal(model(SOURCE, (SOURCE != 0).long(), TARGET).logits, network(SOURCE, TARGET))
    rows = beam_search(network, SOURCE, beams=2, longest=9)
    assert rows == beam_search(model.network, SOURCE, beams=2, longest=9)
    assert any(rows)


def test_an_exported_language_model_keeps_them(tmp_path: Path) -> None:
    network: Any = build(_new(language_model(16, 2)), SETTINGS, seed=1).eval()
    NasformerForCausalLM.of(network).save_pretrained(tmp_path)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(model(TARGET, (TARGET != 0).long()).logits, network(TARGET))
    start = TARGET[1:, :3]
    ways = [model.generate(input_ids=start, attention_mask=torch.ones_like(start), max_new_tokens=8, use_cache=cached)
            for cached in (True, False)]  # fmt: skip
    assert torch.equal(*ways)
