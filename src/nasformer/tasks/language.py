"""Language modelling: one stream of text, cross-entropy of the next token, perplexity and bits per byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.errors import RequestError
from nasformer.measures.language import bits_per_byte, perplexity
from nasformer.measures.statistics import bootstrap_interval
from nasformer.models.transformer import PAD, ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.families import reads_images
from nasformer.spaces.value import Count, Value
from nasformer.tasks.cross_entropy import cross_entropy
from nasformer.tasks.embedded_source import embedded_source
from nasformer.tasks.text import SPLITS, Documents, Text, beginning, read_text
from nasformer.tasks.vocabulary import EOS, Vocabulary, bytes_vocabulary, characters_vocabulary, learn_text
from nasformer.tasks.windows import WindowBatch, Windows, WindowStream, kept_tokens

EVALUATION_TOKENS = 8192
"""How many tokens are scored at once."""
Part = Annotated[float, Field(gt=0, lt=0.5)]


class Language(Value):
    """The settings of a language-modelling task.

    `path` is what `nasformer.tasks.text.read_text` reads; None is the source of Python's standard library, of which
    about `embedded_bytes` are taken. `vocabulary` is "bytes", "characters" or the size of a byte-level BPE that is
    learned on the training text. Models are trained on sequences of `length` tokens, on the first `max_bytes` of the
    training text (None: all). `valid_part` and `test_part` are cut off where the text has no splits.
    `evaluation_tokens` of the validation and the test split are scored, in evenly spaced sequences (None: all).
    """

    kind: Literal["language"] = "language"
    path: str | None = None
    vocabulary: Literal["bytes", "characters"] | Annotated[Count, Field(ge=300)] = "bytes"
    length: Annotated[int, Field(ge=2)] = 64
    valid_part: Part = 0.05
    test_part: Part = 0.05
    max_bytes: Annotated[Count, Field(ge=1)] | None = None
    evaluation_tokens: Annotated[Count, Field(ge=1)] | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    embedded_bytes: Annotated[Count, Field(ge=100_000)] = 4_000_000
    data_seed: Annotated[int, Field(ge=0)] = 1

    @property
    def longest(self) -> int:
        """The most positions of a sequence that is trained on."""
        return self.length

    @staticmethod
    def fits(architecture: Any) -> bool:
        """Whether models of this architecture (or space) can do the task: they read tokens, and have no encoder."""
        return not hasattr(architecture, "encoder") and not reads_images(architecture)

    def check(self, architecture: Any) -> None:
        """Raises `RequestError` where the architecture (or space) does not fit."""
        if reads_images(architecture):
            raise RequestError(
                f"the family {architecture.family} reads images: expected a decoder-only architecture, or "
                f"task.kind=images"
            )
        if not self.fits(architecture):
            raise RequestError(
                f"a language model is a decoder alone; the family {architecture.family} has an encoder: expected a "
                f"decoder-only architecture, or task.kind=translation"
            )

    def open(self, cache: Path | None = None) -> LanguageTask:
        """Read the text, make or learn the vocabulary, and encode; `cache` is a folder for vocabulary and tokens."""
        text = self._text()
        return LanguageTask(self, text, self._vocabulary(text.splits["train"], cache), cache)

    def load(self, folder: Path, cache: Path | None = None) -> tuple[nn.Module, LanguageTask]:
        """The network of a model folder, and the task with that folder's vocabulary."""
        from nasformer.tasks.pretrained import load_language_model  # transformers takes seconds to import

        network, vocabulary = load_language_model(folder)
        return network, LanguageTask(self, self._text(), vocabulary, cache)

    def _text(self) -> Text:
        parts: dict[str, Any] = {"valid_part": self.valid_part, "test_part": self.test_part}
        if self.path is not None:
            return read_text(self.path, max_bytes=self.max_bytes, **parts)
        text = embedded_source(max_bytes=self.embedded_bytes, **parts)
        return Text(text.splits | {"train": beginning(text.splits["train"], self.max_bytes)})

    def _vocabulary(self, documents: Documents, cache: Path | None) -> Vocabulary:
        if self.vocabulary == "bytes":
            return bytes_vocabulary()
        if self.vocabulary == "characters":
            return characters_vocabulary(documents)
        return learn_text(documents, self.vocabulary, cache)


