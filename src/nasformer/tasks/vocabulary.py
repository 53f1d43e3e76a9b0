"""Vocabularies: byte-level BPE of two sides (learned together, with one dictionary or one a side) or of one text;
bytes; characters."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import tokenizers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from nasformer.errors import RequestError, RunError

PAD, BOS, EOS, UNKNOWN = 0, 1, 2, 3
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
SMALLEST = len(SPECIALS) + 256
CHUNK = 65_536
"""About how many characters of a text are encoded at once."""
_AT_ONCE = 16
_SEAM = re.compile(r"(?<=\S)[ \n]")
"""Where a text may be cut and BPE segments it as before: the first blank after a word always begins a new one."""


class Vocabulary:
    """Tokens of a text: encodes every text, and decoding gives the text back (lowercased if it was so learned)."""

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
        """The token ids of each line; none begins with BOS, and each ends with EOS in a vocabulary of sentences."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(lines))]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sequence of ids, without the special tokens."""
        plain = [[int(token) for token in sequence] for sequence in ids]
        return list(self._tokenizer.decode_batch(plain, skip_special_tokens=True))

    def encode_text(self, text: bytes) -> Iterator[np.ndarray]:
        """The token ids of a long UTF-8 text of any number of lines, in parts of about 1 MB, without EOS.

        Only for a vocabulary of one text (`learn_text`). The parts are segmented as the whole would be.
        """
        if self._bytes_only:
            for first in range(0, len(text), CHUNK * _AT_ONCE):
                yield np.frombuffer(text[first : first + CHUNK * _AT_ONCE], np.uint8) + np.int32(len(SPECIALS))
            return
        chunks = list(_chunks(text.decode("utf-8")))
        for first in range(0, len(chunks), _AT_ONCE):
            found = self._tokenizer.encode_batch_fast(chunks[first : first + _AT_ONCE])
            yield np.concatenate([np.array(encoding.ids, np.int32) for encoding in found])

    def byte_counts(self) -> np.ndarray:
        """How many bytes of UTF-8 text each token stands for, (tokens,); 0 for the special ones."""
        model: Any = self._tokenizer.model
        names = [str(self._tokenizer.id_to_token(number)) for number in range(self.size)]
        if model.byte_fallback:
            counts = [1] * SMALLEST + [len(name.encode()) for name in names[SMALLEST:]]
        else:
            counts = [len(name) for name in names]  # in byte-level BPE each byte is written as one character
        return np.array([0] * len(SPECIALS) + counts[len(SPECIALS) :], dtype=np.int64)

    @property
    def _bytes_only(self) -> bool:
        model: Any = self._tokenizer.model
        return bool(model.byte_fallback) and self.size == SMALLEST

    def digest(self) -> str:
        """The SHA-256 of the vocabulary's JSON."""
        return hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()

    def save(self, path: Path | str) -> None:
        """Writes a `tokenizer.json`, whole or not at all."""
        with written_whole(Path(path)) as file:
            file.write(self._tokenizer.to_str(pretty=True).encode())

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
    kept = _cached(entry, 2)
    if kept is not None:
        return kept[0], kept[1]
    whole = _train([*source, *target], size, lowercase)
    whole.tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[(SPECIALS[EOS], EOS)]
    )
    if shared:
        pair = (whole, whole)
    else:
        pair = (_restrict(whole, source), _restrict(whole, target))
    _keep(entry, pair)
    return pair


def learn_text(documents: Sequence[bytes], size: int, cache: Path | None = None) -> Vocabulary:
    """A byte-level BPE of at most `size` tokens learned on UTF-8 documents.

    `cache` is a folder; what is damaged in it is learned anew. Raises `RequestError` if `size` has no room for the
    specials and the 256 bytes.
    """
    if size < SMALLEST:
        raise RequestError(f"expected a vocabulary of at least {SMALLEST} tokens (specials and bytes), got {size}")
    digest = hashlib.sha256(json.dumps([1, tokenizers.__version__, "text", size]).encode())
    for document in documents:
        digest.update(hashlib.sha256(document).digest())
    entry = cache / f"{digest.hexdigest()}.json" if cache is not None else None
    kept = _cached(entry, 1)
    if kept is not None:
        return kept[0]
    found = _train((chunk for document in documents for chunk in _chunks(document.decode("utf-8"))), size)
    _keep(entry, [found])
    return found


def bytes_vocabulary() -> Vocabulary:
    """One token for each byte of UTF-8 text, after the specials."""
    return _characters("")


def characters_vocabulary(documents: Iterable[bytes]) -> Vocabulary:
    """One token for each character of UTF-8 documents; others are written as their bytes."""
    return _characters(set().union(*(document.decode("utf-8") for document in documents)))


def _characters(characters: Iterable[str]) -> Vocabulary:
    names = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(characters)]
    tokens = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab=tokens, merges=[], unk_token=SPECIALS[UNKNOWN], byte_fallback=True))
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return Vocabulary(tokenizer)


def _chunks(text: str) -> Iterator[str]:
    """A text in parts of about `CHUNK` characters, cut at seams (a part without one is as long as it is)."""
    start = 0
    while start < len(text):
        seam = _SEAM.search(text, start + CHUNK)
        end = seam.start() if seam else len(text)
        yield text[start:end]
        start = end


def _train(texts: Iterable[str], size: int, lowercase: bool = False) -> Vocabulary:
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
    tokenizer.train_from_iterator(texts, trainer)
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


def _cached(entry: Path | None, count: int) -> list[Vocabulary] | None:
    if entry is None:
        return None
    try:
        data = json.loads(entry.read_text(encoding="utf-8"))
        found = [Vocabulary(Tokenizer.from_str(text)) for text in data["vocabularies"]]
        return found if len(found) == count and [one.digest() for one in found] == data["sha256"] else None
    except Exception:  # whatever is wrong with it, it can be made again
        return None


def _keep(entry: Path | None, vocabularies: Sequence[Vocabulary]) -> None:
    if entry is None:
        return
    texts = [vocabulary.tokenizer.to_str() for vocabulary in vocabularies]
    data = {"vocabularies": texts, "sha256": [vocabulary.digest() for vocabulary in vocabularies]}
    with suppress(OSError), written_whole(entry) as file:  # without its cache the work only takes longer
        file.write(json.dumps(data).encode())


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which takes its place at `path` where the block ends well, and else vanishes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
