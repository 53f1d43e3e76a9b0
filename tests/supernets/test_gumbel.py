"""Hard draws against what is known of them in closed form (docs/papers/rome.md §2.2, §6.1)."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor

from nasformer.errors import RequestError
from nasformer.supernets.gumbel import (
    NotFinite,
    edge_sets,
    gumbel_noise,
    inclusion,
    one,
    pair_inclusion,
    pairs,
    top,
)
from nasformer.supernets.selection import Chosen

DOUBLE = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Logits that want a gradient, and noise, (count,) each."""
    logits = torch.randn(count, generator=generator(seed), dtype=DOUBLE)
    return logits.requires_grad_(), gumbel_noise(count, generator(seed + 100), DOUBLE)


def gradient(chosen: Chosen, outer: Tensor, logits: Tensor) -> Tensor:
    """The gradient of the logits where that of each chosen weight is `outer` of its option."""
    (found,) = torch.autograd.grad((chosen.weights * outer[list(chosen.options)]).sum(), logits)
    return found


def kronecker(size: int, index: int) -> Tensor:
    """1 at the index."""
    return torch.eye(size, dtype=DOUBLE)[index]


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("predecessors", [2, 3, 5])
def test_gradients_have_the_closed_forms(predecessors: int, temperature: float) -> None:
    for seed in range(5):
        u = torch.randn(predecessors, generator=generator(seed + 7), dtype=DOUBLE)
        logits, noise = drawn(predecessors, seed)
        soft = ((logits + noise) / temperature).softmax(0).detach()

        chosen = one(logits, temperature, noise)
        (option,) = chosen.options
        expected = u[option] * soft[option] * (kronecker(predecessors, option) - soft) / temperature
        torch.testing.assert_close(gradient(chosen, u, logits), expected, rtol=0, atol=1e-12)

        chosen = top(logits, 2, temperature, noise)
        found = gradient(chosen, u, logits)
        terms = [u[i] * soft[i] * (kronecker(predecessors, i) - soft) for i in chosen.options]
        torch.testing.assert_close(found, sum(terms) / temperature, rtol=0, atol=1e-12)
        assert abs(found.sum()) < 1e-12

        sets = list(combinations(range(predecessors), 2))
        logits, noise = drawn(len(sets), seed)
        soft = ((logits + noise) / temperature).softmax(0).detach()
        chosen = pairs(logits, predecessors, temperature, noise)
        brought = torch.stack([sum(u[i] for i in set(pair) & set(chosen.options)) + 0 * u[0] for pair in sets])
        expected = soft * (brought - (soft * brought).sum()) / temperature
        torch.testing.assert_close(gradient(chosen, u, logits), expected, rtol=0, atol=1e-12)


