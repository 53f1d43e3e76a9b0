"""Exact streams: float32 networks, Identity among them, are rebuilt to the bit at any depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nasformer.errors import RequestError
from nasformer.operators import reversible
from nasformer.operators.attention import SelfAttention
from nasformer.operators.constant import Identity
from nasformer.operators.feedforward import FeedForward
from nasformer.operators.normalization import Sublayer
from nasformer.operators.operator import reset
from nasformer.operators.reversible import Node, ReversibleStack
from nasformer.operators.streams import Streams

BATCH, TIME, WIDTH = 2, 5, 12
DRAWS: dict[str, str] = {"working": "fa", "half identity": "if", "mostly identity": "iiif"}
"""Layers that repeat: feed-forward, attention, or Identity, in all their nodes."""


def stack(kinds: str, depth: int, splits: int = 2, dropout: float = 0.0, identity: float | None = None) -> Any:
    """So many layers of the kinds in turn; `identity` is its weight beside them in every node."""

    def option(kind: str) -> nn.Module:
        if kind == "i":
            return Identity()
        attention = SelfAttention(WIDTH, heads=2, dropout=dropout)
        operator = attention if kind == "a" else FeedForward(WIDTH, 2 * WIDTH)
        return Sublayer(operator, WIDTH, norm="post", residual=dropout)

    def node(layer: int) -> Node:
        kind = kinds[layer % len(kinds)]
        if identity is None:
            return Node([option(kind)], "max")
        return Node([option("i"), option(kind)], "max", torch.tensor([identity, 1 - identity]))

    found = ReversibleStack([[node(layer) for _ in range(splits)] for layer in range(depth)])
    reset(found, torch.Generator().manual_seed(3))
    return found.train()


def gradients(network: Any, dtype: torch.dtype = torch.float32, *, seed: int = 1, **ways: Any) -> Tensor:
    """Of the input and all weights, in one vector, for a loss of the normalised output; `seed` draws the input."""
    generator = torch.Generator().manual_seed(seed)
    network = network.to(dtype)
    x, target = (torch.randn(BATCH, TIME, network.splits * WIDTH, generator=generator).to(dtype) for _ in range(2))
    torch.manual_seed(7)
    y = network(x.requires_grad_(), **ways)
    loss = (torch.nn.functional.layer_norm(y, y.shape[-1:]) * target).mean()
    found = torch.autograd.grad(loss, [x, *network.parameters()])
    return torch.cat([part.double().flatten() for part in found])


def errors(make: Any, seed: int = 1) -> dict[str, float]:
    """Relative errors of float32 gradients against float64 with stored activations."""
    truth = gradients(make(), torch.float64, seed=seed, backward="stored")
    ways: dict[str, dict[str, Any]] = {
        "stored": {"backward": "stored"},
        "plain": {"backward": "rebuilt", "exact": False},
        "exact": {"backward": "rebuilt", "exact": True},
        "default": {"backward": "rebuilt"},
    }
    found = {name: gradients(make(), seed=seed, **way) for name, way in ways.items()}
    return {name: float((vector - truth).norm() / truth.norm()) for name, vector in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("draw", "depth"), [("half identity", 24), ("mostly identity", 24), ("mostly identity", 40)])
def test_exact_streams_err_as_stored_activations_do(draw: str, depth: int) -> None:
    """At 40 layers, 30 of them Identity, float64 alone loses what the first layers held."""
    found = errors(lambda: stack(DRAWS[draw], depth))
    assert found["exact"] < 2 * found["stored"] < 1e-5
    assert found["default"] == found["exact"]
    assert not found["plain"] < 1_000 * found["stored"]


@pytest.mark.slow
def test_exact_streams_where_identity_is_mixed_in() -> None:
    """These layers make 1e-3 of a rounding, by luck up to twice as much or half: the mean over inputs tells."""
    found = [errors(lambda: stack(DRAWS["working"], 24, identity=0.5), seed) for seed in range(1, 9)]
    exact, stored, plain = (sum(each[way] for each in found) for way in ("exact", "stored", "plain"))
    assert exact < 2 * stored
    assert not plain < 10 * stored


@pytest.mark.slow
@pytest.mark.parametrize("one_at_a_time", [True, False])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("splits", [2, 3, 4])
@pytest.mark.parametrize("draw", DRAWS)
def test_nodes_see_the_same_bits_again(
    draw: str, splits: int, autocast: bool, one_at_a_time: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Tensor]] = []
    pool = reversible.pool

    def watch(inputs: Sequence[Tensor], pooling: Any) -> Tensor:
        seen.append([part.detach().clone() for part in inputs])
        return pool(inputs, pooling)

    monkeypatch.setattr(reversible, "pool", watch)
    network = stack(DRAWS[draw], 28, splits, dropout=0.3, identity=0.4 if draw == "working" else None)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        gradients(network, backward="rebuilt", one_at_a_time=one_at_a_time)
    there, back = seen[: 28 * splits], seen[28 * splits :]
    assert len(there) == len(back)
    for first, second in zip(there, reversed(back), strict=True):
        assert all(map(torch.equal, first, second))
        assert all(part.dtype == torch.float32 for part in first)


@pytest.mark.parametrize("splits", [2, 3])
def test_dropout_is_replayed(splits: int) -> None:
    stored, exact = (gradients(stack("if", 24, splits, dropout=0.3), backward=way) for way in ("stored", "rebuilt"))
    assert float((stored - exact).norm() / stored.norm()) < 1e-5


def test_a_kept_graph_gives_the_same_again() -> None:
    network = stack(DRAWS["mostly identity"], 40)
    x = torch.randn(BATCH, TIME, 2 * WIDTH, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss = network(x, backward="rebuilt").sin().sum()
    first = torch.autograd.grad(loss, x, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(loss, x)[0], first)


def test_what_exact_streams_keep_does_not_grow_with_depth() -> None:
    def kept(depth: int, **ways: Any) -> int:
        network = stack("fa", depth)
        weights = {tensor.data_ptr() for tensor in network.parameters()}
        found: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in weights:
                found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            y = network(torch.randn(BATCH, TIME, 2 * WIDTH), backward="rebuilt", **ways)
        assert y.grad_fn.place.kept == {}
        return sum(found.values())

    elements = BATCH * TIME * 2 * WIDTH
    assert kept(24) == kept(2) == 8 * elements
    assert kept(24, exact=False) == 4 * elements


def test_a_sum_that_rounds_is_kept_and_comes_back() -> None:
    x = torch.tensor([[[1.0, 1e-12, 3.0, float("inf"), float("nan"), 2.0]]])
    streams = Streams.of(x, 2, exact=True)
    before = streams.sums[0].clone()
    value = torch.tensor([[[2.0, 1e9, 1e30]]])
    kept = streams.add(0, value)
    assert kept is not None
    assert kept[0].tolist() == [1, 2]
    streams.subtract(0, value, kept)
    assert torch.equal(streams.sums[0], before)
    assert streams.add(0, torch.tensor([[[1.0, 1e-12, 2.0]]])) is None
    assert streams.add(1, torch.ones(1, 1, 3)) is not None  # no number: nothing of it is worth keeping
    assert Streams.of(x.double(), 2, exact=True).exact is False


@pytest.mark.parametrize("counts", [(), (1,), (2, 3), (3, 3, 2)])
def test_layers_of_other_sizes_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match="one node per split"):
        ReversibleStack([[Node([Identity()], "max") for _ in range(count)] for count in counts])


@pytest.mark.parametrize("backward", ["stored", "rebuilt"])
def test_a_width_that_splits_do_not_divide_is_refused(backward: Any) -> None:
    with pytest.raises(RequestError, match="of 3 splits got 10 channels; expected a multiple of 3"):
        stack("i", 2, splits=3)(torch.randn(2, 4, 10), backward=backward)
