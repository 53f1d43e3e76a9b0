"""The reversible stack: the backward pass that rebuilds activations gives the gradients of plain autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from nasformer.operators import reversible
from nasformer.operators.attention import CrossAttention, Memory, SelfAttention
from nasformer.operators.constant import Identity, Zero
from nasformer.operators.feedforward import FeedForward
from nasformer.operators.normalization import Sublayer
from nasformer.operators.operator import reset
from nasformer.operators.reversible import Backward, Node, ReversibleStack

BATCH, TIME, WIDTH, MEMORY, LAYERS = 2, 5, 8, 16, 6
KINDS = ("attention", "feed_forward", "zero", "identity", "cross")


def option(kind: str, dropout: float) -> nn.Module:
    """An option of a node, wrapped as a node wraps it."""
    if kind in ("zero", "identity"):
        return Zero() if kind == "zero" else Identity()
    operator: nn.Module = FeedForward(WIDTH, 16)
    if kind == "attention":
        operator = SelfAttention(WIDTH, heads=2, dropout=dropout)
    elif kind == "cross":
        operator = CrossAttention(WIDTH, MEMORY, heads=2, dropout=dropout)
    return Sublayer(operator, WIDTH, norm="post", residual=dropout)


def randomised(module: Any, seed: int = 0) -> Any:
    """The module in float64, in training, every weight random, norms and biases included."""
    generator = torch.Generator().manual_seed(seed)
    reset(module, generator)
    module = module.double().train()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def normal(*shape: int, seed: int) -> Tensor:
    """Normal numbers in float64 that want a gradient."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


class Bench:
    """A stack with all that enters it: a stream, a memory, both paddings, and a vector of logits for each split."""

    def __init__(
        self, splits: int, pooling: Any = "max", *, mixed: bool = True, layers: int = LAYERS, dropout: float = 0.3
    ) -> None:
        self.logits = [normal(len(KINDS), seed=50 + k) for k in range(splits)] if mixed else []

        def node(layer: int, k: int) -> Node:
            kinds = KINDS if mixed else KINDS[(layer + k) % len(KINDS) :][:1]
            return Node([option(kind, dropout) for kind in kinds], pooling, torch.ones(len(kinds)) if mixed else None)

        self.stack = randomised(ReversibleStack([[node(i, k) for k in range(splits)] for i in range(layers)]))
        self.x, self.memory = normal(BATCH, TIME, splits * WIDTH, seed=1), normal(BATCH, 4, MEMORY, seed=2)
        self.padding, self.hidden = torch.zeros(BATCH, TIME).bool(), torch.zeros(BATCH, 4).bool()
        self.padding[1, 3:] = self.hidden[0, :1] = True

    def mix(self, logits: Sequence[Tensor] | None = None) -> None:
        """New mixing weights from logits."""
        weights = [tensor.softmax(0) for tensor in (self.logits if logits is None else logits)]
        for nodes in self.stack.nodes():
            for node, mixing in zip(nodes, weights, strict=False):
                node.weights = mixing

    def leaves(self) -> dict[str, Tensor]:
        """Everything that gets a gradient, by name."""
        logits = {f"logits.{k}": tensor for k, tensor in enumerate(self.logits)}
        return {"x": self.x, "memory": self.memory} | logits | dict(self.stack.named_parameters())

    def run(self, x: Tensor | None = None, **ways: Any) -> Tensor:
        """The stack on its stream (or another)."""
        return self.stack(self.x if x is None else x, self.padding, Memory([self.memory], self.hidden), **ways)

    def gradients(self, backward: Backward, loss: Callable[[Bench, dict], Tensor] | None = None, **ways: Any) -> Found:
        """What a loss (by default one that uses the memory directly, too) gives, with every gradient by name."""
        torch.manual_seed(7)
        self.mix()
        ways = {"backward": backward, **ways}
        if loss is None:
            value = (self.run(**ways) ** 2).mean() + (self.memory**3).mean()
        else:
            value = loss(self, ways)
        leaves = self.leaves()
        found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        return value.detach(), dict(zip(leaves, found, strict=True))


Found = tuple[Tensor, dict[str, Tensor | None]]


def difference(one: Tensor | None, other: Tensor | None) -> float:
    """The greatest difference of two gradients, relative to the greatest entry; None is zero."""
    if one is None or other is None:
        rest = one if other is None else other
        return 0.0 if rest is None else float(rest.abs().max())
    return float((one - other).abs().max() / one.abs().max().clamp(min=1e-3))


