"""The memory of an update, predicted: the same bytes as when it runs, and the fastest way within a limit."""

from __future__ import annotations

import functools
import re

import pytest
import torch

from nasformer.errors import RequestError
from nasformer.measures.cost import saved_bytes
from nasformer.measures.memory import peak_bytes
from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.named import darts_transformer, dartsformer
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import Attention, FeedForward
from nasformer.strategies.memory import BatchShape, MemoryModel, MemoryPlan, Way, plan, size
from nasformer.supernets.reversible import ReversibleSupernet
from nasformer.supernets.selection import softmax
from nasformer.tasks.cross_entropy import cross_entropy

SETTINGS = ModelSettings(
    source_vocabulary=50, target_vocabulary=50, shared_vocabulary=True, dropout=Dropout(residual=0.1)
)
SHAPE = BatchShape(sentences=6, source=16, target=16)
STORED = Way()
TOGETHER = Way(backward="rebuilt")
ONE = Way(backward="rebuilt", one_at_a_time=True)


def few(*, heads: int, cross: bool) -> tuple:
    return (Attention(heads=heads), FeedForward(ratio=4.0))


def space(depth: int) -> Space:
    return dartsformer(dim=24, embedding_dim=8, searched=1, depth=depth, heads=2, operators=few)


@functools.cache
def model(depth: int) -> MemoryModel:
    return MemoryModel(space(depth), SETTINGS)


@functools.cache
def peak(depth: int, way: Way) -> int:
    return model(depth).peak_bytes(way, SHAPE)


class Measured:
    """The same update, run."""

    def __init__(self, depth: int, way: Way) -> None:
        self.supernet = ReversibleSupernet(
            space(depth), SETTINGS, seed=1, backward=way.backward, one_at_a_time=way.one_at_a_time
        )
        self.logits = {c.name: torch.zeros(len(c.options), requires_grad=True) for c in self.supernet.space.choices}
        generator = torch.Generator().manual_seed(1)
        self.tokens = torch.randint(4, 50, (SHAPE.sentences, SHAPE.target), generator=generator)
        self.tokens[0, 8:] = 0

    def loss(self) -> torch.Tensor:
        code = self.supernet.space.encode(self.supernet.space.close(lambda _: 0))
        network = self.supernet.at(softmax(code, self.logits)).train()
        logits = network(self.tokens, self.tokens).flatten(0, 1)
        return cross_entropy(logits, self.tokens.flatten(), smoothing=0.1, ignore=0)

    def peak(self) -> int:
        weights = list(self.supernet.weights.values())
        others = 5 * sum(weight.nbytes for weight in weights)  # two moments, and the copy of weights and moments
        return others + peak_bytes(lambda: self.loss().backward(), weights)


@pytest.mark.parametrize("way", [STORED, TOGETHER, ONE], ids=lambda way: way.text)
def test_prediction_is_what_running_takes(way: Way) -> None:
    measured = Measured(4, way)
    saved_bytes(measured.loss)  # the table of positions is made once
    # Told from one and two repeats: at this tiny size a few percent above.
    assert peak(4, way) == pytest.approx(measured.peak(), rel=0.05)
    assert model(4).kept_bytes(way, SHAPE) == pytest.approx(saved_bytes(measured.loss), rel=0.01)


def test_stored_grows_with_depth_and_rebuilt_does_not() -> None:
    shallow, deep = ({way: model(depth).kept_bytes(way, SHAPE) for way in (STORED, ONE)} for depth in (3, 12))
    assert deep[STORED] > 3 * shallow[STORED]
    assert deep[ONE] < 1.01 * shallow[ONE]


def test_imagined_work_leaves_nothing_behind() -> None:
    before = torch.get_rng_state()
    peak(4, ONE)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.isfinite(Measured(2, ONE).loss())  # real tables of positions, not imagined ones


WAYS = [STORED, TOGETHER, ONE, *(ONE.but(micro_batches=number) for number in (2, 4, 8, 11))]
TABLE = {way: 2**20 * (100 - 10 * place) for place, way in enumerate(WAYS)}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peaks from a table: what `plan` makes of them is tested, not what they are."""
    monkeypatch.setattr(MemoryModel, "peak_bytes", lambda self, way, shape: TABLE[way])


def planned(limit: int) -> MemoryPlan:
    return plan(space(1), SETTINGS, batch_tokens=11 * 16 + 3, longest=16, memory_limit=limit)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("place", range(len(WAYS)))
def test_plan_takes_the_fastest_way_that_fits(place: int) -> None:
    way = WAYS[place]
    for limit in (TABLE[way], TABLE[way] + 2**20):
        found = planned(limit)
        assert Way(**{name: getattr(found, name) for name in Way.model_fields}) == way
        assert found.predicted_bytes == TABLE[way]
        assert way.text in found.text
        assert size(limit) in found.text
        assert not place or WAYS[place - 1].text in found.text  # what would have been faster, and why it is not


@pytest.mark.usefixtures("known")
def test_nothing_fits() -> None:
    least = TABLE[WAYS[-1]]
    with pytest.raises(RequestError, match=f"least is {re.escape(size(least))} with rebuilt, one option.*11 micro"):
        planned(least - 1)


def test_a_plain_transformer_is_stored_in_micro_batches() -> None:
    plain = darts_transformer(dim=16, layers=1, heads=2, operators=few)
    whole = plan(plain, SETTINGS, batch_tokens=96, longest=16, memory_limit=2**30)
    assert (whole.backward, whole.micro_batches) == ("stored", 1)
    parts = plan(plain, SETTINGS, batch_tokens=96, longest=16, memory_limit=round(0.7 * whole.predicted_bytes))
    assert (parts.backward, parts.micro_batches > 1) == ("stored", True)
