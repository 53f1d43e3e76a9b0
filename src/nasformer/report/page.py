"""The report: one HTML page that needs nothing else, written at any time of a run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nasformer.report import draw
from nasformer.report.blueprint import draw_architecture
from nasformer.report.collapse import collapse_notes, collapse_warnings
from nasformer.report.collapse_page import collapse_pictures
from nasformer.report.diagram import Diagram
from nasformer.report.evolution_page import evolution_pictures
from nasformer.report.gather import gather
from nasformer.report.lead import without_candidates
from nasformer.report.picture import Picture
from nasformer.report.probabilities import draw_entropy, draw_probabilities, on_edges
from nasformer.report.sweeps_page import sweep_pictures
from nasformer.report.table import amount, cells, header, limit_text
from nasformer.report.values import FOUND, Correlation, Differentiable, Gathered, SearchCurve
from nasformer.report.verdict import name_of_other, notes, search_notes, verdict
from nasformer.runs.files import full_disk_explained, write_whole


def write_report(run_folder: Path) -> Path:
    """Writes `report.html` into a run folder, finished or not, and returns its path; an old one is replaced whole.

    Raises `RunError` where the disk is full.
    """
    target = Path(run_folder) / "report.html"
    page = render(gather(run_folder), Path(run_folder).name)
    with full_disk_explained(target, Path(run_folder), again="nasformer report"):
        write_whole(target, page.encode())
    return target


def render(run: Gathered, name: str = "run") -> str:
    """The page of a run, as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    comparison = run.comparison
    diagram = None if run.evolution and run.evolution.start and run.evolution.found else run.diagram
    sizes = [one for one in run.shares if not one.is_operator and one.rounds]
    return environment.get_template("page.html.jinja").render(
        title=f"{run.provenance.recipe_name or 'nasformer'} on {_task(run.task)}" if run.task else name,
        run=run,
        progress=progress(run),
        verdict=verdict(comparison),
        warnings=collapse_warnings(run.watch),
        notes=(
            *notes(comparison),
            *search_notes(run.differentiable, name_of_other(comparison)),
            *collapse_notes(run.watch, {row.name: row.label for row in comparison.rows}),
        ),
        header=header(comparison),
        rows=[(row.name == FOUND, cells(comparison, row)) for row in comparison.rows],
        limit=limit_text(comparison),
        signatures=signatures(run),
        correlation=correlation_text(run.correlation) if run.correlation else None,
        pictures=pictures(run),
        architecture=Markup(draw_architecture(diagram)) if diagram else None,
        architecture_caption=architecture_caption(diagram) if diagram else "",
        sizes=[(one.choice.replace("_", " "), one.favourite[0], f"{one.favourite[1]:.0%}") for one in sizes],
        stages=[_stage(curve) for curve in run.curves],
    )


def _stage(curve: SearchCurve) -> tuple[str, ...]:
    updates = amount(curve.updates[-1]) if curve.updates else "–"
    state = "finished" if curve.finished else "unfinished"
    return (curve.stage.replace("_", " "), updates, duration(curve.seconds), state)


