"""Translation: two sides of text, label-smoothed cross-entropy, BLEU and chrF of a beam search."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from nasformer.errors import RequestError
from nasformer.measures.translation import translation_quality
from nasformer.models.transformer import PAD, ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.value import Count, Value
from nasformer.tasks.batching import Batch, BatchStream, PairData, draw, in_order, part_of
from nasformer.tasks.corpora import ParallelText, read_parallel
from nasformer.tasks.cross_entropy import cross_entropy
from nasformer.tasks.embedded import embedded_text
from nasformer.tasks.vocabulary import Vocabulary, learn

EVALUATION_TOKENS = 8192
LONGEST_SCORED = 4
"""Validation and test sentences may have this many times `max_length` tokens."""


class Translation(Value):
    """The settings of a translation task.

    `path` is what `nasformer.tasks.corpora.read_parallel` reads; None is the corpus that the package makes itself.
    `source` and `target` are languages (by default into English). `vocabulary` tokens of BPE are learned on both sides
    together; unless `shared_vocabulary`, each side keeps its own. With it, models have one table for source, target and
    output (those with an encoder of cells excepted). `lowercase` lower-cases both sides, as small published benchmarks
    do. Sentences over `max_length` tokens are not trained on. `beams` and `length_penalty` are the decoding's.
    """

    kind: Literal["translation"] = "translation"
    path: str | None = None
    source: str | None = None
    target: str | None = None
    vocabulary: Annotated[Count, Field(ge=300)] = 10_000
    shared_vocabulary: bool = False
    lowercase: bool = False
    max_length: Annotated[int, Field(ge=4)] = 175
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    beams: Annotated[int, Field(ge=1)] = 5
    length_penalty: float = 1.0
    test_sentences: Count | None = None
    embedded_pairs: Annotated[Count, Field(ge=1_000)] = 20_000
    data_seed: Annotated[int, Field(ge=0)] = 1

    @property
    def longest(self) -> int:
        """The most positions of a sequence that is trained on."""
        return self.max_length

    @staticmethod
    def fits(architecture: Any) -> bool:
        """Whether models of this architecture (or space) can do the task: they have an encoder and a decoder."""
        return hasattr(architecture, "encoder")

    def check(self, architecture: Any) -> None:
        """Raises `RequestError` where the architecture (or space) does not fit."""
        if not self.fits(architecture):
            raise RequestError(
                f"translation needs an encoder and a decoder; the family {architecture.family} has no encoder: "
                f"expected an encoder-decoder architecture, or task.kind=language"
            )

    def open(self, cache: Path | None = None) -> TranslationTask:
        """Read the text, learn or look up the vocabularies, and encode; `cache` is a folder for vocabularies."""
        text = read_text(self)
        source, target = learn(
            *text.splits["train"],
            size=self.vocabulary,
            shared=self.shared_vocabulary,
            lowercase=self.lowercase,
            cache=cache,
        )
        return TranslationTask(self, text, source, target)

    def load(self, folder: Path, cache: Path | None = None) -> tuple[nn.Module, TranslationTask]:
        """The network of a model folder, and the task with that folder's vocabularies; nothing is cached."""
        from nasformer.tasks.pretrained import load_pretrained  # transformers takes seconds to import

        network, source, target = load_pretrained(folder)
        return network, TranslationTask(self, read_text(self), source, target)


def read_text(settings: Translation) -> ParallelText:
    """The text of a task: what stands at its path, or the embedded corpus."""
    if settings.path is not None:
        return read_parallel(settings.path, source=settings.source, target=settings.target, seed=settings.data_seed)
    languages = (settings.source or "en", settings.target or "de")
    return embedded_text(pairs=settings.embedded_pairs, seed=settings.data_seed, languages=languages)


