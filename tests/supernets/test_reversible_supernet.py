"""The reversible supernet: every way of drawing a selection works on it, and rebuilding changes no gradient."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nasformer.models.transformer import ModelSettings
from nasformer.operators import reversible
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.named import dartsformer
from nasformer.spaces.space import Space
from nasformer.strategies.darts import Darts
from nasformer.supernets.named import supernet_of
from nasformer.supernets.reversible import ReversibleSupernet
from nasformer.supernets.selection import Chosen, Selection, single, softmax

DROPOUT = Dropout(residual=0.3, attention=0.2, weight=0.2)
SETTINGS = ModelSettings(source_vocabulary=12, target_vocabulary=12, dropout=DROPOUT, shared_vocabulary=True)


def space(searched: int = 1) -> Space:
    """A small space whose searched layers run twice."""
    return dartsformer(dim=24, embedding_dim=8, splits=2, searched=searched, depth=2 * searched, heads=2)


def tokens(seed: int, time: int) -> Tensor:
    """Tokens (3, time), the first row's last two padded."""
    found = torch.randint(1, 12, (3, time), generator=torch.Generator().manual_seed(seed))
    found[0, -2:] = 0
    return found


SOURCE, TARGET = tokens(1, 6), tokens(2, 5)


@pytest.fixture
def supernet() -> ReversibleSupernet:
    """A supernet in float64 whose every weight is random."""
    drawn = ReversibleSupernet(space(), SETTINGS, seed=1)
    generator = torch.Generator().manual_seed(5)
    weights = {
        name: weight.double() + 0.2 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        for name, weight in drawn.weights.items()
    }
    return ReversibleSupernet(drawn.space, SETTINGS, seed=1, weights=weights)


def logits(space: Space) -> dict[str, Tensor]:
    """Different logits for every choice."""
    return {
        choice.name: torch.linspace(-1, 1, len(choice.options), dtype=torch.float64).roll(number).requires_grad_()
        for number, choice in enumerate(space.choices)
    }


def loss(model: nn.Module) -> Tensor:
    """A loss, with dropout drawn from the same seed every time."""
    torch.manual_seed(9)
    found = model(SOURCE, TARGET)
    mask = torch.randn(found.shape, generator=torch.Generator().manual_seed(7), dtype=found.dtype)
    return (found * mask).sum() * 1e-2


def gradients(supernet: ReversibleSupernet, selection: Any, others: dict[str, Tensor]) -> dict[str, Tensor]:
    """The loss and the gradients of shared weights and of `others`, under the names of the supernet."""
    model = supernet.at(selection).train()
    value = loss(model)
    leaves = {parameter.source: parameter for parameter in model.parameters()} | others
    found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    return {"loss": value.detach()} | {n: g for n, g in zip(leaves, found, strict=True) if g is not None}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """The same names, the same values to 1e-9."""
    assert one.keys() == other.keys()
    for name, found in one.items():
        assert torch.allclose(found, other[name], rtol=1e-9, atol=1e-11), name


def ways(supernet: ReversibleSupernet, selection: Any) -> list[dict[str, Tensor]]:
    """The gradients of a drawing of a selection for the three ways to differentiate."""
    found = []
    for backward, one_at_a_time in (("stored", True), ("rebuilt", True), ("rebuilt", False)):
        supernet.backward, supernet.one_at_a_time = backward, one_at_a_time
        drawn, others = selection()
        found.append(gradients(supernet, drawn, others))
    return found


@pytest.mark.slow
def test_a_mixed_selection_has_the_same_gradients_whichever_way(supernet: ReversibleSupernet) -> None:
    code = supernet.space.encode(supernet.space.sample(Random(1)))

    def selection() -> tuple[Selection, dict[str, Tensor]]:
        drawn = logits(supernet.space)
        return softmax(code, drawn), drawn

    stored, *rebuilt = ways(supernet, selection)
    for found in rebuilt:
        assert_same(stored, found)
    for choice in supernet.space.choices:
        assert abs(stored[choice.name].sum()) < 1e-12 < stored[choice.name].abs().min()
    assert set(supernet.weights) <= stored.keys()


def test_a_gumbel_choice_of_one_carries_its_gradient(supernet: ReversibleSupernet) -> None:
    """GDAS: one option runs, with a weight that is 1 in value and a softmax in its gradient."""
    code = supernet.space.encode(supernet.space.sample(Random(3)))

    def selection() -> tuple[Selection, dict[str, Tensor]]:
        drawn = logits(supernet.space)
        chosen = {}
        for name, tensor in drawn.items():
            soft = tensor.softmax(0)[code[name] : code[name] + 1]
            chosen[name] = Chosen((code[name],), 1.0 + soft - soft.detach())
        return chosen, drawn

    stored, *rebuilt = ways(supernet, selection)
    plain = gradients(supernet, supernet.space.decode(code), {})
    for found in rebuilt:
        assert_same(stored, found)
    assert_same(plain, {name: found for name, found in stored.items() if name in plain})
    zero = {choice.name for choice in supernet.space.choices if choice.options[code[choice.name]] == "zero"}
    for choice in supernet.space.choices:
        assert bool(stored[choice.name].abs().max() > 0) is (choice.name not in zero)


def test_several_options_of_many(supernet: ReversibleSupernet) -> None:
    names = [choice.name for choice in supernet.space.choices]

    def selection() -> tuple[Selection, dict[str, Tensor]]:
        drawn = {name: torch.tensor([0.3, 0.9], dtype=torch.float64, requires_grad=True) for name in names[1:]}
        return {name: Chosen((8, 2), tensor) for name, tensor in drawn.items()} | {names[0]: Chosen((4,))}, drawn

    stored, *rebuilt = ways(supernet, selection)
    for found in rebuilt:
        assert_same(stored, found)


