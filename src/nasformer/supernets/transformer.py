"""Every architecture of a Transformer space in one set of weights.

Where a choice is among operators, each option of each layer has weights of its own; where it is among sizes, an
architecture uses leading slices (docs/papers/shrinknas.md, our reading 5; docs/papers/operators.md §5). Depth: the
first layers. `at` gives a plain model whose weights are views of the shared ones, so the supernet needs no mode and no
copy of the model's code, and what holds for plain models holds for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from nasformer.models.build import FAMILIES, build, outline
from nasformer.models.transformer import ModelSettings, Part, parts
from nasformer.operators.normalization import Sublayer
from nasformer.spaces.space import Choice, Space
from nasformer.supernets.elastic import Lender, copied, twin
from nasformer.supernets.mixed import Mixed
from nasformer.supernets.selection import Selection


class TransformerSupernet:
    """The shared weights of a space of Transformers.

    Args:
        space: the space; its choices among operators are named for their place in the layer (`….mixer`,
            `….feed_forward`).
        settings: the settings of every model; `position_width` becomes the largest dim of the space.
        seed: draws the initial weights.
        weights: the weights to start from instead (as saved from `weights`).
    """

    def __init__(
        self, space: Space, settings: ModelSettings, *, seed: int, weights: dict[str, Tensor] | None = None
    ) -> None:
        self.space = space
        self._operators = {choice.name: choice for choice in space.choices if choice.operators}
        self._options: dict[tuple[str, Any], str] = {}
        # Keys and values of a group of heads are widest where the heads are fewest.
        heads = [(choice.name, list(map(int, choice.options))) for choice in space.choices if _counts_heads(choice)]
        fewest = space.shrink({name: [options.index(min(options))] for name, options in heads})
        covering = [*_covering(space), *_covering(fewest)]
        widest = max(stack.dim for a in covering for stack in (a.decoder, getattr(a, "encoder", a.decoder)))
        self.settings = settings.but(position_width=settings.position_width or widest)
        if weights is None:
            weights = {}
            for index, architecture in enumerate(covering):
                rename = self._names(architecture)
                needed = outline(architecture, self.settings).named_parameters()
                if not any(_lacks(weights.get(rename(name)), parameter) for name, parameter in needed):
                    continue
                model = build(architecture, self.settings, seed=seed + index)
                for name, parameter in model.named_parameters():
                    if _lacks(weights.get(rename(name)), parameter):
                        weights[rename(name)] = parameter.detach()
        self.weights = weights
        self._lender = Lender(weights)
        self._sublayers: dict[tuple[str, int, Part], Sublayer] = {}

    def to(self, device: torch.device) -> Self:
        """This supernet with its weights on a device; models lent before keep the old ones."""
        self.weights = {name: weight.to(device) for name, weight in self.weights.items()}
        self._lender, self._sublayers = Lender(self.weights), {}
        return self

    def at(self, selection: Selection | Any) -> nn.Module:
        """The model that runs this selection (or architecture) on the shared weights.

        Its parameters are views: after a backward pass each carries its own gradient, and writing to it writes to the
        supernet. Choices among operators may run several options, weighted; sizes take one, and their first option
        where the selection does not name them (sizes inside an operator that the architecture itself does not use).
        """
        if isinstance(selection, Mapping):
            return self._mixed(selection)
        with torch.device("meta"):
            make = partial(self._sublayer, selection)
            model = FAMILIES[selection.family].network(selection, self.settings, make=make)
        return self._lender.lend(model, lambda name: name)

    def inherit(self, architecture: Any) -> nn.Module:
        """A plain model with its own copy of the weights that `at(architecture)` runs."""
        return copied(outline(architecture, self.settings), self.weights, self.sources(architecture))

    def sources(self, architecture: Any) -> dict[str, str]:
        """For each parameter of the plain model, the name of the shared weight of which it is a leading slice."""
        rename = self._names(architecture)
        return {name: rename(name) for name, _ in outline(architecture, self.settings).named_parameters()}

    def _names(self, architecture: Any) -> Any:
        """From the name of a parameter in the plain model to the name of the shared weight."""
        slots = {}
        for stack, index, part in parts(architecture):
            slot = f"{stack}.layers.{index}.{part.role}"
            slots[slot] = self._option(architecture, slot)

        def rename(name: str) -> str:
            for slot in self._operators:
                if name.startswith(f"{slot}.operator."):
                    return f"{slot}.operator.{slots[slot]}.{name.removeprefix(f'{slot}.operator.')}"
            return name

        return rename

    def _option(self, architecture: Any, slot: str) -> str:
        """The name of the option that an architecture's operator is, where there is a choice among operators."""
        if slot not in self._operators:
            return ""
        stack, _, index, role = slot.split(".")
        key = slot, getattr(getattr(architecture, stack).layers[int(index)], role)
        if key not in self._options:
            self._options[key] = self._operators[slot].options[self.space.encode(architecture)[slot]]  # type: ignore[index]
        return self._options[key]

    def _sublayer(self, architecture: Any, stack: str, index: int, part: Part) -> Sublayer:
        key = (stack, index, part)
        if key not in self._sublayers:
            slot = f"{stack}.layers.{index}.{part.role}"
            inside = f"{self._option(architecture, slot)}." if slot in self._operators else ""

            def rename(name: str) -> str:
                return f"{slot}.{name.replace('operator.', f'operator.{inside}', 1)}"

            with torch.device("meta"):
                self._sublayers[key] = self._lender.lend(part.build(self.settings), rename)  # type: ignore[assignment]
        return twin(self._sublayers[key])

    def _mixed(self, selection: Selection) -> nn.Module:
        def first(choice: Choice) -> int:
            return selection[choice.name].options[0] if choice.name in selection else 0

        model = self.at(self.space.close(first))
        for name, chosen in selection.items():
            if name not in self._operators or (len(chosen.options) == 1 and chosen.weights is None):
                continue
            stack, _, index, role = name.split(".")
            if int(index) >= len(getattr(model, stack).layers):  # the depth leaves this layer out
                continue
            options = []
            for option in chosen.options:
                architecture = self.space.close(partial(_answer, {name: option}, first))
                part = next(p for s, i, p in parts(architecture) if (s, i, p.role) == (stack, int(index), role))
                options.append(self._sublayer(architecture, stack, int(index), part).operator)
            getattr(model, stack).layers[int(index)][role].operator = Mixed(options, chosen.weights)
        return model


