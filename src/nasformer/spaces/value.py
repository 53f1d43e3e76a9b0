"""A value: frozen, hashable, checked at birth, JSON and back. Architectures, settings and recipes are values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, ValidationError, field_validator

from nasformer.errors import RequestError, nearest
from nasformer.spaces.open import OPEN, Open, from_data, to_data

FEW = 5
"""As many words are listed where a setting gets another; of more the nearest is named."""
_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_SUFFIXES = _DECIMAL | {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def whole(value: Any) -> Any:
    """A number written with a unit (`30k`) as a whole number; anything else as it is."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", value) if isinstance(value, str) else None
    if match is None:
        return value
    if match[2] not in _SUFFIXES:
        raise ValueError(f"unknown unit in {value!r}; expected one of {', '.join(filter(None, _SUFFIXES))}, or none")
    return round(float(match[1]) * _SUFFIXES[match[2]])


Count = Annotated[int, BeforeValidator(whole)]
"""A whole number that may be written with a unit: `1.8M`, `30k`, `6GiB` (powers of two), `6GB` (powers of ten)."""


BY_KIND = Discriminator(lambda value: value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None))
"""Marks a union of values that tell themselves apart by their field `kind`; each member carries a `Tag` of its kind."""


class Value(BaseModel):
    """The parent of every frozen value. A field may hold an open mark (`one_of`, …): then the value describes a space.

    Raises `RequestError` where a field is unknown (it names the nearest), missing, or out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise RequestError(_explain(type(self), error)) from None

    @field_validator("*", mode="wrap")
    @classmethod
    def _may_be_open(cls, value: Any, check: Callable[[Any], Any]) -> Any:
        value = from_data(value)
        if isinstance(value, Open):
            return value.check(check)
        if isinstance(value, list | tuple) and any(isinstance(from_data(part), OPEN) for part in value):
            return tuple(part.check(lambda x: check((x,))[0]) if isinstance(part, Open) else check((part,))[0]
                         for part in map(from_data, value))  # fmt: skip
        return check(value)

    @classmethod
    def read(cls, data: Any) -> Self:
        """The value that plain data (as JSON or YAML give it) describes."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise RequestError(_explain(cls, error)) from None

    @classmethod
    def read_file(cls, path: Path) -> Self:
        """The value in a `.json`, `.yaml` or `.yml` file."""
        return cls.read(read_data(path, cls.__name__))

    @property
    def label(self) -> str:
        """The short name that reports and choices use: the kind where there is one."""
        return str(getattr(self, "kind", type(self).__name__))

    def data(self) -> Any:
        """Plain data (dicts, lists, numbers, strings) from which `read` gives back an equal value."""
        return to_data(self)

    def json_text(self) -> str:
        """The value as indented JSON."""
        return json.dumps(self.data(), indent=2, ensure_ascii=False)

    def but(self, **fields: Any) -> Self:
        """The same value with some fields changed, checked again."""
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | fields)


def read_data(path: Path, what: str) -> Any:
    """Plain data from a `.json`, `.yaml` or `.yml` file; raises `RequestError` where it cannot be read."""
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"expected a readable {what} file; {path}: {error}") from None
    except yaml.YAMLError as error:
        raise RequestError(f"expected JSON or YAML in {path}: {str(error).splitlines()[0]}") from None


def _explain(owner: type[BaseModel], error: ValidationError) -> str:
    problems = []
    for problem in error.errors()[:3]:
        place = ".".join(str(part) for part in problem["loc"] if "[" not in str(part))  # a union names its members
        if problem["type"] == "extra_forbidden":
            known = _fields_at(owner, problem["loc"])
            problems.append(f"unknown field {place!r}; {nearest(str(problem['loc'][-1]), known)}")
        elif problem["type"] == "union_tag_invalid":
            known = _quoted(problem["ctx"]["expected_tags"])
            problems.append(f"{place}: unknown kind {problem['ctx']['tag']!r}; {nearest(problem['ctx']['tag'], known)}")
        elif problem["type"] == "literal_error" and len(known := _quoted(problem["ctx"]["expected"])) > FEW:
            came = str(problem["input"])[:80]
            problems.append(f"{place}: unknown {came!r}; {nearest(came, known)}")
        elif problem["type"] == "missing":
            problems.append(f"{place}: this field is missing")
        else:
            came = "" if isinstance(problem["input"], dict) else f", got {str(problem['input'])[:80]!r}"
            message = re.sub(r"^Value error, ([A-Z]\w*: )?", "", problem["msg"])
            came = "" if problem["type"] == "value_error" else came
            problems.append(f"{place}: {message}{came}" if place else message)
    return f"{owner.__name__}: " + "; ".join(problems)


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']+)'", text)


def _fields_at(owner: Any, location: tuple[int | str, ...]) -> list[str]:
    for part in location[:-1]:
        fields = getattr(owner, "model_fields", {})
        inner = fields[part].annotation if part in fields else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            owner = inner
    return list(getattr(owner, "model_fields", {}))
