"""SGD on slices, the cosine, clipping, and the choice of an optimiser."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nasformer.errors import RequestError
from nasformer.supernets.adam import SliceAdam
from nasformer.supernets.elastic import Lender
from nasformer.supernets.sgd import SliceSgd
from nasformer.training.schedule import Cosine, InverseSquareRoot
from nasformer.training.trainer import Training, borrow, make_optimizer, optimizer_state


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("nesterov", [False, True])
def test_where_all_runs_it_is_pytorchs_sgd(nesterov: bool) -> None:
    torch.manual_seed(1)
    ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    settings: dict[str, Any] = {"momentum": 0.9, "weight_decay": 0.03, "nesterov": nesterov}
    sgd, reference = SliceSgd(borrow(ours), **settings), torch.optim.SGD(theirs.parameters(), lr=0.1, **settings)
    for update in range(20):
        rate, x = 0.1 / (update + 1), torch.randn(7, 5)
        reference.param_groups[0]["lr"] = rate
        for model in (ours, theirs):
            model(x).square().mean().backward()
        sgd.step(ours.parameters(), rate)
        reference.step()
        reference.zero_grad()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, other, rtol=0, atol=1e-12)
        assert mine.grad is None


def test_what_did_not_run_is_not_touched() -> None:
    weights = {"w": torch.randn(4, 4), "other": torch.ones(2)}
    before = {name: weight.clone() for name, weight in weights.items()}
    sgd, lender = SliceSgd(weights, weight_decay=0.5), Lender(weights)
    view, other = lender.parameter("w", torch.Size((2, 3))), lender.parameter("other", torch.Size((2,)))
    for _ in range(2):
        view.grad = torch.ones(2, 3)
        sgd.step([view, other], 0.1)
    first = before["w"][:2, :3]
    velocity = 1 + 0.5 * first
    second = first - 0.1 * velocity
    expected = second - 0.1 * (0.9 * velocity + 1 + 0.5 * second)
    assert torch.allclose(weights["w"][:2, :3], expected)
    outside = torch.ones(4, 4, dtype=torch.bool)
    outside[:2, :3] = False
    assert torch.equal(weights["w"][outside], before["w"][outside])
    assert torch.equal(weights["other"], before["other"])
    assert not sgd.velocity["w"][outside].any()
    assert not sgd.velocity["other"].any()


def test_state_is_saved_loaded_and_inherited() -> None:
    weights = {"w": torch.randn(4, 4)}
    sgd = SliceSgd(weights, nesterov=True)
    sgd.velocity["w"].normal_()
    again = SliceSgd(weights)
    again.load(sgd.tensors())
    assert torch.equal(again.velocity["w"], sgd.velocity["w"])
    plain = sgd.inherit({"p": "w"}, {"p": torch.zeros(2, 3)})
    assert torch.equal(plain.velocity["p"], sgd.velocity["w"][:2, :3])
    assert (plain.momentum, plain.weight_decay, plain.nesterov) == (0.9, 3e-4, True)
    plain.velocity["p"].zero_()
    assert sgd.velocity["w"].all()


def test_a_training_names_its_optimiser() -> None:
    weights = {"w": torch.zeros(1)}
    assert isinstance(make_optimizer(Training(), weights), SliceAdam)
    made = make_optimizer(Training(optimizer="sgd", weight_decay=0.25), weights)
    assert isinstance(made, SliceSgd)
    assert (made.momentum, made.weight_decay, made.nesterov) == (0.9, 0.25, False)
    ahead = make_optimizer(Training(optimizer="sgd", nesterov=True), weights)
    assert isinstance(ahead, SliceSgd)
    assert ahead.nesterov
    with pytest.raises(RequestError, match="nesterov is a kind of SGD's momentum; set optimizer=sgd too"):
        Training(nesterov=True)


def test_the_state_in_older_checkpoints_is_found() -> None:
    tensors: dict[str, Tensor] = {"model.w": torch.zeros(1), "adam.first.w": torch.ones(1)}
    assert list(optimizer_state(tensors)) == ["first.w"]


def test_cosine_is_pytorchs() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    reference = torch.optim.SGD([parameter], lr=0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(reference, T_max=10, eta_min=0.1)
    training = Training(updates=10, schedule=Cosine(peak=0.3, end=0.1))
    for update in range(1, 12):
        assert training.rate(update) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
        reference.step()
        scheduler.step()
    assert training.rate(50) == pytest.approx(0.1)


def test_a_cosine_goes_over_earlier_updates_too() -> None:
    tuning = Training(updates=30, schedule=Cosine(peak=1.0))
    assert tuning.rate(1, before=70) == Training(updates=100, schedule=Cosine(peak=1.0)).rate(71)
    shared = Cosine(peak=1.0, updates=100)
    assert Training(updates=70, schedule=shared).rate(7) == Training(updates=100, schedule=Cosine(peak=1.0)).rate(7)


def test_schedules_from_before_there_were_kinds_are_read() -> None:
    training = Training.read({"updates": 5, "schedule": {"peak": 1e-3, "warmup": 7}})
    assert training.schedule == InverseSquareRoot(peak=1e-3, warmup=7)
    cosine = Training(schedule=Cosine(peak=0.1))
    assert Training.read(cosine.data()) == cosine
    with pytest.raises(RequestError, match="unknown kind 'cosin'"):
        Training.read({"schedule": {"kind": "cosin"}})


def test_gradients_are_cut_to_the_norm_over_all_of_them() -> None:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 2.0)
    Training().clip_gradients(parameters)
    assert all(float(p.grad[0]) == 2.0 for p in parameters if p.grad is not None)
    Training(clip=1.5).clip_gradients(parameters)
    norm = torch.cat([p.grad for p in parameters if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(1.5, rel=1e-5)