def _answer(only: dict[str, int], otherwise: Callable[[Choice], int], choice: Choice) -> int:
    return only[choice.name] if choice.name in only else otherwise(choice)


def _covering(space: Space) -> Iterator[Any]:
    """Architectures of the greatest sizes that together take every option left of every choice.

    Whenever a choice is met, it takes its next option; of several in one operator the first turns fastest, as digits
    of a counter do, so that they meet in every combination.
    """
    largest, met = Space(space.largest(), space.name), Counter[str]()
    slowness: dict[str, int] = {}
    turns: dict[str, int] = {}
    for choice in largest.choices:
        place = choice.name.rpartition(".")[0]
        slowness[choice.name] = turns.get(place, 1)
        turns[place] = slowness[choice.name] * len(choice.options)

    def next_option(choice: Choice) -> int:
        met[choice.name] += 1
        return (met[choice.name] - 1) // slowness[choice.name] % len(choice.options)

    yield largest.close(next_option)
    while any(met[choice.name] < slowness[choice.name] * len(choice.options) for choice in largest.choices):
        yield largest.close(next_option)


def _counts_heads(choice: Choice) -> bool:
    return choice.name.endswith(".heads")


def _lacks(old: Tensor | None, new: Tensor) -> bool:
    """Whether a weight is not yet there, or reaches beyond the one that is, of which it must be a leading slice."""
    if old is None or new.dim() > old.dim():
        return True
    return any(here > there for here, there in zip(reversed(new.shape), reversed(old.shape), strict=False))