class TranslationTask:
    """The data of a translation task, encoded, with its loss and scores (see `nasformer.tasks.task.Task`)."""

    def __init__(self, settings: Translation, text: ParallelText, source: Vocabulary, target: Vocabulary) -> None:
        self.settings, self.text = settings, text
        self.source, self.target = source, target
        self.data = {
            split: PairData(source.encode(lines[0]), target.encode(lines[1]), settings.max_length)
            for split, lines in text.splits.items()
        }
        if len(self.data["train"].usable(settings.max_length)) == 0:
            raise RequestError(f"expected training sentences of at most {settings.max_length} tokens, got none")

        for split in ("valid", "test"):
            longest, most = self.data[split].longest_sides, LONGEST_SCORED * settings.max_length
            if len(longest) and longest.max() > most:
                row, tokens = int(longest.argmax()) + 1, int(longest.max())
                raise RequestError(
                    f"pair {row} of the {split} split has {tokens:,} tokens on a side; expected at most "
                    f"{LONGEST_SCORED} · max_length = {most:,}: split it, or raise task.max_length"
                )

    def digests(self) -> dict[str, str]:
        """A SHA-256 of each split's text, by which a resumed run knows its data."""
        found = {}
        for split, sides in self.text.splits.items():
            text = "\0".join("\n".join(side) for side in sides)
            found[split] = hashlib.sha256(text.encode()).hexdigest()
        return found

    def model_settings(self, dropout: Dropout) -> ModelSettings:
        """Both vocabularies' sizes and the dropout; where the vocabulary is shared, tables are tied."""
        return ModelSettings(
            source_vocabulary=self.source.size,
            target_vocabulary=self.target.size,
            dropout=dropout,
            shared_vocabulary=self.settings.shared_vocabulary,
            tied=self.settings.shared_vocabulary,
        )

    def stream(self, tokens: int, seed: int, part: tuple[float, float] = (0.0, 1.0)) -> BatchStream:
        """Training batches whose longer side fills at most `tokens` positions, of a part of the pairs."""
        among = None if part == (0.0, 1.0) else part_of(self.data["train"], part, self.settings.data_seed)
        return BatchStream(self.data["train"], tokens, seed, among)

    def for_search(self) -> TranslationTask:
        """The task itself."""
        return self

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Label-smoothed cross-entropy in nats per target token; ε is spread over the whole vocabulary."""
        return self._cross_entropy(model, batch, self.settings.label_smoothing) / batch.tokens

    def draw(self, tokens: int, generator: np.random.Generator) -> list[Batch]:
        """A random part of the validation split with about this many target tokens."""
        return draw(self.data["valid"], tokens, generator)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: list[Batch]) -> float:
        """Cross-entropy in nats per target token, without smoothing and dropout."""
        model.eval()
        total = sum(float(self._cross_entropy(model, batch, 0.0)) for batch in batches)
        return total / sum(batch.tokens for batch in batches)

    @torch.no_grad()
    def hidden(self, model: Any, batch: Batch) -> Tensor:
        """The decoder's last hidden states at real target positions, (positions, decoder dim), without dropout."""
        model.eval()
        hidden: Tensor = model.decode(batch.target_input, model.encode(batch.source))
        return hidden[batch.target_output != PAD]

    def validation_loss(self, model: nn.Module) -> float:
        """`evaluate` over the whole validation split."""
        device = next(model.parameters()).device
        return self.evaluate(model, [batch.to(device) for batch in in_order(self.data["valid"], EVALUATION_TOKENS)])

    def quality(self, model: nn.Module, split: str) -> dict[str, Any]:
        """BLEU, chrF and loss on a split (its first `test_sentences` where that is set)."""
        count = self.settings.test_sentences or len(self.text.splits[split][1])
        source, references = (list(side[:count]) for side in self.text.splits[split])
        if self.settings.lowercase:
            references = [line.lower() for line in references]
        data = PairData(self.source.encode(source), self.target.encode(references))
        device = next(model.parameters()).device
        loss = self.evaluate(model, [batch.to(device) for batch in in_order(data, EVALUATION_TOKENS)])
        found = translation_quality(self._decode(model, data), references)
        return {"split": split} | found.data() | {"loss": loss}

    def decoding(self) -> dict[str, Any]:
        """How `generate` decodes for this task."""
        longest = 2 * self.settings.max_length + 10
        return {
            "num_beams": self.settings.beams,
            "length_penalty": self.settings.length_penalty,
            "max_new_tokens": longest,
            "early_stopping": False,
        }

    def save(self, model: Any, folder: Path) -> None:
        """Write the model and both vocabularies as a folder that `transformers` loads."""
        from nasformer.tasks.pretrained import save_pretrained

        save_pretrained(model, self.source, self.target, folder, self.decoding())

    def facts(self) -> dict[str, Any]:
        """Languages, vocabularies and pairs; those left out are pairs that are not trained on."""
        return {
            "name": "translation",
            "path": self.settings.path or "embedded corpus",
            "source": self.text.languages[0],
            "target": self.text.languages[1],
            "blank_pairs_left_out": self.text.skipped,
            "long_pairs_left_out": self.data["train"].left_out(self.settings.max_length),
            "source_vocabulary": self.source.size,
            "target_vocabulary": self.target.size,
        } | {f"{split}_pairs": len(lines[0]) for split, lines in self.text.splits.items()}

    def _cross_entropy(self, model: nn.Module, batch: Batch, smoothing: float) -> Tensor:
        logits = model(batch.source, batch.target_input)
        target = batch.target_output.flatten()
        return cross_entropy(logits.flatten(0, 1), target, smoothing=smoothing, ignore=PAD)

    def _decode(self, model: Any, data: PairData) -> list[str]:
        from nasformer.models.pretrained import beam_search

        device = next(model.parameters()).device
        lines: dict[int, str] = {}
        for batch in in_order(data, EVALUATION_TOKENS // self.settings.beams):
            source = batch.source.to(device)
            longest = 2 * source.shape[1] + 10
            found = beam_search(
                model, source, beams=self.settings.beams, length_penalty=self.settings.length_penalty, longest=longest
            )
            lines |= dict(zip(batch.rows, self.target.decode(found), strict=True))
        return [lines[row] for row in range(len(data))]
