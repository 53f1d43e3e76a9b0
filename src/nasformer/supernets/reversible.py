"""Every architecture of a reversible space in one set of weights: each option of each node has weights of its own.

`at` gives an ordinary reversible network whose parameters are views of the shared ones; a selection that runs several
options of a node mixes them by its weights. The repeats of a searched block share choices, never weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from nasformer.models.build import FAMILIES, build, outline
from nasformer.models.reversible import node_part
from nasformer.models.transformer import ModelSettings
from nasformer.operators.reversible import Backward, Node
from nasformer.spaces.space import Choice, Space
from nasformer.supernets.elastic import Lender, copied, twin
from nasformer.supernets.selection import Chosen, Selection, single


class ReversibleSupernet:
    """The shared weights of a reversible space.

    Args:
        space: the space; its choices are the operators of nodes, named `STACK.layers.LAYER.nodes.NODE`.
        settings: the settings of every model.
        seed: draws the initial weights.
        weights: the weights to start from instead (as saved from `weights`).
        backward: how the networks of `at` differentiate: "stored", or "rebuilt" (memory does not grow with depth).
        one_at_a_time: with "rebuilt", differentiate the options of a node one after another.
        exact: with "rebuilt", streams that are rebuilt to the bit; without, float32 streams, whose rounding Identity
            amplifies (docs/decisions/0008).
    """

    def __init__(
        self,
        space: Space,
        settings: ModelSettings,
        *,
        seed: int,
        weights: dict[str, Tensor] | None = None,
        backward: Backward = "rebuilt",
        one_at_a_time: bool = True,
        exact: bool = True,
    ) -> None:
        self.space, self.settings = space, settings
        self.backward, self.one_at_a_time, self.exact = backward, one_at_a_time, exact
        self._choices = {choice.name: choice for choice in space.choices if choice.operators}
        if weights is None:
            weights = {}
            for index in range(max((len(choice.options) for choice in self._choices.values()), default=1)):
                architecture = space.close(lambda choice, i=index: i % len(choice.options))  # type: ignore[misc]
                rename = self._names(space.encode(architecture))
                model = build(architecture, settings, seed=seed + index)
                for name, parameter in model.named_parameters():
                    weights.setdefault(rename(name), parameter.detach())
        self.weights = weights
        self._lender = Lender(weights)
        self._options: dict[str, nn.Module] = {}

    def to(self, device: torch.device) -> Self:
        """This supernet with its weights on a device; models lent before keep the old ones."""
        self.weights = {name: weight.to(device) for name, weight in self.weights.items()}
        self._lender, self._options = Lender(self.weights), {}
        return self

    def at(self, selection: Selection | Any) -> Any:
        """The network that runs this selection (or architecture) on the shared weights.

        A choice may run several options, weighted; where the selection does not name a choice, its first option runs.
        """
        if not isinstance(selection, Mapping):
            selection = single(self.space.encode(selection))

        def first(choice: Choice) -> int:
            return selection[choice.name].options[0] if choice.name in selection else 0

        architecture = self.space.close(first)

        def make(stack: str, layer: int, node: int) -> Node:
            name = self._choice(architecture, stack, layer, node)
            if name not in self._choices:
                return Node([self._fixed(architecture, stack, layer, node)], architecture.pooling)
            chosen = selection.get(name, Chosen((0,)))
            options = [self._option(architecture, stack, layer, node, option) for option in chosen.options]
            return Node(options, architecture.pooling, chosen.weights)

        with torch.device("meta"):
            model = FAMILIES[architecture.family].network(architecture, self.settings, make=make)
        model.backward, model.one_at_a_time, model.exact = self.backward, self.one_at_a_time, self.exact
        return self._lender.lend(model, lambda name: name)

    def inherit(self, architecture: Any) -> nn.Module:
        """A plain model with its own copy of the weights that `at(architecture)` runs; its backward pass is stored."""
        return copied(outline(architecture, self.settings), self.weights, self.sources(architecture))

    def sources(self, architecture: Any) -> dict[str, str]:
        """For each parameter of the plain model, the name of the shared weight that it is a copy of."""
        rename = self._names(self.space.encode(architecture))
        return {name: rename(name) for name, _ in outline(architecture, self.settings).named_parameters()}

    def operator(self, stack: str, layer: int, node: int, option: int) -> Any:
        """The value of one option of a searched node."""
        name = f"{stack}.layers.{layer}.nodes.{node}"
        member = self.space.close(lambda choice: option if choice.name == name else 0)
        return getattr(member, stack).operator(layer, node)

    def _choice(self, architecture: Any, stack: str, layer: int, node: int) -> str:
        return f"{stack}.layers.{layer % len(getattr(architecture, stack).layers)}.nodes.{node}"

    def _names(self, code: Mapping[str, Any]) -> Any:
        """From the name of a parameter in the plain model to the name of the shared weight."""

        def rename(name: str) -> str:
            stack, _, rest = name.partition(".layers.")
            if not rest:
                return name
            layer, _, node, _, _, inside = rest.split(".", 5)
            choice = f"{stack}.layers.{int(layer) % self._searched(stack)}.nodes.{node}"
            if choice not in self._choices:
                return name
            return f"{stack}.layers.{layer}.nodes.{node}.{self._choices[choice].options[code[choice]]}.{inside}"

        return rename

    def _searched(self, stack: str) -> int:
        return len(getattr(self.space.template, stack).layers)

    def _fixed(self, architecture: Any, stack: str, layer: int, node: int) -> nn.Module:
        operator = getattr(architecture, stack).operator(layer, node)
        return self._lent(architecture, stack, layer, node, operator, "options.0")

    def _option(self, architecture: Any, stack: str, layer: int, node: int, option: int) -> nn.Module:
        choice = self._choices[self._choice(architecture, stack, layer, node)]
        key = f"{stack}.layers.{layer}.nodes.{node}.{choice.options[option]}"
        if key not in self._options:
            operator = self.operator(stack, layer % self._searched(stack), node, option)
            self._options[key] = self._lent(architecture, stack, layer, node, operator, choice.options[option])
        return twin(self._options[key])

    def _lent(self, architecture: Any, stack: str, layer: int, node: int, operator: Any, last: str) -> nn.Module:
        with torch.device("meta"):
            built = node_part(architecture, stack, node, operator).build(self.settings)
        return self._lender.lend(built, lambda name: f"{stack}.layers.{layer}.nodes.{node}.{last}.{name}")
