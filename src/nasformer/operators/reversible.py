"""Multi-split reversible layers, and a backward pass that rebuilds activations instead of keeping them.

The channels are cut into n splits; each split is updated from all others by one node, so that the input of a layer can
be computed from its output (docs/papers/dartsformer.md §2.1, Eq. 3 and 4):

    forward,  k = 1 … n :   Y_k = X_k + G_k(X_{k+1} … X_n, Y_1 … Y_{k−1})
    inverse,  k = n … 1 :   X_k = Y_k − G_k(X_{k+1} … X_n, Y_1 … Y_{k−1})

`rebuilt` (Algorithm 1) keeps only what leaves the top layer; on the way back every node is computed once more, with a
graph, and serves both for the inverse and for its gradients. How ours differs from a plain custom function:

- Dropout is replayed from one seed per pass: every node starts from its own seed, whichever backward is used, so the
  two give the same gradients and nothing is kept per layer (docs/decisions/0006).
- Parameters and mixing weights are inputs of the autograd function, so hooks, gradient accumulation and
  DistributedDataParallel see their gradients at the usual moment.
- A node with several options can be differentiated one option at a time: for Y = Σ_o w_o · O_o(H) and the gradient D
  of Y, the gradient of w_o is ⟨D, O_o(H)⟩; memory does not grow with the number of options, and nothing is computed
  twice for it.
- The streams are float32 (or wider) under autocast, because rebuilding subtracts what was added. With `exact` they are
  rebuilt to the bit (`nasformer.operators.streams`), so that a node computes the very same numbers again. In float32
  the loss flips ReLUs and grows with depth, with Identity by 2.6 a layer (docs/decisions/0008).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nasformer.errors import RequestError
from nasformer.operators.attention import CrossAttention, Memory
from nasformer.operators.operator import Cache
from nasformer.operators.streams import Kept, Streams

Backward = Literal["stored", "rebuilt"]
Pooling = Literal["max", "mean"]


def _not_compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.compiler.disable`, which takes seconds to import the compiler, put off until something is compiled."""

    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Tensor:
        run = torch.compiler.disable(function) if torch.compiler.is_compiling() else function
        found: Tensor = run(*arguments, **options)
        return found

    return call


def pool(inputs: Sequence[Tensor], pooling: Pooling) -> Tensor:
    """Several tensors (batch, time, width) into one, element by element; a single one stays what it is."""
    if len(inputs) == 1:
        return inputs[0]
    stacked = torch.stack(tuple(inputs))
    return stacked.amax(0) if pooling == "max" else stacked.mean(0)


class Node(nn.Module):
    """What updates one split: the other splits pooled, and one option on them, or several side by side.

    Args:
        options: operators (batch, time, width) → (batch, time, width), called with padding or, where they are
            cross-attention, with the memory.
        pooling: how the n − 1 inputs become one.
        weights: (options,) for Σ_o weight_o · option_o; None for a single option.
    """

    def __init__(self, options: Sequence[nn.Module], pooling: Pooling, weights: Tensor | None = None) -> None:
        super().__init__()
        assert weights is not None or len(options) == 1, "several options need weights"
        self.options = nn.ModuleList(options)
        self.pooling = pooling
        self.weights = weights

    def forward(
        self, inputs: Sequence[Tensor], padding: Tensor | None, memory: Memory | None, cache: Cache | None = None
    ) -> Tensor:
        """The n − 1 other splits (batch, time, width) → what is added to this one."""
        return self.mix(pool(inputs, self.pooling), self.weights, padding, memory, cache)

    def mix(
        self,
        h: Tensor,
        weights: Tensor | None,
        padding: Tensor | None,
        memory: Memory | None,
        cache: Cache | None = None,
    ) -> Tensor:
        """The weighted sum of the options on the pooled inputs h (batch, time, width)."""
        total: Tensor | None = None
        for number in range(len(self.options)):
            inside = None if cache is None else cache.setdefault(str(number), {})
            output = self.option(number, h, padding, memory, inside)
            if weights is not None:
                output = weights[number] * output if total is None else torch.addcmul(total, output, weights[number])
            total = output
        assert total is not None
        return total

    def option(
        self, number: int, h: Tensor, padding: Tensor | None, memory: Memory | None, cache: Cache | None = None
    ) -> Tensor:
        """One option on h (batch, time, width), in the type of h."""
        option = self.options[number]
        attends = isinstance(getattr(option, "operator", option), CrossAttention)
        return option(h, memory if attends else padding, cache).to(h.dtype)