def test_uniform_single_paths_run_and_differentiate(supernet: ReversibleSupernet) -> None:
    random = Random(0)
    for _ in range(6):
        code = {choice.name: random.randrange(len(choice.options)) for choice in supernet.space.choices}
        stored, *rebuilt = ways(supernet, lambda code=code: (single(code), {}))
        for found in rebuilt:
            assert_same(stored, found)
        used = set(supernet.sources(supernet.space.decode(code)).values())
        assert stored.keys() - {"loss"} == used


def test_weight_one_on_an_option_is_the_architecture_with_it(supernet: ReversibleSupernet) -> None:
    random = Random(3)
    for _ in range(4):
        code = {choice.name: random.randrange(len(choice.options)) for choice in supernet.space.choices}
        hot = {
            choice.name: Chosen(
                tuple(range(len(choice.options))), torch.eye(len(choice.options)).double()[code[choice.name]]
            )
            for choice in supernet.space.choices
        }
        expected = supernet.at(supernet.space.decode(code)).eval()(SOURCE, TARGET)
        assert torch.allclose(supernet.at(hot).eval()(SOURCE, TARGET), expected, rtol=0, atol=1e-10)
        assert torch.equal(supernet.at(single(code)).eval()(SOURCE, TARGET), expected)
        sharp = {name: 200.0 * chosen.weights for name, chosen in hot.items()}
        softened = supernet.at(softmax(code, sharp)).eval()(SOURCE, TARGET)
        assert torch.allclose(softened, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("searched", [1, 2])
def test_every_shared_weight_is_used_by_some_architecture(searched: int) -> None:
    supernet = ReversibleSupernet(space(searched), SETTINGS, seed=1)
    reached = set()
    for index in range(max(len(choice.options) for choice in supernet.space.choices)):
        member = supernet.space.close(lambda choice, i=index: min(i, len(choice.options) - 1))
        reached |= {parameter.source for parameter in supernet.at(member).parameters()}
    assert reached == supernet.weights.keys()


def test_repeats_share_choices_and_never_weights(supernet: ReversibleSupernet) -> None:
    code = {choice.name: 9 for choice in supernet.space.choices}  # a feed-forward or gated layer everywhere
    sources = supernet.sources(supernet.space.decode(code))
    for stack in ("encoder", "decoder"):
        first, second = ({s for s in sources.values() if s.startswith(f"{stack}.layers.{i}.")} for i in (0, 1))
        assert len(first) == len(second) > 0
        assert {name.replace("layers.0", "layers.1") for name in first} == second
    assert len(set(sources.values())) == len(sources)


def test_options_share_nothing_but_the_frame(supernet: ReversibleSupernet) -> None:
    choice = supernet.space.choices[0]
    used = []
    for option in range(len(choice.options)):
        code = {other.name: 0 for other in supernet.space.choices} | {choice.name: option}
        sources = supernet.sources(supernet.space.decode(code))
        used.append({source for name, source in sources.items() if name.startswith("encoder.layers.0.nodes.0.")})
    for first in range(len(used)):
        assert all(not used[first] & other for other in used[:first])


def test_initial_weights_follow_from_the_seed() -> None:
    state = torch.get_rng_state()
    drawn = [ReversibleSupernet(space(), SETTINGS, seed=seed).weights for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    assert not all(torch.equal(drawn[0][name], drawn[2][name]) for name in drawn[0])
    repeats = [drawn[0][f"encoder.layers.{i}.nodes.0.attention.operator.projection.weight"] for i in (0, 1)]
    assert not torch.equal(*repeats)


def test_an_inherited_model_is_plain(supernet: ReversibleSupernet) -> None:
    member = supernet.space.sample(Random(4))
    assert supernet.at(member).backward == "rebuilt"
    assert supernet.inherit(member).backward == "stored"


@pytest.mark.parametrize("exact", [True, False, None])
@pytest.mark.parametrize("made", ["supernet", "strategy"])
def test_exact_reaches_the_layers(made: str, exact: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, as single-path searches take it, streams are exact."""
    given = {} if exact is None else {"exact": exact}
    kind = reversible.Streams
    seen: list[bool] = []

    def watch(x: Tensor, splits: int, *, exact: bool) -> Any:
        seen.append(exact)
        return kind.of(x, splits, exact=exact)

    monkeypatch.setattr(reversible, "Streams", type("Watched", (kind,), {"of": staticmethod(watch)}))
    ways = Darts(**given).ways if made == "strategy" else given
    supernet = supernet_of(space(), SETTINGS, seed=1, **ways)
    loss(supernet.at(supernet.space.sample(Random(1))).train()).backward()
    assert seen == [exact is not False] * 2


@pytest.mark.slow
def test_a_deep_network_of_identities_has_the_gradients_of_a_stored_one() -> None:
    deep = dartsformer(dim=24, embedding_dim=8, splits=2, searched=2, depth=24, heads=2)
    half = {c.name: c.options.index("identity" if ".layers.0." in c.name else "feed_forward") for c in deep.choices}

    def found(**ways: Any) -> dict[str, Tensor]:
        return gradients(ReversibleSupernet(deep, SETTINGS, seed=1, **ways), single(half), {})

    stored, exact, plain = found(backward="stored"), found(), found(exact=False)

    def apart(other: dict[str, Tensor]) -> float:
        one, two = (torch.cat([found[name].flatten() for name in stored]) for found in (stored, other))
        return float((one - two).norm() / one.norm())

    assert apart(exact) < 1e-4
    assert not apart(plain) < 1e-2
