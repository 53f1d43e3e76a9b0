"""A search of programs from the command line to a model that transformers loads, stopped on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from test_search import command, events, journal, same_outcome
from transformers import AutoModelForCausalLM, AutoTokenizer

from nasformer.commands.console import ConsoleDisplay
from nasformer.commands.search import read_recipe
from nasformer.models.size import core_parameters
from nasformer.recipes import experiment
from nasformer.recipes.experiment_primer import PrimerExperiment
from nasformer.runs.run import Run
from nasformer.runs.stage import Quiet
from nasformer.spaces.known_programs import primer_ez
from nasformer.spaces.program import Program, digest
from nasformer.spaces.program_text import program_text, read_program_file
from nasformer.strategies import workers
from nasformer.strategies.evaluate_program import step_seconds
from nasformer.tasks.language import LanguageTask
from nasformer.tasks.pretrained import load_language_model
from nasformer.tasks.windows import Windows

TEXT = "".join(f"the {n % 7} dogs of house {n} see {n % 5} cats – naïve ones.\n" for n in range(700))
BUDGET = 0.02
TINY = [
    "task.length=16",
    "task.evaluation_tokens=1000",
    "space.settings={width: 8, depth: 1, heads: 2}",
    "strategy.programs=6",
    "strategy.population=3",
    "strategy.tournament=2",
    "strategy.hurdles=1",
    "strategy.pool=2",
    "strategy.together=2",
    "strategy.workers=1",
    f"strategy.budget={BUDGET}",
    "strategy.step_cost={gflop: 0.01, elements: 0.01, operation: 0, constant: 0.001}",
    "strategy.patience=1e6",
    "strategy.training.batch_tokens=64",
    "strategy.training.schedule={peak: 0.03, warmup: 3}",
    "strategy.validation_tokens=64",
    "strategy.confirmation={top: 2, runs: 2, noise: 2, lineage: true, changes: true}",
    "checkpoint_seconds=0",
]
"""Changes to the demo's recipe."""
CONTROLS = ["start", "random_mutation", "primer_ez", "longer", "longer_start", "wider", "wider_start"]
SHORT = ["controls=[]", "strategy.confirmation.lineage=false", "strategy.confirmation.changes=false"]
PROGRAM = [sys.executable, "-c", "from nasformer.cli import main; main()"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text."""
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def words(corpus: Path, *changes: str) -> list[str]:
    """What to ask for."""
    return ["search", "primer-demo", f"task.path={corpus}", *TINY, f"controls=[{','.join(CONTROLS)}]", *changes]


@pytest.fixture(scope="module")
def reads() -> list[str]:
    """The stage at each reading of the test split in the finished search."""
    return []


@pytest.fixture(scope="module")
def finished(corpus: Path, reads: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny search."""
    folder, stages, sealed = tmp_path_factory.mktemp("search") / "run", ["none"], []
    progress, open_task, collate = ConsoleDisplay.progress, experiment.open_task, Windows.collate

    def seen(self: ConsoleDisplay, stage: str, *others: Any) -> None:
        stages.append(stage)
        progress(self, stage, *others)

    def opened(*arguments: Any) -> Any:
        task: Any = open_task(*arguments)
        sealed.append(task.data["test"])
        return task

    def collated(self: Windows, rows: Any) -> Any:
        if any(self is windows for windows in sealed):
            reads.append(stages[-1])
        return collate(self, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConsoleDisplay, "progress", seen)
        patch.setattr(experiment, "open_task", opened)
        patch.setattr(Windows, "collate", collated)
        assert command(patch, *words(corpus), "--run", str(folder)) == 0
    return folder


def result_of(folder: Path) -> Any:
    """What came out."""
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def timeless(data: Any) -> Any:
    """Plain data without what clocks say."""
    if isinstance(data, dict):
        return {name: timeless(value) for name, value in data.items() if name != "seconds"}
    return [timeless(value) for value in data] if isinstance(data, list) else data


@pytest.mark.slow
def test_every_arm_is_measured_on_the_same_validation_text(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, list[int]]] = []
    stages, progress, evaluate = ["none"], ConsoleDisplay.progress, LanguageTask.evaluate

    def shown(self: ConsoleDisplay, stage: str, *others: Any) -> None:
        stages.append(stage)
        progress(self, stage, *others)

    def evaluated(self: Any, model: Any, batches: Any) -> float:
        seen.append((stages[-1], [int(batch.input.sum()) for batch in batches]))
        return evaluate(self, model, batches)

    monkeypatch.setattr(ConsoleDisplay, "progress", shown)
    monkeypatch.setattr(LanguageTask, "evaluate", evaluated)
    asked = [*words(corpus, "controls=[start,primer_ez,longer_start]"), "--run", str(tmp_path / "run")]
    assert command(monkeypatch, *asked) == 0
    search = [text for stage, text in seen if stage == "search"]
    others = {stage: text for stage, text in seen if stage != "search"}
    assert {"search_confirmation", "lineage", "changes", "found", "start", "primer_ez", "longer_start"} <= set(others)
    texts = [text for stage, text in seen if stage in others]
    assert all(text == texts[0] for text in texts)
    assert all(text == search[0] != texts[0] for text in search)


