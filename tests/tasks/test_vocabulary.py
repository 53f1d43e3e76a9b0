"""Vocabularies: reversible, the same each time, and the part a side keeps segments its text as the whole does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasformer.errors import RequestError
from nasformer.tasks.embedded import sentence_pairs
from nasformer.tasks.vocabulary import BOS, EOS, PAD, SMALLEST, UNKNOWN, Vocabulary, learn

ENGLISH, GERMAN = (tuple(side) for side in zip(*sentence_pairs(600, 1), strict=True))
SHARED = learn(ENGLISH, GERMAN, size=600, shared=True)[0]
SEPARATE = learn(ENGLISH, GERMAN, size=600, shared=False)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_every_text_comes_back(text: str) -> None:
    for vocabulary in (SHARED, *SEPARATE):
        (ids,) = vocabulary.encode([text])
        assert ids[-1] == EOS
        assert not {PAD, BOS, UNKNOWN, EOS} & set(ids[:-1])
        assert vocabulary.decode([ids, [BOS, *ids, PAD, PAD]]) == [text, text]


def test_special_tokens_written_in_a_text_are_text() -> None:
    (ids,) = SHARED.encode(["a </s> b <pad>"])
    assert ids.count(EOS) == 1
    assert SHARED.decode([ids]) == ["a </s> b <pad>"]


def test_shared_gives_one_vocabulary_of_the_size_asked_for() -> None:
    one, other = learn(ENGLISH, GERMAN, size=400, shared=True)
    assert one is other
    assert one.size == 400


@pytest.mark.parametrize(("part", "lines"), [(SEPARATE[0], ENGLISH), (SEPARATE[1], GERMAN)])
def test_separate_dictionaries_segment_their_side_as_the_whole_bpe(part: Vocabulary, lines: tuple[str, ...]) -> None:
    assert SMALLEST < part.size < SHARED.size
    for line in lines:
        whole, own = (vocabulary.tokenizer.encode(line).tokens for vocabulary in (SHARED, part))
        assert whole == own
    data = json.loads(part.tokenizer.to_str())["model"]
    assert sorted(data["vocab"].values()) == list(range(part.size))
    used = {token for sequence in part.encode(lines) for token in sequence}
    parts = {data["vocab"][side] for left, right in data["merges"] for side in (left, right)}
    assert set(range(SMALLEST, part.size)) <= used | parts


def test_learning_is_the_same_in_another_process() -> None:
    code = (
        "from nasformer.tasks.embedded import sentence_pairs; from nasformer.tasks.vocabulary import learn;"
        "e, g = zip(*sentence_pairs(600, 1)); print(*(v.digest() for v in learn(e, g, size=600, shared=False)))"
    )
    for _ in range(2):
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert said.stdout.split() == [vocabulary.digest() for vocabulary in SEPARATE]


def test_save_and_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tokenizer.json"
    SEPARATE[0].save(path)
    again = Vocabulary.read(path)
    assert again.digest() == SEPARATE[0].digest()
    assert again.encode(ENGLISH) == SEPARATE[0].encode(ENGLISH)
    assert [file.name for file in path.parent.iterdir()] == ["tokenizer.json"]


def test_lowercase_travels_with_the_tokenizer(tmp_path: Path) -> None:
    one, other = learn(ENGLISH, GERMAN, size=400, shared=False, lowercase=True)
    other.save(tmp_path / "t.json")
    assert Vocabulary.read(tmp_path / "t.json").decode(other.encode(["Ärzte LACHEN"])) == ["ärzte lachen"]
    assert one.encode(["THE Dog"]) == one.encode(["the dog"])


def test_the_cache_is_used_and_damage_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def learned() -> list[str]:
        return [v.digest() for v in learn(ENGLISH, GERMAN, size=300, shared=False, cache=tmp_path)]

    first = learned()
    (entry,) = tmp_path.iterdir()
    good = entry.read_text(encoding="utf-8")
    for damage in ("", "{", "[]", good[: len(good) // 2], good.replace('"sha256": ["', '"sha256": ["0')):
        entry.write_text(damage, encoding="utf-8")
        assert learned() == first
        assert entry.read_text(encoding="utf-8") == good
    monkeypatch.setattr("nasformer.tasks.vocabulary._train", None)
    assert learned() == first


def test_a_cache_that_cannot_be_written_is_not_fatal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    learn(ENGLISH[:20], GERMAN[:20], size=SMALLEST, shared=True, cache=tmp_path / "file")


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"at least 260 tokens .* got 259"):
        learn(ENGLISH, GERMAN, size=259, shared=True)
    with pytest.raises(RequestError, match="text on both sides"):
        learn(ENGLISH, [], size=300, shared=True)
    with pytest.raises(RequestError, match=r"tokenizer\.json"):
        Vocabulary.read(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(RequestError, match=r"expected a tokenizer\.json"):
        Vocabulary.read(tmp_path / "bad.json")