def worst(one: Found, other: Found) -> float:
    """The greatest relative difference among the gradients (the losses must be the same)."""
    assert torch.equal(one[0], other[0])
    assert one[1].keys() == other[1].keys()
    return max(difference(one[1][name], other[1][name]) for name in one[1])


@pytest.mark.slow
@pytest.mark.parametrize("one_at_a_time", [True, False])
@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("pooling", ["max", "mean"])
@pytest.mark.parametrize("splits", [2, 3, 4, 5])
def test_gradients_are_those_of_plain_autograd(splits: int, pooling: str, mixed: bool, one_at_a_time: bool) -> None:
    bench = Bench(splits, pooling, mixed=mixed)
    plain = bench.gradients("stored")
    assert worst(plain, bench.gradients("rebuilt", one_at_a_time=one_at_a_time)) < 1e-9
    assert all(found is not None and found.abs().max() > 0 for found in plain[1].values())


@pytest.mark.parametrize("one_at_a_time", [True, False])
@pytest.mark.parametrize("splits", [2, 3])
def test_gradients_of_logits_sum_to_zero(splits: int, one_at_a_time: bool) -> None:
    bench = Bench(splits)
    _, found = bench.gradients("rebuilt", one_at_a_time=one_at_a_time)
    for k in range(splits):
        assert abs(found[f"logits.{k}"].sum()) < 1e-12 < found[f"logits.{k}"].abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["max", "mean"])
