"""Every operator under the law, as the catalogue builds it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from operator_law import DIM, Case, OperatorLaw, random_input, randomised, same
from torch import Tensor, nn

from nasformer.operators import catalogue
from nasformer.operators.attention import Memory
from nasformer.operators.catalogue import MIXERS, Dropout
from nasformer.operators.feedforward import ACTIVATIONS
from nasformer.spaces.cell import AveragePool, DepthwiseConvolution, Fourier, LocalAttention, Skip
from nasformer.spaces.transformer import (
    Attention,
    Convolution,
    CrossAttention,
    DynamicConvolution,
    FeedForward,
    GatedLinear,
    Identity,
    LightConvolution,
    LongShort,
    Zero,
)

NONE = Dropout(residual=0.0, attention=0.0, weight=0.0)
KERNEL = 5


def _mixers() -> dict[str, Any]:
    values: dict[str, Any] = {"attention": {"value": Attention}}
    for gated in (False, True):
        end = "-gated" if gated else ""
        more = {"kernel": KERNEL, "gated": gated}
        values[f"light{end}"] = {"value": LightConvolution} | more
        values[f"dynamic{end}"] = {"value": DynamicConvolution} | more
        values[f"long-short-light{end}"] = {"value": LongShort, "filter": "light"} | more
        values[f"long-short-dynamic{end}"] = {"value": LongShort, "filter": "dynamic"} | more
    values["attention-width"] = {"value": Attention, "width": 24}
    values["attention-grouped"] = {"value": Attention, "key_value_heads": 2}
    values["attention-normed"] = {"value": Attention, "query_key_norm": True}
    values["attention-convolution"] = {"value": Attention, "convolution": KERNEL}
    values["attention-all"] = values["attention-grouped"] | {"query_key_norm": True, "convolution": 3, "width": 24}
    values["convolution"] = {"value": Convolution, "kernel": KERNEL}
    values["local-attention"] = {"value": LocalAttention, "window": 5}
    values["depthwise-convolution"] = {"value": DepthwiseConvolution, "kernel": KERNEL}
    return values


MIXER_VALUES = _mixers()


class TestMixers(OperatorLaw):
    """The operators that mix time, causal and not."""

    @pytest.fixture(params=[(name, causal) for name in MIXER_VALUES for causal in (False, True)], ids=str)
    def case(self, request: pytest.FixtureRequest) -> Case:
        name, causal = request.param
        fields = dict(MIXER_VALUES[name])
        value = fields.pop("value")

        def build(dim: int, heads: int) -> nn.Module:
            more = {"heads": heads} if "heads" in value.model_fields else {}
            return catalogue.mixer(value(**more, **fields), dim, causal=causal, dropout=NONE)

        def call(operator: nn.Module, x: Tensor, padding: Tensor | None, cache: dict | None) -> Tensor:
            return operator(x, padding, cache)

        heads = 2 if "key_value_heads" in fields else 4
        return Case(build, call, causal=causal, stepwise=causal, lengths=(1, 3, 11), heads=heads)


class TestMixersWithoutWeights(OperatorLaw):
    """The operators that mix time by fixed numbers, causal and not."""

    @pytest.fixture(params=[(value, causal) for value in (AveragePool(), Fourier()) for causal in (False, True)],
                    ids=lambda param: f"{param[0].label}-{param[1]}")  # fmt: skip
    def case(self, request: pytest.FixtureRequest) -> Case:
        value, causal = request.param

        def build(dim: int, heads: int) -> nn.Module:
            return catalogue.mixer(value, dim, causal=causal, dropout=NONE)

        return Case(build, lambda operator, *inputs: operator(*inputs), causal=causal, stepwise=causal)

    def test_weights_start_from_the_generator_alone(self, case: Case) -> None:
        assert not list(case.build(DIM, 4).parameters())

    def test_a_gradient_reaches_every_parameter(self, case: Case, operator: nn.Module) -> None:
        x = random_input(9).requires_grad_()
        (case.call(operator, x, None, None) * random_input(9, seed=2)).sum().backward()
        assert x.grad is not None
        assert x.grad.abs().sum((0, 2)).min() > 0


class TestFeedForward(OperatorLaw):
    """Every activation, plain and gated; positions do not meet, so it is causal too."""

    @pytest.fixture(params=[(name, gated) for name in ACTIVATIONS for gated in (False, True)], ids=str)
    def case(self, request: pytest.FixtureRequest) -> Case:
        activation, gated = request.param
        value = FeedForward(ratio=1.5, activation=activation, gated=gated)
        return Case(
            lambda dim, heads: catalogue.feed_forward(value, dim),
            lambda operator, x, padding, cache: operator(x),
            causal=True,
        )


class TestGatedLinear(OperatorLaw):
    """Each position by itself."""

    @pytest.fixture
    def case(self) -> Case:
        def build(dim: int, heads: int) -> nn.Module:
            return catalogue.mixer(GatedLinear(), dim, causal=True, dropout=NONE)

        return Case(build, lambda operator, x, padding, cache: operator(x, padding, cache), causal=True, stepwise=True)


@pytest.mark.parametrize(
    ("value", "factor"), [(Zero(), 0), (Identity(), 1), (Skip(), 1)], ids=["zero", "identity", "skip"]
)
def test_operators_without_weights(value: Any, factor: int) -> None:
    operator = catalogue.mixer(value, 16, causal=True, dropout=NONE)
    x = random_input(4)
    assert torch.equal(operator(x, None, {}), factor * x)
    assert not list(operator.parameters())


class TestCrossAttention(OperatorLaw):
    """One to three encoder layers; target positions do not meet."""

    @pytest.fixture(params=[(1, False), (2, False), (3, False), (2, True)], ids=str)
    def case(self, request: pytest.FixtureRequest) -> Case:
        span, normed = request.param

        def build(dim: int, heads: int) -> nn.Module:
            value = CrossAttention(heads=heads, span=span, query_key_norm=normed)
            return catalogue.cross_attention(value, dim, 12, dropout=NONE)

        def call(operator: nn.Module, x: Tensor, padding: Tensor | None, cache: dict | None) -> Tensor:
            outputs = [random_input(6, 12, seed=20 + layer)[: x.shape[0]].to(x) for layer in range(3)]
            return operator(x, Memory(outputs, None), cache)

        return Case(build, call, causal=True, stepwise=True)

    # Rows of the memory do not move with the target's: a row alone would meet another sentence.
    def test_rows_are_padded_apart(self, case: Case, operator: nn.Module) -> None:
        pytest.skip("the target's padding is no concern of cross-attention")

    def test_beams_may_change_places(self, case: Case, operator: nn.Module) -> None:
        x = random_input(6)
        cache: dict[str, Any] = {}
        case.call(operator, x[:, :1], None, cache)
        turned = {name: tensor.flip(0) for name, tensor in cache.items()}
        assert same(case.call(operator, x.flip(0), None, turned), case.call(operator, x, None, None).flip(0))


def test_every_operator_of_the_catalogue_is_under_the_law() -> None:
    elsewhere = {"gated_linear", "feed_forward", "zero", "identity"}  # the other laws of this file
    elsewhere |= {"skip", "average_pool", "fourier", "noise"}  # noise: tests/operators/test_time_mixing.py
    assert {fields["value"].model_fields["kind"].default for fields in MIXER_VALUES.values()} == set(MIXERS) - elsewhere


def test_the_law_can_fail() -> None:
    class Leaky(nn.Module):
        """Mixes all positions, padded ones too."""

        def forward(self, x: Tensor) -> Tensor:
            return x + x.mean(dim=1, keepdim=True)

    case = Case(lambda dim, heads: Leaky(), lambda operator, x, padding, cache: operator(x), causal=True)
    with pytest.raises(AssertionError):
        OperatorLaw().test_padding_changes_nothing(case, Leaky(), 1, 0)
    with pytest.raises(AssertionError):
        OperatorLaw().test_causal_is_blind_to_the_future(case, Leaky())


def test_centred_operators_see_both_sides() -> None:
    for name, fields in MIXER_VALUES.items():
        value = {key: field for key, field in fields.items() if key != "value"}
        value |= {"heads": 4} if "heads" in fields["value"].model_fields else {}
        operator = catalogue.mixer(fields["value"](**value), 16, causal=False, dropout=NONE)
        operator, x = randomised(operator), random_input(9)
        changed = x.clone()
        changed[:, 5] += 3.0
        difference = (operator(x) - operator(changed)).abs().sum((0, 2))
        assert difference[4] > 1e-6, name
        assert difference[6] > 1e-6, name


def test_dropout_reaches_weights_and_taps() -> None:
    heavy = Dropout(residual=0.0, attention=0.5, weight=0.5)
    for name, fields in MIXER_VALUES.items():
        value = {key: field for key, field in fields.items() if key != "value"}
        value |= {"heads": 4} if "heads" in fields["value"].model_fields else {}
        operator = randomised(catalogue.mixer(fields["value"](**value), 16, causal=True, dropout=heavy))
        x = random_input(9)
        assert torch.equal(operator(x), operator(x)), name
        operator.train()
        # Of these neither attention weights nor softmaxed taps are there to drop.
        drops = fields["value"] not in (Convolution, DepthwiseConvolution)
        assert torch.equal(operator(x), operator(x)) is not drops, name
