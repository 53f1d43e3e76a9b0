"""A task whose test split cannot be read, for every strategy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from nasformer.tasks.translation import TranslationTask


class Sealed:
    """A task whose test split cannot be read."""

    def __init__(self, task: TranslationTask) -> None:
        self._task = TranslationTask.__new__(TranslationTask)
        self._task.__dict__ = dict(task.__dict__)
        self._task.data = _Closed(task.data)
        self._task.text = replace(task.text, splits=_Closed(task.text.splits))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def quality(self, model: nn.Module, split: str) -> Any:
        """Refused on the test split."""
        assert split != "test", "the test split was read"
        return self._task.quality(model, split)


class _Closed(dict):
    def __getitem__(self, key: str) -> Any:
        assert key != "test", "the test split was read"
        return super().__getitem__(key)
