"""A language model from the command line to a folder that transformers loads, killed and resumed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_search import command, events, journal, same_outcome
from transformers import AutoModelForCausalLM, AutoTokenizer

from nasformer.models.pretrained import NasformerForCausalLM
from nasformer.recipes.recipe import Recipe
from nasformer.spaces import known_programs
from nasformer.spaces.named import language_model
from nasformer.spaces.open import one_of
from nasformer.spaces.reversible import ReversibleDecoderOnly, ReversibleLayer, ReversibleStack
from nasformer.spaces.transformer import (
    Attention,
    Convolution,
    Decoder,
    DecoderLayer,
    DecoderOnly,
    FeedForward,
    Identity,
    LightConvolution,
)
from nasformer.tasks.language import Language
from nasformer.tasks.pretrained import load_language_model

SMALL = [
    "training.updates=30",
    "training.batch_tokens=256",
    "training.record_every=4",
    "training.schedule.peak=1e-2",
    "training.schedule.warmup=10",
    "training.averaged_part=0.1",
    "task.length=32",
]
TEXT = "".join(f"the {n % 7} dogs of house {n} see {n % 5} cats – naïve ones.\n" for n in range(700))


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and two small architectures."""
    folder = tmp_path_factory.mktemp("material")
    (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
    (folder / "plain.json").write_text(language_model(dim=16, layers=2, heads=2).json_text(), encoding="utf-8")
    nodes = (Attention(heads=2), Convolution(kernel=3)), (FeedForward(ratio=2.0), Identity())
    stack = ReversibleStack(dim=16, layers=tuple(ReversibleLayer(nodes=pair) for pair in nodes))
    (folder / "reversible.json").write_text(
        ReversibleDecoderOnly(embedding_dim=8, decoder=stack).json_text(), encoding="utf-8"
    )
    program = known_programs.transformer(width=16, depth=1, heads=2)
    (folder / "program.json").write_text(program.json_text(), encoding="utf-8")
    return folder


def words(material: Path, architecture: str, *changes: str) -> list[str]:
    """What to ask for."""
    return ["train", str(material / architecture), "--task", str(material / "corpus.txt"), *SMALL, *changes]


@pytest.fixture(scope="module", params=["plain.json", "reversible.json", "program.json"])
def finished(request: pytest.FixtureRequest, material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished training."""
    folder = tmp_path_factory.mktemp("train") / "run"
    with pytest.MonkeyPatch.context() as patch:
        assert command(patch, *words(material, request.param), "--run", str(folder)) == 0
    return folder


@pytest.mark.slow
def test_the_run_tells_what_it_measured(finished: Path, material: Path) -> None:
    result = json.loads((finished / "result.json").read_text(encoding="utf-8"))
    (row,) = result["rows"]
    card = row["scorecard"]
    assert card["bits_per_byte"]["low"] < card["bits_per_byte"]["value"] < card["bits_per_byte"]["high"] < 6
    assert card["perplexity"]["value"] < 2**6
    assert card.keys() >= {"split", "loss", "core_parameters", "updates"}
    assert journal(finished)[0] == {"event": "task"} | result["task"]
    facts = result["task"]
    assert (facts["name"], facts["target_vocabulary"]) == ("language", 260)
    assert sum(facts[f"{split}_bytes"] for split in ("train", "valid", "test")) == len(TEXT.encode())
    assert json.loads((finished / "recipe.json").read_text(encoding="utf-8"))["task"]["kind"] == "language"


def test_transformers_loads_the_model_and_agrees(finished: Path) -> None:
    network, vocabulary = load_language_model(finished / "model")
    model = AutoModelForCausalLM.from_pretrained(finished / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(finished / "model")
    assert isinstance(model, NasformerForCausalLM)
    lines = ["the dogs of house 7", "naïve </s> cats"]
    inputs = tokenizer(lines, return_tensors="pt", padding=True)
    plain = vocabulary.encode(lines)
    assert [[token for token in row if token] for row in inputs["input_ids"].tolist()] == plain
    assert tokenizer.batch_decode(plain, skip_special_tokens=True) == lines
    one = torch.tensor(plain[:1])
    answer = model(one, labels=one)
    assert torch.equal(answer.logits, network(one))
    expected = torch.nn.functional.cross_entropy(network(one)[0, :-1], one[0, 1:])
    assert float(answer.loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    cached = model.generate(**inputs, max_new_tokens=12)
    assert torch.equal(cached, model.generate(**inputs, max_new_tokens=12, use_cache=False))
    for row, known in zip(cached.tolist(), plain, strict=True):
        seen = list(known)
        for _ in range(12):
            seen.append(int(network(torch.tensor([seen]))[0, -1].argmax()))
        assert row[-len(seen) :] == seen
        assert len(set(seen[-12:])) >= 1
    beams = model.generate(**inputs, max_new_tokens=6, num_beams=3)
    assert torch.equal(beams, model.generate(**inputs, max_new_tokens=6, num_beams=3, use_cache=False))
    assert model.generate(max_new_tokens=3)[0, 0] == tokenizer.bos_token_id


def test_evaluate_repeats_the_scorecard(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = sorted((finished / "vocabularies").iterdir())
    assert command(monkeypatch, "evaluate", str(finished), "--json") == 0
    said = capsys.readouterr()
    quality = json.loads(said.out)
    card = json.loads((finished / "result.json").read_text(encoding="utf-8"))["rows"][0]["scorecard"]
    assert quality["bits_per_byte"]["value"] == pytest.approx(card["bits_per_byte"]["value"], rel=1e-5)
    assert quality["loss"] == pytest.approx(card["loss"], rel=1e-5)
    assert "perplexity" in said.err
    assert "bits per byte" in said.err
    assert sorted((finished / "vocabularies").iterdir()) == kept


@pytest.mark.slow
def test_export_and_report(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "export", str(finished), "--out", str(tmp_path / "out")) == 0
    assert "AutoModelForCausalLM" in capsys.readouterr().out
    ours, theirs = load_language_model(finished / "model")[0], load_language_model(tmp_path / "out")[0]
    tokens = torch.tensor([[5, 6, 7]])
    assert torch.equal(ours(tokens), theirs(tokens))
    assert command(monkeypatch, "report", str(finished)) == 0
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "bits per byte" in page
    assert "BLEU" not in page


@pytest.mark.slow
def test_an_exported_folder_loads_in_a_fresh_process_without_this_package_named(finished: Path) -> None:
    program = (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(finished / 'model')!r}, trust_remote_code=True)\n"
        f"tokenizer = AutoTokenizer.from_pretrained({str(finished / 'model')!r})\n"
        "tokens = tokenizer(['a dog sleeps'], return_tensors='pt')\n"
        "print(model.generate(**tokens, max_new_tokens=5).shape[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.strip().endswith("17"), done.stderr


PROGRAM = [sys.executable, "-c", "from nasformer.cli import main; main()"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", [1, 3])
def test_a_killed_run_ends_as_if_nothing_had_happened(material: Path, tmp_path: Path, moment: int) -> None:
    ask = words(material, "plain.json", "checkpoint_seconds=0", "training.updates=40", "task.vocabulary=300")
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert subprocess.run([*PROGRAM, *ask, "--run", str(whole)], capture_output=True, check=False).returncode == 0
    child = subprocess.Popen([*PROGRAM, *ask, "--run", str(folder)], stdout=subprocess.DEVNULL)
    while child.poll() is None and events(folder) < moment:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (folder / "result.json").exists()
    for kept in (folder / "vocabularies").iterdir():
        kept.write_bytes(kept.read_bytes()[:-3] + b"bad")  # what is damaged is made again
    done = subprocess.run([*PROGRAM, "resume", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "bits per byte" in done.stdout
    same_outcome(whole, folder)


def test_a_run_knows_its_text_again(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, folder = tmp_path / "corpus.txt", tmp_path / "run"
    corpus.write_text(TEXT, encoding="utf-8")
    ask = ["train", str(material / "plain.json"), "--task", str(corpus), *SMALL, "--run", str(folder)]
    assert command(monkeypatch, *ask) == 0
    (folder / "result.json").unlink()
    corpus.write_text(TEXT.replace("dogs", "frogs"), encoding="utf-8")
    capsys.readouterr()
    assert command(monkeypatch, "resume", str(folder)) == 2
    assert f"data at {corpus} changed since this run began" in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_seed_trains_the_same_and_another_does_not(finished: Path, material: Path, tmp_path: Path) -> None:
    family = json.loads((finished / "recipe.json").read_text(encoding="utf-8"))["architecture"]["family"]
    file = {"decoder_only": "plain", "reversible_decoder_only": "reversible"}.get(family, family) + ".json"
    folders = []
    for seed in (1, 2):
        folders.append(tmp_path / str(seed))
        with pytest.MonkeyPatch.context() as patch:
            assert command(patch, *words(material, file), f"seed={seed}", "--run", str(folders[-1])) == 0
    same_outcome(finished, folders[0])
    networks = [load_language_model(folder / "model")[0] for folder in folders]
    tokens = torch.tensor([[5, 6, 7]])
    assert not torch.equal(networks[0](tokens), networks[1](tokens))


def test_without_a_text_the_source_of_the_standard_library_is_learned(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = ["train", str(material / "plain.json"), *SMALL, "task.embedded_bytes=100000", "task.evaluation_tokens=2000"]
    assert command(monkeypatch, *ask, "--run", str(tmp_path / "run")) == 0
    facts = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["task"]
    assert "standard library" in facts["path"]
    assert facts["train_bytes"] > 50_000


@pytest.mark.slow
def test_a_space_of_language_models_is_searched(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixer = one_of(Attention(heads=2), LightConvolution(heads=2, kernel=3))
    layers = tuple(DecoderLayer(mixer=mixer, feed_forward=FeedForward(ratio=one_of(1.0, 2.0))) for _ in range(2))
    data = {
        "name": "mine",
        "task": Language(path=str(material / "corpus.txt"), length=32).data(),
        "space": DecoderOnly(decoder=Decoder(dim=one_of(16, 32), layers=layers)).data(),
        "strategy": {"kind": "shrinknas"},
        "controls": ["random_architecture", "transformer", "lite_transformer", "random_search"],
        "random_architectures": 1,
    }
    recipe = tmp_path / "recipe.json"
    recipe.write_text(Recipe.read(data).json_text(), encoding="utf-8")
    tiny = [
        "strategy.training.updates=12", "strategy.training.batch_tokens=256", "strategy.rounds=2",
        "strategy.exploration.members=4", "strategy.exploration.first_ranking=6",
        "strategy.exploration.validation_tokens=64", "strategy.divergence_members=3", "strategy.divergence_tokens=64",
        "fine_tune.updates=6", "fine_tune.batch_tokens=256",
    ]  # fmt: skip
    assert command(monkeypatch, "search", str(recipe), *tiny, "--run", str(tmp_path / "run")) == 0
    rows = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["found", "random_architecture", "transformer", "lite_transformer",
                                             "random_search"]  # fmt: skip
    sizes = [row["scorecard"]["core_parameters"] for row in rows]
    assert max(sizes) / min(sizes) < 1.05
    assert {row["architecture"]["family"] for row in rows} == {"decoder_only"}
    assert all(row["scorecard"]["bits_per_byte"]["value"] > 1 for row in rows)