class ReversibleStack(nn.Module):
    """Reversible layers over a stream (batch, time, dim), whose backward pass is chosen at every call.

    Args:
        layers: for each layer one node per split; the splits are equal parts of dim.

    Raises `RequestError` where layers have different numbers of nodes, or fewer than two.
    """

    def __init__(self, layers: Sequence[Sequence[nn.Module]]) -> None:
        super().__init__()
        counts = {len(nodes) for nodes in layers}
        if len(counts) != 1 or min(counts) < 2:
            raise RequestError(
                f"expected reversible layers with one node per split, two or more and in each layer as many; "
                f"got {', '.join(map(str, sorted(counts))) or 'no layers'}"
            )
        self.layers = nn.ModuleList(nn.ModuleDict({"nodes": nn.ModuleList(nodes)}) for nodes in layers)
        self.splits = len(layers[0])

    def nodes(self) -> list[list[Any]]:
        """The nodes, layer by layer."""
        return [list(layer["nodes"]) for layer in self.layers]  # type: ignore[index]

    @_not_compiled
    def forward(
        self,
        x: Tensor,
        padding: Tensor | None = None,
        memory: Memory | None = None,
        *,
        backward: Backward = "stored",
        one_at_a_time: bool = True,
        exact: bool = True,
        cache: Cache | None = None,
    ) -> Tensor:
        """x (batch, time, dim) → (batch, time, dim).

        `padding` (batch, time) is true where padded; `memory` is what cross-attention sees, with one output. "rebuilt"
        keeps only the result for the backward pass and takes four units of work for three; with `one_at_a_time` it
        differentiates the options of a node one after another; with `exact` nodes see the very same numbers again,
        without it float32 streams are rebuilt but for rounding. `cache` is for decoding step by step.
        Raises `RequestError` where the splits do not divide dim.
        """
        if x.shape[-1] % self.splits:
            raise RequestError(
                f"a reversible stack of {self.splits} splits got {x.shape[-1]} channels; expected a multiple of "
                f"{self.splits}"
            )
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        layers = self.nodes()
        random = any(module.training for module in self.modules())
        seed = int(torch.randint(2**62, (), dtype=torch.int64)) if random else None
        place = _Pass(layers, padding, None if memory is None else memory.padding, seed, one_at_a_time, x)
        if backward == "stored" or cache is not None or not torch.is_grad_enabled():
            return place.forward(Streams.of(x, self.splits, exact=False), memory, cache).joined()
        output = None if memory is None else memory.outputs[0]
        found: Tensor = _Rebuilt.apply(place, exact, x, output, *place.shared)
        return found


