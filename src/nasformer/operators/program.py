"""Runs a program of primitives as one layer (docs/papers/primer.md §2.1).

The graph is read once: dead code never runs, branches are an axis of the tensors and not a loop, and groups of
primitives that stand together often run as one operation that computes the same: a z-score as layer normalisation,
exp → mask → division by the sum (with the matrix products around it, where they are attention) in few passes each way,
and dense maps of the same state, with the depthwise convolutions after them, as one map.

Inside a branching of `n` a state is (batch, n, time, channels), inside two of them (batch, n, m, time, channels); an
axis that no operation has filled yet has size 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.errors import RequestError
from nasformer.operators.depthwise import depthwise
from nasformer.operators.operator import Cache, xavier
from nasformer.spaces.primitives import PRIMITIVES, Primitive
from nasformer.spaces.program import TIME, Node, Resolved

_DEPTHWISE = tuple(name for name, primitive in PRIMITIVES.items() if primitive.group == "depthwise")
UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "ABS_ROOT": lambda x: x.abs().sqrt(),
    "SQUARE": lambda x: _Square.apply(x),
    "EXP": torch.exp,
    "LOG": lambda x: x.abs().log(),
    "ABS": torch.abs,
    "RECIP": lambda x: torch.where(x == 0, 0.0, 1 / torch.where(x == 0, 1.0, x)),
    "SIGN": torch.sign,
    "COS": torch.cos,
    "SIN": torch.sin,
    "TANH": torch.tanh,
    "SIGMOID": torch.sigmoid,
    "RED_MEAN": lambda x: x.mean(-1, True),
    "RED_SUM": lambda x: x.sum(-1, True),
    "RED_MIN": lambda x: x.amin(-1, True),
    "RED_MAX": lambda x: x.amax(-1, True),
    "RED_PROD": lambda x: x.prod(-1, True),
    "CUM_SUM": lambda x: x.cumsum(-2),
    "CUM_PROD": lambda x: x.cumprod(-2),
    "MASK": torch.tril,
}
"""Primitives of one state and nothing else: reductions over the last axis (kept with size 1), sums along time."""
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ADD": torch.add,
    "DIFFERENCE": torch.sub,
    "DIVIDE": torch.div,
    "MULTIPLY": torch.mul,
    "MAT_MUL": torch.matmul,
    "T_MAT_MUL": lambda x, y: x @ y.transpose(-2, -1),
}
CONSTANT: dict[str, Callable[[Tensor, float], Tensor]] = {
    "MAX": lambda x, c: F.relu(x) if c == 0 else x.clamp_min(c),
    "MIN": lambda x, c: x.clamp_max(c),
    "C_MUL": lambda x, c: x * c,
}


class ProgramBlock(nn.Module):
    """The layer that a resolved program describes.

    Args:
        resolved: the graph and the width of every node.
        length: how many positions weights along time have; None where the program has none.
        fused: whether groups of primitives run as one operation (the same to rounding, and faster).
    """

    def __init__(self, resolved: Resolved, length: int | None = None, *, fused: bool = True) -> None:
        super().__init__()
        self.length = length
        self.weights = nn.ParameterDict()
        self._nodes = resolved.graph
        graph, widths = resolved.graph, resolved.widths
        for place, shape in weight_shapes(resolved, length).items():
            self.weights[f"n{place}"] = nn.Parameter(torch.empty(shape))
        self._along_time = {place for place, node in enumerate(graph) if node.inputs and widths[node.inputs[0]] == TIME}
        self._steps = _plan(graph, fused=fused)

    def reset(self, generator: torch.Generator) -> None:
        """Dense convolutions Xavier uniform, each branch by itself; depthwise ones 0.5 for the present and 0.5/kernel
        for the past (our reading 22); scales 1, shifts 0."""
        for name, weight in self.weights.items():
            primitive = PRIMITIVES[self._nodes[int(name[1:])].operation]
            if primitive.name == "SHIFT":
                nn.init.zeros_(weight)
            elif primitive.name == "SCALE":
                nn.init.ones_(weight)
            elif primitive.group == "depthwise":
                nn.init.constant_(weight, 0.5 / primitive.kernel)
                with torch.no_grad():
                    weight[..., 0] = 0.5
            elif primitive.kernel == 1:
                xavier(weight, generator)
            else:
                xavier(weight, generator, primitive.kernel**-0.5)

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """x (batch, time, width) → (batch, time, width); a program knows of neither padding nor cache."""
        if self.length is not None and x.shape[-2] > self.length:
            raise RequestError(
                f"this program has weights along time for {self.length} positions, got {x.shape[-2]}; it cannot read "
                f"longer sequences than it was made for"
            )
        states: list[Tensor | None] = [x] + [None] * (len(self._nodes) - 1)
        for step in self._steps:
            inputs: list[Any] = [_inside(states[at], depth) for at, depth in step.inputs]
            made = step.run(self, *inputs)
            for place, state in zip(step.places, (made,) if isinstance(made, Tensor) else made, strict=True):
                states[place] = state
            for place in step.last_uses:
                states[place] = None
        result = states[-1]
        assert result is not None
        return result

    def weight(self, place: int, time: int) -> Tensor:
        """The weight of a node; along time, of the positions that are there."""
        weight: Tensor = self.weights[f"n{place}"]
        if place not in self._along_time:
            return weight
        primitive = PRIMITIVES[self._nodes[place].operation]
        if primitive.group == "vector":
            return weight[..., :time]
        if primitive.group == "depthwise":
            return weight[..., :time, :]
        return weight[..., :time] if primitive.kernel == 1 else weight[..., :time, :]


def weight_shapes(resolved: Resolved, length: int | None) -> dict[int, tuple[int, ...]]:
    """The shape of the weight of every node that has one, by its place: branches first.

    Raises `RequestError` where weights run along time and `length`, the number of positions, is None.
    """
    shapes: dict[int, tuple[int, ...]] = {}
    for place, node in enumerate(resolved.graph):
        primitive = PRIMITIVES.get(node.operation)
        if primitive is not None and primitive.group in ("vector", "convolution", "depthwise"):
            inside = resolved.widths[node.inputs[0]]
            if inside == TIME and length is None:
                raise RequestError(
                    f"{node.operation} has weights along time; expected the length of the program, got none"
                )
            width = length if inside == TIME else inside
            assert isinstance(width, int)
            shapes[place] = (*node.branches, *_shape(primitive, width, resolved.widths[place]))
    return shapes


def _shape(primitive: Primitive, inputs: int, outputs: Any) -> tuple[int, ...]:
    if primitive.group == "vector":
        return (inputs,)
    if primitive.group == "depthwise":
        return (inputs, primitive.kernel)
    return (outputs, inputs) if primitive.kernel == 1 else (outputs, inputs, primitive.kernel)


@dataclass(frozen=True)
class _Step:
    """One operation: the places of its results, its inputs (place, and the number of branch axes that they need), and
    the states that nobody reads after it."""

    places: tuple[int, ...]
    inputs: tuple[tuple[int, int], ...]
    run: Callable[..., Tensor | Sequence[Tensor]]
    last_uses: tuple[int, ...] = ()


def _inside(x: Tensor | None, depth: int) -> Tensor:
    """A state with as many branch axes as an operation inside `depth` branchings expects."""
    assert x is not None
    for _ in range(depth + 3 - x.dim()):
        x = x.unsqueeze(-3)
    return x


def _plan(graph: Sequence[Node], *, fused: bool) -> list[_Step]:
    readers = [0] * len(graph)
    for node in graph:
        for place in node.inputs:
            readers[place] += 1
    groups = _groups(graph, readers) if fused else {}
    gone = {inner for group in groups.values() for inner in group.gone}
    steps: list[_Step] = []
    for place, node in enumerate(graph):
        if node.operation == "INPUT" or place in gone:
            continue
        group = groups.get(place) or Fused(node.inputs, _operation(place, node), (), (place,))
        steps.append(_Step(group.makes, tuple((other, len(node.branches)) for other in group.inputs), group.run))
    return _with_last_uses(steps)


def _with_last_uses(steps: list[_Step]) -> list[_Step]:
    seen: set[int] = set()
    result = []
    for step in reversed(steps):
        now = {place for place, _ in step.inputs} - seen
        seen |= now
        result.append(_Step(step.places, step.inputs, step.run, tuple(now)))
    return result[::-1]


def _operation(place: int, node: Node) -> Callable[..., Tensor]:
    name, count = node.operation, node.branches[-1] if node.branches else 1
    if name == "JOIN":
        return lambda block, x: x.expand(*x.shape[:-3], count, *x.shape[-2:]).movedim(-3, -2).flatten(-2)
    group = PRIMITIVES[name].group
    if group == "binary":
        return lambda block, x, y: BINARY[name](x, y)
    if group == "constant":
        return lambda block, x: CONSTANT[name](x, node.value or 0.0)
    if group == "vector":
        along = torch.mul if name == "SCALE" else torch.add
        return lambda block, x: along(x, block.weight(place, x.shape[-2]).unsqueeze(-2))
    if group == "depthwise":
        return lambda block, x: depthwise(x, block.weight(place, x.shape[-2]))
    if group == "convolution":
        convolve = _dense if PRIMITIVES[name].kernel == 1 else _convolve
        return lambda block, x: convolve(x, block.weight(place, x.shape[-2]))
    return lambda block, x: UNARY[name](x)


def _dense(x: Tensor, weight: Tensor) -> Tensor:
    """x (batch, *branches or ones, time, in), weight (*branches, out, in) → (batch, *branches, time, out)."""
    branches, time = weight.shape[:-2], x.shape[-2]
    if not branches:
        return F.linear(x, weight)
    if x.numel() == x.shape[0] * time * x.shape[-1]:  # every branch reads the same: one product for all
        joined = F.linear(x.reshape(x.shape[0], time, -1), weight.flatten(0, -2))
        return joined.unflatten(-1, weight.shape[:-1]).movedim(1, -2)
    x = x.expand(x.shape[0], *branches, *x.shape[-2:]).flatten(1, -3)
    joined = torch.einsum("bkti,koi->bkto", x, weight.flatten(0, -3))
    return joined.unflatten(1, branches)


def _convolve(x: Tensor, weight: Tensor) -> Tensor:
    """x (batch, *branches or ones, time, in), weight (*branches, out, in, kernel) → (batch, *branches, time, out)."""
    branches, time, kernel = weight.shape[:-3], x.shape[-2], weight.shape[-1]
    shared = x.numel() == x.shape[0] * time * x.shape[-1]
    x = x if shared else x.expand(x.shape[0], *branches, *x.shape[-2:])
    channels = x.transpose(-2, -1).reshape(x.shape[0], -1, time)  # (batch, branches · in, time)
    groups = channels.shape[1] // x.shape[-1]
    joined = F.conv1d(F.pad(channels, (kernel - 1, 0)), weight.flip(-1).reshape(-1, *weight.shape[-2:]), groups=groups)
    return joined.unflatten(1, weight.shape[:-2]).transpose(-2, -1)


@dataclass(frozen=True)
class Fused:
    """Several nodes that run as one: their inputs, what runs, the places that it makes unnecessary, and those that it
    makes."""

    inputs: tuple[int, ...]
    run: Callable[..., Tensor | Sequence[Tensor]]
    gone: tuple[int, ...]
    makes: tuple[int, ...]


def _groups(graph: Sequence[Node], readers: list[int]) -> dict[int, Fused]:
    """What runs as one, by the place at which it runs."""
    groups = _parallel_maps(graph, readers)
    for place in range(len(graph)):
        found = (
            _attention(graph, readers, place)
            or _softmax(graph, readers, place)
            or _normalisation(graph, readers, place)
            or _root_mean_square(graph, readers, place)
            or _gated_by_itself(graph, readers, place)
            or _gelu(graph, readers, place)
        )
        if found is not None:
            groups[place] = found
    return groups


def _parallel_maps(graph: Sequence[Node], readers: list[int]) -> dict[int, Fused]:
    """CONV_1X1s of one state from outside all branchings; with them the depthwise convolutions that are their only
    readers, where each has one and all are equally long."""
    readers_of: dict[int, int] = {other: place for place, node in enumerate(graph) for other in node.inputs}
    siblings: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for place, node in enumerate(graph):
        if node.operation == "CONV_1X1" and not graph[node.inputs[0]].branches:
            siblings.setdefault((node.inputs[0], node.branches), []).append(place)
    groups: dict[int, Fused] = {}
    for (source, branches), maps in siblings.items():
        after = [readers_of.get(place, place) for place in maps]
        kinds = {(graph[reader].operation, graph[reader].branches) for reader in after}
        lone = all(readers[place] == 1 for place in maps) and kinds in [{(name, branches)} for name in _DEPTHWISE]
        if len(maps) > 1 or lone:
            makes = tuple(after) if lone else tuple(maps)
            gone = tuple(sorted({*maps, *makes} - {maps[0]}))
            groups[maps[0]] = Fused((source,), _joint(maps, after if lone else []), gone, makes)
    return groups


def _joint(maps: Sequence[int], taps: Sequence[int]) -> Callable[..., Sequence[Tensor]]:
    """What runs for the maps (and taps) at these places: one product over all channels of all branches."""

    def run(block: ProgramBlock, x: Tensor) -> Sequence[Tensor]:
        """x (batch, *ones, time, in) → for each map (batch, *branches, time, out)."""
        time = x.shape[-2]
        weights = [block.weight(place, time) for place in maps]
        shapes = [weight.shape[:-1] for weight in weights]
        y = F.linear(x.reshape(x.shape[0], time, -1), torch.cat([weight.flatten(0, -2) for weight in weights]))
        if taps:
            y = depthwise(y, torch.cat([block.weight(place, time).flatten(0, -2) for place in taps]))
        parts = y.split([shape.numel() for shape in shapes], dim=-1)
        return [part.unflatten(-1, shape).movedim(1, -2) for part, shape in zip(parts, shapes, strict=True)]

    return run


def _softmax(graph: Sequence[Node], readers: list[int], place: int) -> Fused | None:
    """DIVIDE(m, RED_SUM(m)) with m = MASK(EXP(x)), which nobody else reads."""
    node = graph[place]
    if node.operation != "DIVIDE":
        return None
    masked, total = node.inputs
    if graph[total].operation != "RED_SUM" or graph[total].inputs != (masked,) or readers[total] != 1:
        return None
    (exponential,) = graph[masked].inputs if graph[masked].operation == "MASK" else (0,)
    if graph[exponential].operation != "EXP" or readers[masked] != 2 or readers[exponential] != 1:
        return None
    if len({graph[other].branches for other in (place, masked, total, exponential)}) > 1:
        return None
    return Fused(
        graph[exponential].inputs, lambda block, x: _MaskedShare.apply(x), (exponential, masked, total), (place,)
    )


class _Square(torch.autograd.Function):
    """x², whose gradient takes two passes instead of the four of `torch.square`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return (gradients[0] * x).mul_(2)


