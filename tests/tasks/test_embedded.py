"""The embedded corpus: a function of its seed, disjoint, and grammatical where a rule can be checked."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from nasformer.errors import RequestError
from nasformer.tasks import embedded_lexicon as lexicon
from nasformer.tasks.embedded import embedded_text, sentence_pairs

PAIRS = sentence_pairs(4_000, 3)


def test_the_same_seed_gives_the_same_pairs_in_another_process() -> None:
    code = "from nasformer.tasks.embedded import sentence_pairs; print(sentence_pairs(200, 3))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == str(PAIRS[:200])
    assert sentence_pairs(50, 4) != PAIRS[:50]


def test_no_sentence_twice_and_lengths_in_bounds() -> None:
    for side in (0, 1):
        assert len({pair[side] for pair in PAIRS}) == len(PAIRS)
    assert all(4 <= len(sentence.split()) <= 25 for pair in PAIRS for sentence in pair)


def test_sentences_are_well_formed() -> None:
    for pair in PAIRS:
        for sentence in pair:
            assert re.fullmatch(r"[A-ZÄÖÜ][^?]*[.?]", sentence), sentence
            assert not re.search(r"  | [,.?]|,,|,\.|[+_|-]{2}|\+|_|None", sentence), sentence


def test_english_agrees() -> None:
    for english, _ in PAIRS:
        assert not re.search(r"(^|that |because )(he|she|it) (see|have|do|are|were|go)\b", english.lower()), english
        assert not re.search(r"\ba [aeio]|\ban [bcdfgjklmnpqrstvwxyz]", english), english


def test_german_verb_ends_subordinate_clauses() -> None:
    found = 0
    for _, german in PAIRS:
        match = re.search(r"(?:dass|ob|weil|obwohl) [^,]* ge\w+t (\w+)[.?,]", german)
        if match:
            found += 1
            assert match[1] in ("habe", "hast", "hat", "haben", "habt", "bin", "ist", "sind"), german
    assert found > 50


@pytest.mark.parametrize(
    ("english", "german"),
    [("Mr. ", r"\bSie\b|\bIhnen\b"), ("Children, ", r"\bihr\b|\beuch\b|\bIhr\b")],
)
def test_who_is_spoken_to_decides_what_you_becomes(english: str, german: str) -> None:
    said = [pair for pair in PAIRS if re.match(re.escape(english) + r"(\w+, )?(you|do you|did you|will you)", pair[0])]
    assert said
    assert all(re.search(german, pair[1]) for pair in said)


def test_it_takes_the_gender_of_its_noun() -> None:
    causes = [
        german.split(", weil ")[1] for english, german in PAIRS if "because it " in english and ", weil " in german
    ]
    pronouns = {cause.split()[0] for cause in causes}
    assert pronouns >= {"er", "sie", "es"}


def test_the_lexicon_is_of_good_size() -> None:
    assert sum(map(len, lexicon.nouns().values())) >= 150
    assert len({verb for verbs in lexicon.verbs().values() for verb in verbs}) >= 80
    assert len({word for words in lexicon.adjectives().values() for word in words}) >= 60
    assert {noun.gender for nouns in lexicon.nouns().values() for noun in nouns} == set("mfn")


def test_splits_are_disjoint_on_both_sides_and_in_the_order_wanted() -> None:
    text = embedded_text(600, valid=100, test=50, seed=2)
    assert {split: len(sides[0]) for split, sides in text.splits.items()} == {"train": 600, "valid": 100, "test": 50}
    for side in (0, 1):
        assert len({line for sides in text.splits.values() for line in sides[side]}) == 750
    turned = embedded_text(600, valid=100, test=50, seed=2, languages=("de", "en"))
    assert turned.splits["valid"] == text.splits["valid"][::-1]


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(RequestError, match="en and de"):
        embedded_text(10, languages=("en", "fr"))
    with pytest.raises(RequestError, match="at least one pair"):
        embedded_text(0)