@pytest.mark.parametrize("splits", [2, 3, 4, 5])
def test_inputs_are_rebuilt(splits: int, pooling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Tensor]] = []
    pool = reversible.pool

    def watch(inputs: Sequence[Tensor], pooling: Any) -> Tensor:
        seen.append([part.detach() for part in inputs])
        return pool(inputs, pooling)

    monkeypatch.setattr(reversible, "pool", watch)
    bench = Bench(splits, pooling)
    bench.gradients("rebuilt")
    there, back = seen[: LAYERS * splits], seen[LAYERS * splits :]
    assert len(there) == len(back)
    for first, second in zip(there, reversed(back), strict=True):
        assert len(first) == len(second) == splits - 1
        assert all((one - other).abs().max() < 1e-12 for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("backward", ["stored", "rebuilt"])
def test_two_splits_are_the_coupling_of_revnet(backward: Backward) -> None:
    bench = Bench(2, mixed=False, layers=3, dropout=0.0)
    memory = Memory([bench.memory], bench.hidden)

    def g(node: Node, x: Tensor) -> Tensor:
        attends = isinstance(getattr(node.options[0], "operator", None), CrossAttention)
        return node.options[0](x, memory if attends else bench.padding)

    y = bench.run(backward=backward)
    first, second = bench.x.chunk(2, dim=-1)
    for one, two in bench.stack.nodes():
        first = first + g(one, second)
        second = second + g(two, first)
    assert torch.allclose(y, torch.cat([first, second], dim=-1), rtol=0, atol=1e-14)


@pytest.mark.parametrize("backward", ["stored", "rebuilt"])
def test_three_splits_are_the_three_lines(backward: Backward) -> None:
    bench = Bench(3, "max", layers=1, dropout=0.0)
    bench.mix()
    g = [lambda *inputs, n=n: n(inputs, bench.padding, Memory([bench.memory], bench.hidden))
         for n in bench.stack.nodes()[0]]  # fmt: skip
    x1, x2, x3 = bench.x.chunk(3, dim=-1)
    y1 = x1 + g[0](x2, x3)
    y2 = x2 + g[1](x3, y1)
    y3 = x3 + g[2](y1, y2)
    assert torch.equal(bench.run(backward=backward), torch.cat([y1, y2, y3], dim=-1))
    assert torch.allclose(y3 - g[2](y1, y2), x3, rtol=0, atol=1e-14)
    h, node = torch.maximum(x2, x3), bench.stack.nodes()[0][0]
    memory = Memory([bench.memory], bench.hidden)
    parts = [option(h, memory if number == 4 else bench.padding) for number, option in enumerate(node.options)]
    expected = sum(weight * part for weight, part in zip(bench.logits[0].softmax(0), parts, strict=True))
    assert torch.allclose(y1 - x1, expected, rtol=0, atol=1e-13)


def test_weights_may_be_used_twice() -> None:
    bench = Bench(3, layers=3)
    nodes = bench.stack.nodes()
    bench.stack = ReversibleStack([nodes[0], nodes[1], nodes[0], [nodes[2][0], nodes[1][2], nodes[0][1]]])
    assert worst(bench.gradients("stored"), bench.gradients("rebuilt")) < 1e-9


def test_gradients_accumulate_over_batches() -> None:
    bench, found = Bench(3), []
    for backward in ("stored", "rebuilt"):
        torch.manual_seed(3)
        for leaf in bench.leaves().values():
            leaf.grad = None
        for scale in (1.0, -0.7):
            bench.mix()
            bench.run(scale * bench.x, backward=backward).square().mean().backward()
        found.append((torch.zeros(()), {name: leaf.grad for name, leaf in bench.leaves().items()}))
    assert worst(*found) < 1e-9


@pytest.mark.slow
def test_two_passes_may_be_in_flight() -> None:
    bench = Bench(3)
    others = [logits.detach().flip(0) for logits in bench.logits]

    def loss(bench: Bench, ways: dict) -> Tensor:
        first = bench.run(**ways)
        bench.mix(others)
        second = bench.run(bench.x.flip(1), **ways)
        bench.mix([logits.roll(1) for logits in bench.logits])
        return (first * second).mean()

    for one_at_a_time in (True, False):
        rebuilt = bench.gradients("rebuilt", loss, one_at_a_time=one_at_a_time)
        assert worst(bench.gradients("stored", loss), rebuilt) < 1e-9


class Network(nn.Module):
    """Ordinary layers around two stacks: what leaves the first is the memory of the second."""

    def __init__(self, dropout: float = 0.3, seed: int = 4) -> None:
        super().__init__()

        def stack(splits: int, kinds: Sequence[str]) -> ReversibleStack:
            return ReversibleStack(
                [[Node([option(kinds[(i + k) % len(kinds)], dropout)], "max") for k in range(splits)] for i in range(3)]
            )

        self.encoder_input, self.decoder_input = nn.Linear(6, 2 * WIDTH), nn.Linear(6, 3 * WIDTH)
        self.encoder, self.decoder = stack(2, KINDS[:2]), stack(3, ("cross", "attention", "feed_forward"))
        self.output = nn.Linear(3 * WIDTH, 3)
        self.dropout = dropout
        self.backward: Backward = "rebuilt"
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for linear in (self.encoder_input, self.decoder_input, self.output):
                linear.reset_parameters()
        randomised(self, seed)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """source (batch, source, 6), target (batch, target, 6) → (batch, target, 3)."""
        x = F.dropout(torch.relu(self.encoder_input(source)), self.dropout, self.training)
        memory = Memory([self.encoder(x, backward=self.backward)], None)
        y = self.decoder(self.decoder_input(target).tanh(), None, memory, backward=self.backward)
        return self.output(F.dropout(y, self.dropout, self.training))


def network_gradients(model: nn.Module, source: Tensor, target: Tensor) -> Found:
    """The loss of a network and its gradients."""
    torch.manual_seed(11)
    loss = model(source, target).square().mean()
    names = [name for name, _ in model.named_parameters()]
    found = torch.autograd.grad(loss, [*model.parameters(), source, target])
    return loss.detach(), dict(zip([*names, "source", "target"], found, strict=True))


SOURCE, TARGET = normal(4, 7, 6, seed=8), normal(4, 5, 6, seed=9)


def test_stacks_inside_a_larger_network() -> None:
    model, found = Network(), []
    for backward in ("stored", "rebuilt"):
        model.backward = backward
        found.append(network_gradients(model, SOURCE, TARGET))
    assert worst(*found) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_gives_the_same(backend: str) -> None:
    torch.compiler.reset()
    model = Network()
    plain = network_gradients(model, SOURCE, TARGET)
    compiled = torch.compile(model, backend=backend)
    loss, found = network_gradients(compiled, SOURCE, TARGET)
    named = {name.removeprefix("_orig_mod."): tensor for name, tensor in found.items()}
    assert torch.allclose(loss, plain[0], rtol=0, atol=1e-12)
    assert worst(plain, (plain[0], named)) < 1e-9
    torch.compiler.reset()


@pytest.mark.slow
def test_the_passes_of_a_stack_are_in_no_compiled_graph() -> None:
    calls: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: list[Any]) -> Any:
        calls.extend(str(node.target) for node in graph.graph.nodes if node.op.startswith("call"))
        return graph.forward

    torch.compiler.reset()
    network_gradients(torch.compile(Network(), backend=backend), SOURCE, TARGET)
    torch.compiler.reset()
    assert sum("linear" in call for call in calls) == 3  # around the stacks
    assert not any("cat" in call or "layer_norm" in call for call in calls)