@pytest.mark.slow
def test_every_arm_has_its_row_and_keeps_to_its_budget(finished: Path) -> None:
    rows = {row["name"]: row for row in result_of(finished)["rows"]}
    assert list(rows) == ["found", *CONTROLS]
    programs = {name: Program.read(row["architecture"]) for name, row in rows.items()}
    for name, row in rows.items():
        assert row["budget"] == pytest.approx(BUDGET * (3 if name.startswith("longer") else 1))
        for run in row["curves"]:
            costs = [cost for cost, _ in run]
            assert costs == sorted(costs)
            assert 0.75 * row["budget"] < costs[-1] <= row["budget"] * (1 + 1e-12), name
        perplexity = row["scorecard"]["perplexity"]
        assert perplexity["low"] * perplexity["high"] == pytest.approx(perplexity["value"] ** 2), name
        assert row["validation_loss"] == pytest.approx(sum(run[-1][1] for run in row["curves"]) / len(row["curves"]))
    for name in ("found", "start", "random_mutation", "primer_ez"):
        size = rows[name]["scorecard"]["core_parameters"]
        assert size == core_parameters(programs[name])
        assert abs(size / rows["start"]["scorecard"]["core_parameters"] - 1) <= 0.08, name
    assert programs["longer"] == programs["found"]
    assert programs["longer_start"] == programs["start"]
    for wider, plain in (("wider", "found"), ("wider_start", "start")):
        assert abs(programs[wider].width - 2 * programs[plain].width) <= 1
        assert programs[wider].subprograms == programs[plain].subprograms
    assert rows["found"]["scorecard"]["evaluations"] == rows["random_mutation"]["scorecard"]["evaluations"] == 7


def test_what_is_chosen_is_the_best_of_the_confirmed(finished: Path) -> None:
    rows = {row["name"]: row for row in result_of(finished)["rows"]}
    for stage, name in (("search", "found"), ("random_mutation_search", "random_mutation")):
        told = json.loads((finished / "evolution" / f"{stage}.json").read_text(encoding="utf-8"))
        best = min(told["top"], key=lambda one: sum(one["losses"]))
        assert best["digest"] == digest(Program.read(rows[name]["architecture"]))
        programs = [event for event in journal(finished) if (event["event"], event.get("stage")) == ("program", stage)]
        assert [event["number"] for event in programs] == [*range(7)]
        assert told["texts"]["found"] in [event["program"] for event in programs]
        assert rows[name]["search"]["programs"] == 7


def test_the_result_tells_how_the_search_went(finished: Path) -> None:
    result = result_of(finished)
    told, rows = result["evolution"], {row["name"]: row for row in result["rows"]}
    assert told["budget"] == BUDGET
    assert set(told["speedups"]) == {"found", "random_mutation", "primer_ez", "longer", "wider"}
    assert told["speedups"]["found"]["low"] <= told["speedups"]["found"]["value"] <= told["speedups"]["found"]["high"]
    assert told["curves"] == {name: row["curves"] for name, row in rows.items()}
    ends = {(one["program"], round(one["budget"] / BUDGET)): one["losses"] for one in told["trainings"]}
    assert {name for name, _ in ends} == {"found", "start", "random_mutation", "primer_ez"}
    assert len(told["trainings"]) == len(rows)
    assert ends["start", 3] == [run[-1][1] for run in rows["longer_start"]["curves"]]
    ends = [run[-1][1] for run in rows["start"]["curves"]]
    assert (told["noise"]["mean"], told["noise"]["runs"]) == (pytest.approx(sum(ends) / 2), 2)
    line = told["lineage"]
    assert (line[0]["number"], line[0]["mutation"]) == (0, "start")
    assert line[-1]["number"] > 0
    assert all(step["retrained"].keys() in ({"value", "low", "high"}, set()) for step in line)
    assert told["changes"]
    for change in told["changes"]:
        assert change["change"]
        for way in change.keys() - {"change"}:
            assert change[way].keys() in ({"value", "low", "high"}, set(), {"reason"})
    assert sum(told["failures"].values()) == sum(
        event["cause"] is not None for event in journal(finished) if event.get("stage") == "search" and "cause" in event
    )
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert [title for title in ("The found program", "How it came about", "What each change brings", "Every program")
            if f"{title}</h2>" not in page] == []  # fmt: skip