class LanguageTask:
    """The data of a language task, encoded, with its loss and scores (see `nasformer.tasks.task.Task`).

    The stream of a split is EOS, a document, EOS, the next document, …: every document is predicted from its first
    token on, and the end of each but the last.
    """

    def __init__(self, settings: Language, text: Text, vocabulary: Vocabulary, cache: Path | None = None) -> None:
        self.settings, self.vocabulary = settings, vocabulary
        self._digests = {split: text.digest(split) for split in SPLITS}
        self._sizes = {split: text.size(split) for split in SPLITS}
        self._byte_counts = vocabulary.byte_counts()
        self.data = {split: self._windows(split, text.splits[split], cache) for split in SPLITS}

    def digests(self) -> dict[str, str]:
        """A SHA-256 of each split's text, by which a resumed run knows its data."""
        return dict(self._digests)

    def model_settings(self, dropout: Dropout) -> ModelSettings:
        """The vocabulary's size and the dropout."""
        return ModelSettings(target_vocabulary=self.vocabulary.size, dropout=dropout)

    def stream(self, tokens: int, seed: int, part: tuple[float, float] = (0.0, 1.0)) -> WindowStream:
        """Training batches of whole windows with at most `tokens` tokens, of a part of the windows."""
        return WindowStream(self.data["train"], tokens, seed, self.data["train"].part(part, self.settings.data_seed))

    def for_search(self) -> LanguageTask:
        """The task itself."""
        return self

    def loss(self, model: nn.Module, batch: WindowBatch) -> Tensor:
        """Cross-entropy in nats per token; the smoothing is spread over the whole vocabulary."""
        logits, smoothing = model(batch.input).flatten(0, 1), self.settings.label_smoothing
        return cross_entropy(logits, batch.target.flatten(), smoothing=smoothing, ignore=PAD) / batch.tokens

    def draw(self, tokens: int, generator: np.random.Generator) -> list[WindowBatch]:
        """Random windows of the validation split with about this many tokens."""
        return self.data["valid"].draw(tokens, generator)

    def evaluate(self, model: nn.Module, batches: list[WindowBatch]) -> float:
        """Cross-entropy in nats per token, without smoothing and dropout."""
        total = sum(float(self._nats(model, batch).sum()) for batch in batches)
        return total / sum(batch.tokens for batch in batches)

    @torch.no_grad()
    def hidden(self, model: Any, batch: WindowBatch) -> Tensor:
        """The last hidden states at real positions, (positions, dim), without dropout."""
        model.eval()
        hidden: Tensor = model.decode(batch.input)
        return hidden[batch.target != PAD]

    def validation_loss(self, model: nn.Module) -> float:
        """`evaluate` over the validation split (`evaluation_tokens` of it)."""
        return self.evaluate(model, list(self._scored("valid", model)))

    def quality(self, model: nn.Module, split: str) -> dict[str, Any]:
        """Perplexity and bits per byte with 95 % intervals over windows, and the loss, on a split (`evaluation_tokens`
        of it). The bytes are those of the predicted text in UTF-8."""
        found = []
        for batch in self._scored(split, model):
            target = batch.target.cpu().numpy()
            counts = (target != PAD).sum(1), self._byte_counts[target].sum(1)
            found.append(np.stack([self._nats(model, batch).cpu().numpy(), *counts], axis=1))
        windows = np.concatenate(found)  # (windows, 3): nats, tokens, bytes

        def interval(measure: Any, column: int) -> dict[str, Any]:
            def over(rows: np.ndarray) -> float:
                sums = windows[rows.astype(np.int64)].sum(0)
                return float(measure(sums[0], int(sums[column])))

            measured = bootstrap_interval(range(len(windows)), over)
            return {"value": measured.value, "low": measured.low, "high": measured.high}

        nats, tokens, _ = windows.sum(0)
        scores = {"perplexity": interval(perplexity, 1), "bits_per_byte": interval(bits_per_byte, 2)}
        return {"split": split} | scores | {"loss": float(nats / tokens)}

    def save(self, model: Any, folder: Path) -> None:
        """Write the model and its vocabulary as a folder that `transformers` loads."""
        from nasformer.tasks.pretrained import save_language_model

        save_language_model(model, self.vocabulary, folder, {"max_new_tokens": self.settings.length})

    def facts(self) -> dict[str, Any]:
        """The vocabulary and the size of each split."""
        facts: dict[str, Any] = {
            "name": "language",
            "path": self.settings.path or "embedded corpus (the source of Python's standard library)",
            "vocabulary": self.settings.vocabulary,
            "target_vocabulary": self.vocabulary.size,
            "length": self.settings.length,
        }
        for split in SPLITS:
            facts |= {f"{split}_bytes": self._sizes[split], f"{split}_tokens": len(self.data[split].tokens) - 1}
        return facts

    def _windows(self, split: str, documents: Documents, cache: Path | None) -> Windows:
        def parts() -> Iterator[np.ndarray]:
            for document in documents:
                yield np.array([EOS])
                yield from self.vocabulary.encode_text(document)

        key = hashlib.sha256(f"1 {self.vocabulary.digest()} {self._digests[split]}".encode()).hexdigest()
        path = cache / f"{key}.tokens" if cache is not None else None
        origin = f"the {split} split of {self.settings.path or 'the embedded corpus'}"
        return Windows(kept_tokens(parts(), self.vocabulary.size, path), self.settings.length, origin)

    def _scored(self, split: str, model: nn.Module) -> Iterator[WindowBatch]:
        device = next(model.parameters()).device
        data = self.data[split]
        for batch in data.batches(data.scored(self.settings.evaluation_tokens), EVALUATION_TOKENS):
            yield batch.to(device)

    @torch.no_grad()
    def _nats(self, model: nn.Module, batch: WindowBatch) -> Tensor:
        """The loss of each window, (windows,), without smoothing and dropout."""
        model.eval()
        logits = model(batch.input).float().flatten(0, 1)
        losses = F.cross_entropy(logits, batch.target.flatten(), ignore_index=PAD, reduction="none")
        return losses.view_as(batch.target).double().sum(1)