def test_two_predecessors_leave_v1_no_gradient_and_v2_its_known_one() -> None:
    u = torch.tensor([0.7, -0.4], dtype=DOUBLE)
    logits, noise = drawn(1, 3)
    assert torch.equal(gradient(pairs(logits, 2, 0.5, noise), u, logits), torch.zeros(1, dtype=DOUBLE))
    logits, noise = drawn(2, 3)
    soft = ((logits + noise) / 0.5).softmax(0).detach()
    expected = soft.prod() * (u[0] - u[1]) / 0.5
    found = gradient(top(logits, 2, 0.5, noise), u, logits)
    torch.testing.assert_close(found, torch.stack([expected, -expected]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_every_weight_is_exactly_one_and_the_options_are_plain(dtype: torch.dtype) -> None:
    for seed in range(200):
        noise = gumbel_noise((3, 10), generator(seed), dtype)
        logits = (0.3 * torch.randn(10, generator=generator(seed), dtype=dtype)).requires_grad_()
        assert top(logits.detach()[:5], 2, 0.37, noise[1, :5]).weights is None  # nothing to differentiate: no weight
        for chosen, count in (
            (one(logits[:7], 0.1, noise[0, :7]), 1),
            (top(logits[:5], 2, 0.37, noise[1, :5]), 2),
            (top(logits[:5], 3, 2.9, noise[1, :5]), 3),
            (pairs(logits, 5, 0.73, noise[2]), 2),
            (pairs(logits, 5, 0.73, noise[2], count=3), 3),
        ):
            assert torch.equal(chosen.weights, torch.ones(count, dtype=dtype))
            assert all(type(option) is int for option in chosen.options)
            assert len(set(chosen.options)) == count
            assert list(chosen.options) == sorted(chosen.options)


def test_normalising_the_logits_changes_nothing() -> None:
    u = torch.linspace(-1, 2, 5, dtype=DOUBLE)
    for seed in range(20):
        logits, noise = drawn(5, seed)
        many, many_noise = drawn(10, seed)
        plain = one(logits, 0.4, noise), top(logits, 2, 0.4, noise)
        normal = one(logits.log_softmax(0), 0.4, noise), top(logits.log_softmax(0), 2, 0.4, noise)
        v1 = pairs(many, 5, 0.4, many_noise), pairs(many.log_softmax(0), 5, 0.4, many_noise)
        for a, b, of in [(*both, logits) for both in zip(plain, normal, strict=True)] + [(*v1, many)]:
            assert a.options == b.options
            torch.testing.assert_close(gradient(a, u, of), gradient(b, u, of), rtol=0, atol=1e-12)


def test_inclusion_is_known_in_closed_form() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE).log()
    expected = torch.tensor([0.8392857142857143, 0.675, 0.4857142857142857], dtype=DOUBLE)
    torch.testing.assert_close(inclusion(logits), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(inclusion(logits + 900.0), expected, rtol=0, atol=1e-12)
    for predecessors in (2, 3, 4, 5):
        even = torch.full((predecessors,), 2 / predecessors, dtype=DOUBLE)
        torch.testing.assert_close(inclusion(torch.zeros(predecessors, dtype=DOUBLE)), even)
        sets = torch.zeros(math.comb(predecessors, 2), dtype=DOUBLE)
        torch.testing.assert_close(pair_inclusion(sets, predecessors), even)
    extreme = inclusion(torch.tensor([200.0, 0.0, -200.0], dtype=DOUBLE))
    torch.testing.assert_close(extreme, torch.tensor([1.0, 1.0, 0.0], dtype=DOUBLE))
    torch.testing.assert_close(inclusion(torch.zeros(5), 3), torch.full((5,), 0.6))
    assert pair_inclusion(torch.tensor([0.0, 50.0, 0.0]), 3).tolist() == pytest.approx([1.0, 0.0, 1.0])


def shares(draw: object, size: int, draws: int) -> Tensor:
    """How often each option was chosen, (size,)."""
    found = torch.zeros(size, dtype=DOUBLE)
    for number in range(draws):
        found[list(draw(number).options)] += 1 / draws  # type: ignore[operator]
    return found


@pytest.mark.slow
def test_draws_are_as_frequent_as_they_should_be() -> None:
    draws = 6_000
    within = 4 * math.sqrt(0.25 / draws)
    logits = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE).log()
    noise = gumbel_noise((3, draws, 3), generator(1), DOUBLE)
    for temperature in (0.1, 10.0):
        found = shares(lambda n, t=temperature: top(logits, 2, t, noise[0, n]), 3, draws)
        torch.testing.assert_close(found, inclusion(logits), rtol=0, atol=within)
    found = shares(lambda n: one(logits, 1.0, noise[1, n]), 3, draws)
    torch.testing.assert_close(found, logits.softmax(0), rtol=0, atol=within)
    found = shares(lambda n: pairs(logits, 3, 1.0, noise[2, n]), 3, draws)
    torch.testing.assert_close(found, pair_inclusion(logits, 3), rtol=0, atol=within)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("temperature", "softs", "slopes"),
    [(10.0, (0.234, 0.209), (0.018, 0.017)), (1.0, (0.558, 0.209), (0.21, 0.16)), (0.1, (0.945, 0.050), (0.38, 0.36))],
)
def test_soft_weights_are_as_measured(temperature: float, softs: tuple[float, ...], slopes: tuple[float, ...]) -> None:
    """Mean of the two largest soft weights and of q(1 − q)/τ; the second is the gradient of a weight by its logit."""
    noise = gumbel_noise((100_000, 5), generator(2), DOUBLE)
    largest = (noise / temperature).softmax(1).topk(2, 1).values
    assert largest.mean(0).tolist() == pytest.approx(softs, abs=0.0015)
    slope = (largest * (1 - largest) / temperature).mean(0)
    assert slope.tolist() == pytest.approx(slopes, abs=0.006)
    logits = torch.zeros(5, dtype=DOUBLE, requires_grad=True)
    by_draw = []
    for row in noise[:1500]:
        chosen = top(logits, 2, temperature, row)
        by_draw.append(max(float(torch.autograd.grad(w, logits, retain_graph=True)[0][i])
                           for i, w in zip(chosen.options, chosen.weights, strict=True)))  # fmt: skip
    best = (largest * (1 - largest) / temperature).max(1).values[:1500]
    assert sum(by_draw) / 1500 == pytest.approx(float(best.mean()), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "apart", "together"), [(1, 0.082, 0.143), (4, 0.285, 0.460), (7, 0.438, 0.660)])
