"""Spaces under their law: hand-made ones, and those of the papers."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from space_law import SpaceLaw, check_conditions

from nasformer.errors import RequestError
from nasformer.spaces.families import read_architecture
from nasformer.spaces.modern import modern, modern_language
from nasformer.spaces.named import ARCHITECTURES, SPACES, dartsformer, hat, shrinknas, shrinknas_small
from nasformer.spaces.open import first_of, one_of, some_of
from nasformer.spaces.space import Members, Space
from nasformer.spaces.transformer import (
    Attention,
    Decoder,
    DecoderLayer,
    DecoderOnly,
    EncoderDecoder,
    FeedForward,
)
from nasformer.spaces.value import Value


class Tree(Value):
    """A hand-made architecture in which anything may be left open."""

    kind: str = "tree"
    size: int = 0
    child: Tree | None = None
    parts: tuple[Tree, ...] = ()


def leaf(kind: str, *sizes: int) -> Tree:
    """A tree without branches, of one of these sizes."""
    return Tree(kind=kind, size=one_of(*sizes) if len(sizes) > 1 else sizes[0])


class TestSizes(SpaceLaw):
    """Two plain numbers."""

    @pytest.fixture
    def space(self) -> Space:
        return Space(Tree(size=one_of(1, 2, 3), child=leaf("a", 4, 5)))


class TestNested(SpaceLaw):
    """Options with choices of their own, two levels deep."""

    @pytest.fixture
    def space(self) -> Space:
        inner = Tree(kind="b", size=2, child=one_of(leaf("c", 1, 2, 3), leaf("d", 1)))
        return Space(Tree(child=one_of(leaf("a", 1, 2), inner, leaf("e", 7)), size=one_of(0, 1)))


class TestDepths(SpaceLaw):
    """A stack of variable depth whose layers have choices."""

    @pytest.fixture
    def space(self) -> Space:
        layers = (leaf("a", 1, 2), Tree(kind="b", child=one_of(leaf("c", 1, 2), leaf("d", 1))), leaf("e", 1, 2))
        return Space(Tree(parts=first_of((1, 3), layers)))


class TestSubsets(SpaceLaw):
    """Two of four inputs, plain and with choices of their own."""

    @pytest.fixture(params=["plain", "open", "one"])
    def space(self, request: pytest.FixtureRequest) -> Space:
        plain = (leaf("a", 1), leaf("b", 1), leaf("c", 1), leaf("d", 1))
        opened = (leaf("a", 1, 2), leaf("b", 1, 2, 3), leaf("c", 1))
        parts = {"plain": some_of(2, plain), "open": some_of(2, opened), "one": some_of(1, opened)}
        return Space(Tree(parts=parts[request.param], size=one_of(1, 2)))


class TestTuples(SpaceLaw):
    """Open marks as parts of a tuple, beside closed parts."""

    @pytest.fixture
    def space(self) -> Space:
        return Space(Tree(parts=(one_of(leaf("a", 1), leaf("b", 1, 2)), leaf("c", 3), leaf("d", 4, 5))))


class TestSingle(SpaceLaw):
    """A choice with one option."""

    @pytest.fixture
    def space(self) -> Space:
        return Space(Tree(size=one_of(3)))


class TestNamed(SpaceLaw):
    """The spaces of the papers."""

    @pytest.fixture(
        params=["shrinknas", "shrinknas-small", "hat", "sizes-only-small", "dartsformer", "dartsformer-small",
                "darts-transformer-small", "modern", "modern-language",
                "t0", "t1", "s1", "s3", "nasbench201-two-inputs", "nasbench-macro"]
    )  # fmt: skip
    def space(self, request: pytest.FixtureRequest) -> Space:
        return SPACES[request.param]()


@pytest.mark.parametrize(
    ("space", "size", "encoded"),
    [
        (shrinknas(), 118813316747160709419660000000, 711559752519106944000000000000),
        (hat(), 4 * 6**6 * sum(36**depth for depth in range(1, 7)), 2437438960041984),
        (shrinknas_small(), 9 * 90**3 * (540 + 540**2 + 540**3), 9 * 3 * 90**3 * 540**3),
        (dartsformer(), 1_097_199_376, 13**4 * 14**4),
        (dartsformer(searched=1), 33_124, 33_124),
    ],
    ids=["shrinknas", "hat", "shrinknas-small", "dartsformer", "dartsformer-1"],
)
def test_exact_sizes(space: Space, size: int, encoded: int) -> None:
    assert space.size == size
    assert space.encoded_size == encoded


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_known_architectures_survive_json(name: str) -> None:
    architecture = ARCHITECTURES[name]()
    assert read_architecture(json.loads(architecture.json_text())) == architecture


def marks(depth: int) -> st.SearchStrategy[Tree]:
    """Trees with anything left open, `depth` levels deep."""
    sizes = st.integers(0, 3) | st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True).map(
        lambda options: one_of(*options)
    )
    if depth == 0:
        return st.builds(Tree, size=sizes)

    def named(trees: list[Tree]) -> list[Tree]:
        return [tree.but(kind="abc"[index]) for index, tree in enumerate(trees)]

    inner = st.lists(marks(depth - 1), min_size=1, max_size=3).map(named)
    children = inner.map(lambda trees: one_of(*trees)) | st.none()
    parts = inner.flatmap(
        lambda trees: st.one_of(
            st.just(tuple(trees)),
            st.integers(1, len(trees)).map(lambda count: some_of(count, trees)),
            st.sets(st.integers(1, len(trees)), min_size=1).map(lambda counts: first_of(sorted(counts), trees)),
        )
    )
    return st.builds(Tree, size=sizes, child=children, parts=parts)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(template=marks(2), seed=st.integers(0, 2**32))
def test_any_open_tree_is_a_lawful_space(template: Tree, seed: int) -> None:
    space = Space(template)
    assume(space.size <= 800)
    members = list(space.members())
    assert len(members) == len(set(members)) == space.size
    choices = {choice.name: choice for choice in space.choices}
    for member in members[:40]:
        code = space.encode(member)
        assert space.decode(code) == member
        check_conditions(choices, code)
    random = Random(seed)
    sample = space.sample(random)
    assert sample in members
    if space.size > 1:
        mutant = space.mutate(sample, random)
        assert mutant in members
        assert mutant != sample
        assert space.cross(sample, mutant, random) in members
    assert Tree.read(json.loads(template.json_text())) == template


def test_a_mutation_changes_each_choice_at_its_rate() -> None:
    space = Space(Tree(parts=tuple(leaf("abcdefghij"[i], 1, 2, 3) for i in range(10))))
    random = Random(5)
    member, drawn = space.sample(random), 400
    changed = [0, 0, 0]
    for _ in range(drawn):
        mutant = space.mutate(member, random, 0.4)
        for old, new in zip(space.encode(member).values(), space.encode(mutant).values(), strict=True):
            changed[(new - old) % 3] += 1
    expected = drawn * 10 * 0.4 / (1 - 0.6**10)
    assert abs(changed[1] + changed[2] - expected) < 5 * (drawn * 10 * 0.24) ** 0.5
    assert abs(changed[1] - changed[2]) < 5 * expected**0.5


def test_two_that_differ_only_out_of_use_are_equal() -> None:
    space = Space(Tree(child=one_of(leaf("a", 1, 2), leaf("b", 1, 2))))
    code = {"child": 0, "child.a.size": 1}
    assert space.decode(code | {"child.b.size": 0}) == space.decode(code | {"child.b.size": 1})


def test_members_draw_uniformly_and_leave_for_the_space() -> None:
    space = Space(Tree(size=one_of(*range(50))))
    chosen = [space.decode({"size": index}) for index in (3, 4, 9, 3)]
    members = Members(space, chosen)
    random = Random(0)
    drawn = [members.sample(random).size for _ in range(900)]
    assert members.size == 3
    assert all(abs(drawn.count(size) - 300) < 75 for size in (3, 4, 9))
    assert chosen[0] in members
    assert space.decode({"size": 5}) not in members
    assert {members.mutate(chosen[0], random).size for _ in range(50)} - {3, 4, 9}
    assert members.shares()["size"]["9"] == pytest.approx(1 / 3)
    with pytest.raises(RequestError, match="at least one member"):
        Members(space, [])


def _layer(**mixer: Any) -> dict[str, Any]:
    return {"mixer": mixer or {"kind": "attention", "heads": 2}, "feed_forward": {"ratio": 2}}


def _architecture(encoder_layer: dict[str, Any], **changes: Any) -> dict[str, Any]:
    decoder = {"dim": 8, "layers": [_layer() | {"cross": {"heads": 2}}]}
    return {"encoder": {"dim": 8, "layers": [encoder_layer]}, "decoder": decoder} | changes


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (_architecture(_layer(), encodr={}), r"unknown field 'encodr'; did you mean 'encoder'\?"),
        (_architecture(_layer(), norm="past"), r"norm.*'post' or 'pre'.*past"),
        (_architecture(_layer(kind="atention", heads=2)), r"unknown kind 'atention'; did you mean 'attention'\?"),
        (_architecture(_layer(kind="attention", head=2)), r"did you mean 'heads'\?"),
        (_architecture(_layer(kind="attention", heads=0)), r"greater than or equal to 1"),
        (_architecture(_layer(kind="attention")), r"missing"),
        (_architecture(_layer(kind="attention", heads=3)), r"encoder\.layers\.0.*does not fit dim 8"),
        (_architecture(_layer(kind="light_convolution", heads=2, kernel=4)), r"kernels are odd"),
        (_architecture(_layer(kind="attention", heads=4, key_value_heads=3)), r"key-value heads the heads"),
        (_architecture(_layer(kind="attention", heads=4, convolution=4)), r"kernels are odd"),
        (_architecture(_layer() | {"feed_forward": {"ratio": 1, "width": 8}}), r"either ratio or width"),
        (_architecture(_layer(), encoder={"dim": 8, "layers": []}), r"encoder\.layers is empty"),
        (_architecture(_layer(), encoder={"dim": 7, "layers": [_layer()]}), r"even number"),
        (_architecture(_layer(), decoder={"dim": 8, "layers": [_layer()]}), r"cross is missing"),
        (_architecture(_layer(), tables="tied"), r"tables.*'separate' or 'tied_output'.*tied"),
        (_architecture(_layer(), norm_kind="batch"), r"norm_kind.*'layer' or 'rms'.*batch"),
        (_architecture(_layer(kind="attention", heads={"one_of": [2, 0]})), r"greater than or equal to 1"),
        (_architecture(_layer(kind="attention", heads={"one_of": [2, "two"]})), r"valid integer"),
        (_architecture(_layer(kind="attention", heads={"one_off": [2, 4]})), r"valid integer"),
    ],
)
def test_a_bad_architecture_is_refused_in_words(data: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        EncoderDecoder.read(data)


def test_an_architecture_from_before_a_field_was_there_is_what_it_was() -> None:
    architecture = EncoderDecoder.read(_architecture(_layer()))
    new = {"norm_kind": "layer", "final_norm": None, "tables": "separate", "depth_scaled": False}
    data = architecture.data()
    assert {name: data.pop(name) for name in new} == new
    assert EncoderDecoder.read(data) == architecture


def test_a_field_with_a_default_may_be_left_open() -> None:
    feed_forward = FeedForward(ratio=2, gated=one_of(False, True), activation=one_of("relu", "swish"))
    layer = DecoderLayer(mixer=Attention(heads=2), feed_forward=one_of(feed_forward, FeedForward(width=3)))
    space = Space(
        DecoderOnly(
            norm=one_of("post", "pre"),
            norm_kind=one_of("layer", "rms"),
            final_norm=one_of(None, True, False),
            tables=one_of("separate", "tied_output"),
            decoder=Decoder(dim=8, layers=(layer,)),
        )
    )
    members = list(space.members())
    assert len(set(members)) == space.size == 2 * 2 * 3 * 2 * 5
    assert all(space.decode(space.encode(member)) == member for member in members)


def test_options_of_one_kind_may_have_open_fields_that_tell_them_apart() -> None:
    open_attention = Attention(heads=2, convolution=one_of(None, 3))
    convolved = Attention(heads=one_of(1, 2), convolution=one_of(3, 5))
    for options, size in (((open_attention, Attention(heads=1)), 3), ((convolved, Attention(heads=one_of(1, 2))), 6)):
        layer = DecoderLayer(mixer=one_of(*options), feed_forward=FeedForward(ratio=1))
        space = Space(DecoderOnly(decoder=Decoder(dim=8, layers=(layer,))))
        members = list(space.members())
        assert len(set(members)) == space.size == size
        assert all(space.decode(space.encode(member)) == member for member in members)


@pytest.mark.parametrize("build", [modern, modern_language])
def test_a_modern_space_takes_its_settings(build: Any) -> None:
    open_tables = build(tables=("separate", "tied_output"), activations=("gelu", "gated_gelu"), norm_kinds=("rms",))
    members = [open_tables.sample(Random(seed)) for seed in range(40)]
    assert {member.tables for member in members} == {"separate", "tied_output"}
    assert {member.norm_kind for member in members} == {"rms"}
    layers = [layer for member in members for layer in member.decoder.layers]
    forms = {(layer.feed_forward.activation, layer.feed_forward.gated) for layer in layers}
    assert forms == {("gelu", False), ("gelu", True)}
    attentions = [layer.mixer for layer in layers if layer.mixer.kind == "attention"]
    assert {attention.convolution for attention in attentions} == {None, 3}
    fields = ("key_value_heads", "query_key_norm")
    grouped = build(key_value_heads=(None, 1, 2), query_key_norm=(False, True), operators=("attention",))
    options = {choice.name.rpartition(".")[2]: choice.options for choice in grouped.choices if "mixer" in choice.name}
    assert [options[field] for field in fields] == [("None", "1", "2"), ("False", "True")]
    with pytest.raises(RequestError, match="unknown activation 'gated_rely'; did you mean 'gated_relu'"):
        build(activations=("gated_rely",))
    with pytest.raises(RequestError, match=r"key_value_heads=4 does not divide each of heads=\(2, 4\)"):
        build(key_value_heads=(None, 4))


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ({"one_of": []}, "one_of expects one or more different options"),
        ({"one_of": [2, 2]}, "one_of expects one or more different options"),
        ({"first_of": {"counts": [4], "items": [{}]}}, "first_of expects different counts between 1 and 1"),
        ({"first_of": {"counts": ["x"], "items": [{}]}}, "first_of expects different counts"),
        (
            {"some_of": {"count": 3, "options": [{}, {"size": 1}]}},
            "expected a count from 1 to its 2 options, got 3",
        ),
        ({"some_of": {"count": "1", "options": [{}]}}, "expected a count from 1 to its 1 options, got '1'"),
        ({"some_of": {"count": 1, "options": [{"size": 1}, {"size": 1}]}}, "different options"),
    ],
)
def test_a_bad_mark_is_refused_in_words(mark: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        Tree.read({"size" if "one_of" in mark else "parts": mark})


def test_marks_are_checked_at_birth() -> None:
    for wrong in (
        lambda: one_of(),
        lambda: one_of(1, 1),
        lambda: some_of(0, (1, 2)),
        lambda: some_of(3, (1, 2)),
        lambda: first_of((), (1,)),
        lambda: first_of((0,), (1,)),
        lambda: first_of((1, 1), (1,)),
        lambda: Space(Tree(child=one_of(leaf("a", one_of(1, 2)), leaf("a", one_of(3, 4))))),
    ):
        with pytest.raises(RequestError, match="expect"):
            wrong()


@pytest.mark.parametrize("answer", [5, -1])
def test_an_answer_out_of_range_is_refused(answer: int) -> None:
    with pytest.raises(RequestError, match="size"):
        Space(Tree(size=one_of(1, 2))).decode({"size": answer})


def test_shrinking_to_nothing_is_refused() -> None:
    with pytest.raises(RequestError, match="one_of expects"):
        Space(Tree(size=one_of(1, 2))).shrink({"size": []})
