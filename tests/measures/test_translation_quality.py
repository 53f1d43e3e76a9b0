"""Translation quality: sacrebleu's own numbers, reproducible intervals, and the two BLEU variants of papers."""

from __future__ import annotations

import os

import pytest
import sacrebleu

from nasformer.errors import RequestError
from nasformer.measures.language import bits_per_byte, perplexity
from nasformer.measures.translation import translation_quality

REFERENCES = ["The well-known cat sat on the mat today.", "A dog barked at the old tree in the park.",
              "It is raining in the town, as it often does.", "We went home early and read a book."]  # fmt: skip
HYPOTHESES = ["The well-known cat sat on a mat today.", "a dog barked at the old tree in the garden.",
              "It is raining in the town, as it did.", "We went home late and read a book."]  # fmt: skip


def test_the_values_are_sacrebleus() -> None:
    quality = translation_quality(HYPOTHESES, REFERENCES, resamples=200)
    assert quality.bleu.value == pytest.approx(sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score)
    assert quality.chrf.value == pytest.approx(sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score)
    for interval in (quality.bleu, quality.chrf):
        assert interval.low is not None
        assert interval.high is not None
        assert 0 < interval.low < interval.value < interval.high < 100
    for part in ("nrefs:1", "bs:200", "seed:12345", "case:mixed", "tok:13a"):
        assert part in quality.bleu_signature
    assert "nc:6" in quality.chrf_signature
    data = quality.data()
    assert data["bleu"] == {"value": quality.bleu.value, "low": quality.bleu.low, "high": quality.bleu.high,
                            "signature": quality.bleu_signature}  # fmt: skip
    assert list(data) == ["bleu", "chrf", "bleu_lowercase", "bleu_lowercase_compound"]


def test_intervals_follow_the_seed_and_not_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SACREBLEU_SEED", raising=False)
    first = translation_quality(HYPOTHESES, REFERENCES, resamples=50, seed=3)
    assert "SACREBLEU_SEED" not in os.environ
    monkeypatch.setenv("SACREBLEU_SEED", "none")
    assert translation_quality(HYPOTHESES, REFERENCES, resamples=50, seed=3) == first
    assert os.environ["SACREBLEU_SEED"] == "none"
    assert translation_quality(HYPOTHESES, REFERENCES, resamples=50, seed=4).bleu != first.bleu


def test_lowercase_forgives_case_only() -> None:
    quality = translation_quality(HYPOTHESES, REFERENCES, resamples=0)
    lowered = translation_quality([line.lower() for line in HYPOTHESES], [line.lower() for line in REFERENCES])
    assert quality.bleu_lowercase == pytest.approx(lowered.bleu.value)
    assert quality.bleu_lowercase > quality.bleu.value
    assert quality.bleu.low is None
    assert quality.chrf.high is None


def test_compounds_are_split_after_tokenisation_as_the_common_script_does() -> None:
    references = ["The well-known a-b-c cat sat on the mat -- in 2-3 days."]
    hypotheses = ["the well-made a-b-c cat sat on the mat -- in 2-3 days."]
    split = [
        "the well ##at##-##at## known a ##at##-##at## b-c cat sat on the mat -- in 2 - 3 days .",
        "the well ##at##-##at## made a ##at##-##at## b-c cat sat on the mat -- in 2 - 3 days .",
    ]
    quality = translation_quality(hypotheses, references, resamples=0)
    wanted = sacrebleu.corpus_bleu([split[1]], [[split[0]]], tokenize="none", force=True).score
    assert quality.bleu_lowercase_compound == pytest.approx(wanted)
    assert quality.bleu_lowercase_compound != pytest.approx(quality.bleu_lowercase)
    same = translation_quality(["no hyphens here , at all ."], ["no hyphens here , at all ."], resamples=0)
    assert same.bleu_lowercase == same.bleu_lowercase_compound == pytest.approx(100)


def test_nothing_right_is_a_score_and_not_a_failure() -> None:
    quality = translation_quality(["x y z w"], ["a b c d"], resamples=20)
    assert (quality.bleu.value, quality.bleu.low, quality.bleu.high) == (0.0, 0.0, 0.0)


def test_where_most_hypotheses_are_empty_there_is_an_interval() -> None:
    quality = translation_quality(["a small dog", "", ""], ["a small dog", "a cat", "a bird"])
    assert quality.chrf.low is not None
    assert quality.chrf.high is not None
    assert quality.chrf.low < quality.chrf.value < quality.chrf.high


def test_unequal_or_no_sentences_are_refused() -> None:
    with pytest.raises(RequestError, match="4 hypotheses and 3 references"):
        translation_quality(HYPOTHESES, REFERENCES[:3])
    with pytest.raises(RequestError, match="0 hypotheses"):
        translation_quality([], [])


def test_perplexity_and_bits_per_byte() -> None:
    assert perplexity(nats=2.772588722239781, tokens=2) == pytest.approx(4)
    assert bits_per_byte(nats=2.772588722239781, bytes=8) == pytest.approx(0.5)
    assert perplexity(1e9, 1) == float("inf")
    with pytest.raises(RequestError, match="token"):
        perplexity(1.0, 0)
    with pytest.raises(RequestError, match="byte"):
        bits_per_byte(1.0, 0)
