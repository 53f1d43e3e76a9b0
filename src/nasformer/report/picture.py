"""A part of the page: a figure, a table or two texts, with a caption that says what to look for."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from nasformer.report.changes import Line


@dataclass(frozen=True)
class Sheet:
    """A table of texts, the first column to the left; with `left` all of them, and long texts in several lines."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: bool = False


@dataclass(frozen=True)
class Picture:
    """What stands under one title; each of its parts may be missing."""

    title: str
    svg: Markup | None
    caption: str
    sheet: Sheet | None = None
    lines: tuple[Line, ...] = ()