class _Pass:
    """One pass through a stack: everything but the tensors that gradients flow through."""

    def __init__(
        self,
        layers: list[list[Any]],
        padding: Tensor | None,
        memory_padding: Tensor | None,
        seed: int | None,
        one_at_a_time: bool,
        x: Tensor,
    ) -> None:
        self.layers, self.padding, self.memory_padding = layers, padding, memory_padding
        self.seed, self.one_at_a_time, self.device, self.dtype = seed, one_at_a_time, x.device, x.dtype
        self.modes = self._modes()
        self.mixing = [[node.weights for node in nodes] for nodes in layers]  # a node may get others after this pass
        parameters = [p for nodes in layers for node in nodes for p in node.parameters() if p.requires_grad]
        mixing = [weights for row in self.mixing for weights in row if weights is not None]
        self.shared = list({id(tensor): tensor for tensor in [*mixing, *parameters]}.values())
        kind = x.device.type
        casts = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)  # none on meta
        self.autocast = torch.get_autocast_dtype(kind) if casts else None
        self.kept: dict[tuple[int, int], Kept] = {}

    def forward(self, streams: Streams, memory: Memory | None, cache: Cache | None = None) -> Streams:
        """The streams, with what every node adds to them."""
        with self._random():
            for index, nodes in enumerate(self.layers):
                for k, node in enumerate(nodes):
                    self._start(index, k)
                    inside = None if cache is None else cache.setdefault(f"{index}.{k}", {})
                    value = node([streams.seen[i] for i in self._others(k)], self.padding, memory, inside)
                    kept = streams.add(k, value)
                    if kept is not None:
                        self.kept[index, k] = kept
        return streams

    def _others(self, k: int) -> list[int]:
        """The splits that node k reads, in its order."""
        return [*range(k + 1, len(self.layers[0])), *range(k)]

    def _modes(self) -> list[bool]:
        return [module.training for nodes in self.layers for node in nodes for module in node.modules()]

    @contextmanager
    def _random(self) -> Iterator[None]:
        """Random numbers inside come from this pass's seed and leave the global state as it was."""
        if self.seed is None:
            yield
            return
        cuda = self.device.type == "cuda"
        with (
            torch.cuda.device(self.device) if cuda else nullcontext(),
            torch.random.fork_rng(devices=[self.device.index] if cuda else []),
        ):
            yield

    def _start(self, layer: int, k: int) -> None:
        """Every node draws from a seed of its own."""
        if self.seed is not None:
            seed = (self.seed + 0x9E3779B97F4A7C15 * (layer * len(self.layers[0]) + k + 1)) % 2**63
            torch.default_generator.manual_seed(seed)
            if self.device.type == "cuda":
                torch.cuda.manual_seed(seed)

    def precision(self) -> Any:
        """Autocast as it was when the pass began, off included. Casts are not kept: what is cast without a graph must
        not serve a pass with one."""
        if not torch.amp.is_autocast_available(self.device.type):
            return nullcontext()
        return torch.autocast(
            self.device.type, enabled=self.autocast is not None, dtype=self.autocast, cache_enabled=False
        )

    @contextmanager
    def _without_hooks(self) -> Iterator[None]:
        """Hooks on weights stay silent inside: they are for the whole gradient, not for what one layer adds to it."""
        held: list[tuple[Any, Any]] = [(tensor, tensor._backward_hooks) for tensor in self.shared if tensor.is_leaf]
        held = [(tensor, hooks) for tensor, hooks in held if hooks]
        for tensor, _ in held:
            tensor._backward_hooks = None
        try:
            yield
        finally:
            for tensor, hooks in held:
                tensor._backward_hooks = hooks

    def backward(self, streams: Streams, memory: Tensor | None, gradient: Tensor, gradients: _Gradients) -> Tensor:
        """From what left the top, and its gradient, the gradient of what entered; the others go to `gradients`."""
        splits = len(self.layers[0])
        totals = [total.contiguous() for total in gradient.chunk(splits, dim=-1)]
        if self._modes() != self.modes:
            raise RuntimeError(
                "a reversible stack was switched between training and evaluation after its forward pass; expected its "
                "mode to stay until the backward pass, which repeats it"
            )
        with self._random(), self.precision(), self._without_hooks():
            for index in reversed(range(len(self.layers))):
                for k in reversed(range(splits)):
                    self._start(index, k)
                    order = self._others(k)
                    others = [streams.seen[i].detach().requires_grad_() for i in order]
                    value, found = self._node(index, k, others, memory, totals[k], gradients)
                    streams.subtract(k, value, self.kept.get((index, k)))
                    for i, deposit in zip(order, found, strict=True):
                        if deposit is not None:
                            totals[i] = totals[i] + deposit
        return torch.cat(totals, dim=-1)

    def _node(
        self, layer: int, k: int, others: list[Tensor], memory: Tensor | None, total: Tensor, gradients: _Gradients
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        """A node's value, and the gradients of its inputs."""
        node, mixing = self.layers[layer][k], self.mixing[layer][k]
        with torch.enable_grad():
            h = pool(others, node.pooling)
        if mixing is None or not self.one_at_a_time:
            weights = None if mixing is None else mixing.detach().requires_grad_(gradients.wanted(mixing))
            with torch.enable_grad():
                value = node.mix(h, weights, self.padding, self.memory(memory))
            parameters = list(node.parameters())
            found = _differentiate(value, [*others, *parameters, memory, weights], total)
            gradients.add([*parameters, memory, mixing], found[len(others) :])
            return value.detach(), found[: len(others)]
        leaf = h.detach().requires_grad_()
        value, deposit = None, None
        weights, inner = mixing.detach(), torch.zeros_like(mixing)
        for number, option in enumerate(node.options):
            with torch.enable_grad():
                output = node.option(number, leaf, self.padding, self.memory(memory))
            leaves = [leaf, *option.parameters(), memory]
            found = _differentiate(output, leaves, weights[number] * total)
            gradients.add(leaves[1:], found[1:])
            output = output.detach()
            inner[number] = torch.dot(total.view(-1), output.reshape(-1))
            if found[0] is not None:
                deposit = found[0] if deposit is None else deposit + found[0]
            value = weights[number] * output if value is None else torch.addcmul(value, output, weights[number])
        gradients.add([mixing], [inner])
        assert value is not None
        return value, [None] * len(others) if deposit is None else _differentiate(h, others, deposit)

    def memory(self, output: Tensor | None) -> Memory | None:
        return None if output is None else Memory([output], self.memory_padding)


def _differentiate(output: Tensor, leaves: Sequence[Tensor | None], gradient: Tensor) -> list[Tensor | None]:
    """The gradients of the leaves that want one and on which the output depends; None for the others."""
    if not output.requires_grad:
        return [None] * len(leaves)
    wanted = [i for i, leaf in enumerate(leaves) if leaf is not None and leaf.requires_grad]
    found: list[Tensor | None] = [None] * len(leaves)
    asked: Any = [leaves[i] for i in wanted]
    for i, part in zip(wanted, torch.autograd.grad(output, asked, gradient, allow_unused=True), strict=True):
        found[i] = part
    return found


class _Gradients:
    """Sums of gradients, by the tensor that they belong to."""

    def __init__(self, tensors: Sequence[Tensor | None], wanted: Sequence[bool]) -> None:
        self._wanted = {id(tensor) for tensor, want in zip(tensors, wanted, strict=True) if want}
        self._sums: dict[int, Tensor] = {}

    def wanted(self, tensor: Tensor) -> bool:
        """Whether a gradient of this tensor is asked for."""
        return id(tensor) in self._wanted

    def add(self, tensors: Sequence[Tensor | None], gradients: Sequence[Tensor | None]) -> None:
        """Deposit gradients (None: nothing)."""
        for tensor, gradient in zip(tensors, gradients, strict=True):
            if gradient is not None and id(tensor) in self._wanted:
                before = self._sums.get(id(tensor))
                self._sums[id(tensor)] = gradient if before is None else before + gradient

    def of(self, tensor: Tensor | None) -> Tensor | None:
        """What was deposited for a tensor."""
        return self._sums.get(id(tensor))


class _Rebuilt(torch.autograd.Function):
    """A stack whose backward pass rebuilds the activations from the output."""

    @staticmethod
    def forward(ctx: Any, place: _Pass, exact: bool, x: Tensor, memory: Tensor | None, *shared: Tensor) -> Tensor:
        with place.precision():
            streams = place.forward(Streams.of(x, len(place.layers[0]), exact=exact), place.memory(memory))
        y = streams.joined()
        ctx.place, ctx.exact = place, streams.exact
        ctx.save_for_backward(memory, *(streams.sums if streams.exact else [y]), *shared)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        place: _Pass = ctx.place
        memory, *saved = ctx.saved_tensors  # the shared ones too: this is where a change in between is noticed
        splits = len(place.layers[0])
        sums = saved[:splits] if ctx.exact else saved[0].chunk(splits, dim=-1)
        leaf = None if memory is None else memory.detach().requires_grad_(ctx.needs_input_grad[3])
        owners = [leaf, *place.shared]
        gradients = _Gradients(owners, ctx.needs_input_grad[3:])
        streams = Streams([part.detach().contiguous() for part in sums], place.dtype)
        entered = place.backward(streams, leaf, gradient, gradients)
        return None, None, entered, *(gradients.of(owner) for owner in owners)