SIZE_AND_QUALITY = """Trained models with their intervals (on top, where the run has them) and members that the
search scored in its last round with shared weights (below, where it has them). The two are not measured alike:
compare within a panel. Look for the star: does it lie beyond the interval of every model of its size, left of the
limit?"""
OPERATORS = """How often each operator occurs in the set from which the search samples, by layer (the input’s at the
bottom) and round. Look for layers where one colour takes over, and for layers that stay undecided."""
EXPLORATION = """Best and median score in the explored set. A falling median says that the set improves. Scores of
different rounds use other weights and validation batches: the step between two bands also holds the supernet’s
progress."""
DIVERGENCE = """How much the outputs of sampled architectures vary for one fixed input. Shrinking should lower it at
every round: the square below the circle."""
PROBABILITIES = """The probability of each option, node by node, with the input’s layer at the bottom. A darker shade
is a larger kernel; the thin grey line is where all options start. Named is the option that ends with the largest
probability. Look for nodes where one line leaves the others behind. Where the named option leads by little, another
seed may well choose another; where identity or zero wins node after node, the search may have collapsed."""
EDGE_PROBABILITIES = """The probabilities in the end, in hundredths: a row is an edge (from its source to its node,
numbered as in the drawing), a column an operator. Darker is more probable; the largest of a row has a frame. The first
column, where there is one, says how probable the edge itself is; those of one node add up to the number of its inputs.
Look for rows in which one cell stands out. Where two are nearly alike, another seed may well choose the other."""
PASSED_OVER = """Zero is passed over in the end: where it is named, the architecture has the next best."""
LIMITED = """To stay within the limits, the architecture may hold another option than the one named."""
ENTROPY = """How undecided the nodes are: 1 means that all options are equally likely, 0 that one is certain. Look for a
fall that flattens before the end. Where it is still falling steeply, a longer search may decide otherwise; a value that
stays near 1 says that small differences made the choice."""
TRAINING = """Training loss (faint: as recorded; strong: smoothed) and validation loss (dots). A training loss may
hold label smoothing and dropout, so compare training losses with each other, not with validation. Candidates that were
given up on the way are left out."""
LEAD = """Validation loss of the found architecture (black; dashed where it was trained from scratch) and of its
strongest control. A fine-tuned model starts after the updates of the supernet whose weights it goes on with. Look at
the right end: does the distance stay, or do the lines meet?"""


def pictures(run: Gathered) -> tuple[Picture, ...]:
    """The figures for which the run has something to show."""
    main = run.comparison.main.name
    scored = any(row.core_parameters is not None and main in row.qualities for row in run.comparison.rows)
    shown: list[tuple[str, str, str]] = []
    if run.scatter.members or scored:
        shown.append(("Size and quality", draw.draw_scatter(run.scatter), SIZE_AND_QUALITY))
    if any(one.is_operator and one.rounds for one in run.shares):
        shown.append(("Which operators stay", draw.draw_operator_shares(run.shares), OPERATORS))
    if run.differentiable and run.differentiable.probabilities:
        search = run.differentiable
        caption = probabilities_caption(search, limited=bool(run.comparison.limits))
        shown.append(("Which operators win", draw_probabilities(search.probabilities, search.edges), caption))
        if run.watch is None:
            shown.append(("How decided the search is", draw_entropy(search), ENTROPY))
    if run.explorations:
        shown.append(("Exploration", draw.draw_exploration(run.explorations), EXPLORATION))
    if run.divergence:
        shown.append(("Divergence", draw.draw_divergence(run.divergence), DIVERGENCE))
    if run.lead:
        shown.append(("Does the lead last", draw.draw_lead(run.lead), LEAD))
    if any(curve.updates or curve.validation_updates for curve in run.curves):
        shown.append(("Training", draw.draw_curves(without_candidates(run.curves), run.rounds), TRAINING))
    told = tuple(evolution_pictures(run.evolution)) if run.evolution else ()
    told += tuple(collapse_pictures(run.watch)) if run.watch else ()
    drawn = (Picture(title, Markup(svg), caption) for title, svg, caption in shown)
    return (*told, *drawn, *sweep_pictures(run.sweeps))


def probabilities_caption(search: Differentiable, *, limited: bool) -> str:
    """What to look for, of which start, and why the architecture may hold other operators than those named."""
    parts = []
    if len(search.starts) > 1:
        ending = ", which was taken" if search.decided else "; which start is taken is not decided yet"
        parts.append(f"Start {search.taken + 1} of {len(search.starts)}{ending}.")
    parts.append(EDGE_PROBABILITIES if on_edges(search.probabilities) else PROBABILITIES)
    if search.zero is False and any(one.options[one.winner] == "zero" for one in search.probabilities):
        parts.append(PASSED_OVER)
    return " ".join([*parts, *([LIMITED] if limited else [])])