def test_coverage_is_that_of_the_formula(samples: int, apart: float, together: float) -> None:
    """How often an (edge, operator) of S0 runs in one of K samples, averaged over 14 edges and 7 operators."""
    predecessors, operators, steps = (2, 3, 4, 5), 7, 700 // samples
    formula = sum(p * (1 - (1 - 2 / p / operators) ** samples) for p in predecessors) / 14
    assert formula == pytest.approx(apart, abs=5e-4)
    assert 1 - (1 - 1 / operators) ** samples == pytest.approx(together, abs=5e-4)
    draws, covered, every = generator(samples), 0, 0
    for _ in range(steps):
        ran, ran_all = set(), set()
        for _ in range(samples):
            for node, count in enumerate(predecessors):
                edges = top(torch.zeros(count), 2, 1.0, gumbel_noise(count, draws)).options
                for edge in range(count):
                    (option,) = one(torch.zeros(operators), 1.0, gumbel_noise(operators, draws)).options
                    ran_all.add((node, edge, option))
                    if edge in edges:
                        ran.add((node, edge, option))
        covered, every = covered + len(ran), every + len(ran_all)
    assert covered / steps / 98 == pytest.approx(formula, rel=0.05)
    assert every / steps / 98 == pytest.approx(together, rel=0.05)


def test_v1_and_v2_have_as_many_logits_as_they_should() -> None:
    assert [len(edge_sets(predecessors)) for predecessors in (2, 3, 4, 5)] == [1, 3, 6, 10]
    assert edge_sets(4) == ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))


def test_noise_is_finite_and_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.get_rng_state()
    assert torch.equal(gumbel_noise((4, 3), generator(5)), gumbel_noise((4, 3), generator(5)))
    assert torch.equal(torch.get_rng_state(), state)
    noise = gumbel_noise(200_000, generator(6), DOUBLE)
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.015)
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, abs=0.03)
    offered = iter([[0.0, 0.5], [0.5, 1.0], [0.5, math.exp(-1)]])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor(next(offered), dtype=DOUBLE))
    assert gumbel_noise(2, generator()).tolist() == pytest.approx([0.36651292, 0.0])


def test_what_cannot_be_drawn_is_said() -> None:
    zeros = torch.zeros(3)
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(NotFinite, match=r"expected finite logits to draw from, got .*last good state"):
            one(torch.tensor([0.0, bad, 1.0]), 1.0, zeros)
        with pytest.raises(NotFinite):
            pairs(torch.tensor([0.0, bad, 1.0]), 3, 1.0, zeros)
    with pytest.raises(RequestError, match="between 1 and 3 of 3 logits, got 4"):
        top(zeros, 4, 1.0, zeros)
    with pytest.raises(RequestError, match="4 predecessors have 6 sets of 2, one logit each; got 3"):
        pairs(zeros, 4, 1.0, zeros)
    with pytest.raises(RequestError, match="sets of 1 to 1 of 1 predecessors, got 2"):
        edge_sets(1)
