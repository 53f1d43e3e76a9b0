"""The language task: text read and split honestly, tokens kept, windows that miss nothing, scores that are right."""

from __future__ import annotations

import gzip
import lzma
import math
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.errors import RequestError
from nasformer.models.transformer import ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.spaces.named import language_model, transformer
from nasformer.tasks import vocabulary as vocabulary_module
from nasformer.tasks.embedded_source import embedded_source
from nasformer.tasks.language import Language, LanguageTask
from nasformer.tasks.text import SPLITS, by_file, read_text
from nasformer.tasks.vocabulary import EOS, SMALLEST, Vocabulary, bytes_vocabulary, characters_vocabulary, learn_text
from nasformer.tasks.windows import Windows, WindowStream, kept_tokens

TEXT = "".join(f"Зима {n}: the café by the sea, №{n * n} – naïve words\n\n  and    again.\n" for n in range(300))
PARTS: dict[str, Any] = {"valid_part": 0.1, "test_part": 0.2}
VOCABULARIES = {
    "bytes": bytes_vocabulary(),
    "characters": characters_vocabulary([TEXT.encode()]),
    "bpe": learn_text([TEXT.encode()], 320),
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """One file of text."""
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_one_file_is_cut_into_contiguous_parts(corpus: Path) -> None:
    text = read_text(corpus, **PARTS)
    assert b"".join(text.splits[split][0] for split in SPLITS) == TEXT.encode()
    whole = len(TEXT.encode())
    assert text.size("valid") == pytest.approx(0.1 * whole, abs=3)
    assert text.size("test") == pytest.approx(0.2 * whole, abs=3)
    for limit in range(20, 30):
        limited = read_text(corpus, max_bytes=limit, **PARTS)
        assert limited.splits | {"train": None} == text.splits | {"train": None}
        assert limit - 1 <= limited.size("train") <= limit
        assert text.splits["train"][0].startswith(limited.splits["train"][0])
        limited.splits["train"][0].decode("utf-8")


@pytest.mark.parametrize(
    "names",
    [("train.txt", "valid.txt", "test.txt"), ("train.txt.xz", "validation.txt.gz", "test"),
     ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"), ("train.raw", "dev.raw", "test.raw.gz")],
)  # fmt: skip
def test_a_folder_has_a_file_for_each_split(names: tuple[str, ...], tmp_path: Path) -> None:
    pack = {".xz": lzma.compress, ".gz": gzip.compress}
    for name in names:
        path = tmp_path / name
        path.write_bytes(pack.get(path.suffix, bytes)(f"the text of {name}".encode()))
    (tmp_path / "train.index.tsv").write_text("no text", encoding="utf-8")
    found = read_text(tmp_path, **PARTS).splits
    assert found == {split: (f"the text of {name}".encode(),) for split, name in zip(SPLITS, names, strict=True)}


def test_many_files_are_dealt_out_whole(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for number in range(40):
        folder = tmp_path / "deep" if number % 2 else tmp_path
        (folder / f"{number}.txt").write_text(f"book {number} " * 50, encoding="utf-8")
    (tmp_path / "twin.txt").write_text("book 7 " * 50, encoding="utf-8")
    (tmp_path / ".hidden").write_bytes(b"\xff")
    text = read_text(tmp_path, **PARTS)
    dealt = [document for split in SPLITS for document in text.splits[split]]
    assert len(dealt) == len(set(dealt)) == 40
    assert [len(text.splits[split]) for split in SPLITS] == [28, 4, 8]
    assert read_text(tmp_path, **PARTS) == text
    (tmp_path / "deep" / "7.txt").unlink()
    assert {split: set(read_text(tmp_path, **PARTS).splits[split]) for split in SPLITS} == {
        split: set(text.splits[split]) for split in SPLITS
    }


@pytest.mark.parametrize(
    "sizes", [(1000, 5, 5), (1000, *[20] * 11), (600, 700, 30), (300, 200, 100, 50, 25), (10,) * 3]
)
def test_a_large_file_is_trained_on(sizes: tuple[int, ...]) -> None:
    for draw in range(8):
        documents = [f"{draw} {number} ".encode().ljust(1_000 * size, b".") for number, size in enumerate(sizes)]
        splits = by_file(documents, 0.05, 0.05, "here")
        assert sorted(document for split in SPLITS for document in splits[split]) == sorted(documents)
        assert max(documents, key=len) in splits["train"] or len(set(sizes)) == 1
        for split in ("valid", "test"):
            taken = sum(map(len, splits[split]))
            assert taken <= 0.1 * sum(map(len, documents)) or len(splits[split]) == 1
        assert by_file(documents[::-1], 0.05, 0.05, "here") == {split: splits[split][::-1] for split in SPLITS}


def test_of_files_of_like_size_the_first_by_hash_are_left_out() -> None:
    documents = [f"{number} ".encode() * (400 + 31 * number % 200) for number in range(90)]
    order, total = sorted(documents, key=lambda one: sha256(one).digest()), sum(map(len, documents))
    splits = by_file(documents, 0.1, 0.05, "here")
    for split, part in (("test", 0.05), ("valid", 0.1)):
        count = len(splits[split])
        assert set(splits[split]) == set(order[:count])
        assert sum(map(len, order[: count - 1])) < part * total <= sum(map(len, order[:count]))
        order = order[count:]


def spoil(folder: Path, what: str) -> Path:
    """A text that cannot be used."""
    files = {
        "broken": {"a.txt": b"good text " * 100 + b"\xff bad"},
        "empty": {"a.txt": b" \n"},
        "short": {"a.txt": b"much too short" * 3},
        "archive": {"a.txt.gz": gzip.compress(b"text " * 999)[:40]},
        "no valid": {"train.txt": b"text " * 999, "test.txt": b"text " * 999},
        "no train": {"valid.txt": b"text " * 999, "test.txt": b"text " * 999},
        "two trains": {"train.de": b"text", "train.en": b"text"},
        "two files": {"a.txt": b"some text", "b.txt": b"other text"},
        "short valid": {"train.txt": b"text " * 999, "valid.txt": b"short", "test.txt": b"text " * 999},
        "nothing": {},
    }[what]
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / next(iter(files)) if len(files) == 1 else folder


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("broken", r"UTF-8, got byte 0xff in .*a\.txt at byte 1,000"),
        ("empty", r"empty file"),
        ("short", r"at least one sequence of 65 tokens in the train split of .*a\.txt, got 39 tokens"),
        ("archive", r"damaged one: .*a\.txt\.gz"),
        ("no valid", r"got no valid file"),
        ("no train", r"got no train file"),
        ("two trains", r"one file of the train split .* got train\.de, train\.en"),
        ("two files", r"at least 3 different files in .*, one for each split, got 2; give one file, which is cut"),
        ("short valid", r"one sequence of 65 tokens in the valid split .* got 6"),
        ("nothing", r"an empty folder"),
    ],
)
def test_bad_text_is_refused_in_one_line(what: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=said) as refused:
        Language(path=str(spoil(tmp_path, what))).open()
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="does not exist"):
        Language(path=str(tmp_path / "none.txt")).open()


