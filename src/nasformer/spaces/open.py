"""The marks that leave a field of an architecture open, and plain data to and from values that hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from nasformer.errors import RequestError


@dataclass(frozen=True)
class OneOf:
    """Exactly one of the options; an option may itself hold open fields, which exist only while it is chosen."""

    options: tuple[Any, ...]

    def check(self, check: Callable[[Any], Any]) -> OneOf:
        """The same mark with every option passed through `check`."""
        return OneOf(tuple(check(option) for option in self.options))


@dataclass(frozen=True)
class SomeOf:
    """A set of exactly `count` of the options, as a tuple in the order in which the options are listed."""

    count: int
    options: tuple[Any, ...]

    def check(self, check: Callable[[Any], Any]) -> SomeOf:
        """The same mark with every option passed through `check`."""
        return SomeOf(self.count, tuple(check((option,))[0] for option in self.options))


@dataclass(frozen=True)
class FirstOf:
    """The first n of `items`, n being one of `counts`: a stack of variable depth whose layers differ."""

    counts: tuple[int, ...]
    items: tuple[Any, ...]

    def check(self, check: Callable[[Any], Any]) -> FirstOf:
        """The same mark with every item passed through `check`."""
        return FirstOf(self.counts, tuple(check((item,))[0] for item in self.items))


Open = OneOf | SomeOf | FirstOf
OPEN = (OneOf, SomeOf, FirstOf)


def _different(options: Sequence[Any]) -> bool:
    return all(option not in options[:index] for index, option in enumerate(options))


def one_of(*options: Any) -> Any:
    """Leave a field open: it takes one of these options."""
    if len(options) < 1 or not _different(options):
        raise RequestError(f"one_of expects one or more different options, got {options!r}")
    return OneOf(options)


def some_of(count: int, options: Sequence[Any]) -> Any:
    """Leave a tuple field open: it takes `count` different ones of these options."""
    if not isinstance(count, int) or not 0 < count <= len(options):
        raise RequestError(f"some_of: expected a count from 1 to its {len(options)} options, got {count!r}")
    if not _different(options):
        raise RequestError(f"some_of: expected different options, got one of the {len(options)} twice")
    return SomeOf(count, tuple(options))


def first_of(counts: Sequence[int], items: Sequence[Any]) -> Any:
    """Leave a tuple field open: it takes the first n of `items`, for one n of `counts`."""
    fits = all(isinstance(count, int) and 0 < count <= len(items) for count in counts)
    if not counts or not _different(counts) or not fits:
        raise RequestError(f"first_of expects different counts between 1 and {len(items)}, got {tuple(counts)!r}")
    return FirstOf(tuple(counts), tuple(items))


def is_open(value: Any) -> bool:
    """Whether anything inside is left open."""
    if isinstance(value, OPEN):
        return True
    if isinstance(value, BaseModel):
        return any(is_open(getattr(value, name)) for name in type(value).model_fields)
    return isinstance(value, tuple) and any(is_open(part) for part in value)


def to_data(value: Any) -> Any:
    """Plain JSON data of a value; an open mark becomes a dict with its name as the only key."""
    if isinstance(value, BaseModel):
        return {name: to_data(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, OneOf):
        return {"one_of": [to_data(option) for option in value.options]}
    if isinstance(value, SomeOf):
        return {"some_of": {"count": value.count, "options": [to_data(option) for option in value.options]}}
    if isinstance(value, FirstOf):
        return {"first_of": {"counts": list(value.counts), "items": [to_data(item) for item in value.items]}}
    if isinstance(value, tuple | list):
        return [to_data(part) for part in value]
    if isinstance(value, dict):
        return {key: to_data(part) for key, part in value.items()}
    return value


def from_data(data: Any) -> Any:
    """The open mark that a dict with one of the marks' names describes; anything else as it is."""
    if not isinstance(data, dict) or len(data) != 1:
        return data
    name, inside = next(iter(data.items()))
    if name == "one_of" and isinstance(inside, list):
        return one_of(*inside)
    if not isinstance(inside, dict):
        return data
    if name == "some_of" and inside.keys() == {"count", "options"} and isinstance(inside["options"], list):
        return some_of(inside["count"], inside["options"])
    lists = [part for part in inside.values() if isinstance(part, list)]
    if name == "first_of" and inside.keys() == {"counts", "items"} and len(lists) == 2:
        return first_of(inside["counts"], inside["items"])
    return data
