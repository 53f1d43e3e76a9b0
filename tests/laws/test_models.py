"""Plain models under their law: members build and learn; decoders are causal, decode step by step, ignore padding."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.models.build import build
from nasformer.models.network import SequenceToSequence
from nasformer.models.transformer import PAD, ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.operators.operator import reorder
from nasformer.spaces.cell import Cell, Edge, Node
from nasformer.spaces.modern import modern, modern_language
from nasformer.spaces.named import dartsformer, node_operators, shrinknas
from nasformer.spaces.reversible import ReversibleDecoderOnly, ReversibleLayer, ReversibleStack
from nasformer.spaces.sequence_cell import CellDecoderOnly
from nasformer.spaces.sequence_spaces import OPERATORS, t0, t1
from nasformer.spaces.space import Answer, Choice, Space
from nasformer.spaces.transformer import (
    Attention,
    Decoder,
    DecoderLayer,
    DecoderOnly,
    DynamicConvolution,
    FeedForward,
    LightConvolution,
    LongShort,
)

NONE = Dropout(residual=0.0, attention=0.0, weight=0.0)
SETTINGS = ModelSettings(source_vocabulary=30, target_vocabulary=25, dropout=NONE)
SPACE = shrinknas(dims=(16, 24, 32), encoder_layers=3, decoder_layers=(1, 2, 3), kernels=(3, 5, 7))


REVERSIBLE = {
    splits: dartsformer(dim=24, embedding_dim=8, splits=splits, searched=1, depth=2, heads=2) for splits in (2, 3)
}


MODERN: dict[str, Any] = {"kernels": (3, 5), "key_value_heads": (None, 1), "query_key_norm": (False, True)}


def _members(space: Space) -> list[Any]:
    random = Random(2)

    def end(choice: Choice, last: bool) -> Answer:
        first = len(choice.options) - choice.count if last else 0
        return first if choice.count == 1 else tuple(range(first, first + choice.count))

    ends = [space.close(lambda choice, last=last: end(choice, last)) for last in (False, True)]
    return ends + [space.sample(random) for _ in range(5)]


MEMBERS = [
    *_members(Space(SPACE.template.but(norm="post"))),
    *_members(Space(SPACE.template.but(norm="pre"))),
    *_members(modern(dims=(16, 24), tables=("separate", "tied_output"), depth_scaled=True, **MODERN)),
    *_members(REVERSIBLE[2]),
    *_members(Space(REVERSIBLE[3].template.but(pooling="mean", final_norm=False))),
    *_members(t0(dim=16, encoder=True)),
    *_members(t1(dim=16, encoder=True, output="mean", residual=True)),
]


def tokens(rows: int, time: int, vocabulary: int, seed: int = 0) -> Tensor:
    """Random real tokens (rows, time)."""
    return torch.randint(1, vocabulary, (rows, time), generator=torch.Generator().manual_seed(seed))


def randomised(model: nn.Module) -> Any:
    """The model in float64 for evaluation, with every parameter random."""
    model = model.double().eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def close(first: Tensor, second: Tensor) -> bool:
    """Equal but for rounding in float64."""
    return torch.allclose(first, second, rtol=0, atol=1e-9)


@pytest.mark.parametrize("architecture", MEMBERS, ids=range(len(MEMBERS)))
def test_a_member_builds_and_one_step_lowers_its_loss(architecture: Any) -> None:
    model = build(architecture, SETTINGS, seed=1).train()
    source, target = tokens(4, 9, 30), tokens(4, 8, 25, seed=1)

    def loss() -> Tensor:
        return F.cross_entropy(model(source, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten())

    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = loss()
    before.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    adam.step()
    assert float(loss().detach()) < float(before.detach())


def test_weights_follow_from_the_seed_and_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    drawn = [
        torch.cat([p.detach().flatten() for p in build(MEMBERS[3], SETTINGS, seed=s).parameters()]) for s in (1, 1, 2)
    ]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("architecture", MEMBERS, ids=range(len(MEMBERS)))
def test_an_encoder_decoder_is_causal_and_ignores_padding(architecture: Any) -> None:
    model: Any = randomised(build(architecture, SETTINGS, seed=1))
    source, target = tokens(2, 7, 30), tokens(2, 6, 25, seed=1)
    plain = model(source, target)
    changed = target.clone()
    changed[:, 4] = target[:, 4] % 24 + 1
    assert close(model(source, changed)[:, :4], plain[:, :4])
    assert not close(model(source, changed)[:, 4], plain[:, 4])
    for left, right in ((0, 3), (2, 0), (1, 2)):
        padded = model(F.pad(source, (left, right), value=PAD), target)
        assert close(padded, plain)
        padded = model(source, F.pad(target, (left, right), value=PAD))
        assert close(padded[:, left : left + 6], plain)


@pytest.mark.parametrize("architecture", MEMBERS[::3], ids=range(len(MEMBERS[::3])))
def test_an_encoder_decoder_decodes_step_by_step(architecture: Any) -> None:
    model: SequenceToSequence = randomised(build(architecture, SETTINGS, seed=1))
    source, target = F.pad(tokens(2, 7, 30), (1, 2), value=PAD), tokens(2, 8, 25, seed=1)
    target[0, :2] = PAD
    memory = model.encode(source)
    whole = model.decode(target, memory)
    cache: dict[str, Any] = {}
    steps = [model.decode(target[:, t : t + 1], memory, cache) for t in range(8)]
    real = target != PAD
    assert close(torch.cat(steps, dim=1)[real], whole[real])


def _reversible_language_model() -> ReversibleDecoderOnly:
    operators = node_operators(heads=2, cross=False)
    layers = tuple(ReversibleLayer(nodes=operators[i : i + 3]) for i in (0, 3, 6, 9))
    layers += (ReversibleLayer(nodes=(operators[-1], *operators[1:3])),)
    return ReversibleDecoderOnly(embedding_dim=8, decoder=ReversibleStack(dim=24, layers=layers, repeats=2))


def _cell_language_model() -> CellDecoderOnly:
    """Every operator of T0 in one cell."""
    operators = iter((*OPERATORS, *OPERATORS[1:5]))
    nodes = [Node(edges=tuple(Edge(source=s, operator=next(operators)) for s in range(2 + n))) for n in range(4)]
    return CellDecoderOnly(dim=16, blocks=2, cell=Cell(nodes=tuple(nodes)))


def _language_model(norm: Any) -> Any:
    if norm == "reversible":
        return randomised(build(_reversible_language_model(), SETTINGS, seed=1))
    if norm == "cell":
        return randomised(build(_cell_language_model(), SETTINGS, seed=1))
    if norm == "modern":
        largest = modern_language(dims=(16,), **MODERN).close(lambda choice: len(choice.options) - 1)
        return randomised(build(largest, SETTINGS, seed=1))
    mixers = [
        Attention(heads=2),
        LightConvolution(heads=2, kernel=5),
        DynamicConvolution(heads=2, kernel=5, gated=True),
        LongShort(filter="light", heads=2, kernel=3),
        LongShort(filter="dynamic", heads=2, kernel=7),
    ]
    layers = tuple(DecoderLayer(mixer=mixer, feed_forward=FeedForward(ratio=2)) for mixer in mixers)
    architecture = DecoderOnly(norm=norm, decoder=Decoder(dim=16, layers=layers))
    return randomised(build(architecture, SETTINGS, seed=1))


@pytest.mark.parametrize("norm", ["pre", "post", "modern", "reversible", "cell"])
def test_a_language_model_is_causal(norm: str) -> None:
    model, text = _language_model(norm), tokens(2, 9, 25)
    plain = model(text)
    changed = text.clone()
    changed[:, 5] = text[:, 5] % 24 + 1
    assert plain.shape == (2, 9, 25)
    assert close(model(changed)[:, :5], plain[:, :5])
    assert not close(model(changed)[:, 5], plain[:, 5])


@pytest.mark.parametrize("norm", ["pre", "post", "modern", "reversible", "cell"])
def test_a_language_model_decodes_step_by_step(norm: str) -> None:
    model, text = _language_model(norm), tokens(3, 9, 25)
    text[0, :4] = PAD
    whole, real = model.decode(text), text != PAD
    for sizes in ([1] * 9, [4, 1, 1, 3]):
        cache: dict[str, Any] = {}
        parts = [model.decode(part, cache) for part in text.split(sizes, dim=1)]
        assert close(torch.cat(parts, dim=1)[real], whole[real])


@pytest.mark.parametrize("norm", ["pre", "modern", "reversible", "cell"])
def test_beams_of_a_language_model_change_places(norm: str) -> None:
    model, text = _language_model(norm), tokens(3, 7, 25)
    cache: dict[str, Any] = {}
    model.decode(text[:, :4], cache)
    rows = torch.tensor([2, 0, 0])
    reorder(cache, rows)
    moved = torch.cat([text[rows, :4], text[:, 4:]], dim=1)
    assert close(model.decode(text[:, 4:], cache), model.decode(moved)[:, 4:])


@pytest.mark.parametrize("norm", ["pre", "post", "modern", "reversible", "cell"])
def test_padding_changes_nothing_in_a_language_model(norm: str) -> None:
    model, text = _language_model(norm), tokens(2, 6, 25)
    plain = model(text)
    for left, right in ((3, 0), (0, 3), (2, 2)):
        assert close(model(F.pad(text, (left, right), value=PAD))[:, left : left + 6], plain)


LANGUAGE_MEMBERS = [*_members(t0(dim=16)), *_members(modern_language(dims=(16, 24), **MODERN))]


@pytest.mark.parametrize("architecture", LANGUAGE_MEMBERS, ids=range(len(LANGUAGE_MEMBERS)))
def test_one_step_lowers_the_loss_of_a_language_model(architecture: Any) -> None:
    _lower(build(architecture, SETTINGS, seed=1).train())


def test_one_step_lowers_the_loss_of_a_reversible_language_model() -> None:
    model: Any = build(_reversible_language_model(), SETTINGS, seed=1).train()
    model.backward = "rebuilt"
    _lower(model)


def _lower(model: Any) -> None:
    text = tokens(4, 9, 25)

    def loss() -> Tensor:
        return F.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())

    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = loss()
    before.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    adam.step()
    assert float(loss().detach()) < float(before.detach())
