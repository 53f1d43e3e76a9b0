"""An operator of your own in a search: a causal running mean beside attention, in twenty lines.

Run: python examples/own_operator.py
"""

from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from nasformer.models.build import build
from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import MIXERS, Dropout
from nasformer.operators.operator import Cache, Linear, zero_padding
from nasformer.spaces.named import OPERATORS, shrinknas
from nasformer.spaces.open import OneOf
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import Custom
from nasformer.supernets.transformer import TransformerSupernet


class RunningMean(nn.Module):
    """The mean of all (or all past) positions, projected."""

    def __init__(self, dim: int, causal: bool) -> None:
        super().__init__()
        self.output = Linear(dim, dim)
        self.causal = causal

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        x = zero_padding(x, padding)
        real = torch.ones(x.shape[:2]) if padding is None else (~padding).float()
        if not self.causal:
            return self.output((x.sum(1, True) / real.sum(1, True).unsqueeze(-1)).expand_as(x))
        total, count = x.cumsum(1), real.cumsum(1)
        if cache is not None:
            total, count = total + cache.get("total", 0), count + cache.get("count", 0)
            cache["total"], cache["count"] = total[:, -1:], count[:, -1:]
        return self.output(total / count.clamp(min=1).unsqueeze(-1))


def running_mean(value: Any, dim: int, causal: bool, dropout: Dropout) -> nn.Module:
    """What the catalogue calls."""
    return RunningMean(dim, causal)


def main() -> None:
    """List the operator, put it into a space beside the others, and run a member that uses it."""
    MIXERS["running_mean"] = running_mean
    plain = shrinknas(dims=(16, 32), encoder_layers=2, decoder_layers=(1, 2), operators=OPERATORS[:1])
    own = Custom(operator="running_mean")

    def widen(layer: Any) -> Any:
        return layer.but(mixer=OneOf((*layer.mixer.options, own)))

    encoder = plain.template.encoder.but(layers=tuple(widen(layer) for layer in plain.template.encoder.layers))
    space = Space(plain.template.but(encoder=encoder), "with-running-mean")
    settings = ModelSettings(source_vocabulary=50, target_vocabulary=50)
    supernet = TransformerSupernet(space, settings, seed=1)
    random = Random(1)
    members = [space.sample(random) for _ in range(20)]
    member = next(m for m in members if any(layer.mixer == own for layer in m.encoder.layers))
    source, target = torch.randint(3, 50, (2, 7)), torch.randint(3, 50, (2, 5))
    print("on the supernet:", tuple(supernet.at(member)(source, target).shape))
    print("by itself:", tuple(build(member, settings, seed=1)(source, target).shape))
    print(f"{space.size:,} members")


if __name__ == "__main__":
    main()
