"""Batches: a function of the seed, resumable, with little padding, and right to the last token."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nasformer.errors import RequestError
from nasformer.tasks.batching import BatchStream, PairData, draw, epoch_batches, in_order
from nasformer.tasks.embedded import embedded_text
from nasformer.tasks.vocabulary import BOS, EOS, PAD, learn


def _random_data(pairs: int = 500, max_length: int | None = None) -> PairData:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 30, (2, pairs))
    sides = [[[*generator.integers(4, 90, length).tolist(), EOS] for length in side] for side in lengths]
    return PairData(sides[0], sides[1], max_length)


@pytest.fixture(scope="module")
def data() -> PairData:
    return _random_data()


def test_collate_pads_on_the_right_and_shifts_the_target() -> None:
    batch = PairData([[5, EOS], [6, 7, 8, EOS]], [[9, 10, EOS], [11, EOS]]).collate([1, 0])
    assert batch.source.tolist() == [[6, 7, 8, EOS], [5, EOS, PAD, PAD]]
    assert batch.target_output.tolist() == [[11, EOS, PAD], [9, 10, EOS]]
    assert batch.target_input.tolist() == [[BOS, 11, PAD], [BOS, 9, 10]]
    assert batch.rows == (1, 0)
    assert batch.tokens == 5
    assert {tensor.dtype for tensor in (batch.source, batch.target_input, batch.target_output)} == {torch.int64}
    assert batch.to("cpu").rows == batch.rows


def test_an_epoch_has_every_pair_once_within_the_budget(data: PairData) -> None:
    batches = epoch_batches(data, 256, seed=1, epoch=0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(data)))
    assert all(len(rows) * data.longest_sides[rows].max() <= 256 for rows in batches)


def test_batches_are_a_function_of_seed_and_epoch(data: PairData) -> None:
    def drawn(seed: int, epoch: int) -> list[list[int]]:
        return [rows.tolist() for rows in epoch_batches(data, 256, seed, epoch)]

    state = np.random.get_state()[1].tolist()  # type: ignore[index]
    assert drawn(1, 0) == drawn(1, 0)
    assert drawn(1, 0) != drawn(1, 1)
    assert drawn(1, 0) != drawn(2, 0)
    assert np.random.get_state()[1].tolist() == state  # type: ignore[index]


@pytest.mark.parametrize("taken", [0, 7, 60, 103])
def test_a_stream_resumes_in_the_middle_of_an_epoch(data: PairData, taken: int) -> None:
    stream, resumed = BatchStream(data, 256, 5), BatchStream(data, 256, 5)
    for _ in range(taken):
        stream.next()
    resumed.load_state_dict(stream.state_dict())
    for _ in range(60):
        one, other = stream.next(), resumed.next()
        assert one.rows == other.rows
        assert torch.equal(one.target_input, other.target_input)
    assert stream.state_dict() == resumed.state_dict()
    assert set(stream.state_dict()) == {"epoch", "position"}


def test_long_pairs_are_left_out_of_training_and_counted() -> None:
    data = _random_data(max_length=20)
    assert data.left_out(256) == int((data.longest_sides > 20).sum()) > 0
    assert data.left_out(10) == int((data.longest_sides > 10).sum())
    rows = np.concatenate(epoch_batches(data, 256, 1, 0))
    assert len(rows) == len(data) - data.left_out(256)
    assert data.longest_sides[rows].max() <= 20


def test_in_order_gives_every_pair_once_even_a_long_one(data: PairData) -> None:
    batches = list(in_order(data, 16))
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(data)))
    assert all(batch.target_output.numel() <= 16 or len(batch.rows) == 1 for batch in batches)


def test_draw_gives_about_the_tokens_asked_for(data: PairData) -> None:
    batches = draw(data, 1_000, np.random.default_rng(3))
    assert 1_000 <= sum(batch.tokens for batch in batches) <= 1_000 + 30
    again = draw(data, 1_000, np.random.default_rng(3))
    assert [batch.rows for batch in batches] == [batch.rows for batch in again]
    everything = draw(data, 10**9, np.random.default_rng(3))
    assert sum(len(batch.rows) for batch in everything) == len(data)
    assert all(batch.source.numel() <= 4_096 and batch.target_output.numel() <= 4_096 for batch in everything)


def test_padding_is_small_on_the_embedded_corpus() -> None:
    source, target = embedded_text(4_000, valid=1, test=1).splits["train"]
    one, other = learn(source, target, size=800, shared=False)
    data = PairData(one.encode(source), other.encode(target))
    real = full = 0
    for rows in epoch_batches(data, 1_024, 1, 0):
        batch = data.collate(rows)
        full += batch.source.numel() + batch.target_output.numel()
        real += int((batch.source != PAD).sum()) + batch.tokens
    assert 1 - real / full <= 0.05


def test_wrong_requests_are_refused(data: PairData) -> None:
    with pytest.raises(RequestError, match="as many sources as targets, got 1 and 0"):
        PairData([[EOS]], [])
    with pytest.raises(RequestError, match="empty one"):
        PairData([[]], [[EOS]])
    with pytest.raises(RequestError, match="at most 1 tokens"):
        BatchStream(data, 1, 1)