def _half(rank: int, folder: str) -> None:
    """One of two processes: the gradients of its half of the batch, averaged with the other's."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(Network(dropout=0.0), bucket_cap_mb=0.01)
    for _ in range(2):  # the second time in the buckets that the first one ordered
        model.zero_grad()
        model(SOURCE[rank::2].detach(), TARGET[rank::2].detach()).square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in model.module.named_parameters()}
    torch.save(gradients, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not distributed.is_available(), reason="needs torch.distributed")
def test_two_processes_give_the_gradients_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_half, (str(tmp_path),), nprocs=2)
    model = Network(dropout=0.0)
    model.backward = "stored"
    _, whole = network_gradients(model, SOURCE, TARGET)
    for rank in range(2):
        halves = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert halves.keys() == whole.keys() - {"source", "target"}
        assert all(difference(whole[name], found) < 1e-9 for name, found in halves.items())


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_kept(guard: Callable[[], Any]) -> None:
    bench = Bench(3)
    bench.mix()
    torch.manual_seed(1)
    expected = bench.run(backward="stored")
    torch.manual_seed(1)
    with guard():
        found = bench.run(backward="rebuilt")
    assert not found.requires_grad
    assert found.grad_fn is None
    assert torch.equal(found, expected)


def kept_bytes(bench: Bench, backward: Backward) -> int:
    """Bytes that a forward pass keeps for its backward pass, without weights."""
    weights = {tensor.data_ptr() for tensor in bench.stack.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    bench.mix()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = bench.run(backward=backward)
    assert loss.requires_grad
    return sum(kept.values())


def test_what_is_kept_does_not_grow_with_depth() -> None:
    shallow, deep = Bench(3, layers=2), Bench(3, layers=12)
    assert kept_bytes(shallow, "rebuilt") == kept_bytes(deep, "rebuilt")
    assert kept_bytes(deep, "stored") > 5 * kept_bytes(shallow, "stored")
    assert kept_bytes(deep, "rebuilt") < kept_bytes(deep, "stored") / 50


class Products(TorchDispatchMode):
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm)
        return function(*args, **(kwargs or {}))


def backward_work(bench: Bench, one_at_a_time: bool) -> int:
    """The matrix products of a backward pass."""
    bench.mix()
    loss = bench.run(backward="rebuilt", one_at_a_time=one_at_a_time).sum()
    with Products() as products:
        loss.backward()
    return products.count


@pytest.mark.slow
@pytest.mark.parametrize("one_at_a_time", [True, False])
def test_frozen_weights_get_no_gradient_and_cost_nothing(one_at_a_time: bool) -> None:
    bench = Bench(2)
    names = [name for name, _ in bench.stack.named_parameters()]
    _, whole = bench.gradients("stored")
    everything = backward_work(bench, one_at_a_time)
    frozen = set(names[::2])
    for name, parameter in bench.stack.named_parameters():
        parameter.requires_grad_(name not in frozen)
        parameter.grad = None
    bench.mix()
    torch.manual_seed(7)
    loss = (bench.run(backward="rebuilt", one_at_a_time=one_at_a_time) ** 2).mean() + (bench.memory**3).mean()
    loss.backward()
    for name, parameter in bench.stack.named_parameters():
        if name in frozen:
            assert parameter.grad is None, name
        else:
            assert difference(whole[name], parameter.grad) < 1e-9, name
    for parameter in bench.stack.parameters():
        parameter.requires_grad_(False)
    assert 0 < backward_work(bench, one_at_a_time) < 0.8 * everything


def test_a_pass_for_one_input_alone() -> None:
    bench = Bench(3, mixed=False)
    for leaf in bench.leaves().values():
        leaf.requires_grad_(False)
    bench.memory.requires_grad_()
    found = []
    for backward in ("stored", "rebuilt"):
        torch.manual_seed(7)
        found.append(torch.autograd.grad(bench.run(backward=backward).square().sum(), bench.memory)[0])
    assert difference(*found) < 1e-9


def test_a_kept_graph_can_be_walked_again() -> None:
    bench = Bench(3)
    bench.mix()
    loss = bench.run(backward="rebuilt").square().mean()
    first = torch.autograd.grad(loss, bench.x, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(loss, bench.x)[0], first)


def test_another_seed_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(2)
    plain, backward = bench.gradients("stored"), reversible._Pass.backward

    def other_seed(self: Any, *given: Any) -> Tensor:
        self.seed += 1
        return backward(self, *given)

    monkeypatch.setattr(reversible._Pass, "backward", other_seed)
    assert worst(plain, bench.gradients("rebuilt")) > 1e-2


@pytest.mark.parametrize("mixed", [True, False])
def test_missing_deposits_would_be_noticed(mixed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(3, mixed=mixed)
    plain, node = bench.gradients("stored"), reversible._Pass._node

    def none(self: Any, *given: Any) -> tuple[Tensor, list[None]]:
        value, found = node(self, *given)
        return value, [None] * len(found)

    monkeypatch.setattr(reversible._Pass, "_node", none)
    assert worst(plain, bench.gradients("rebuilt")) > 1e-2


def test_passes_draw_other_dropout_and_nodes_too() -> None:
    bench = Bench(2, mixed=False, layers=2)
    one, two = bench.run(), bench.run()
    assert not torch.equal(one, two)
    stack = ReversibleStack([[Node([option("feed_forward", 0.3)], "max") for _ in range(2)] for _ in range(2)])
    randomised(stack)
    masks: list[Tensor] = []
    for nodes in stack.nodes():
        for node in nodes:
            node.options[0].register_forward_hook(lambda *_: masks.append(torch.rand(9)))
    stack(bench.x)
    assert len(masks) == len({tuple(mask.tolist()) for mask in masks}) == 4


def test_the_global_random_state_is_left_alone() -> None:
    bench, states = Bench(3), []
    bench.mix()
    for backward in ("stored", "rebuilt"):
        torch.manual_seed(5)
        loss = bench.run(backward=backward).sum()
        states.append(torch.get_rng_state())
        loss.backward(retain_graph=True)
        assert torch.equal(torch.get_rng_state(), states[-1])
    torch.manual_seed(5)
    untouched = torch.get_rng_state()
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], untouched)  # one number was drawn: the seed of the pass
    bench.stack.eval()
    bench.run(backward="rebuilt").sum().backward()
    assert torch.equal(torch.get_rng_state(), untouched)


@pytest.mark.parametrize("which", ["weight", "mixing", "output", "memory"])
def test_a_change_in_place_is_noticed(which: str) -> None:
    bench = Bench(2)
    bench.memory = bench.memory * 1.0
    bench.mix()
    y = bench.run(backward="rebuilt")
    loss = y.square().mean()
    changed = {"weight": next(bench.stack.parameters()), "output": y, "memory": bench.memory}
    with torch.no_grad():
        changed.get(which, bench.stack.nodes()[1][1].weights).mul_(1.01)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_second_derivative_is_refused() -> None:
    bench = Bench(2)
    bench.mix()
    (first,) = torch.autograd.grad(bench.run(backward="rebuilt").square().mean(), bench.x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first.square().sum().backward()


def test_a_change_of_mode_before_the_backward_pass_is_refused() -> None:
    bench = Bench(2)
    bench.mix()
    loss = bench.run(backward="rebuilt").mean()
    bench.stack.eval()
    with pytest.raises(RuntimeError, match="between training and evaluation"):
        loss.backward(retain_graph=True)
    bench.stack.train()
    loss.backward()


def test_a_hook_on_a_weight_sees_its_whole_gradient_once() -> None:
    bench = Bench(2, layers=3)
    nodes = bench.stack.nodes()
    bench.stack = ReversibleStack([*nodes, nodes[0]])
    _, plain = bench.gradients("stored")
    seen: dict[str, list[Tensor]] = {}
    for name, leaf in bench.leaves().items():
        leaf.register_hook(lambda gradient, name=name: seen.setdefault(name, []).append(gradient) or 2 * gradient)
    _, found = bench.gradients("rebuilt")
    assert seen.keys() == plain.keys()
    for name, gradients in seen.items():
        assert len(gradients) == 1, name
        assert difference(plain[name], gradients[0]) < 1e-9, name
        assert difference(2 * plain[name], found[name]) < 1e-9, name


def test_ties_of_the_maximum_that_are_rebuilt_exactly() -> None:
    """Where nodes 1 and 3 are Zero, Y_1 = X_1 and X_3 stay equal: the second node's gradient is shared by both."""
    kinds = ("zero", "feed_forward", "zero")
    stack = randomised(ReversibleStack([[Node([option(kind, 0.3)], "max") for kind in kinds] for _ in range(LAYERS)]))
    first, second = normal(BATCH, TIME, WIDTH, seed=1), normal(BATCH, TIME, WIDTH, seed=2)
    x = torch.cat([first, second, first], dim=-1).detach().requires_grad_()
    found = []
    for backward in ("stored", "rebuilt"):
        torch.manual_seed(1)
        y = stack(x, backward=backward)
        found.append(torch.autograd.grad(y[..., WIDTH : 2 * WIDTH].square().sum(), [x, *stack.parameters()]))
    assert all(difference(one, other) < 1e-9 for one, other in zip(*found, strict=True))
    one, _, three = found[1][0].chunk(3, dim=-1)
    assert torch.equal(one, three)
    assert one.abs().max() > 0


