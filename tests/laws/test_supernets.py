"""The supernet under its law: what it lends is what it gives away, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nasformer.models.build import FAMILIES
from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.modern import modern, modern_language
from nasformer.spaces.named import dartsformer, shrinknas
from nasformer.spaces.open import one_of
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import Attention, FeedForward
from nasformer.supernets.adam import SliceAdam
from nasformer.supernets.elastic import Lender
from nasformer.supernets.reversible import ReversibleSupernet
from nasformer.supernets.selection import Chosen, single, softmax
from nasformer.supernets.supernet import Supernet
from nasformer.supernets.transformer import TransformerSupernet
from nasformer.training.trainer import borrow

NONE = Dropout(residual=0.0, attention=0.0, weight=0.0)
SETTINGS = ModelSettings(source_vocabulary=12, target_vocabulary=11, dropout=NONE)


def _space(norm: Any) -> Space:
    small = shrinknas(dims=(8, 16, 24), encoder_layers=3, decoder_layers=(1, 2), kernels=(3, 5, 7))
    return Space(small.template.but(norm=norm))


def _tokens(seed: int, time: int, vocabulary: int) -> Tensor:
    found = torch.randint(1, vocabulary, (3, time), generator=torch.Generator().manual_seed(seed))
    found[0, -2:] = 0
    return found


SOURCE, TARGET = _tokens(1, 6, 12), _tokens(2, 5, 11)


@pytest.fixture(params=["post", "pre"])
def supernet(request: pytest.FixtureRequest) -> TransformerSupernet:
    """A supernet in float64 whose every weight, biases and norms included, is random."""
    return randomised(TransformerSupernet, _space(request.param))


def _modern_space(key_value_heads: tuple[int | None, ...] = (None, 1)) -> Space:
    tables = ("separate", "tied_output")
    small = modern(
        dims=(8, 16),
        encoder_layers=(1, 2),
        decoder_layers=(1,),
        ratios=(1.0, 2.0),
        kernels=(3, 5),
        key_value_heads=key_value_heads,
        query_key_norm=(False, True),
        tables=tables,
    )
    return Space(small.template.but(final_norm=one_of(None, False), depth_scaled=one_of(False, True)))


@pytest.fixture(params=["post", "pre", "modern", "reversible"])
def any_supernet(request: pytest.FixtureRequest) -> Supernet:
    """Such a supernet of any family; the reversible one rebuilds activations, option by option."""
    if request.param == "reversible":
        return randomised(
            ReversibleSupernet, dartsformer(dim=24, embedding_dim=8, splits=2, searched=2, depth=4, heads=2)
        )
    if request.param == "modern":
        return randomised(TransformerSupernet, _modern_space())
    return randomised(TransformerSupernet, _space(request.param))


def randomised(family: Any, space: Space) -> Any:
    """A supernet of this family in float64 with random weights."""
    drawn = family(space, SETTINGS, seed=1)
    generator = torch.Generator().manual_seed(5)
    weights = {
        name: weight.double() + 0.2 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        for name, weight in drawn.weights.items()
    }
    return family(space, SETTINGS, seed=1, weights=weights)


def members(space: Space, count: int, seed: int = 0) -> list[Any]:
    """Random members, and those of least and of greatest sizes."""
    random = Random(seed)
    ends = [space.close(lambda choice, end=end: range(len(choice.options))[end]) for end in (0, -1)]
    return ends + [space.sample(random) for _ in range(count - 2)]


def backward(model: nn.Module) -> Tensor:
    """A loss that every weight has a part in, and its gradients."""
    logits = model(SOURCE, TARGET)
    mask = torch.randn(logits.shape, generator=torch.Generator().manual_seed(7), dtype=logits.dtype)
    loss = (logits * mask).sum() * 1e-2
    loss.backward()
    return loss.detach()


@pytest.mark.slow
def test_what_is_lent_is_what_is_inherited(any_supernet: Supernet) -> None:
    for member in members(any_supernet.space, 30):
        lent, own = any_supernet.at(member).eval(), any_supernet.inherit(member).eval()
        assert torch.allclose(lent(SOURCE, TARGET), own(SOURCE, TARGET), rtol=0, atol=1e-9)
        assert {name: p.shape for name, p in lent.named_parameters()} == {n: p.shape for n, p in own.named_parameters()}
        assert type(own) is FAMILIES[member.family].network


def test_an_inherited_model_is_a_copy(any_supernet: Supernet) -> None:
    member = members(any_supernet.space, 3)[2]
    before = {name: weight.clone() for name, weight in any_supernet.weights.items()}
    for parameter in any_supernet.inherit(member).parameters():
        parameter.data.add_(1.0)
    assert all(torch.equal(before[name], weight) for name, weight in any_supernet.weights.items())
    for parameter in any_supernet.at(member).parameters():
        parameter.data.add_(1.0)
    assert not all(torch.equal(before[name], weight) for name, weight in any_supernet.weights.items())


def test_two_architectures_do_not_disturb_each_other(any_supernet: Supernet) -> None:
    first, second = members(any_supernet.space, 4)[2:]
    alone = any_supernet.at(first).eval()
    expected = alone(SOURCE, TARGET)
    one, two = any_supernet.at(first).train(), any_supernet.at(second).eval()
    assert one.training
    assert all(part.training for part in one.modules())
    assert not any(part.training for part in two.modules())
    again = one(SOURCE, TARGET)
    two(SOURCE, TARGET)
    again_two = any_supernet.at(second).train()
    assert torch.equal(again, expected)
    again.sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in one.named_parameters()}
    for parameter in one.parameters():
        parameter.grad = None
    fresh = any_supernet.at(first)
    fresh(SOURCE, TARGET).sum().backward()
    assert all(torch.equal(gradients[name], parameter.grad) for name, parameter in fresh.named_parameters())
    assert torch.equal(again_two(SOURCE, TARGET), any_supernet.at(second)(SOURCE, TARGET))


def test_gradients_are_those_of_the_inherited_model(any_supernet: Supernet) -> None:
    for member in members(any_supernet.space, 5):
        lent, own = any_supernet.at(member), any_supernet.inherit(member)
        for model in (lent, own):
            backward(model)
        theirs = dict(own.named_parameters())
        for name, parameter in lent.named_parameters():
            assert torch.allclose(parameter.grad, theirs[name].grad, rtol=0, atol=1e-9), name
            parameter.grad = None


@pytest.mark.slow
def test_a_step_moves_the_slices_and_nothing_else(supernet: TransformerSupernet) -> None:
    adam = SliceAdam(supernet.weights, weight_decay=0.1)
    for member in members(supernet.space, 4, seed=4)[::-1]:
        before = {name: weight.clone() for name, weight in supernet.weights.items()}
        moments = {name: tensor.clone() for name, tensor in adam.tensors().items()}
        model = supernet.at(member)
        backward(model)
        inside = {name: torch.zeros(weight.shape, dtype=torch.bool) for name, weight in supernet.weights.items()}
        for parameter in model.parameters():
            inside[parameter.source][tuple(slice(size) for size in parameter.shape)] = True
        assert not all(part.all() for part in inside.values()) or member == members(supernet.space, 2)[1]
        adam.step(model.parameters(), 1e-3)
        assert all(parameter.grad is None for parameter in model.parameters())
        for name, weight in supernet.weights.items():
            assert torch.equal(weight[~inside[name]], before[name][~inside[name]]), name
            assert (weight[inside[name]] != before[name][inside[name]]).all(), name
            for moment in ("first", "second"):
                old, new = moments[f"{moment}.{name}"], adam.tensors()[f"{moment}.{name}"]
                assert torch.equal(new[~inside[name]], old[~inside[name]]), name
            assert float(adam.updates[name] - moments[f"updates.{name}"]) == float(inside[name].any())


def _space_of_attention() -> Space:
    """The widest taps are those of neither the first options together nor the last."""
    attention = Attention(heads=one_of(2, 4), key_value_heads=one_of(None, 1), convolution=one_of(None, 3))
    space = _space("pre")
    layer = space.template.encoder.layers[0].but(mixer=attention)
    return Space(space.template.but(encoder=space.template.encoder.but(layers=(layer,))))


SPACES = {
    "pre": _space("pre"),
    "modern": _modern_space(),
    "modern-grouped": _modern_space((1, 2)),
    "attention": _space_of_attention(),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_every_shared_weight_is_used_and_all_of_it(space: Space) -> None:
    supernet = TransformerSupernet(space, SETTINGS, seed=1)
    reached: dict[str, tuple[int, ...]] = {}
    for member in members(supernet.space, 400):
        for parameter in supernet.at(member).parameters():
            old = reached.get(parameter.source, parameter.shape)
            reached[parameter.source] = tuple(map(max, old, parameter.shape))
    assert reached == {name: tuple(weight.shape) for name, weight in supernet.weights.items()}


def test_operators_share_nothing_and_sizes_share_leading_slices(supernet: TransformerSupernet) -> None:
    space = supernet.space
    names = [choice.name for choice in space.choices if choice.operators]
    assert len(names) == 5
    code = {choice.name: 0 for choice in space.choices}
    sources = [set(supernet.sources(space.decode(code | {names[0]: option})).values()) for option in range(5)]
    for first in range(5):
        for second in range(first):
            assert all(names[0] not in name or ".norm." in name for name in sources[first] & sources[second])
    small, large = (supernet.inherit(space.decode(code | {"encoder.dim": option})) for option in (0, 2))
    wide = dict(large.named_parameters())
    for name, parameter in small.named_parameters():
        assert torch.equal(parameter, wide[name][tuple(slice(size) for size in parameter.shape)])


def test_a_supernet_of_language_models_lends_what_it_gives_away() -> None:
    small = modern_language(dims=(8, 16), layers=(1, 2), kernels=(3, 5), tables=("separate", "tied_output"))
    supernet = randomised(TransformerSupernet, small)
    for member in members(small, 20):
        lent, own = supernet.at(member).eval(), supernet.inherit(member).eval()
        assert torch.allclose(lent(TARGET), own(TARGET), rtol=0, atol=1e-9)
        assert ("output.weight" in dict(own.named_parameters())) is (member.tables == "separate")


def test_a_plain_layer_is_the_first_map_of_a_gated_one() -> None:
    space = _space("pre")
    feed_forward = FeedForward(ratio=one_of(1.0, 2.0), gated=one_of(False, True))
    layer = space.template.encoder.layers[0].but(feed_forward=feed_forward)
    space = Space(space.template.but(encoder=space.template.encoder.but(layers=(layer,))))
    supernet = randomised(TransformerSupernet, space)
    code = {choice.name: 0 for choice in space.choices} | {"encoder.dim": 2}
    plain, gated = (supernet.inherit(space.decode(code | {"encoder.layers.0.feed_forward.gated": n})) for n in (0, 1))
    name = "encoder.layers.0.feed_forward.operator.input.weight"
    assert torch.equal(plain.get_parameter(name), gated.get_parameter(name)[0])
    adam = SliceAdam(supernet.weights)
    for member in members(space, 8):
        lent, own = supernet.at(member), supernet.inherit(member)
        assert torch.allclose(lent(SOURCE, TARGET), own(SOURCE, TARGET), rtol=0, atol=1e-9)
        backward(lent)
        adam.step(lent.parameters(), 1e-3)


def test_initial_weights_follow_from_the_seed() -> None:
    drawn = [TransformerSupernet(_space("post"), SETTINGS, seed=seed).weights for seed in (1, 1, 2)]
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    assert not all(torch.equal(drawn[0][name], drawn[2][name]) for name in drawn[0])


def _mixers(space: Space) -> list[str]:
    return [choice.name for choice in space.choices if choice.operators]


def test_a_mixed_selection_runs_and_its_logits_learn(supernet: TransformerSupernet) -> None:
    space = supernet.space
    code = {choice.name: len(choice.options) - 1 for choice in space.choices}
    logits = {
        name: torch.linspace(-1, 1, 5, dtype=torch.float64).roll(number).requires_grad_()
        for number, name in enumerate(_mixers(space))
    }
    model = supernet.at(softmax(code, logits))
    backward(model)
    for name, tensor in logits.items():
        assert tensor.grad is not None, name
        assert tensor.grad.abs().min() > 0, name
    assert len({parameter.source for parameter in model.parameters()}) == len(supernet.weights)


@pytest.mark.slow
def test_one_hot_is_the_single_architecture(supernet: TransformerSupernet) -> None:
    space = supernet.space
    random = Random(3)
    for _ in range(4):
        code = {choice.name: random.randrange(len(choice.options)) for choice in space.choices}
        hot = {name: Chosen(tuple(range(5)), torch.eye(5, dtype=torch.float64)[code[name]]) for name in _mixers(space)}
        expected = supernet.at(space.decode(code))(SOURCE, TARGET)
        assert torch.allclose(supernet.at(single(code) | hot)(SOURCE, TARGET), expected, rtol=0, atol=1e-10)
        assert torch.equal(supernet.at(single(code))(SOURCE, TARGET), expected)
        lonely = single(code) | {name: Chosen((code[name],), torch.ones(1).double()) for name in hot}
        assert torch.allclose(supernet.at(lonely)(SOURCE, TARGET), expected, rtol=0, atol=1e-10)


def test_a_mixture_is_the_weighted_sum(supernet: TransformerSupernet) -> None:
    space = supernet.space
    code = {choice.name: 0 for choice in space.choices}
    name = _mixers(space)[0]
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    mixed = supernet.at(single(code) | {name: Chosen((0, 2, 4), weights)})
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parts = [supernet.at(space.decode(code | {name: o})).encoder.layers[0]["mixer"].operator(x) for o in (0, 2, 4)]
    expected = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    assert torch.allclose(mixed.encoder.layers[0]["mixer"].operator(x, None), expected, atol=1e-12)


def _quadratic(weights: dict[str, Tensor], step: int) -> Callable[[nn.Module], Tensor]:
    def loss(model: nn.Module) -> Tensor:
        return sum(((p - 0.1 * step) ** 2 * (index + 1)).sum() for index, p in enumerate(model.parameters()))

    return loss


def test_on_whole_weights_it_is_adamw() -> None:
    models = [nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3)).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    ours = SliceAdam(borrow(models[0]), weight_decay=0.05)
    theirs = torch.optim.AdamW(models[1].parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.05)
    for step in range(1, 12):
        rate = 0.01 / step
        theirs.param_groups[0]["lr"] = rate
        for model in models:
            _quadratic({}, step)(model).backward()
        ours.step(models[0].parameters(), rate)
        theirs.step()
        theirs.zero_grad()
        for first, second in zip(models[0].parameters(), models[1].parameters(), strict=True):
            assert torch.allclose(first, second, rtol=0, atol=1e-13)


def test_inherited_state_goes_on_as_the_slices_would(supernet: TransformerSupernet) -> None:
    adam = SliceAdam(supernet.weights, weight_decay=0.01)
    drawn = members(supernet.space, 5, seed=8)
    for member in drawn:
        model = supernet.at(member)
        backward(model)
        adam.step(model.parameters(), 1e-3)
    member = drawn[3]
    own = supernet.inherit(member)
    weights = borrow(own)
    inherited = adam.inherit(supernet.sources(member), weights)
    sources = supernet.sources(member)
    for name, weight in weights.items():
        cut = tuple(slice(size) for size in weight.shape)
        assert torch.equal(inherited.first[name], adam.first[sources[name]][cut])
        assert torch.equal(inherited.second[name], adam.second[sources[name]][cut])
        assert float(inherited.updates[name]) == float(adam.updates[sources[name]])
    for _ in range(3):
        lent = supernet.at(member)
        backward(lent)
        adam.step(lent.parameters(), 1e-3)
        backward(own)
        inherited.step(own.parameters(), 1e-3)
    for name, parameter in lent.named_parameters():
        assert torch.allclose(parameter, weights[name], rtol=0, atol=1e-9), name


def test_optimiser_state_survives_a_checkpoint(supernet: TransformerSupernet) -> None:
    adam = SliceAdam(supernet.weights)
    for member in members(supernet.space, 3):
        model = supernet.at(member)
        backward(model)
        adam.step(model.parameters(), 1e-3)
    saved = {name: tensor.clone() for name, tensor in adam.tensors().items()}
    other = SliceAdam(supernet.weights)
    other.load(saved)
    assert all(torch.equal(saved[name], tensor) for name, tensor in other.tensors().items())


def test_a_mixed_selection_needs_no_sizes_of_operators_out_of_use(supernet: TransformerSupernet) -> None:
    space = supernet.space
    code = space.encode(members(space, 3)[2])
    logits = {name: torch.zeros(5, dtype=torch.float64) for name in _mixers(space) if name in code}
    model = supernet.at(softmax(code, logits))
    assert model(SOURCE, TARGET).isfinite().all()


@pytest.mark.usefixtures("float64")
def test_a_slice_is_updated_as_adamw_updates_a_copy_of_it() -> None:
    generator = torch.Generator().manual_seed(5)
    weights = {"w": torch.randn(6, 8, generator=generator), "b": torch.randn(6, generator=generator)}
    lender, adam = Lender(weights), SliceAdam(weights, weight_decay=0.1)
    slices = [lender.parameter("w", torch.Size((4, 5))), lender.parameter("b", torch.Size((4,)))]
    copies = [torch.nn.Parameter(part.detach().clone()) for part in slices]
    plain = torch.optim.AdamW(copies, lr=0.01, betas=(0.9, 0.98), weight_decay=0.1)
    assert not slices[0].is_contiguous()
    for _ in range(5):
        for part, copy in zip(slices, copies, strict=True):
            part.grad = torch.randn(part.shape, generator=generator)
            copy.grad = part.grad.clone()
        adam.step(slices, 0.01)
        plain.step()
    for part, copy in zip(slices, copies, strict=True):
        torch.testing.assert_close(part.detach(), copy.detach(), rtol=0, atol=1e-12)