def test_the_embedded_corpus_shares_no_file(tmp_path: Path) -> None:
    text = embedded_source(max_bytes=400_000, **PARTS)
    files = [document for split in SPLITS for document in text.splits[split]]
    assert len(files) == len(set(files)) > 10
    assert 400_000 <= sum(map(len, files)) < 1_500_000
    assert embedded_source(max_bytes=400_000, **PARTS) == text
    for name in ("a/one.py", "b/two.py", "three.py", "four.py", "test/five.py", "site-packages/six.py", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"print('{name}')\n", encoding="utf-8")
    (tmp_path / "latin.py").write_bytes(b"# \xe9\n")
    small = embedded_source(max_bytes=1_000, folder=tmp_path, **PARTS)
    found = sorted(document.decode() for split in SPLITS for document in small.splits[split])
    assert found == sorted(f"print('{name}')\n" for name in ("a/one.py", "b/two.py", "three.py", "four.py"))


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_every_text_comes_back_and_its_bytes_are_counted(text: str) -> None:
    for vocabulary in VOCABULARIES.values():
        ids = np.concatenate([np.array([EOS]), *vocabulary.encode_text(text.encode())])
        assert vocabulary.byte_counts()[ids].sum() == len(text.encode())
        assert set(ids[1:] if len(ids) > 1 else []).isdisjoint(range(4))
        assert vocabulary.decode([ids.tolist()]) == [text]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_long_text_is_segmented_as_the_whole(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = VOCABULARIES[name].encode([TEXT])[0]
    monkeypatch.setattr(vocabulary_module, "CHUNK", 37)
    parts = list(VOCABULARIES[name].encode_text(TEXT.encode()))
    assert len(parts) > 10
    assert np.concatenate(parts).tolist() == whole
    VOCABULARIES[name].save(tmp_path / "tokenizer.json")
    again = Vocabulary.read(tmp_path / "tokenizer.json")
    assert again.digest() == VOCABULARIES[name].digest()
    assert again.encode([TEXT])[0] == whole


def test_vocabularies_have_the_size_they_should(tmp_path: Path) -> None:
    assert [VOCABULARIES[name].size for name in VOCABULARIES] == [SMALLEST, SMALLEST + len(set(TEXT)), 320]
    learned = learn_text([TEXT.encode()], 320, tmp_path)
    (entry,) = tmp_path.iterdir()
    entry.write_text("{", encoding="utf-8")
    assert learn_text([TEXT.encode()], 320, tmp_path).digest() == learned.digest() == VOCABULARIES["bpe"].digest()
    with pytest.raises(RequestError, match=r"at least 260 tokens .* got 259"):
        learn_text([b"text"], 259)


@pytest.mark.parametrize("count", [9, 40, 41, 45])
def test_windows_predict_every_token_once_from_the_one_before(count: int) -> None:
    windows = Windows(np.arange(4, 4 + count, dtype=np.uint16), 8, "the text")
    assert len(windows) == (count - 1) // 8
    batch = windows.collate(windows.scored(None))
    real = batch.target != 0
    assert batch.target[real].tolist() == list(range(5, 4 + count))
    assert torch.equal(batch.input[real], batch.target[real] - 1)
    assert not batch.input[~real].any()
    assert batch.tokens == count - 1
    assert batch.input.dtype == batch.target.dtype == torch.int64
    assert batch.input[1:, 0].tolist() == batch.target[:-1, -1].tolist()
    pieces = batch.split(2)
    assert torch.cat([piece.input for piece in pieces]).equal(batch.input)
    assert sum((piece.rows for piece in pieces), ()) == batch.rows


def test_scored_windows_are_evenly_spaced() -> None:
    windows = Windows(np.ones(801, dtype=np.uint16), 8, "the text")
    assert windows.scored(80).tolist() == list(range(0, 100, 10))
    assert len(windows.scored(799)) == 99
    assert windows.scored(800).tolist() == list(range(100))
    assert windows.scored(1).tolist() == [0]


def test_a_stream_gives_each_window_once_an_epoch_and_goes_on_anywhere() -> None:
    windows = Windows(np.arange(4, 600, dtype=np.uint16), 8, "the text")
    stream = WindowStream(windows, 70, 5, np.arange(len(windows)))
    states, batches = [], []
    for _ in range(30):
        states.append(stream.state_dict())
        batches.append(stream.next())
    first = [row for batch, state in zip(batches, [*states[1:], {}], strict=True) for row in batch.rows
             if state.get("epoch") == 0]  # fmt: skip
    assert sorted(first) == list(range(len(windows)))
    assert first != sorted(first)
    second = [row for batch in batches[10:20] for row in batch.rows]
    assert sorted(second) == sorted(first)
    assert second != first
    assert len(batches[0].rows) == 8
    for moment in (0, 3, 9, 10, 29):
        again = WindowStream(windows, 70, 5, np.arange(len(windows)))
        again.load_state_dict(states[moment])
        assert again.next().rows == batches[moment].rows
    assert WindowStream(windows, 70, 6, np.arange(len(windows))).next().rows != batches[0].rows


def test_parts_of_the_data_share_nothing_and_are_blocks() -> None:
    windows = Windows(np.ones(8 * 1_000 + 1, dtype=np.uint16), 8, "the text")
    one, other = windows.part((0.0, 0.37), 3), windows.part((0.37, 1.0), 3)
    assert not set(one) & set(other)
    assert len(one) == 370
    assert sorted([*one, *other]) == list(range(1_000))
    assert (np.diff(one) > 1).sum() < 40
    assert one.tolist() != windows.part((0.0, 0.37), 4).tolist()
    assert one[0] > 0 or one[-1] > 370


def test_a_batch_without_room_for_a_sequence_is_refused(corpus: Path) -> None:
    with pytest.raises(RequestError, match=r"a batch of 63 tokens holds no sequence of 64; raise training\.batch_tok"):
        Language(path=str(corpus)).open().stream(63, 1)


def test_tokens_are_kept_and_damage_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.tokens"
    parts = [np.arange(300), np.arange(7)]
    expected = np.concatenate(parts).tolist()
    first = kept_tokens(iter(parts), 300, path)
    assert (first.tolist(), first.dtype, isinstance(first, np.memmap)) == (expected, np.uint16, True)
    good = path.read_bytes()
    for damage in (b"", good[:-2], good[:-1], good[:-1] + b"\x01", b"\0" * 40):
        path.write_bytes(damage)
        assert kept_tokens(iter(parts), 300, path).tolist() == expected
        assert path.read_bytes() == good
    assert kept_tokens(iter(()), 300, path).tolist() == expected
    assert [file.name for file in path.parent.iterdir()] == ["x.tokens"]
    wide = kept_tokens([np.array([70_000])], 70_001, tmp_path / "wide")
    assert (wide.tolist(), wide.dtype) == ([70_000], np.int32)
    assert kept_tokens(parts, 300, path / "no folder").tolist() == expected
    assert kept_tokens(parts, 300, None).tolist() == expected


class Known(nn.Module):
    """Gives token `t + 1` after token t a higher logit than the others."""

    def __init__(self, size: int, more: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size, size))
        self.weight.data[torch.arange(size - 1), torch.arange(1, size)] = more

    def decode(self, tokens: Tensor) -> Tensor:
        """tokens (batch, time) → (batch, time, vocab)."""
        return self.weight[tokens]

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (batch, time) → logits (batch, time, vocab)."""
        return self.decode(tokens)


@pytest.mark.parametrize("vocabulary", ["bytes", "characters", 320])
def test_a_model_that_knows_nothing_scores_as_many_as_there_are_tokens(vocabulary: Any, corpus: Path) -> None:
    task = Language(path=str(corpus), vocabulary=vocabulary, length=16, **PARTS).open()
    size = task.vocabulary.size
    quality = task.quality(Known(size, 0.0), "test")
    tokens, written = len(task.data["test"].tokens) - 1, task.facts()["test_bytes"]
    assert quality["perplexity"]["value"] == pytest.approx(size)
    assert quality["loss"] == pytest.approx(math.log(size))
    assert quality["bits_per_byte"]["value"] == pytest.approx(tokens * math.log2(size) / written)
    assert quality["split"] == "test"
    if vocabulary == "bytes":
        assert tokens == written


def test_intervals_hold_the_value_and_part_of_the_split_is_scored(corpus: Path) -> None:
    task = Language(path=str(corpus), length=16, **PARTS).open()
    model = Known(SMALLEST, 3.0)
    quality = task.quality(model, "valid")
    for name in ("perplexity", "bits_per_byte"):
        measured = quality[name]
        assert measured["low"] < measured["value"] < measured["high"]
        assert measured["high"] - measured["low"] < 0.2 * measured["value"]
    assert quality["loss"] == pytest.approx(math.log(quality["perplexity"]["value"]))
    assert quality["loss"] == pytest.approx(task.validation_loss(model))
    part = LanguageTask(task.settings.but(evaluation_tokens=320), task.settings._text(), task.vocabulary)
    data = part.data["valid"]
    expected = part.evaluate(model, [data.collate(np.arange(20) * len(data) // 20)])
    assert part.validation_loss(model) == pytest.approx(expected) != quality["loss"]


def test_the_loss_is_that_of_torch(corpus: Path) -> None:
    task = Language(path=str(corpus), length=16, label_smoothing=0.1).open()
    model, batch = Known(SMALLEST, 2.0), task.stream(160, 1).next()
    logits = model(batch.input).flatten(0, 1)
    expected = F.cross_entropy(logits, batch.target.flatten(), label_smoothing=0.1)
    assert float(task.loss(model, batch).detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    plain = F.cross_entropy(logits, batch.target.flatten())
    assert task.evaluate(model, [batch]) == pytest.approx(float(plain.detach()), rel=1e-5)
    assert task.hidden(model, batch).shape == (160, SMALLEST)


def test_drawn_windows_are_of_the_validation_split_and_follow_the_generator(corpus: Path) -> None:
    task = Language(path=str(corpus), length=16, **PARTS).open()
    first, again, other = (task.draw(200, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert sum(batch.tokens for batch in first) == 13 * 16
    rows = [row for batch in first for row in batch.rows]
    assert len(set(rows)) == 13
    assert torch.equal(first[0].input, again[0].input)
    assert not torch.equal(first[0].input, other[0].input)
    assert torch.equal(first[0].input, task.data["valid"].collate(first[0].rows).input)


def test_documents_begin_with_the_end_of_the_one_before(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02}.txt").write_text(f"book {number} " * 20, encoding="utf-8")
    task = Language(path=str(tmp_path), length=16, **PARTS).open()
    documents = read_text(tmp_path, **PARTS).splits["train"]
    expected = [token for document in documents for token in (EOS, *(byte + 4 for byte in document))]
    assert task.data["train"].tokens.tolist() == expected


def test_the_settings_say_which_architectures_fit(corpus: Path) -> None:
    Language().check(language_model())
    with pytest.raises(RequestError, match=r"encoder_decoder has an encoder.*task\.kind=translation"):
        Language().check(transformer())
    made = Language(path=str(corpus)).open().model_settings(Dropout(residual=0.3))
    assert made == ModelSettings(target_vocabulary=SMALLEST, dropout=Dropout(residual=0.3))


def test_digests_tell_the_splits_apart(corpus: Path) -> None:
    before = Language(path=str(corpus), **PARTS).open().digests()
    assert len(set(before.values())) == 3
    corpus.write_text("Б" + TEXT[1:], encoding="utf-8")
    after = Language(path=str(corpus), **PARTS).open().digests()
    assert [split for split in SPLITS if before[split] != after[split]] == ["train"]
