"""The law of a space: fill the fixture `space`, inherit every check."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Mapping
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from nasformer.errors import RequestError
from nasformer.spaces.open import is_open
from nasformer.spaces.space import Answer, Choice, Space
from nasformer.spaces.value import Value

ENUMERABLE = 3_000
"""Spaces up to this size are walked whole."""


def options_of(answer: Answer) -> tuple[int, ...]:
    """The options that an answer takes."""
    return (answer,) if isinstance(answer, int) else tuple(answer)


def stream(space: Space, seed: int) -> list[Any]:
    """What a generator with this seed draws from a space: samples, their mutants, and crosses with the one before."""
    random = Random(seed)
    members = [space.sample(random) for _ in range(4)]
    if space.size > 1:
        members += [space.mutate(member, random) for member in members]
    members += [space.cross(first, second, random) for first, second in pairwise(members)]
    return [member.data() for member in members]


def print_stream(folder: str, module: str, name: str) -> None:
    """In a process of its own: the stream of the space on standard input, as JSON."""
    sys.path.insert(0, folder)
    family = getattr(importlib.import_module(module), name)
    print(json.dumps(stream(Space(family.read(json.load(sys.stdin))), 7)))


def check_conditions(choices: Mapping[str, Choice], code: Mapping[str, Answer]) -> None:
    """No choice of a code lies inside an option that is not chosen or a layer that the depth leaves out."""
    for outer in choices.values():
        for name in code:
            if outer.operators and name.startswith(f"{outer.name}."):
                rest = name.removeprefix(f"{outer.name}.")
                inside = {i for i, label in enumerate(outer.options) if rest == label or rest.startswith(f"{label}.")}
                assert not inside or inside & set(options_of(code.get(outer.name, ()))), name
            stack = outer.name.removesuffix(".count")
            if outer.name != stack and name.startswith(f"{stack}.") and name != outer.name:
                depth = int(outer.options[options_of(code[outer.name])[0]])
                index = name.removeprefix(f"{stack}.").split(".")[0]
                assert not index.isdigit() or int(index) < depth, name


class SpaceLaw:
    """Every check of DESIGN §7 for a space."""

    @pytest.fixture
    def space(self) -> Space:
        """The space under the law."""
        raise NotImplementedError

    def members(self, space: Space, seed: int = 0, count: int = 30) -> list[Any]:
        """Some members."""
        random = Random(seed)
        return [space.sample(random) for _ in range(count)]

    def test_samples_are_closed_members_of_the_family(self, space: Space) -> None:
        for member in self.members(space):
            assert member in space
            assert not is_open(member)
            assert type(member) is type(space.template)
            assert hash(member) == hash(type(member).read(member.data()))
        assert len(set(self.members(space, count=60))) >= min(space.size, 60) * 0.3

    def test_the_template_is_no_member(self, space: Space) -> None:
        assert space.template not in space

    def test_mutants_are_different_members(self, space: Space) -> None:
        random = Random(1)
        for member in self.members(space):
            if space.size == 1:
                with pytest.raises(RequestError, match="single member"):
                    space.mutate(member, random)
                return
            for rate in (0.05, 0.4, 1.0):
                mutant = space.mutate(member, random, rate)
                assert mutant in space
                assert mutant != member

    def test_with_rate_one_every_choice_that_stays_changes(self, space: Space) -> None:
        if space.size == 1:
            pytest.skip("nothing to change")
        random = Random(2)
        several = {choice.name for choice in space.choices if len(choice.options) > choice.count}
        for member in self.members(space):
            old, new = space.encode(member), space.encode(space.mutate(member, random, 1.0))
            assert all(old[name] != new[name] for name in old.keys() & new.keys() & several)

    def test_a_cross_takes_each_choice_from_a_parent(self, space: Space) -> None:
        random = Random(3)
        members = self.members(space)
        taken = set()
        for first, second in pairwise(members):
            child = space.cross(first, second, random)
            assert child in space
            codes = [space.encode(parent) for parent in (first, second)]
            for name, answer in space.encode(child).items():
                assert answer in [code[name] for code in codes if name in code]
                if all(name in code for code in codes) and codes[0][name] != codes[1][name]:
                    taken.add(codes[0][name] == answer)
            assert space.cross(first, first, random) == first
        assert taken == ({True, False} if space.size > 2 else taken)

    def test_the_same_seed_gives_the_same_stream_in_another_process(self, space: Space) -> None:
        family = type(space.template)
        here = str(Path(__file__).parent)
        code = f"import sys; sys.path.insert(0, {here!r}); from space_law import print_stream; "
        code += f"print_stream({here!r}, {family.__module__!r}, {family.__name__!r})"
        said = subprocess.run(
            [sys.executable, "-c", code], input=json.dumps(space.data()), capture_output=True, text=True, check=True
        )
        assert json.loads(said.stdout) == json.loads(json.dumps(stream(space, 7)))
        assert space.size < 10 or stream(space, 8) != stream(space, 7)

    @pytest.mark.parametrize("suffix", ["json", "yaml", "yml"])
    def test_space_and_members_survive_a_file(self, space: Space, suffix: str, tmp_path: Path) -> None:
        for number, value in enumerate([space.template, *self.members(space, count=3)]):
            text = value.json_text() if suffix == "json" else yaml.safe_dump(value.data())
            path = tmp_path / f"{number}.{suffix}"
            path.write_text(text, encoding="utf-8")
            assert type(value).read_file(path) == value
        again = Space(type(space.template).read(json.loads(json.dumps(space.data()))))
        assert (again.template, again.choices, again.size) == (space.template, space.choices, space.size)

    def test_small_spaces_enumerate_to_their_size(self, space: Space) -> None:
        if space.size > ENUMERABLE:
            some = list(islice(space.members(), 20)) if space.size < 10**5 else []
            assert all(member in space for member in some)
            return
        members = list(space.members())
        assert len(members) == len(set(members)) == space.size <= space.encoded_size
        assert all(member in space for member in members)
        assert len({json.dumps(space.encode(member)) for member in members}) == space.size
        assert set(self.members(space)) <= set(members)

    def test_encode_and_decode_are_inverse(self, space: Space) -> None:
        for member in self.members(space):
            code = space.encode(member)
            assert space.decode(code) == member
            assert space.encode(space.decode(code)) == code
            assert list(code) == [c.name for c in space.choices if c.name in code]

    def test_choices_exist_only_where_they_are_in_use(self, space: Space) -> None:
        choices = {choice.name: choice for choice in space.choices}
        assert len(choices) == len(space.choices)
        for member in self.members(space):
            code = space.encode(member)
            assert code.keys() <= choices.keys()
            check_conditions(choices, code)

    def test_shrinking_never_adds(self, space: Space) -> None:
        random = Random(4)
        for _ in range(10):
            keep = {
                c.name: sorted(random.sample(range(len(c.options)), random.randint(c.count, len(c.options))))
                for c in random.sample(space.choices, max(1, len(space.choices) // 2))
            }
            smaller = space.shrink(keep)
            assert smaller.size <= space.size
            assert smaller.encoded_size <= space.encoded_size
            assert {c.name for c in smaller.choices} <= {c.name for c in space.choices}
            for member in self.members(smaller, count=5):
                assert member in space
                for name, answer in space.encode(member).items():
                    assert name not in keep or set(options_of(answer)) <= set(keep[name])
        everything = {choice.name: range(len(choice.options)) for choice in space.choices}
        assert space.shrink(everything).template == space.template
        with pytest.raises(RequestError, match="no choice 'nothing'"):
            space.shrink({"nothing": [0]})

    def test_a_foreign_architecture_is_told_apart(self, space: Space) -> None:
        class Foreign(Value):
            """Of no family."""

        assert Foreign() not in space
        with pytest.raises(RequestError, match="not a member"):
            space.encode(Foreign())
        with pytest.raises(RequestError, match="has no answer"):
            space.decode({})
