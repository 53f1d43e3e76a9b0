"""GDAS and ROME without topology where there are no cells: hard draws on the nodes of a reversible supernet."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from cell_landscape import snapshot, to_the_end
from torch import Tensor

from nasformer.operators.catalogue import Dropout
from nasformer.spaces.named import dartsformer
from nasformer.spaces.transformer import Attention, Convolution, CrossAttention, Identity, Zero
from nasformer.strategies.bilevel import BilevelSearch
from nasformer.strategies.gdas import Gdas
from nasformer.strategies.objective import Objective
from nasformer.strategies.rome import Rome
from nasformer.strategies.rules import Logits
from nasformer.supernets.named import supernet_of
from nasformer.tasks.translation import TranslationTask
from nasformer.training.randomness import seeded
from nasformer.training.schedule import InverseSquareRoot
from nasformer.training.trainer import Training


def _few(*, heads: int, cross: bool) -> tuple[Any, ...]:
    more = (CrossAttention(heads=heads),) if cross else ()
    return (Convolution(kernel=3), Attention(heads=heads), *more, Zero(), Identity())


SPACE = dartsformer(dim=24, embedding_dim=8, searched=1, depth=2, heads=2, operators=_few)
TRAINING = Training(updates=4, batch_tokens=96, record_every=2, schedule=InverseSquareRoot(peak=1e-2, warmup=2))
GDAS = Gdas(training=TRAINING, logits=Logits(rate=0.05), epochs=2)
ROME = Rome(training=TRAINING, logits=Logits(rate=0.05), epochs=2, topology="all", samples=3)


def begin(strategy: Any, task: Any, **ways: Any) -> BilevelSearch:
    """A search on a supernet of its own."""
    supernet = supernet_of(SPACE, task.model_settings(Dropout()), seed=1, **ways)
    found: BilevelSearch = strategy.begin(SPACE, Objective(), task, supernet, 1)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [GDAS, ROME], ids=lambda strategy: strategy.kind)
def test_a_reversible_space_is_searched_and_resumed_to_the_bit(tiny_task: TranslationTask, strategy: Any) -> None:
    search = begin(strategy, tiny_task)
    before = {name: logits.clone() for name, logits in search.logits.items()}
    search.step()
    tensors, state = snapshot(search)
    rest = to_the_end(search)
    fresh = begin(strategy, tiny_task)
    fresh.load(tensors, json.loads(state))
    assert to_the_end(fresh) == rest
    assert all(torch.equal(tensor, fresh.tensors()[name]) for name, tensor in search.tensors().items())
    assert search.best() == fresh.best()
    assert search.best() in SPACE
    assert all(not torch.equal(before[name], logits) for name, logits in search.logits.items())


def test_one_option_of_every_node_runs_and_the_rest_of_the_weights_stay(tiny_task: TranslationTask) -> None:
    search = begin(GDAS, tiny_task)
    before = {name: weight.clone() for name, weight in search.supernet.weights.items()}
    search.path.updates = 1
    selection = search.selection("weights")
    assert selection.keys() == {choice.name for choice in SPACE.choices}
    assert all(len(chosen.options) == 1 for chosen in selection.values())
    assert all(chosen.weights is None for chosen in selection.values())  # each is one, and nothing to differentiate
    search._update_weights()
    changed = {name for name, weight in before.items() if not torch.equal(weight, search.supernet.weights[name])}
    ran = {parameter.source for parameter in search.supernet.at(selection).parameters()}  # type: ignore[attr-defined]
    assert changed
    assert changed <= ran


@pytest.mark.parametrize("backward", ["stored", "rebuilt"])
def test_the_gradient_of_the_logits_is_the_straight_through_one(tiny_task: TranslationTask, backward: str) -> None:
    search = begin(GDAS, tiny_task, backward=backward)
    search.path.updates = 3
    batch = search.stream.next()
    with seeded(1, "dropout"):
        _, found = search._differentiate(batch, 0, 0)
    leaves = {name: logits.clone().requires_grad_() for name, logits in search.logits.items()}
    search.supernet.backward = "stored"  # type: ignore[attr-defined]
    with seeded(1, "dropout"):
        loss: Tensor = tiny_task.loss(search.supernet.at(search.selection("logits", 0, 0, leaves)), batch)
    expected = torch.autograd.grad(loss, list(leaves.values()))
    for (name, gradient), other in zip(found.items(), expected, strict=True):
        assert torch.allclose(gradient, other, atol=1e-5), name
        assert abs(float(gradient.sum())) < 1e-5  # the normaliser does not see a common shift
    assert any(float(gradient.abs().max()) > 1e-3 for gradient in found.values())
