"""Reversible spaces: their members, and what is refused in words."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from nasformer.errors import RequestError
from nasformer.spaces.families import read_architecture
from nasformer.spaces.named import dartsformer, dartsformer_small, node_operators
from nasformer.spaces.reversible import Reversible, ReversibleDecoderOnly


def test_the_operators_are_the_papers() -> None:
    for cross, count in ((False, 13), (True, 14)):
        kinds = [operator.kind for operator in node_operators(heads=8, cross=cross)]
        assert len(kinds) == count
        assert kinds.count("convolution") == kinds.count("dynamic_convolution") == 4
        assert kinds.count("cross_attention") == int(cross)


@pytest.mark.parametrize(("searched", "choices"), [(1, 4), (2, 8)])
def test_a_block_of_layers_is_searched_and_repeated(searched: int, choices: int) -> None:
    space = dartsformer(searched=searched)
    assert len(space.choices) == choices
    assert [len(choice.options) for choice in space.choices] == [13] * (choices // 2) + [14] * (choices // 2)
    member = space.sample(Random(1))
    assert member.encoder.depth == member.decoder.depth == 12
    assert (member.encoder.splits, member.decoder.splits) == (2, 3)
    assert (member.encoder.width, member.decoder.width) == (480, 320)
    for layer in range(12):
        assert member.decoder.operator(layer, 2).kind == "cross_attention"
        for node in range(2):
            assert member.encoder.operator(layer, node) == member.encoder.operator(layer % searched, node)


def test_members_survive_json() -> None:
    random = Random(4)
    for space in (dartsformer(), dartsformer_small(), dartsformer_small(splits=3)):
        for _ in range(5):
            member = space.sample(random)
            assert read_architecture(json.loads(member.json_text())) == member
            assert member in space
    only = ReversibleDecoderOnly.read({"embedding_dim": 8, "decoder": _stack(["feed_forward"], ["attention"])})
    assert read_architecture(json.loads(only.json_text())) == only


OPERATORS: dict[str, dict[str, Any]] = {
    "attention": {"kind": "attention", "heads": 2},
    "cross_attention": {"kind": "cross_attention", "heads": 2},
    "wide": {"kind": "cross_attention", "heads": 2, "span": 2},
    "feed_forward": {"kind": "feed_forward", "ratio": 2},
    "five": {"kind": "attention", "heads": 5},
    "even": {"kind": "convolution", "kernel": 4},
    "zero": {"kind": "zero"},
}


def _stack(*nodes: list[str], dim: int = 8) -> dict[str, Any]:
    """A stack of one layer for each index into the lists of nodes."""
    layers = [{"nodes": [OPERATORS[name] for name in layer if name]} for layer in zip(*nodes, strict=True)]
    return {"dim": dim, "layers": layers}


GOOD = _stack(["attention"], ["zero"])


def _network(**changes: Any) -> dict[str, Any]:
    return {"embedding_dim": 8, "encoder": GOOD, "decoder": GOOD} | changes


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (_network(encoder=_stack(["zero"], ["zero"], dim=9)), r"encoder\.dim is 9, which 2 splits do not divide"),
        (_network(decoder=_stack(["zero"], ["zero"], ["zero"])), r"decoder\.dim is 8, which 3 splits do not divide"),
        (
            _network(decoder=_stack(["zero"], ["zero"], ["zero"], dim=9)),
            r"decoder\.dim is 9; positions need an even number",
        ),
        (
            _network(encoder=_stack(["zero"], ["five"])),
            r"encoder\.layers\.0\.nodes\.1: .*does not fit the split of 4 channels.*heads must divide",
        ),
        (_network(encoder=_stack(["even"], ["zero"])), r"kernels are odd"),
        (_network(encoder=_stack(["zero"])), r"encoder: expected at least one layer of at least two splits"),
        (_network(encoder={"dim": 8, "layers": []}), r"encoder: expected at least one layer"),
        (
            _network(encoder=_stack(["zero", "zero"], ["zero", ""])),
            r"encoder\.layers\.1 has 1 nodes, the first layer 2; expected one number of splits",
        ),
        (
            _network(encoder=_stack(["cross_attention"], ["zero"])),
            r"encoder\.layers\.0\.nodes\.0: cross-attention belongs into a decoder beside an encoder",
        ),
        (_network(decoder=_stack(["zero"], ["wide"])), r"decoder\.layers\.0\.nodes\.1: cross-attention .* with span 1"),
        (_network(poling="max"), r"unknown field 'poling'; did you mean 'pooling'\?"),
        (_network(pooling="min"), r"pooling.*'max' or 'mean'.*min"),
        (_network(encoder=GOOD | {"repeats": 0}), r"greater than or equal to 1"),
    ],
)
def test_a_bad_architecture_is_refused_in_words(data: dict[str, Any], said: str) -> None:
    assert Reversible.read(_network())
    with pytest.raises(RequestError, match=said):
        Reversible.read(data)


def test_a_language_model_has_nothing_to_attend_to() -> None:
    with pytest.raises(RequestError, match="cross-attention belongs into a decoder beside an encoder"):
        ReversibleDecoderOnly.read({"embedding_dim": 8, "decoder": _stack(["cross_attention"], ["zero"])})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"splits": 1}, "splits=1; a reversible layer needs at least 2"),
        ({"splits": 0}, "needs at least 2"),
        ({"searched": 13}, "searched=13 layers cannot be repeated to a depth of 12; expected a divisor"),
        ({"searched": 5}, "expected a divisor"),
        ({"searched": 0}, "expected a divisor"),
        ({"dim": 961}, r"dim=961 does not fit the encoder: its 2 splits .* expected a multiple of 48"),
        ({"dim": 16}, r"dim=16 does not fit the decoder: its 3 splits"),
        ({"splits": 6}, r"dim=960 does not fit the decoder: its 7 splits must be equal"),
        ({"heads": 7}, "each divide by 7 heads; expected a multiple of 42"),
    ],
)
def test_a_bad_space_is_refused_in_words(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        dartsformer(**settings)