def test_a_tie_that_rounding_breaks_moves_a_gradient_and_loses_none() -> None:
    """X_3 is rebuilt but for rounding: which of two equal inputs gets the second node's gradient is left open."""
    kinds = ("zero", "feed_forward", "feed_forward")
    stack = randomised(ReversibleStack([[Node([option(kind, 0.3)], "max") for kind in kinds]]))
    first, second = normal(BATCH, TIME, WIDTH, seed=1), normal(BATCH, TIME, WIDTH, seed=2)
    x = torch.cat([first, second, first], dim=-1).detach().requires_grad_()
    sums, weights = [], []
    for backward in ("stored", "rebuilt"):
        torch.manual_seed(1)
        found = torch.autograd.grad(stack(x, backward=backward).square().sum(), [x, *stack.parameters()])
        one, two, three = found[0].chunk(3, dim=-1)
        sums.append((one + three, two))
        weights.append(found[1:])
    assert all(difference(one, other) < 1e-9 for one, other in zip(*sums, strict=True))
    assert all(difference(one, other) < 1e-9 for one, other in zip(*weights, strict=True))


def total(found: Found) -> Tensor:
    """All gradients in one vector."""
    return torch.cat([tensor.flatten().float() for tensor in found[1].values() if tensor is not None])


def single_precision(bench: Bench) -> Bench:
    """The bench in float32."""
    bench.stack.float()
    bench.x, bench.memory = (tensor.detach().float().requires_grad_() for tensor in (bench.x, bench.memory))
    bench.logits = [logits.detach().float().requires_grad_() for logits in bench.logits]
    return bench


