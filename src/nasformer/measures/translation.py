"""Translation quality: sacreBLEU and chrF with bootstrap intervals, and the two BLEU variants that papers print."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from nasformer.errors import RequestError
from nasformer.measures.statistics import SEED, Interval


@dataclass(frozen=True)
class TranslationQuality:
    """Corpus scores from 0 to 100 with 95 % bootstrap intervals, and the signatures to quote beside them.

    `bleu_lowercase` is BLEU of lower-cased, 13a-tokenised text. `bleu_lowercase_compound` also splits hyphenated
    compounds (`a-b` becomes `a ##AT##-##AT## b`) on both sides after tokenisation, which changes the score: compare it
    with papers that do the same and with nothing else. Both smooth only n-gram orders without any match, which a corpus
    does not have; on such tiny inputs they differ from scripts that then print 0.
    """

    bleu: Interval
    chrf: Interval
    bleu_signature: str
    chrf_signature: str
    bleu_lowercase: float
    bleu_lowercase_compound: float

    def data(self) -> dict[str, Any]:
        """Plain data, each signature beside its score."""
        plain = asdict(self)
        for name in ("bleu", "chrf"):
            plain[name]["signature"] = plain.pop(f"{name}_signature")
        return plain


def translation_quality(
    hypotheses: Sequence[str], references: Sequence[str], *, resamples: int = 1000, seed: int = SEED
) -> TranslationQuality:
    """The quality of detokenised hypotheses, one reference each; fewer than two resamples leave the bounds `None`.

    The resampling keeps `resamples` x sentences x 18 float32 in memory (0.5 GB for 1,000 x 7,000).
    Raises `RequestError` for unequal counts or no sentence.
    """
    if len(hypotheses) != len(references) or not len(hypotheses):
        raise RequestError(
            f"expected one reference for each of at least one hypothesis, got {len(hypotheses)} hypotheses "
            f"and {len(references)} references"
        )
    hypotheses, references = list(hypotheses), list(references)
    bleu, bleu_signature = _score(BLEU(force=True), hypotheses, references, resamples, seed)
    chrf, chrf_signature = _score(_Chrf(), hypotheses, references, resamples, seed)
    lowercase = BLEU(lowercase=True, tokenize="13a", force=True).corpus_score(hypotheses, [references])
    compound = BLEU(tokenize="none", force=True).corpus_score(
        [_compounds_split(line) for line in hypotheses], [[_compounds_split(line) for line in references]]
    )
    return TranslationQuality(bleu, chrf, bleu_signature, chrf_signature, float(lowercase.score), float(compound.score))


class _Chrf(CHRF):
    """sacrebleu's own, whose resamples score a float32, or a float where all hypotheses in one are empty: it cannot
    take the mean of both."""

    def _compute_f_score(self, statistics: list[int]) -> float:
        return float(super()._compute_f_score(statistics))


def _score(
    metric: BLEU | CHRF, hypotheses: list[str], references: list[str], resamples: int, seed: int
) -> tuple[Interval, str]:
    with _bootstrap_seed(seed):
        score = metric.corpus_score(hypotheses, [references], n_bootstrap=max(1, resamples))
    signature = str(metric.get_signature())
    value = float(score.score)
    if resamples < 2:
        return Interval(value, None, None), signature
    # sacrebleu tells the resamples' mean and half width; it leaves them out where every resample scored 0.
    told = json.loads(score.format(width=6, signature=signature, is_json=True))
    mean, half = told.get("confidence_mean", value), told.get("confidence_var", 0.0)
    return Interval(value, mean - half, mean + half), signature


def _compounds_split(line: str) -> str:
    return re.sub(r"(\S)-(\S)", r"\1 ##AT##-##AT## \2", Tokenizer13a()(line.lower()))


@contextmanager
def _bootstrap_seed(seed: int) -> Iterator[None]:
    """sacrebleu reads its seed from the environment only: set it for a moment, then leave all as it was."""
    before = os.environ.get("SACREBLEU_SEED")
    os.environ["SACREBLEU_SEED"] = str(seed)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SACREBLEU_SEED"]
        else:
            os.environ["SACREBLEU_SEED"] = before