class _MaskedShare(torch.autograd.Function):
    """exp(x), the upper triangle zero, divided by its sum over the last axis; overflows just as the primitives do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        share = x.exp().tril_()
        share.div_(share.sum(-1, True))
        ctx.save_for_backward(share)
        return share

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (share,) = ctx.saved_tensors
        weighted = gradients[0] * share
        return weighted.addcmul_(share, weighted.sum(-1, True), value=-1)


def _attention(graph: Sequence[Node], readers: list[int], place: int) -> Fused | None:
    """MAT_MUL(softmax(T_MAT_MUL(query, key)), value), where nobody else reads what is in between; a constant that
    multiplies the query is taken in."""
    if graph[place].operation != "MAT_MUL":
        return None
    share, value = graph[place].inputs
    softmax = _softmax(graph, readers, share)
    if softmax is None or readers[share] != 1:
        return None
    (scores,) = softmax.inputs
    if graph[scores].operation != "T_MAT_MUL" or readers[scores] != 1:
        return None
    query, key = graph[scores].inputs
    if len({graph[other].branches for other in (place, share, scores)}) > 1:
        return None
    scale, gone = 1.0, (*softmax.gone, share, scores)
    if graph[query].operation == "C_MUL" and readers[query] == 1:
        scale, gone = graph[query].value or 0.0, (*gone, query)
        (query,) = graph[query].inputs
    return Fused((query, key, value), lambda block, *qkv: _MaskedAttention.apply(*qkv, scale), gone, (place,))


class _MaskedAttention(torch.autograd.Function):
    """With e = exp(scale · q kᵀ), its upper triangle zero: e v divided by the sums of e; no maximum is subtracted.

    q, k and v are (batch, *branches or ones, time, channels). Their copies have the branches before the time, which
    products need, and the result lies in memory with the branches after it, where they are joined without a copy.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        ctx.shapes = q.shape, k.shape, v.shape
        ctx.scale = scale
        outer = torch.broadcast_shapes(*(shape[:-2] for shape in ctx.shapes))
        q, k, v = (x.expand(*outer, *x.shape[-2:]).flatten(0, -3) for x in (q, k, v))
        e = torch.baddbmm(q.new_empty(()), q, k.mT, beta=0, alpha=scale).exp_().tril_()
        total = e.sum(-1, True).unflatten(0, outer)
        result = v.new_empty(outer[0], v.shape[1], *outer[1:], v.shape[2]).movedim(1, -2)
        torch.div((e @ v).unflatten(0, outer), total, out=result)
        ctx.save_for_backward(q, k, v, e, total, result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, e, total, result = ctx.saved_tensors
        outer = total.shape[:-2]
        g = torch.div(gradients[0], total, out=v.new_empty(result.shape))
        mean = (g * result).sum(-1, True).flatten(0, -3)
        g = g.flatten(0, -3)
        to_scores = (g @ v.mT).sub_(mean).mul_(e)
        nothing = q.new_empty(())
        to_q = torch.baddbmm(nothing, to_scores, k, beta=0, alpha=ctx.scale)
        to_k = torch.baddbmm(nothing, to_scores.mT, q, beta=0, alpha=ctx.scale)
        found = (to_q, to_k, e.mT @ g)
        return *(x.unflatten(0, outer).sum_to_size(s) for x, s in zip(found, ctx.shapes, strict=True)), None


def _normalisation(graph: Sequence[Node], readers: list[int], place: int) -> Fused | None:
    """A z-score, (x − mean) / √|mean of squares|, with the SCALE and the SHIFT after it where they are its only
    readers; the mean of x · (x − mean) is that of squares (docs/papers/primer.md §2.3)."""
    inner: list[int] = []
    at = place
    vectors: dict[str, int] = {}
    for name in ("SHIFT", "SCALE"):
        if graph[at].operation == name:
            vectors[name] = at
            (before,) = graph[at].inputs
            if readers[before] != 1:
                return None
            inner.append(at)
            at = before
    if graph[at].operation != "DIVIDE":
        return None
    centred, root = graph[at].inputs
    if graph[centred].operation != "DIFFERENCE" or graph[root].operation != "ABS_ROOT":
        return None
    x, mean = graph[centred].inputs
    (variance,) = graph[root].inputs
    if graph[mean].operation != "RED_MEAN" or graph[mean].inputs != (x,) or graph[variance].operation != "RED_MEAN":
        return None
    (squares,) = graph[variance].inputs
    operation, operands = graph[squares].operation, graph[squares].inputs
    both = operation == "MULTIPLY" and set(operands) in ({x, centred}, {centred})
    if not both and (operation, operands) != ("SQUARE", (centred,)):
        return None
    reads_centred = 1 + operands.count(centred)
    alone = readers[mean] == readers[root] == readers[variance] == readers[squares] == 1
    inner += [at, centred, root, mean, variance, squares]
    if not alone or readers[centred] != reads_centred or len({graph[other].branches for other in inner}) > 1:
        return None
    if any(graph[other].branches for other in vectors.values()):
        return None
    scale, shift = vectors.get("SCALE"), vectors.get("SHIFT")

    def run(block: ProgramBlock, x: Tensor) -> Tensor:
        time = x.shape[-2]
        weight = None if scale is None else block.weight(scale, time)
        bias = None if shift is None else block.weight(shift, time)
        return F.layer_norm(x, x.shape[-1:], weight, bias, 0.0)

    return Fused((x,), run, tuple(other for other in inner if other != place), (place,))


def _root_mean_square(graph: Sequence[Node], readers: list[int], place: int) -> Fused | None:
    """x / √|mean of squares| (RMS normalisation without its gain), where nobody else reads what is in between."""
    if graph[place].operation != "DIVIDE":
        return None
    x, root = graph[place].inputs
    inner = []
    for operation in ("ABS_ROOT", "RED_MEAN", "SQUARE"):
        if graph[root].operation != operation or readers[root] != 1 or graph[root].branches != graph[place].branches:
            return None
        inner.append(root)
        (root,) = graph[root].inputs
    return Fused((x,), lambda block, x: _RootMeanSquare.apply(x), tuple(inner), (place,)) if root == x else None


class _RootMeanSquare(torch.autograd.Function):
    """x / √(mean of x²) over the last axis."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).mul_(x.shape[-1] ** -0.5).reciprocal_()
        result = x * inverse
        ctx.save_for_backward(result, inverse)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        result, inverse = ctx.saved_tensors
        mean = (gradients[0] * result).mean(-1, True)
        return torch.addcmul(gradients[0], result, mean, value=-1).mul_(inverse)


def _gated_by_itself(graph: Sequence[Node], readers: list[int], place: int) -> Fused | None:
    """MULTIPLY(SIGMOID(x), x), which is SiLU."""
    if graph[place].operation != "MULTIPLY":
        return None
    for gate, x in (graph[place].inputs, graph[place].inputs[::-1]):
        node = graph[gate]
        alone = readers[gate] == 1 and node.branches == graph[place].branches
        if alone and (node.operation, node.inputs) == ("SIGMOID", (x,)):
            return Fused((x,), lambda block, x: F.silu(x), (gate,), (place,))
    return None


_GELU: tuple[tuple[str, float | None, int], ...] = (
    ("C_MUL", 0.5, 0),
    ("ADD", None, 0),
    ("MULTIPLY", None, 0),
    ("TANH", None, 0),
    ("C_MUL", 0.7978845608028654, 0),
    ("ADD", None, 1),
    ("C_MUL", 0.044715, 0),
    ("MULTIPLY", None, 0),
    ("SQUARE", None, 0),
)
"""½ (x + x · tanh(√(2/π) (x + 0.044715 x³))) from its end to x, as `spaces/known_programs.py` writes it: operation,
constant, and the input that leads on; the other one is x."""


def _gelu(graph: Sequence[Node], readers: list[int], place: int) -> Fused | None:
    """GELU in its tanh form, where nobody else reads what is in between."""
    at, inner, others = place, [], set()
    for operation, value, leads in _GELU:
        node = graph[at]
        if (node.operation, node.value, node.branches) != (operation, value, graph[place].branches):
            return None
        if at != place and readers[at] != 1:
            return None
        inner.append(at)
        others |= {other for index, other in enumerate(node.inputs) if index != leads}
        at = node.inputs[leads]
    gelu = Fused((at,), lambda block, x: F.gelu(x, approximate="tanh"), tuple(inner[1:]), (place,))
    return gelu if others == {at} else None
