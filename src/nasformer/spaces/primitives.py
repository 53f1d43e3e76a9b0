"""The 39 primitive tensor operations of programs (docs/papers/primer.md §2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["binary", "unary", "constant", "vector", "reduction", "sequence", "convolution", "depthwise"]


@dataclass(frozen=True)
class Primitive:
    """One operation: its group, which says the arguments it reads, and the taps of a convolution."""

    name: str
    group: Group
    kernel: int = 0

    @property
    def inputs(self) -> int:
        """How many of an instruction's two inputs it reads."""
        return 2 if self.group == "binary" else 1

    @property
    def reads_constant(self) -> bool:
        """Whether it reads a constant."""
        return self.group == "constant"

    @property
    def reads_dim(self) -> bool:
        """Whether it reads a dim. A depthwise convolution keeps the width of its input (our reading 19)."""
        return self.group == "convolution"


_GROUPS: dict[Group, str] = {
    "binary": "ADD DIFFERENCE DIVIDE MULTIPLY MAT_MUL T_MAT_MUL",
    "unary": "ABS_ROOT SQUARE EXP LOG ABS RECIP SIGN COS SIN TANH SIGMOID",
    "constant": "MAX MIN C_MUL",
    "vector": "SCALE SHIFT",
    "reduction": "RED_MEAN RED_SUM RED_MIN RED_MAX RED_PROD",
    "sequence": "CUM_SUM CUM_PROD MASK",
    "convolution": "CONV_1X1 CONV_3X1 CONV_7X1 CONV_15X1 CONV_31X1",
    "depthwise": "DCONV_3X1 DCONV_7X1 DCONV_15X1 DCONV_31X1",
}


def _kernel(name: str) -> int:
    _, _, size = name.rpartition("_")
    return int(size.removesuffix("X1")) if size.endswith("X1") else 0


PRIMITIVES = {name: Primitive(name, group, _kernel(name)) for group, names in _GROUPS.items() for name in names.split()}
"""Every primitive, by its name."""
