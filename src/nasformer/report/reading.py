"""Reading what was written by another version or cut off: each function takes anything and gives what is usable."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any


def number(value: Any) -> float | None:
    """The value where it is a finite number."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if usable else None


def has(event: Mapping[str, Any], name: str) -> bool:
    """Whether a field is there and a finite number."""
    return number(event.get(name)) is not None


def mapping(value: Any) -> dict[str, Any]:
    """The value where it is a JSON object, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """The JSON objects in a list."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def named(events: Iterable[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    """The events of one kind."""
    return [event for event in events if event.get("event") == name]


def natural(text: str) -> tuple[tuple[bool, float, str], ...]:
    """A key that sorts `layers.10` behind `layers.9` and `1.5` behind `1`."""
    parts = []
    for part in [text] if _is_number(text) else text.split("."):
        parts.append((False, float(part), "") if _is_number(part) else (True, 0.0, part))
    return tuple(parts)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()
