"""A search over programs: its journal and result become small values, figures, tables and a page, whole or cut off."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from synthetic_evolution import ARMS, BUDGET, HURDLES, LONG, curves, evolution, walk, write_evolution
from synthetic_run import row

from nasformer.measures.statistics import Interval
from nasformer.report.blueprint import draw_architecture
from nasformer.report.changes import Line, changed_lines, side_by_side
from nasformer.report.compare import compare
from nasformer.report.diagram import read_diagram
from nasformer.report.evolution import read_evolution
from nasformer.report.evolution_page import (
    FITNESS,
    MUTATED,
    effect_sheet,
    evolution_pictures,
    failure_sheet,
    saved_text,
)
from nasformer.report.evolved import Arm, Candidate, Evolution, Failure, Noise, Step, Walk
from nasformer.report.fitness import draw_fitness, draw_hurdles
from nasformer.report.gather import gather, read_comparison
from nasformer.report.lineage import draw_lineage, outcome
from nasformer.report.listing import columns
from nasformer.report.page import architecture_caption, write_report
from nasformer.report.speed import draw_arms, speed_rows, speedup_line, speedup_sentence, speedup_text
from nasformer.report.table import cells, header, limit_text
from nasformer.report.verdict import notes, verdict
from nasformer.spaces.known_programs import primer, transformer
from nasformer.spaces.program_text import program_text

PRIMER = {"kind": "primer", "budget": BUDGET, "hurdles": 2}


def words(svg: str) -> str:
    """All words of a figure; fails where it is no well-formed SVG."""
    return " ".join("".join(ElementTree.fromstring(svg).itertext()).split())


def searched(events: list[dict[str, Any]], told: dict[str, Any] | None = None) -> Evolution:
    found = read_evolution(events, {"evolution": told} if told else {}, PRIMER, {"primer_ez": "Primer-EZ"})
    assert found is not None
    return found


def program(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "event": "program",
        "stage": "search",
        "number": number,
        "fitness": 2.0,
        "hurdles": 2,
        "cost": 10.0,
    } | fields


def test_a_finished_search_gives_every_value(tmp_path: Path) -> None:
    search = gather(write_evolution(tmp_path / "a")).evolution
    assert search is not None
    assert (len(search.search.programs), len(search.control.programs)) == (300, 300)
    assert (search.budget, search.hurdles, search.noise) == (BUDGET, HURDLES, Noise(2.41, 0.014, 12))
    assert search.lineage[0].number == 0
    assert search.lineage[1].retrained is None
    assert search.lineage[2].retrained is not None
    assert search.start is not None
    assert search.start.startswith("depth 2")
    arms = {arm.name: arm for arm in search.arms}
    assert arms["primer_ez"].label == "Primer-EZ"
    assert arms["found"].speedup == Interval(1.35, pytest.approx(1.27), pytest.approx(1.44))
    assert arms["start"].law is not None
    assert (arms["start"].law.a, arms["start"].law.k.value) == (pytest.approx(3.0), pytest.approx(0.15))
    assert arms["found"].seeds == 3
    assert all(low < mean < high for low, mean, high in zip(arms["found"].lows, arms["found"].means,
               arms["found"].highs, strict=True))  # fmt: skip


def test_hurdles_are_counted_by_hand() -> None:
    events = [
        program(0),
        program(1, hurdles=0, fitness=3.0, cost=1.0),
        program(2, hurdles=1, fitness=2.5, cost=4.0),
        program(3, hurdles=1, fitness=None, reason="time-out", cost=3.0),
        program(4, hurdles=0, fitness=None, reason="no gradient", cost=0.0),
        program(2, hurdles=2, fitness=2.4, cost=10.0),
    ]
    search = searched(events)
    assert search.hurdles == pytest.approx((10 / 7, 30 / 7))
    assert search.stations == ((4, 3), (2, 2))
    assert search.costs == (24.0, 33.0)
    assert "charged 24 s; trained to the end, they would have taken 33 s, 1.38 times" in saved_text(search)
    assert "2 hurdles save a factor of 2.33" in saved_text(search)
    assert [one.number for one in search.search.programs if search.finished(one)] == [0, 2]
    assert search.search.best == ((0, 2.0), (1, 2.0), (2, 2.0))
    assert {(one.reason, one.programs) for one in search.failures} == {("time-out", 1), ("no gradient", 1)}


def test_a_journal_tells_causes_curves_and_programs() -> None:
    points = [{"cost": cost, "loss": loss} for cost, loss in ((1.4, 3.0), (4.3, 2.6), (10.0, 2.2))]
    mended = {"hurdles": None, "passed": 1, "finished": False, "fitness": 2.6, "curve": points[:2]}
    events = [
        program(0, hurdles=None, passed=2, curve=points, program="MAIN:\n  s2 = ABS(s0)\n", mutation="start"),
        {k: v for k, v in program(1, parent=0, program="MAIN:\n  s2 = SIN(s0)\n", **mended).items() if k != "hurdles"},
        program(2, fitness=None, curve=[], hurdles=0, cause="no gradient", reason="a long text", cost=0.0),
        program(3, parent=0, equal_to=0),
    ]
    events[0].pop("hurdles")
    search = searched(events)
    first, second, third, fourth = search.search.programs
    assert (first.reached, first.passed, second.reached, second.passed, third.reached) == (3, 2, 2, 1, 0)
    assert search.stations == ((2, 2), (2, 1))
    assert third.reason == "no gradient"
    assert fourth.cost is None
    assert search.start == "MAIN:\n  s2 = ABS(s0)\n" == search.found


@pytest.mark.slow
@pytest.mark.parametrize("lines", [0, 1, 2, 40, 400])
@pytest.mark.parametrize("told", [None, {}, {"lineage": 3, "curves": {"a": "b"}, "noise": [], "texts": None},
                                  {"curves": {"found": [[[0, 3.0], [1, 2.0]]]}, "hurdles": ["x"]},
                                  {"changes": [{"change": "x", "inserted": 3}, 4, {}, {"change": 2, "ablated": {}}]},
                                  {"speedups": {"found": {}}, "trainings": [{"budget": 1}]}])  # fmt: skip
def test_whatever_is_missing_there_is_a_page(tmp_path: Path, lines: int, told: dict[str, Any] | None) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"strategy": PRIMER}), encoding="utf-8")
    events = [*walk("search"), *walk("random_mutation_search", 20)][:lines]
    (tmp_path / "journal.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events), encoding="utf-8")
    if told is not None:
        (tmp_path / "result.json").write_text(json.dumps({"evolution": told}), encoding="utf-8")
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert ("Every program</h2>" in text) == (lines > 0)
    assert ("Unfinished" in text) == (told is None)


def test_while_it_runs_the_line_leads_to_the_best_so_far() -> None:
    events = [program(0), program(1, parent=0, fitness=1.9, mutation="bank", change="c0"), program(2, parent=1),
              program(3, parent=1, fitness=1.8), program(4, parent=3, fitness=1.5, hurdles=1)]  # fmt: skip
    assert [step.number for step in searched(events).lineage] == [0, 1, 3]
    assert read_evolution([], {}, PRIMER, {}) is None
    circle = [program(0, parent=1), program(1, parent=0, fitness=1.0)]
    assert len(searched(circle).lineage) == 2


@pytest.mark.slow
def test_the_figure_of_all_programs_tells_them_apart() -> None:
    search = searched(walk("search"), evolution(walk("search")))
    said = words(draw_fitness(search))
    assert all(part in said for part in ("trained to the end", "stopped at a hurdle", "failed", "best so far",
               "the start in 12 trainings"))  # fmt: skip
    assert "random mutation" not in said
    control = searched([*walk("search"), *walk("random_mutation_search")])
    assert "best so far, random mutation" in words(draw_fitness(control))
    far = Walk((Candidate(0, fitness=2.0), Candidate(1, fitness=2.1), Candidate(2, fitness=90.0),
                *(Candidate(number, fitness=2.0) for number in range(3, 12))))  # fmt: skip
    assert "far above the others" in words(draw_fitness(Evolution(far)))
    for edge in (Evolution(), Evolution(Walk((Candidate(0),))), Evolution(Walk((Candidate(3, fitness=2.0),)))):
        words(draw_fitness(edge))
        words(draw_hurdles(edge))


def test_the_bars_say_their_numbers() -> None:
    search = searched([program(0), program(1, hurdles=0, fitness=3.0, cost=1.4), program(2, hurdles=1, cost=4.0)])
    said = words(draw_hurdles(search))
    assert "hurdle 1 at 1.43 s" in said
    assert "3 reached, 2 passed (67%)" in said
    assert "2 reached, 1 passed (50%)" in said
    assert "end of the budget at 10 s" in said


def test_a_long_change_is_wrapped_and_a_long_line_is_cut() -> None:
    steps = [Step(0, "start", None, 2.5), Step(7, "insert", LONG * 2, 2.4, Interval(2.41, 2.39, 2.43))]
    drawn = draw_lineage(steps)
    texts = ["".join(node.itertext()) for node in ElementTree.fromstring(drawn).iter() if node.tag.endswith("text")]
    assert max(map(len, texts)) <= 104
    assert "".join(LONG.split()) in "".join("".join(texts).split())
    assert "7: an instruction inserted ★" in words(drawn)
    assert "loss 2.500 → 2.400 (−0.100); trained again 2.410 (2.390–2.430)" in words(drawn)
    many = words(draw_lineage([Step(number, "swap", "x", 2.0) for number in range(100)]))
    assert "… 60 more mutations …" in many
    assert ("19: " in many, "20: " in many, "79: " in many, "80: " in many) == (True, False, False, True)
    assert outcome(Step(1, None, None, None), 2.0) == "no fitness"
    words(draw_lineage([]))


def test_programs_stand_side_by_side_by_name() -> None:
    start = "depth 2\n\nMAIN:\n  s2 = A(s0)\n  s3 = B(s2)\n\nOLD:\n  s2 = C(s0)\n"
    found = "depth 2\n\nMAIN:\n  s2 = A(s0)\n  s3 = Z(s2)\n  s4 = B(s3)\n\nNEW:\n  s2 = C(s0)\n"
    lines = side_by_side(start, found)
    assert [(line.left, line.right) for line in lines if line.left or line.right] == [
        ("depth 2", "depth 2"),
        ("MAIN:", "MAIN:"),
        ("  s2 = A(s0)", "  s2 = A(s0)"),
        ("  s3 = B(s2)", "  s3 = Z(s2)"),
        (None, "  s4 = B(s3)"),
        ("OLD:", None),
        ("  s2 = C(s0)", None),
        (None, "NEW:"),
        (None, "  s2 = C(s0)"),
    ]
    kinds = [line.kind for line in (Line("a", "a"), Line("a", "b"), Line("a", None), Line(None, "b"))]
    assert kinds == ["same", "changed", "removed", "added"]
    text = program_text(transformer())
    assert {line.kind for line in side_by_side(text, text)} == {"same"}


def test_only_the_subprograms_that_differ_are_told() -> None:
    start = "depth 1\n\nA:\n  s2 = B(s0)\n  s3 = B(s2)\n\nB:\n  s2 = RELU(s0)\n"
    found = "depth 1\n\nA:\n  s2 = B(s0)\n  s3 = C(s2)\n\nB:\n  s2 = RELU(s0)\n\nC:\n  s2 = SIN(s0)\n"
    told = ["  A:", "    s2 = B(s0)", "−   s3 = B(s2)", "+   s3 = C(s2)", "", "+ C:", "+   s2 = SIN(s0)", ""]
    assert list(changed_lines(start, found)) == told
    assert list(changed_lines(start, start)) == []


def test_curves_and_factors_are_told() -> None:
    search = searched([], evolution(walk("search")))
    said = words(draw_arms(search.arms))
    assert "Primer-EZ" in said
    assert "found ★" in said
    rows = speed_rows(search.arms)
    assert [row[0] for row in rows[:2]] == ["found ★", "Primer-EZ"]
    assert rows[0][1:] == ("1.35× (1.27–1.44)", "1.878", "16 s", "3", "2.87 · cost^−0.150 (0.150–0.150)")
    assert ("start", "reference") in [row[:2] for row in rows]
    assert "means that the start needs 1.35 times the compute" in speedup_sentence(search.arms)
    assert "for example, means that" in speedup_sentence([])
    assert "as long or made as wide" in speedup_sentence([Arm("longer", "longer")])
    assert speedup_text(Interval(0.8, None, None)) == "0.80×"
    assert speed_rows([Arm("a", "A")]) == (("A", "–", "–", "–", "–", "–"),)
    words(draw_arms([Arm("a", "A"), Arm("found", "F", (1.0,), (2.0,), (2.0,), (2.0,), 1)]))


def test_the_mean_of_the_seeds_is_drawn() -> None:
    runs = [[[1, 3.0], [10, 2.0]], [[1, 5.0], [10, 3.0], [20, 1.0]]]
    (arm,) = searched([program(0)], {"curves": {"a b": runs}}).arms
    assert (arm.costs, arm.means, arm.lows, arm.highs) == ((1, 10), (4, 2.5), (3, 2), (5, 3))
    assert len(curves(1.0)) == 3


def test_a_line_tells_the_factors() -> None:
    arms = [
        Arm("start", "S"),
        Arm("a", "A", speedup=Interval(0.9, 0.8, 1.0)),
        Arm("b", "B", speedup=Interval(1.2, None, None)),
    ]
    assert speedup_line(arms) == "Speed-up to the loss of the start: B 1.20×, A 0.90× (0.80–1.00)."
    assert speedup_line(arms[:1]) == ""


def test_what_each_change_brings() -> None:
    told: dict[str, Any] = {
        "changes": [
            {"change": "RELU", "inserted": {"value": 2.3, "low": 2.2, "high": 2.4}, "ablated": {"value": 2.05}},
            {"change": "MAIN", "inserted": {}, "ablated": {"reason": "no unit is near"}},
            {"change": "c0 = 0 → 1", "ablated": {}},
            {"change": 3, "inserted": {}},
            "nothing",
        ],
        "curves": {"start": [[[1, 3.0], [2, 2.5]], [[1, 3.0], [2, 2.3]]], "found": [[[1, 2.5], [2, 2.0]]]},
    }
    sheet = effect_sheet(searched([program(0)], told))
    assert sheet.header == ("change", "start with it alone", "found program without it")
    assert sheet.rows == (
        ("as they are", "2.400 (1.129–3.671)", "2.000"),
        ("RELU", "2.300 (2.200–2.400) [−0.100]", "2.050 [+0.050]"),
        ("MAIN", "fails to train", "not tried: no unit is near"),
        ("c0 = 0 → 1", "–", "fails to train"),
    )
    rows = [{"name": "start", "validation_loss": 2.6}]
    alone = read_evolution([program(0)], {"evolution": {"changes": told["changes"]}, "rows": rows}, PRIMER, {})
    assert alone is not None
    assert effect_sheet(alone).rows[:2] == (
        ("as they are", "2.600", "–"),
        ("RELU", "2.300 (2.200–2.400) [−0.300]", "2.050"),
    )


@pytest.mark.slow
def test_random_mutation_is_spoken_of_where_it_was_run() -> None:
    for events, said in (
        (walk("search"), FITNESS),
        ([*walk("search"), *walk("random_mutation_search")], f"{FITNESS} {MUTATED}"),
    ):
        (caption,) = (one.caption for one in evolution_pictures(searched(events)) if one.title == "Every program")
        assert caption == said


def test_failures_beyond_the_table_are_summed() -> None:
    failures = [Failure(f"reason {number}", 20 - number, number % 2) for number in range(15)]
    sheet = failure_sheet(failures)
    assert len(sheet.rows) == 13
    assert sheet.rows[-1] == ("3 other reasons", str(8 + 7 + 6), "1")
    assert sheet.rows[0] == ("reason 0", "20", "")
    assert [one.programs for one in searched([], {"failures": {"time-out": 4}}).failures] == [4]


@pytest.mark.slow
def test_the_page_of_a_search_over_programs_is_whole(tmp_path: Path) -> None:
    text = write_report(write_evolution(tmp_path / "a")).read_text(encoding="utf-8")
    titles = (
        "The found program",
        "How it came about",
        "What each change brings",
        "Loss against cost",
        "Every program",
        "Hurdles",
        "What failed",
    )
    assert [title for title in titles if f"{title}</h2>" not in text] == []
    assert "The found architecture</h2>" not in text  # its text is there already
    assert text.count("<svg ") == 5
    assert '<tr class="added"><td></td><td></td><td>+</td><td>  s3 = DCONV_3X1(s2)</td></tr>' in text
    assert "1.35× (1.27–1.44)" in text
    assert not re.findall(r"""(?:src|href)=["'](?!#)[^"']*|@import|<script""", text)
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_lower_perplexity_is_better_everywhere(tmp_path: Path) -> None:
    run = gather(write_evolution(tmp_path / "a"))
    found, reference, *_, slower = run.comparison.rows
    assert header(run.comparison)[5:] == ("perplexity", "bits per byte", "Δ perplexity to the start")
    assert cells(run.comparison, found)[5::2] == ("9.20 (9.00–9.40)", "−0.70")
    assert cells(run.comparison, reference)[-1] == "reference"
    assert cells(run.comparison, slower)[5::2] == ("10.20 (10.00–10.40)", "+0.30")
    assert "Lower perplexity is better: a negative Δ is a gain. ★ found" in limit_text(run.comparison)
    said = verdict(run.comparison)
    assert "0.70 perplexity better than the start (the intervals do not overlap)" in said
    assert "1.00 perplexity better than random mutation" in said
    assert said.startswith(
        "Against the strongest control, Primer-EZ (9.30 perplexity), the found architecture is level: −0.10 "
        "perplexity, the intervals overlap."
    )
    told = notes(run.comparison)
    assert "Primer with queries made head by head was not run." in told
    assert any("trained for the same cost" in note for note in told)
    assert not any("was trained for" in note or "compare several seeds" in note for note in told)
    worse = [{"name": name, "scorecard": {"perplexity": value}} for name, value in (("found", 9), ("transformer", 8.5))]
    said = verdict(read_comparison({"rows": worse}))
    assert "the Transformer (8.50 perplexity), the found architecture is worse: +0.50 perplexity" in said
    table = compare([write_evolution(tmp_path / "b"), write_evolution(tmp_path / "c")])
    assert "| Primer | 2 | 121 k | 1.42 M | 9.20 ± 0.00 | 1.110 ± 0.000 | −0.70 ± 0.00 |" in table
    blue = limit_text(read_comparison({"rows": [row("found", "F", 30.0, 1.0)]}))
    assert "is better" not in blue


def test_runs_at_several_budgets_stand_side_by_side(tmp_path: Path) -> None:
    ends = [{"program": "start", "budget": b, "losses": [3 * b**-0.2 + d for d in (-0.01, 0.01)]} for b in (10, 64)]
    worse = {"program": "start", "budget": 64, "losses": [2.9, 3.0]}  # another size, which is not on the frontier
    runs = [write_evolution(tmp_path / "a", trainings=ends[:1])]
    assert "Budgets" not in compare(runs)
    runs.append(write_evolution(tmp_path / "b", trainings=[worse, ends[1]], budget=64))
    table = compare(runs).partition("**Budgets**")[2]
    lines = {line.split(" | ")[0].strip("| "): line for line in table.splitlines()}
    assert "| a, 10 s | b, 64 s | final loss by budget" in lines["speed-up"]
    assert "1.35× (1.27–1.44) | 1.35× (1.27–1.44) | –" in lines["Primer"]
    assert "| – | – | 3 · cost^−0.200 (0.1" in lines["start (Transformer)"]


def test_a_program_is_listed_by_subprograms() -> None:
    diagram = read_diagram(primer().data())
    assert diagram.parts[1][0] == "MAIN:"
    said = words(draw_architecture(diagram))
    assert all(line.strip() in said for part in diagram.parts for line in part)
    assert "The block is the first subprogram" in architecture_caption(diagram)
    assert read_diagram({"family": "program", "subprograms": 3}).box is not None


def test_columns_are_level_and_in_order() -> None:
    assert columns([1, 1, 1, 1, 1, 1], 3) == [0, 0, 1, 1, 2, 2]
    assert columns([5, 1, 1, 1, 1, 1], 2) == [0, 1, 1, 1, 1, 1]
    assert columns([4], 3) == [0]
    assert columns([], 3) == []


def test_every_arm_has_its_own_look() -> None:
    arms = [Arm(name, label, (1.0, 2.0), (2.0, 1.0), (2.0, 1.0), (2.0, 1.0), 1) for name, (label, _) in ARMS.items()]
    drawn = ElementTree.fromstring(draw_arms(arms))
    styles = {node.get("style") for node in drawn.iter() if "stroke-width: 1.6" in (node.get("style") or "")}
    assert len({re.sub("stroke: #[0-9a-f]+;?", "", style or "") for style in styles}) >= 4
