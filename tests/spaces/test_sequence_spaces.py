"""T0 to T5: their sizes, what an edge can do there, and what a sequence cell refuses in words."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from nasformer.errors import RequestError
from nasformer.spaces.cell import Cell, Edge, Node, searched_edges, topologies
from nasformer.spaces.families import read_architecture
from nasformer.spaces.named import NamedSpace
from nasformer.spaces.sequence_cell import CellDecoderOnly, CellEncoder, CellEncoderDecoder
from nasformer.spaces.sequence_spaces import PAIRS, t0
from nasformer.spaces.transformer import Attention, CrossAttention, Decoder, DecoderLayer, FeedForward

EXPECTED = {
    "t0": (10, 18_000_000_000),
    "t1": (2, 46_080),
    "t2": (2, 46_080),
    "t3": (3, 1_180_980),
    "t4": (2, 46_080),
}


@pytest.mark.parametrize("encoder", [False, True])
@pytest.mark.parametrize("name", EXPECTED)
def test_sizes_are_topologies_times_operators(name: str, encoder: bool) -> None:
    operators, size = EXPECTED[name]
    space = NamedSpace(name=name, settings={"encoder": encoder}).open()
    assert space.size == 180 * operators**8 == size
    edges = searched_edges(space)
    assert len(edges) == 14
    assert {len(edge.operators) for edge in edges} == {operators}
    assert [len(choice.options) for choice in topologies(space)] == [2, 3, 4, 5]
    assert [choice.count for choice in topologies(space)] == [2] * 4
    assert not any("." in label for choice in space.choices if choice.operators for label in choice.options)


@pytest.mark.parametrize("encoder", [False, True])
def test_t5_has_one_edge_a_node(encoder: bool) -> None:
    space = NamedSpace(name="t5", settings={"encoder": encoder}).open()
    assert [(len(choice.options), choice.count) for choice in topologies(space)] == [(n, 1) for n in (3, 4, 5)]
    assert space.size == 3 * 4 * 5 * 7**4
    member = space.sample(Random(2))
    assert all(len(node.edges) == 1 for node in getattr(member, "encoder", member).cell.nodes)


def test_settings_reach_the_architecture() -> None:
    settings = {"dim": 32, "blocks": 3, "nodes": 2, "output": "mean", "residual": True}
    member = NamedSpace(name="t0", settings=settings).open().sample(Random(1))
    assert (member.dim, member.blocks, len(member.cell.nodes), member.output, member.residual) == (
        32,
        3,
        2,
        "mean",
        True,
    )
    both = NamedSpace(name="t2", settings=settings | {"encoder": True, "decoder_layers": 1}).open().sample(Random(1))
    assert (both.encoder.dim, both.decoder.dim, len(both.decoder.layers)) == (32, 32, 1)
    for name, options in (("t0", {"heads": 3}), ("t1", {"nodes": 3})):
        with pytest.raises(RequestError, match="has no setting"):
            NamedSpace(name=name, settings=options).open()


def test_the_pairs_of_t1_are_s1_with_other_operators() -> None:
    table = "k d3|k d5 k d5|k s|k d3 m k|k s|k s|k d3 k s|m k|k d3|d3 d5|d3 d5".replace("|", " ").split()
    kinds = {"k": "skip", "m": "average_pool", "s": "attention", "d3": "feed_forward", "d5": "depthwise_convolution"}
    assert [operator.kind for pair in PAIRS for operator in pair] == [kinds[letter] for letter in table]


@pytest.mark.parametrize("encoder", [False, True])
def test_members_survive_json(encoder: bool) -> None:
    space = t0(encoder=encoder)
    member = space.sample(Random(4))
    assert read_architecture(json.loads(member.json_text())) == member
    assert read_architecture(json.loads(json.dumps(space.data()))) == space.template


def _cell(operator: dict[str, Any], inputs: int = 2) -> Cell:
    return Cell(inputs=inputs, nodes=(Node(edges=(Edge(source=0, operator=operator),)),))


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        ({"kind": "max_pool"}, r"cell\.nodes\.0\.from_0: max_pool works on images; expected one of zero, skip"),
        ({"kind": "separable_convolution", "kernel": 3}, r"separable_convolution works on images"),
        ({"one_of": [{"kind": "skip"}, {"kind": "dilated_convolution", "kernel": 3}]}, r"dilated_convolution works on"),
        ({"kind": "attention", "heads": 3}, r"nodes\.0\.from_0.*does not fit dim 16; heads must divide"),
        ({"kind": "local_attention", "heads": 3, "window": 9}, r"does not fit dim 16"),
        ({"kind": "local_attention", "heads": 4, "window": 8}, r"windows are odd"),
        ({"kind": "depthwise_convolution", "kernel": 4}, r"depthwise_convolution_4.*kernels and windows are odd"),
        ({"one_of": [{"kind": "skip"}, {"kind": "average_pool", "kernel": 2}]}, r"average_pool_2.*are odd"),
    ],
)
def test_an_operator_that_cannot_stand_there_is_refused(operator: dict[str, Any], said: str) -> None:
    decoder = Decoder(
        dim=8,
        layers=(
            DecoderLayer(mixer=Attention(heads=2), cross=CrossAttention(heads=2), feed_forward=FeedForward(ratio=1)),
        ),
    )
    with pytest.raises(RequestError, match=said):
        CellDecoderOnly(dim=16, blocks=1, cell=_cell(operator))
    with pytest.raises(RequestError, match=said):
        CellEncoderDecoder(encoder=CellEncoder(dim=16, blocks=1, cell=_cell(operator)), decoder=decoder)


def test_other_wrong_requests_are_refused_in_words() -> None:
    skip = _cell({"kind": "skip"})
    with pytest.raises(RequestError, match="dim is 15; positions need an even number"):
        CellDecoderOnly(dim=15, blocks=1, cell=skip)
    with pytest.raises(RequestError, match=r"cell\.inputs is 1; .*expected 2"):
        CellDecoderOnly(dim=16, blocks=1, cell=_cell({"kind": "skip"}, inputs=1))
    with pytest.raises(RequestError, match="'linear', 'mean' or 'unread'"):
        CellDecoderOnly(dim=16, blocks=1, cell=skip, output="sum")
    with pytest.raises(RequestError, match="blocks"):
        CellDecoderOnly(dim=16, blocks=0, cell=skip)

    def both(dim: int = 8, **cross: Any) -> None:
        layer = DecoderLayer(
            mixer=Attention(heads=2),
            cross=CrossAttention(heads=2, **cross) if cross else None,
            feed_forward=FeedForward(ratio=1),
        )
        decoder = Decoder(dim=dim, layers=(layer,))
        CellEncoderDecoder(encoder=CellEncoder(dim=16, blocks=1, cell=skip), decoder=decoder)

    with pytest.raises(RequestError, match=r"decoder\.layers\.0\.cross is missing"):
        both()
    with pytest.raises(RequestError, match=r"cross\.span is 2; .*expected 1"):
        both(span=2)
    with pytest.raises(RequestError, match=r"decoder\.dim is 7"):
        both(dim=7, span=1)
