"""The law of an operator: fill the fixture `case`, inherit every check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nasformer.operators.operator import reorder, reset

BATCH, DIM = 2, 16


@dataclass(frozen=True)
class Case:
    """An operator under the law.

    `build(dim, heads)` makes it; `call(operator, x, padding, cache)` runs it; `stepwise` tells whether it decodes step
    by step; `lengths` are the numbers of positions to try; `heads` are those of the operator, the fewest of all where
    keys and values are of groups of heads.
    """

    build: Callable[[int, int], nn.Module]
    call: Callable[[nn.Module, Tensor, Tensor | None, dict | None], Tensor]
    causal: bool = False
    stepwise: bool = False
    lengths: tuple[int, ...] = (1, 4, 11)
    heads: int = 4


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64 with every parameter random, biases and norms included, none of them near zero."""
    module = module.double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5 + 0.1)
    return module


def random_input(time: int, dim: int = DIM, seed: int = 1) -> Tensor:
    """x (batch, time, dim) in float64."""
    return torch.randn(BATCH, time, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same(first: Tensor, second: Tensor) -> bool:
    """Equal but for rounding in float64."""
    return torch.allclose(first, second, rtol=0, atol=1e-10)


class OperatorLaw:
    """Every check of DESIGN §7 for an operator."""

    @pytest.fixture
    def case(self) -> Case:
        """The operator under the law."""
        raise NotImplementedError

    @pytest.fixture
    def operator(self, case: Case) -> nn.Module:
        """It, randomised in float64."""
        return randomised(case.build(DIM, case.heads))

    def test_the_shape_is_kept(self, case: Case, operator: nn.Module) -> None:
        for time in case.lengths:
            x = random_input(time)
            found = case.call(operator, x, None, None)
            assert found.shape == x.shape
            assert torch.isfinite(found).all()
            assert found.std() > 0

    @pytest.mark.parametrize(("left", "right"), [(0, 3), (3, 0), (2, 4)])
    def test_padding_changes_nothing(self, case: Case, operator: nn.Module, left: int, right: int) -> None:
        for time in case.lengths:
            x = random_input(time)
            plain = case.call(operator, x, None, None)
            wide = 100 * random_input(left + time + right, seed=9)
            wide[:, left : left + time] = x
            padding = torch.ones(BATCH, left + time + right, dtype=torch.bool)
            padding[:, left : left + time] = False
            assert same(case.call(operator, wide, padding, None)[:, left : left + time], plain)

    def test_rows_are_padded_apart(self, case: Case, operator: nn.Module) -> None:
        x = random_input(7)
        padding = torch.zeros(BATCH, 7, dtype=torch.bool)
        padding[0, :3] = padding[1, 5:] = True
        found = case.call(operator, x, padding, None)
        assert same(found[:1, 3:], case.call(operator, x[:1, 3:], None, None))
        assert same(found[1:, :5], case.call(operator, x[1:, :5], None, None))

    def test_causal_is_blind_to_the_future(self, case: Case, operator: nn.Module) -> None:
        x = random_input(9)
        before = case.call(operator, x, None, None)
        changed = x.clone()
        changed[:, 5] += 3.0
        after = case.call(operator, changed, None, None)
        if case.causal:
            assert same(before[:, :5], after[:, :5])
        assert not same(before[:, 5], after[:, 5])

    @pytest.mark.parametrize("chunks", [(1,), (3, 1), (1, 4)])
    @pytest.mark.parametrize("padded", [False, True])
    def test_step_by_step_is_all_at_once(
        self, case: Case, operator: nn.Module, chunks: tuple[int, ...], padded: bool
    ) -> None:
        if not case.stepwise:
            pytest.skip("does not decode")
        for time in case.lengths:
            x = random_input(time)
            padding = None
            if padded:
                padding = torch.zeros(BATCH, time, dtype=torch.bool)
                padding[0, : time // 2] = True
            whole = case.call(operator, x, padding, None)
            cache: dict[str, Any] = {}
            parts, start, number = [], 0, 0
            while start < time:
                end = min(time, start + chunks[number % len(chunks)])
                hidden = None if padding is None else padding[:, start:end]
                parts.append(case.call(operator, x[:, start:end], hidden, cache))
                start, number = end, number + 1
            real = slice(None) if padding is None else ~padding
            assert same(torch.cat(parts, dim=1)[real], whole[real])

    def test_beams_may_change_places(self, case: Case, operator: nn.Module) -> None:
        if not case.stepwise:
            pytest.skip("does not decode")
        x = random_input(6)
        cache: dict[str, Any] = {}
        case.call(operator, x[:, :4], None, cache)
        reorder(cache, torch.tensor([1, 1]))
        moved = torch.cat([x[[1, 1], :4], x[:, 4:]], dim=1)
        assert same(case.call(operator, x[:, 4:], None, cache), case.call(operator, moved, None, None)[:, 4:])

    def test_it_builds_on_meta_and_works(self, case: Case) -> None:
        counts = []
        for time in (4, 8):
            with torch.device("meta"):
                operator = case.build(DIM, 4).eval()
                x = torch.empty(1, time, DIM)
            assert all(parameter.is_meta for parameter in operator.parameters())
            with FlopCounterMode(display=False) as counter:
                assert case.call(operator, x, None, None).shape == x.shape
            counts.append(counter.get_total_flops())
        assert 0 < counts[0] < counts[1]

    def test_a_gradient_reaches_every_parameter(self, case: Case, operator: nn.Module) -> None:
        found = case.call(operator, random_input(9), None, None)
        (found * random_input(9, seed=2)).sum().backward()
        for name, parameter in operator.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name

    def test_weights_start_from_the_generator_alone(self, case: Case) -> None:
        drawn = []
        for seed in (1, 1, 2):
            operator = case.build(DIM, 4)
            reset(operator, torch.Generator().manual_seed(seed))
            drawn.append(torch.cat([parameter.detach().flatten() for parameter in operator.parameters()]))
        assert torch.isfinite(drawn[0]).all()
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])

    @pytest.mark.parametrize(("dim", "heads"), [(8, 4), (16, 2), (8, 2)])
    def test_leading_slices_make_a_smaller_one(self, case: Case, operator: nn.Module, dim: int, heads: int) -> None:
        wide = dict(operator.named_parameters())
        small = case.build(dim, heads).double().eval()
        for name, parameter in small.named_parameters():
            assert parameter.dim() == wide[name].dim()
            cut = wide[name][tuple(slice(size) for size in parameter.shape)]
            assert cut.shape == parameter.shape
            parameter.data.copy_(cut)
        assert {name for name, _ in small.named_parameters()} == wide.keys()
        assert torch.isfinite(case.call(small, random_input(5, dim), None, None)).all()
