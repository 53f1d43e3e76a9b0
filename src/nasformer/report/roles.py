"""What a row of a result is beside the found architecture: itself, another form of it, or a control it has to beat."""

from __future__ import annotations

from typing import Literal

Role = Literal["found", "variant", "control"]
"""A variant is another form or training of an architecture that has a row already, so no rival of the found one."""

VARIANTS = frozenset(
    {
        *("fine_tuned", "retrained", "other_zero", "joint", "table_best"),
        *("longer", "longer_start", "wider", "wider_start"),
    }
)
"""The names of variants; those of a control end like one of the two trainings, `NAME_fine_tuned` and
`NAME_retrained`."""
TUNED = frozenset({"tuned_transformer", "tuned_fixed", "halving", "average"})
"""Controls of which a result needs one, or the found architecture was compared with networks that nobody tuned."""


def role_of(name: str) -> Role:
    """The role of a row by its name."""
    if name == "found":
        return "found"
    return "variant" if name in VARIANTS or name.endswith(("_fine_tuned", "_retrained")) else "control"
