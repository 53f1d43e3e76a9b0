"""The part of the page that tells a search over programs: figures, tables and what to look for in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from nasformer.report.changes import side_by_side
from nasformer.report.evolved import Evolution, Failure
from nasformer.report.fitness import draw_fitness, draw_hurdles
from nasformer.report.lineage import draw_lineage
from nasformer.report.picture import Picture, Sheet
from nasformer.report.speed import SPEED_HEADER, draw_arms, speed_rows, speedup_sentence
from nasformer.strategies.hurdles import saving

CHANGES = """The found program beside the start. Lines with − are of the start only, those with + of the found program
only. A state s2, s3, … is what the line of that number computes; an inserted line renumbers those below it. Inputs are
s0 and s1; c… and d… point into the banks of constants and of widths above."""
LINEAGE = """From the start to the best program (★), each a mutation of the one above; the number says when it was
made. The losses are those of the search, one
training each: a single step that gains less than the noise of the start may be luck, and the winner of many is partly
the luckiest. Trust the losses after training again, from other random weights, where they are given."""
FITNESS = """Every program of the search, as they were made: below those that were trained to the end, above those that
were stopped on the way, with the loss that they had by then, and those that failed. Look for the solid line: does it
leave the band of the start, and does it end below the dashed line of random mutation, which chooses no parents?"""
HURDLES = """A program goes on only where its loss is no worse than the median of those before it."""
FAILURES = """Mutations that gave no valid program were drawn again and cost nothing; programs that failed in training
count as the worst."""
SPEED = """Lines are means over seeds, bands reach from the lowest to the highest seed. At one height, the distance
between two lines is the factor by which one model needs more compute."""
_MOST_REASONS = 12


def evolution_pictures(evolution: Evolution) -> Iterator[Picture]:
    """The parts for which a search over programs has something to show."""
    if evolution.start and evolution.found:
        lines = side_by_side(evolution.start, evolution.found)
        yield Picture("The found program", None, CHANGES, lines=lines)
    if evolution.lineage:
        yield Picture("How it came about", Markup(draw_lineage(evolution.lineage)), LINEAGE)
    if evolution.arms:
        said = speedup_sentence(evolution.arms)
        drawn = Markup(draw_arms(evolution.arms)) if any(arm.costs for arm in evolution.arms) else None
        caption = f"{SPEED} {said}" if drawn else said
        yield Picture("Loss against cost", drawn, caption, Sheet(SPEED_HEADER, speed_rows(evolution.arms)))
    if evolution.search.programs:
        yield Picture("Every program", Markup(draw_fitness(evolution)), FITNESS)
        if evolution.hurdles:
            yield Picture("Hurdles", Markup(draw_hurdles(evolution)), f"{HURDLES} {saved_text(evolution)}".strip())
    if evolution.failures:
        yield Picture("What failed", None, FAILURES, failure_sheet(evolution.failures))


def saved_text(evolution: Evolution) -> str:
    """What the hurdles saved, and what they would save were exactly half to pass each."""
    if evolution.costs is None:
        return ""
    spent, without = evolution.costs
    said = f"All programs together were charged {spent:,.0f} s; trained to the end, they would have taken"
    said += f" {without:,.0f} s" + (f", {without / spent:.2f} times as much" if spent else "")
    count = len(evolution.hurdles)
    plural = "hurdle" if count == 1 else "hurdles"
    return f"{said}. With exactly half passing each, {count} {plural} save a factor of {saving(count):.2f}."


def failure_sheet(failures: Sequence[Failure]) -> Sheet:
    """The most frequent reasons, and the others in one row."""
    shown = list(failures[:_MOST_REASONS])
    if others := failures[_MOST_REASONS:]:
        rest = f"{len(others)} other reason{'s' * (len(others) != 1)}"
        shown.append(Failure(rest, sum(one.mutations for one in others), sum(one.programs for one in others)))
    rows = tuple((one.reason, str(one.mutations or ""), str(one.programs or "")) for one in shown)
    return Sheet(("reason", "mutations drawn again", "programs failed"), rows)
