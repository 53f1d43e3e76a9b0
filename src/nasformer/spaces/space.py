"""A space: an architecture with some fields left open, and everything that follows from it.

The flat list of named choices that samplers, evolution and gradients need is derived by one walk over the open
architecture (`Space.close`): sampling, decoding, mutation and crossover differ only in who answers the walk's
questions. A choice inside an option is asked for only while that option is chosen, so what is not in use does not
exist.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

from nasformer.errors import RequestError
from nasformer.spaces.open import FirstOf, OneOf, Open, SomeOf, first_of, is_open, one_of, some_of
from nasformer.spaces.value import Value

Answer = int | tuple[int, ...]
"""Which option a choice takes (`some_of`: which options, ascending)."""
Code = dict[str, Answer]
"""An architecture as answers to the choices that exist in it, by name, in the order of the walk."""


@dataclass(frozen=True)
class Choice:
    """One decision of a space: its dotted name, the names of its options, and how many of them are taken together."""

    name: str
    options: tuple[str, ...]
    count: int = 1
    operators: bool = False  # whether the options are whole layers rather than sizes


def label(option: Any) -> str:
    """The short name of an option: the kind of a layer, otherwise how it prints."""
    return option.label if isinstance(option, Value) else str(option)


def _choice(name: str, mark: Open) -> Choice:
    if isinstance(mark, FirstOf):
        return Choice(name, tuple(map(str, mark.counts)))
    operators = any(isinstance(option, Value) for option in mark.options)
    return Choice(name, option_names(mark.options), getattr(mark, "count", 1), operators)


def option_names(options: Sequence[Any]) -> tuple[str, ...]:
    """Labels; operators of one kind with different numbers (kernels, …) get these numbers behind theirs."""
    labels = tuple(map(label, options))
    if len(set(labels)) == len(labels):
        return labels
    names = []
    for option, own in zip(options, labels, strict=True):
        alike = [other for other, theirs in zip(options, labels, strict=True) if theirs == own]
        fields = type(option).model_fields if isinstance(option, Value) else ()
        differing = [f for f in fields if any(getattr(other, f) != getattr(option, f) for other in alike)]
        names.append("_".join([own, *(_number(getattr(option, f)) for f in differing)]))
    return tuple(names)


def _number(value: Any) -> str:
    """As it prints, but 2.0 as 2: names are parts of dotted paths."""
    return f"{value:g}" if isinstance(value, float) else str(value)


class Space:
    """The set of architectures that an architecture with open fields describes.

    Args:
        template: the architecture with open fields.
        name: what reports call the space.
    """

    def __init__(self, template: Value, name: str = "custom") -> None:
        self.template = template
        self.name = name
        for choice in self.choices:
            if len(set(choice.options)) != len(choice.options):
                raise RequestError(f"{choice.name}: expected options with different names, got {choice.options}")
        names = [choice.name for choice in self.choices]
        if twice := [name for name in names if names.count(name) > 1]:
            raise RequestError(
                f"{twice[0]}: expected one choice of this name; options of one kind cannot each have choices inside"
            )

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """Every choice that exists in some member, in the order of the walk."""
        return tuple(_all_choices(self.template, ""))

    def close(self, answer: Callable[[Choice], Answer]) -> Any:
        """The member that comes of asking `answer` for every choice met on the way."""
        parts = _close(self.template, "", answer)
        return type(self.template)(**{field: getattr(parts, field) for field in type(parts).model_fields})

    def sample(self, random: Random) -> Any:
        """A member; every choice that exists in it is drawn uniformly."""
        return self.close(lambda choice: _draw(choice, random))

    def decode(self, code: Mapping[str, Answer]) -> Any:
        """The member with this code; raises `RequestError` where a choice has no answer."""

        def answer(choice: Choice) -> Answer:
            if choice.name not in code:
                raise RequestError(f"the code has no answer for the choice {choice.name!r}")
            return code[choice.name]

        return self.close(answer)

    def encode(self, architecture: Any) -> Code:
        """The code of a member; raises `RequestError` where it is none."""
        code: Code = {}
        problem = _match(self.template, architecture, "", code)
        if problem:
            raise RequestError(f"not a member of the space {self.name!r}: {problem}")
        return code

    def __contains__(self, architecture: Any) -> bool:
        return _match(self.template, architecture, "", {}) is None

    def mutate(self, architecture: Any, random: Random, rate: float = 0.4) -> Any:
        """A different member: each choice changes with probability `rate` to one of its other options.

        Choices that come into being by the change of another are drawn uniformly. Where nothing changed, all is drawn
        again (our reading 12 of docs/papers/shrinknas.md: *other* options).
        """
        if self.size == 1:
            raise RequestError(f"the space {self.name!r} has a single member, which has no mutant")
        code = self.encode(architecture)

        def answer(choice: Choice) -> Answer:
            if choice.name not in code:
                return _draw(choice, random)
            old = code[choice.name]
            return _draw_other(choice, old, random) if random.random() < rate else old

        while (mutant := self.close(answer)) == architecture:
            pass
        return mutant

    def cross(self, first: Any, second: Any, random: Random) -> Any:
        """A member that takes each choice from either parent with probability one half (from the one that has it)."""
        codes = (self.encode(first), self.encode(second))

        def answer(choice: Choice) -> Answer:
            return random.choice([code[choice.name] for code in codes if choice.name in code])

        return self.close(answer)

    def shrink(self, keep: Mapping[str, Sequence[int]]) -> Space:
        """The space in which each named choice keeps only the options with these indices."""
        unknown = keep.keys() - {choice.name for choice in self.choices}
        if unknown:
            raise RequestError(f"the space {self.name!r} has no choice {sorted(unknown)[0]!r}")
        return Space(_shrink(self.template, "", keep), self.name)

    @cached_property
    def size(self) -> int:
        """How many different members there are, exactly."""
        return _size(self.template, encoded=False)

    @cached_property
    def encoded_size(self) -> int:
        """How many codes of fixed length there are: layers count whether the depth uses them or not (HAT's rule)."""
        return _size(self.template, encoded=True)

    def members(self) -> Iterator[Any]:
        """Every member once, in the order of the options."""
        return _members(self.template)

    def largest(self) -> Any:
        """The template with every number at its greatest and every depth at its deepest; operators stay open."""
        return _largest(self.template)

    def data(self) -> Any:
        """Plain data of the open architecture."""
        return self.template.data()


class Members:
    """A finite set of members of a space, drawn from uniformly; mutation and crossover leave it for the space."""

    def __init__(self, space: Space, members: Sequence[Any]) -> None:
        if not members:
            raise RequestError("expected at least one member, got none")
        self.space = space
        self.members = tuple(dict.fromkeys(members))
        self.size = len(self.members)

    def sample(self, random: Random) -> Any:
        """One of the members, uniformly (our reading 23 of docs/papers/shrinknas.md)."""
        return self.members[random.randrange(self.size)]

    def __contains__(self, architecture: Any) -> bool:
        return architecture in set(self.members)

    def mutate(self, architecture: Any, random: Random, rate: float = 0.4) -> Any:
        """A mutant in the whole space."""
        return self.space.mutate(architecture, random, rate)

    def cross(self, first: Any, second: Any, random: Random) -> Any:
        """A child in the whole space."""
        return self.space.cross(first, second, random)

    def shares(self) -> dict[str, dict[str, float]]:
        """For each choice the share of members that take each option, among the members in which the choice exists."""
        counts: dict[str, list[int]] = {choice.name: [0] * len(choice.options) for choice in self.space.choices}
        for member in self.members:
            for name, answer in self.space.encode(member).items():
                for index in (answer,) if isinstance(answer, int) else answer:
                    counts[name][index] += 1
        found = {}
        for choice in self.space.choices:
            if total := sum(counts[choice.name]):
                shares = [count / total for count in counts[choice.name]]
                found[choice.name] = dict(zip(choice.options, shares, strict=True))
        return found


def _draw(choice: Choice, random: Random) -> Answer:
    if choice.count > 1:
        return tuple(sorted(random.sample(range(len(choice.options)), choice.count)))
    return random.randrange(len(choice.options))


def _draw_other(choice: Choice, old: Answer, random: Random) -> Answer:
    if math.comb(len(choice.options), choice.count) == 1:
        return old
    while (new := _draw(choice, random)) == old:
        pass
    return new


def _named_parts(value: Any, name: str) -> Iterator[tuple[str, str, Any]]:
    """The parts of a value or tuple: dotted name, field or index, part."""
    prefix = f"{name}." if name else ""
    if isinstance(value, Value):
        for field in type(value).model_fields:
            yield prefix + field, field, getattr(value, field)
    elif isinstance(value, tuple):
        for index, part in enumerate(value):
            yield f"{prefix}{index}", str(index), part


def _inside(name: str, option: Any) -> str:
    return f"{name}.{label(option)}" if isinstance(option, Value) else name


def _all_choices(value: Any, name: str) -> Iterator[Choice]:
    if isinstance(value, FirstOf):
        yield _choice(f"{name}.count", value)
        yield from _all_choices(value.items, name)
    elif isinstance(value, OneOf | SomeOf):
        yield _choice(name, value)
        for option in value.options:
            yield from _all_choices(option, _inside(name, option))
    else:
        for part_name, _, part in _named_parts(value, name):
            yield from _all_choices(part, part_name)


def _ask(choice: Choice, answer: Callable[[Choice], Answer]) -> tuple[int, ...]:
    given = answer(choice)
    indices = (given,) if isinstance(given, int) else tuple(given)
    inside = len(indices) == choice.count and all(0 <= index < len(choice.options) for index in indices)
    if not inside or any(first >= second for first, second in itertools.pairwise(indices)):
        last = len(choice.options) - 1
        raise RequestError(f"{choice.name}: expected {choice.count} of the options 0 to {last}, ascending, got {given}")
    return indices


def _close(value: Any, name: str, answer: Callable[[Choice], Answer]) -> Any:
    if not isinstance(value, Value | tuple | Open):
        return value
    if isinstance(value, FirstOf):
        (index,) = _ask(_choice(f"{name}.count", value), answer)
        return _close(value.items[: value.counts[index]], name, answer)
    if isinstance(value, SomeOf):
        indices = _ask(_choice(name, value), answer)
        return tuple(_close(value.options[i], _inside(name, value.options[i]), answer) for i in indices)
    if isinstance(value, OneOf):
        (index,) = _ask(_choice(name, value), answer)
        return _close(value.options[index], _inside(name, value.options[index]), answer)
    if isinstance(value, tuple):
        return tuple(_close(part, part_name, answer) for part_name, _, part in _named_parts(value, name))
    # Each option was checked when the template was made; the whole is checked once, in Space.close.
    parts = {field: _close(part, part_name, answer) for part_name, field, part in _named_parts(value, name)}
    return type(value).model_construct(**parts)


def _match(template: Any, value: Any, name: str, code: Code) -> str | None:
    """None where `value` is what the template may become (the answers go into `code`), else what differs."""
    if isinstance(template, FirstOf):
        if not isinstance(value, tuple) or len(value) not in template.counts:
            return (
                f"{name} has {len(value) if isinstance(value, tuple) else 0} parts, expected one of {template.counts}"
            )
        code[f"{name}.count"] = template.counts.index(len(value))
        return _match(template.items[: len(value)], value, name, code)
    if isinstance(template, SomeOf):
        inside: Code = {}
        parts = value if isinstance(value, tuple) else ()
        found = [_match_option(template.options, part, name, inside) for part in parts]
        indices = [index for index in found if index is not None]
        if len(indices) != template.count or len(found) != len(indices) or indices != sorted(set(indices)):
            return f"{name} is {value}, expected {template.count} of {', '.join(map(label, template.options))}"
        code |= {name: indices[0] if template.count == 1 else tuple(indices)} | inside
        return None
    if isinstance(template, OneOf):
        inside = {}
        if (index := _match_option(template.options, value, name, inside)) is None:
            return f"{name} is {value}, which is none of {', '.join(map(label, template.options))}"
        code |= {name: index} | inside
        return None
    if isinstance(template, Value | tuple):
        if type(template) is not type(value) or (isinstance(value, tuple) and len(template) != len(value)):  # type: ignore[arg-type]
            return f"{name or 'it'} is {value}"
        for (part_name, _, inner), (_, _, part) in zip(
            _named_parts(template, name), _named_parts(value, name), strict=True
        ):
            if problem := _match(inner, part, part_name, code):
                return problem
        return None
    return None if template == value else f"{name} is {value}, expected {template}"


def _match_option(options: Sequence[Any], value: Any, name: str, code: Code) -> int | None:
    """The index of the option that `value` may be (the answers inside it go into `code`), or None."""
    for index, option in enumerate(options):
        inside: Code = {}
        alike = isinstance(option, Value) or label(option) == label(value)  # 1 is no 1.0
        if alike and _match(option, value, _inside(name, option), inside) is None:
            code |= inside
            return index
    return None


def _shrink(value: Any, name: str, keep: Mapping[str, Sequence[int]]) -> Any:
    if not is_open(value):
        return value
    if isinstance(value, FirstOf):
        kept = keep.get(f"{name}.count", range(len(value.counts)))
        return first_of([value.counts[i] for i in kept], _shrink(value.items, name, keep))
    if isinstance(value, OneOf | SomeOf):
        kept = keep.get(name, range(len(value.options)))
        options = tuple(_shrink(value.options[i], _inside(name, value.options[i]), keep) for i in kept)
        return one_of(*options) if isinstance(value, OneOf) else some_of(value.count, options)
    if isinstance(value, tuple):
        return tuple(_shrink(part, part_name, keep) for part_name, _, part in _named_parts(value, name))
    return type(value)(
        **{field: _shrink(part, part_name, keep) for part_name, field, part in _named_parts(value, name)}
    )


def _size(value: Any, encoded: bool) -> int:
    if isinstance(value, FirstOf):
        sizes = [_size(item, encoded) for item in value.items]
        if encoded:
            return len(value.counts) * math.prod(sizes[: max(value.counts)])
        return sum(math.prod(sizes[:n]) for n in value.counts)
    if isinstance(value, SomeOf):
        sizes = [_size(option, encoded) for option in value.options]
        return sum(math.prod(subset) for subset in itertools.combinations(sizes, value.count))
    if isinstance(value, OneOf):
        return sum(_size(option, encoded) for option in value.options)
    return math.prod(_size(part, encoded) for _, _, part in _named_parts(value, ""))


def _members(value: Any) -> Iterator[Any]:
    if not is_open(value):
        yield value
    elif isinstance(value, FirstOf):
        for n in value.counts:
            yield from _members(value.items[:n])
    elif isinstance(value, SomeOf):
        for subset in itertools.combinations(value.options, value.count):
            yield from _members(subset)
    elif isinstance(value, OneOf):
        for option in value.options:
            yield from _members(option)
    elif isinstance(value, tuple):
        yield from itertools.product(*(list(_members(part)) for part in value))
    else:
        fields = list(type(value).model_fields)
        for parts in itertools.product(*(list(_members(getattr(value, field))) for field in fields)):
            yield type(value)(**dict(zip(fields, parts, strict=True)))


def _largest(value: Any) -> Any:
    if not is_open(value):
        return value
    if isinstance(value, FirstOf):
        return _largest(value.items[: max(value.counts)])
    if isinstance(value, OneOf):
        options = tuple(_largest(option) for option in value.options)
        numbers = [option for option in options if isinstance(option, int | float)]
        return max(numbers) if len(numbers) == len(options) else OneOf(options)
    if isinstance(value, SomeOf):
        return value
    if isinstance(value, tuple):
        return tuple(_largest(part) for part in value)
    return type(value)(**{field: _largest(part) for _, field, part in _named_parts(value, "")})