def architecture_caption(diagram: Diagram) -> str:
    """The family, how to read its drawing, and what the drawing leaves out."""
    norm = f", {diagram.norm} normalisation" if diagram.norm else ""
    said = [f"{diagram.family.replace('_', '-').capitalize()}{norm}."]
    if diagram.parts:
        said.append(
            "The block is the first subprogram; the others are called from it and from one another. s0 and s1 are a "
            "subprogram’s inputs (of the block, both are its input), the last line is its output."
        )
    if diagram.cells:
        said += cells_caption(diagram)
    elif diagram.stacks:
        said.append("The input enters at the bottom. Colours mean the same operators as in the figures below.")
    if diagram.connections:
        said.append("A line leads from each encoder layer to the cross-attentions that read it.")
    if any(stack.splits for stack in diagram.stacks):
        pooled = f"the element-wise {diagram.pooling}" if diagram.pooling else "what is pooled"
        said.append(
            f"Each grey line is a split of the channels. Node k reads {pooled} of the other splits as they are by then "
            f"(those to its left already with this layer’s additions), and what it makes is added to split k."
        )
    if any(stack.repeats > 1 for stack in diagram.stacks):
        said.append("× counts how often the layers are repeated, with the same operators and weights of their own.")
    return " ".join(said)


def cells_caption(diagram: Diagram) -> list[str]:
    """The sizes around the cells, and how to read their drawing."""
    said = [f"{diagram.facts[:1].upper()}{diagram.facts[1:]}."] if diagram.facts else []
    dashed = "Dashed and pale are the operators that learn nothing"
    if all(cell.single for cell in diagram.cells):
        return [*said, f"The image enters at the left; every block has the operator that it names. {dashed}."]
    two = any(cell.inputs == 2 for cell in diagram.cells)
    before = "Square 0 is the output of the cell before the last, square 1 that of the last"
    ends = any(len(cell.output) < cell.nodes for cell in diagram.cells)
    several = any(len(cell.output) > 1 for cell in diagram.cells)
    made = "all nodes together" if not ends else "the nodes that no other reads" if several else "the last node"
    said.append(
        f"{before if two else 'The square is the input'}; a circle is a node, the sum of what its lines bring; the "
        f"output is made of {made}. The words on a line name its operator; a darker shade is a larger one of its kind. "
        f"{dashed}; a skip hands on what it gets."
    )
    return said


def progress(run: Gathered) -> str | None:
    """What an unfinished run has done so far; None for a finished one."""
    if run.finished:
        return None
    if run.last is None:
        return "Unfinished: nothing is recorded yet. This page shows what is there."
    said = f"the last event is “{run.last.get('event')}”"
    if "stage" in run.last:
        said += f" of the stage “{str(run.last['stage']).replace('_', ' ')}”"
    if "update" in run.last:
        said += f" at update {run.last['update']}"
    time = run.last.get("time")
    if isinstance(time, int | float):
        said += f", {datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"
    return f"Unfinished: {said}. This page shows what is there."


def signatures(run: Gathered) -> tuple[tuple[str, str], ...]:
    """The different signatures of the scores, each with its quality's name."""
    found = {
        (quality.label, measured.signature): None
        for row in run.comparison.rows
        for quality in run.comparison.qualities
        if (measured := row.qualities.get(quality.name)) and measured.signature
    }
    return tuple((label, str(signature)) for label, signature in found)


def correlation_text(correlation: Correlation) -> str:
    """The rank correlation, in a sentence."""
    interval = ""
    if correlation.low is not None and correlation.high is not None:
        interval = f" ({correlation.low:.2f} to {correlation.high:.2f})"
    count = f" over {correlation.members} members" if correlation.members else ""
    return (
        f"Kendall correlation between scores with inherited weights and after training{count}: "
        f"{correlation.kendall:.2f}{interval}. 1 means the same order, 0 no relation."
    )


def duration(seconds: float | None) -> str:
    """Seconds for readers: `512 s`, `12 min`, `3.4 h`."""
    if seconds is None:
        return "–"
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _task(task: Mapping[str, Any]) -> str:
    languages = f" {task['source']} → {task['target']}" if "source" in task and "target" in task else ""
    return f"{task.get('name', 'task')}{languages}"