@pytest.mark.slow
@pytest.mark.parametrize("one_at_a_time", [True, False])
@pytest.mark.parametrize("splits", [2, 3])
def test_under_autocast_the_streams_stay_in_float32(splits: int, one_at_a_time: bool) -> None:
    bench = single_precision(Bench(splits))

    def loss(bench: Bench, ways: dict) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = bench.run(**ways)
            assert bench.stack.nodes()[0][0].options[1].operator(bench.x[..., :WIDTH]).dtype == torch.bfloat16
            assert bench.run(bench.x.bfloat16(), **ways).dtype == torch.float32
        assert y.dtype == torch.float32
        return y.square().mean()

    plain, rebuilt = (bench.gradients(way, loss, one_at_a_time=one_at_a_time) for way in ("stored", "rebuilt"))
    one, other = total(plain), total(rebuilt)
    assert one.shape == other.shape
    assert float((one - other).norm() / one.norm()) < 2e-2
    assert all(tensor.dtype == torch.float32 for tensor in rebuilt[1].values() if tensor is not None)


def test_under_autocast_weights_used_again_still_get_gradients() -> None:
    bench = single_precision(Bench(2, mixed=False))
    layer, h = bench.stack.nodes()[0][1].options[0].operator, bench.x[..., :WIDTH].detach()
    assert isinstance(layer, FeedForward)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = bench.run(backward="rebuilt")
        again = layer(h).float().square().sum()
    found = torch.autograd.grad(again, list(layer.parameters()))
    assert all(tensor.abs().max() > 0 for tensor in found)
    assert y.requires_grad


def test_the_backward_pass_has_the_precision_of_the_forward_pass() -> None:
    bench, found = single_precision(Bench(2)), []
    for around in (False, True):
        torch.manual_seed(3)
        bench.mix()
        loss = bench.run(backward="rebuilt").square().mean()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=around):
            found.append(torch.autograd.grad(loss, [bench.x, *bench.stack.parameters()]))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
