"""The page stands alone, tells the truth at any time of a run, and several runs make one table."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from synthetic_run import events, result, row, write_run

from nasformer.errors import RequestError
from nasformer.report.compare import compare, strongest_control
from nasformer.report.gather import read_comparison
from nasformer.report.page import write_report
from nasformer.report.roles import role_of


def test_a_finished_run_is_told_whole(run_folder: Path) -> None:
    page = write_report(run_folder)
    text = page.read_text(encoding="utf-8")
    assert page == run_folder / "report.html"
    assert '<p class="verdict">Against the strongest control, random search (31.9 BLEU), the found arch' in text
    assert "1.9 BLEU better than the Transformer" in text
    assert "nasformer search shrinknas seed=0" in text
    assert "Unfinished" not in text
    assert text.count("<svg ") == 7
    assert "Kendall correlation" in text
    assert not list(run_folder.glob(".tmp-*"))


def test_the_page_loads_nothing_and_escapes_what_it_is_given(run_folder: Path) -> None:
    text = write_report(run_folder).read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?!#)[^"']*|@import|<script""", text)
    assert "Random &lt;search&gt;" in text
    assert "<search>" not in text
    assert "<b>" not in text


@pytest.mark.parametrize("lines", [0, 1, 45, 200])
def test_an_unfinished_run_shows_what_is_there(tmp_path: Path, lines: int) -> None:
    (tmp_path / "recipe.json").write_text("{}", encoding="utf-8")
    text = "".join(json.dumps(event) + "\n" for event in events()[:lines])
    (tmp_path / "journal.jsonl").write_text(text + '{"event":"upd', encoding="utf-8")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Unfinished" in page
    assert ("Training</h2>" in page) == (lines > 0)
    assert "better than" not in page


def test_lost_lines_are_told(run_folder: Path) -> None:
    journal = run_folder / "journal.jsonl"
    journal.write_text("not json\n" + journal.read_text(encoding="utf-8"), encoding="utf-8")
    assert "1 line of the journal could not be read" in write_report(run_folder).read_text(encoding="utf-8")


def test_no_run_no_page(tmp_path: Path) -> None:
    with pytest.raises(RequestError):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_seeds_of_one_recipe_are_averaged_with_their_intervals(tmp_path: Path) -> None:
    rows = [row("found", "Found", 34.1, 1_700_000), row("transformer", "Transformer", 31.2, 1_790_000)]
    folders = [write_run(tmp_path / "a", 0), write_run(tmp_path / "b", 1, rows=rows)]
    table = compare(folders)
    assert "**shrinknas**: 2 runs (a, b), seeds 0, 1; ± is the 95 % Student interval over seeds" in table
    # The t quantile of one degree of freedom is 12.706: 12.706 · √2 / √2 and 12.706 · √0.5 / √2.
    assert "| ShrinkNAS (found) | 2 | 1.70 M | 3.00 M | 33.1 ± 12.7 | 54.2 | +2.4 ± 6.4 | – |" in table
    assert "| Lite Transformer | 1 | 1.76 M | 3.06 M | 31.0 | – | +0.8 | +1.1 |" in table
    transformer = next(line for line in table.splitlines() if line.startswith("| Transformer"))
    assert transformer.endswith("| – | +2.4 ± 6.4 |")


def test_seeds_are_judged_by_the_control_that_is_strongest_in_the_mean(tmp_path: Path) -> None:
    found, fixed, halving = (34.0, 35.0, 36.5), (34.5, 33.0, 33.0), (33.0, 34.5, 34.0)
    folders = []
    for seed, values in enumerate(zip(found, fixed, halving, strict=True)):
        names = ("found", "tuned_fixed", "halving")
        rows = [row(name, name, value, 1e6, training_flops=2e15 + seed * 1e15)
                for name, value in zip(names, values, strict=True)]  # fmt: skip
        rows = [one | {"role": role_of(one["name"])} for one in [*rows, row("retrained", "again", 39.0, 1e6)]]
        rows += [row("spos", "lucky", 38.0, 1e6) | {"role": "control"}] if seed == 0 else []
        folders.append(write_run(tmp_path / str(seed), seed, rows=rows))
    table = compare(folders)
    # Of three values: t is 4.303; the differences 1, 0.5, 2.5 have the mean 4/3 and the deviation 1.041.
    assert (
        "Strongest control over 3 seeds: halving, 33.8 ± 1.9 BLEU; found − it: +1.3 ± 2.6 (95 % Student interval over "
        "seeds, paired)\n\n| model | runs | core parameters | total | training FLOPs | BLEU |"
    ) in table
    assert "| halving | 3 | 1.00 M | 2.30 M | 3.00 P | 33.8 ± 1.9 |" in table
    assert "Δ BLEU to" not in table  # the strongest control of each run is another
    assert "Strongest control over 1 seed: lucky, 38.0 BLEU; found − it: −4.0\n" in compare(folders[:1])


def test_less_is_better_among_controls_too() -> None:
    losses = {"found": 2.0, "transformer": 2.5, "halving": 2.25}
    rows = [{"name": name, "label": name, "scorecard": {"loss": loss}} for name, loss in losses.items()]
    assert strongest_control([read_comparison({"rows": rows})] * 2) == (
        "Strongest control over 2 seeds: halving, 2.250 ± 0.000 loss; found − it: −0.250 ± 0.000 (95 % Student "
        "interval over seeds, paired)"
    )
    assert strongest_control([read_comparison({"rows": rows[:1]})]) is None


def test_there_is_no_column_for_a_reference_that_was_not_run(tmp_path: Path) -> None:
    rows = [row("found", "Found", 34.1, 1_700_000), row("lite_transformer", "Lite Transformer", 31.2, 1_790_000)]
    table = compare([write_run(tmp_path / name, seed, rows=rows) for seed, name in enumerate("ab")])
    assert "Δ BLEU to Transformer" not in table
    assert "| Lite Transformer | 2 | 1.79 M | 3.09 M | 31.2 ± 0.0 | – | +2.9 ± 0.0 |" in table


def test_other_recipes_and_unfinished_runs_are_not_averaged(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name, seed) for seed, name in enumerate("abc")]
    (folders[1] / "recipe.json").write_text(json.dumps({"seed": 1, "strategy": {"rounds": 9}}), encoding="utf-8")
    (folders[2] / "result.json").unlink()
    table = compare(folders)
    assert "2 tables, not to be averaged" in table
    assert "Left out, as unfinished: c." in table
    assert " ± " not in table


def test_a_result_without_scores_has_a_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", rows=[{"name": "found", "label": "Found"}], limits={}, correlation=None)
    text = write_report(folder).read_text(encoding="utf-8")
    assert "There is no verdict yet" in text
    assert "No limit was set." in text
    assert result()["recipe"] in text
