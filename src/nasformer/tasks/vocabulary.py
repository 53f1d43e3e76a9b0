"""Vocabularies: byte-level BPE, learned on both sides together, with one dictionary or one a side."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from nasformer.errors import RequestError, RunError

PAD, BOS, EOS, UNKNOWN = 0, 1, 2, 3
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
SMALLEST = len(SPECIALS) + 256


class Vocabulary:
    """A byte-level BPE: encodes every text, and decoding gives the text back (lowercased if it was so learned)."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.encode_special_tokens = True  # "</s>" written in a text is text, not the end
        self._tokenizer = tokenizer

    @property
    def tokenizer(self) -> Tokenizer:
        """The `tokenizers.Tokenizer` that does the work."""
        return self._tokenizer

    @property
    def size(self) -> int:
        """The number of tokens, specials included."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """The token ids of each line; each ends with EOS and none begins with BOS."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(lines))]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sequence of ids, without the special tokens."""
        plain = [[int(token) for token in sequence] for sequence in ids]
        return list(self._tokenizer.decode_batch(plain, skip_special_tokens=True))

    def digest(self) -> str:
        """The SHA-256 of the vocabulary's JSON."""
        return hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()

    def save(self, path: Path | str) -> None:
        """Writes a `tokenizer.json`, whole or not at all."""
        _write(Path(path), self._tokenizer.to_str(pretty=True))

    @classmethod
    def read(cls, path: Path | str) -> Vocabulary:
        """The vocabulary in a `tokenizer.json`; raises `RequestError` where there is none."""
        try:
            vocabulary = cls(Tokenizer.from_str(Path(path).read_text(encoding="utf-8")))
        except Exception as error:  # tokenizers raises plain Exception
            raise RequestError(f"expected a tokenizer.json, got {path}: {str(error).splitlines()[0]}") from None
        if [vocabulary.tokenizer.id_to_token(number) for number in range(len(SPECIALS))] != list(SPECIALS):
            raise RequestError(f"expected the tokens {' '.join(SPECIALS)} first in {path}; use Vocabulary.save")
        return vocabulary


def learn(
    source: Sequence[str],
    target: Sequence[str],
    *,
    size: int,
    shared: bool,
    lowercase: bool = False,
    cache: Path | None = None,
) -> tuple[Vocabulary, Vocabulary]:
    """The vocabularies of the two sides: one BPE of at most `size` tokens, learned on both sides together.

    With `shared` both sides get the same vocabulary; otherwise each keeps the tokens that its own text needs, and
    segments that text as the whole BPE does. `cache` is a folder; what is damaged in it is learned anew.
    Raises `RequestError` if `size` has no room for the specials and the 256 bytes, or if there is no text.
    """
    if size < SMALLEST:
        raise RequestError(f"expected a vocabulary of at least {SMALLEST} tokens (specials and bytes), got {size}")
    if not any(source) or not any(target):
        raise RequestError("expected text on both sides to learn a vocabulary from, got none")
    entry = cache / f"{_key(source, target, size, shared, lowercase)}.json" if cache is not None else None
    kept = _cached(entry) if entry is not None else None
    if kept is not None:
        return kept
    whole = _train(source, target, size, lowercase)
    if shared:
        pair = (whole, whole)
    else:
        pair = (_restrict(whole, source), _restrict(whole, target))
    if entry is not None:
        texts = [vocabulary.tokenizer.to_str() for vocabulary in pair]
        with suppress(OSError):  # without its cache the work only takes longer
            _write(entry, json.dumps({"vocabularies": texts, "sha256": [v.digest() for v in pair]}))
    return pair


def _train(source: Sequence[str], target: Sequence[str], size: int, lowercase: bool) -> Vocabulary:
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIALS[UNKNOWN]))
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*source, *target], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[(SPECIALS[EOS], EOS)])
    return Vocabulary(tokenizer)


def _restrict(whole: Vocabulary, lines: Sequence[str]) -> Vocabulary:
    """The part of a BPE that some lines need. A token of the lines is built only by merges whose results are parts of
    it, so these and their parts are kept; all others never ran on the lines, and the order of the rest is as before."""
    data: dict[str, Any] = json.loads(whole.tokenizer.to_str())
    ids, merges = data["model"]["vocab"], data["model"]["merges"]
    names = {number: token for token, number in ids.items()}
    encoded = whole.encode(lines)
    kept = {names[number] for sequence in encoded for number in sequence}
    for left, right in reversed(merges):  # not sorted by length, hence the second loop
        if left + right in kept:
            kept |= {left, right}
    while missing := {part for pair in merges if "".join(pair) in kept for part in pair} - kept:
        kept |= missing
    kept |= {*SPECIALS, *pre_tokenizers.ByteLevel.alphabet()}
    ordered = sorted(kept, key=ids.__getitem__)
    data["model"]["vocab"] = {token: number for number, token in enumerate(ordered)}
    data["model"]["merges"] = [pair for pair in merges if "".join(pair) in kept]
    part = Vocabulary(Tokenizer.from_str(json.dumps(data)))
    renumbered = {ids[token]: number for number, token in enumerate(ordered)}
    if part.encode(lines) != [[renumbered[number] for number in sequence] for sequence in encoded]:
        raise RunError("expected the part of a vocabulary to segment its side as the whole does; use shared=True")
    return part


def _key(source: Sequence[str], target: Sequence[str], size: int, shared: bool, lowercase: bool) -> str:
    digest = hashlib.sha256(json.dumps([1, tokenizers.__version__, size, shared, lowercase, len(source)]).encode())
    for line in (*source, *target):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _cached(entry: Path) -> tuple[Vocabulary, Vocabulary] | None:
    try:
        data = json.loads(entry.read_text(encoding="utf-8"))
        one, other = (Vocabulary(Tokenizer.from_str(text)) for text in data["vocabularies"])
        return (one, other) if [one.digest(), other.digest()] == data["sha256"] else None
    except Exception:  # whatever is wrong with it, it can be made again
        return None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
