"""The two ways in which work ends badly; the command line turns them into one clear line and an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RequestError(ValueError):
    """The request was wrong (exit code 2): says what was expected, what came and what to do."""


class RunError(RuntimeError):
    """The work failed while it was running (exit code 1): says what happened and what is safe."""


class DivergedError(RunError):
    """A training whose loss is NaN or infinite."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a name that does not exist: `did you mean 'x'?`, or the list of what exists when nothing is near."""
    names = sorted(known)

    def likeness(name: str) -> float:
        """To the whole name, or a little less to its beginning."""
        whole, beginning = (difflib.SequenceMatcher(None, n, word).ratio() for n in (name, name[: len(word) + 1]))
        return max(whole, 0.9 * beginning)

    best = max(names, key=likeness, default="")
    return f"did you mean {best!r}?" if best and likeness(best) > 0.7 else f"known: {', '.join(names)}"