def test_of_two_changes_one_alone_is_the_other_left_out(corpus: Path, tmp_path: Path) -> None:
    recipe = read_recipe("primer-demo", words(corpus)[2:])
    with Run.create(tmp_path / "run", recipe.data(), seed=1, command="c") as run:
        told = PrimerExperiment(recipe, run, Quiet())._changes(primer_ez(width=8, depth=1, heads=2))
    projection, relu = told
    assert [one["change"] for one in told] == ["PROJECTION", "RELU"]
    assert projection["inserted"] == relu["ablated"] != projection["ablated"] == relu["inserted"]
    assert len(list((tmp_path / "run" / "rows" / "retrained").iterdir())) == 4  # each is trained once for each start


def test_every_arm_and_every_retrained_program_has_its_own_rate(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasformer.training.sweep.SHORTEST", 1)
    changes = [
        "strategy.training.schedule={kind: inverse_square_root}",
        "sweep.share=0.5",
        "sweep.validation_tokens=64",
    ]
    recipe = read_recipe("primer-demo", [*words(corpus)[2:], *changes, "strategy.programs=2", "strategy.budget=0.08"])
    peaks: list[float] = []
    evaluate = workers.evaluate

    def evaluated(program: Program, task: Any, trial: Any, *others: Any) -> Any:
        peaks.append(trial.training.schedule.peak)
        return evaluate(program, task, trial, *others)

    monkeypatch.setattr(workers, "evaluate", evaluated)
    with Run.create(tmp_path / "run", recipe.data(), seed=1, command="c") as run:
        search = PrimerExperiment(recipe, run, Quiet())
        search._best("search", search.strategy)
        told = search._searched("search")
        assert peaks[:2] == [told["peak"]] * 2
        assert len(set(peaks)) > 1
        arm = search.control("primer_ez", None)
        step = step_seconds(Program.read(arm["architecture"]), search.task, search.trial)
        assert arm["sweep_seconds"] == pytest.approx(arm["sweep_updates"] * step)
        assert 0 < arm["sweep_seconds"] <= 0.5 * 0.08
        assert arm["sweep_updates"] < arm["scorecard"]["updates"]
        swept = {event["of"]: event["peak"] for event in run.events("sweep")}
    assert swept["primer_ez"] == arm["peak"]
    assert swept["search"] == told["peak"]
    assert sum(name.startswith("program_") for name in swept) >= 2


def test_the_test_split_is_not_read_before_the_choice(finished: Path, reads: list[str]) -> None:
    assert list(dict.fromkeys(reads)) == ["found", *CONTROLS]


def test_transformers_loads_the_model_and_agrees(finished: Path) -> None:
    network, vocabulary = load_language_model(finished / "model")
    model = AutoModelForCausalLM.from_pretrained(finished / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(finished / "model")
    tokens = tokenizer(["the 3 dogs"], return_tensors="pt")["input_ids"]
    assert tokens.tolist() == vocabulary.encode(["the 3 dogs"])
    assert torch.equal(model(tokens).logits, network(tokens))
    found = Program.read(result_of(finished)["rows"][0]["architecture"])
    assert network.architecture == found
    assert read_program_file(finished / "architectures" / "best.txt") == found


@pytest.mark.slow
def test_stopped_anywhere_and_resumed_is_uninterrupted(finished: Path, corpus: Path, tmp_path: Path) -> None:
    places: list[tuple[str, Any]] = [
        *(("search", 1), ("search", 4), ("search_confirmation", 1), ("lineage", 2), ("changes", 1), ("found", 1)),
        *(("start", 1), ("random_mutation_search", 2), ("longer", "point"), ("wider", 0)),
    ]
    folder, progress, event, stopped = tmp_path / "run", ConsoleDisplay.progress, ConsoleDisplay.event, []

    def stop(self: ConsoleDisplay, stage: str, done: int, *others: Any) -> None:
        progress(self, stage, done, *others)
        if places and stage == places[0][0] and isinstance(places[0][1], int) and done >= places[0][1]:
            stopped.append(places.pop(0))
            raise KeyboardInterrupt

    def stop_after(self: ConsoleDisplay, name: str, fields: dict[str, Any]) -> None:
        event(self, name, fields)
        if places and (fields["stage"], name) == places[0]:
            stopped.append(places.pop(0))
            raise KeyboardInterrupt

    ask = [*words(corpus), "--run", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConsoleDisplay, "progress", stop)
        patch.setattr(ConsoleDisplay, "event", stop_after)
        while (code := command(patch, *ask)) == 130:
            ask = ["resume", str(folder)]
    assert (code, len(stopped), places) == (0, 10, [])
    assert timeless(result_of(folder)) == timeless(result_of(finished))
    same_outcome(finished, folder)


@pytest.mark.slow
def test_a_killed_search_ends_as_if_nothing_had_happened(finished: Path, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ask = [*PROGRAM, *words(corpus), "--run", str(folder)]
    child = subprocess.Popen(ask, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while child.poll() is None and events(folder) < 5:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (folder / "result.json").exists()
    done = subprocess.run([*PROGRAM, "resume", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Speed-up to the loss of the start: " in done.stdout
    assert timeless(result_of(folder)) == timeless(result_of(finished))
    same_outcome(finished, folder)


@pytest.mark.slow
def test_two_workers_give_the_same_result(finished: Path, corpus: Path, tmp_path: Path) -> None:
    ask = [*PROGRAM, *words(corpus, *SHORT, "strategy.workers=2"), "--run", str(tmp_path / "run")]
    done = subprocess.run(ask, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert timeless(result_of(tmp_path / "run")["rows"]) == timeless(result_of(finished)["rows"][:1])
    whole, short = ([event for event in journal(folder) if event.get("stage") == "search"]
                    for folder in (finished, tmp_path / "run"))  # fmt: skip
    assert whole == short


@pytest.mark.slow
def test_the_same_seed_finds_the_same_program(finished: Path, corpus: Path, tmp_path: Path) -> None:
    walks = []
    for seed in (1, 2):
        with pytest.MonkeyPatch.context() as patch:
            ask = [*words(corpus, *SHORT, f"seed={seed}"), "--run", str(tmp_path / str(seed))]
            assert command(patch, *ask) == 0
        walks.append([event["program"] for event in journal(tmp_path / str(seed)) if event["event"] == "program"])
    best = [(folder / "architectures" / "best.txt").read_bytes() for folder in (finished, tmp_path / "1")]
    assert best[0] == best[1]
    assert walks[0] != walks[1]


def test_a_program_as_text_stands_wherever_an_architecture_does(
    finished: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_program_file(finished / "architectures" / "best.txt")
    path = tmp_path / "mine.program"
    path.write_text(program_text(found), encoding="utf-8")
    assert command(monkeypatch, "profile", str(path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["core_parameters"] == core_parameters(found)
    train = [
        "train",
        str(path),
        "--task",
        str(corpus),
        "task.length=16",
        "training.updates=2",
        "training.batch_tokens=64",
    ]
    assert command(monkeypatch, *train, "--run", str(tmp_path / "train")) == 0
    assert Program.read(result_of(tmp_path / "train")["rows"][0]["architecture"]) == found
    short = ["controls=[start,primer_ez]", "strategy.programs=0", f"space={path}"]
    ask = [word for word in words(corpus, *short) if not word.startswith("space.settings")]
    capsys.readouterr()
    assert command(monkeypatch, *ask, "--json", "--run", str(tmp_path / "run")) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["label"] for row in rows] == ["start, other fresh starts", "start", "Primer-EZ"]
    assert Program.read(rows[1]["architecture"]) == found
    assert Program.read(rows[2]["architecture"]).depth == found.depth == 1
