"""The part of the page that tells a search over programs: figures, tables and what to look for in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from nasformer.measures.statistics import Interval
from nasformer.report.changes import side_by_side
from nasformer.report.evolved import Effect, Evolution, Failure
from nasformer.report.fitness import draw_fitness, draw_hurdles
from nasformer.report.lineage import draw_lineage, interval_text
from nasformer.report.picture import Picture, Sheet
from nasformer.report.speed import SPEED_HEADER, draw_arms, speed_rows, speedup_sentence
from nasformer.report.table import MISSING
from nasformer.strategies.hurdles import saving

CHANGES = """The found program beside the start. Lines with − are of the start only, those with + of the found program
only. A state s2, s3, … is what the line of that number computes; an inserted line renumbers those below it. Inputs are
s0 and s1; c… and d… point into the banks of constants and of widths above."""
LINEAGE = """From the start to the best program (★), each a mutation of the one above; the number says when it was
made. The losses are those of the search, one
training each: a single step that gains less than the noise of the start may be luck, and the winner of many is partly
the luckiest. Trust the losses after training again, from other random weights, where they are given."""
EFFECTS = """Every subprogram and every shared value in which the found program differs from the start, each by itself.
On the left the loss of the start with this change alone, on the right that of the found program without it, each
trained from fresh starts; in brackets the difference to the first line. A change that helps makes the left loss smaller
(−), and leaving it out makes the right one larger (+). Where only one of the two is so, it needs the other changes, or
they do its work. A dash means that there is no such program, or that it is no other network."""
FITNESS = """Every program of the search, as they were made: below those that were trained to the end, above those that
were stopped on the way, with the loss that they had by then, and those that failed. Look for the solid line: does it
leave the band of the start?"""
MUTATED = "Does it end below the dashed line of random mutation, which chooses no parents?"
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
    if evolution.changes:
        yield Picture("What each change brings", None, EFFECTS, effect_sheet(evolution))
    if evolution.arms:
        said = speedup_sentence(evolution.arms)
        drawn = Markup(draw_arms(evolution.arms)) if any(arm.costs for arm in evolution.arms) else None
        caption = f"{SPEED} {said}" if drawn else said
        yield Picture("Loss against cost", drawn, caption, Sheet(SPEED_HEADER, speed_rows(evolution.arms)))
    if evolution.search.programs:
        said = f"{FITNESS} {MUTATED}" if evolution.control.programs else FITNESS
        yield Picture("Every program", Markup(draw_fitness(evolution)), said)
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
    saved = "hurdle saves" if count == 1 else "hurdles save"
    return f"{said}. With exactly half passing each, {count} {saved} a factor of {saving(count):.2f}."


def effect_sheet(evolution: Evolution) -> Sheet:
    """The losses of start and found program as they are, and then with each change alone and without it."""
    own = evolution.start_loss, evolution.found_loss
    rows = [("as they are", *(MISSING if loss is None else interval_text(loss) for loss in own))]
    for change in evolution.changes:
        effects = zip((change.inserted, change.ablated), own, strict=True)
        rows.append((change.name, *(effect_text(effect, loss) for effect, loss in effects)))
    return Sheet(("change", "start with it alone", "found program without it"), tuple(rows))


def effect_text(effect: Effect | None, own: Interval | None) -> str:
    """A loss, and by how much it differs from that of the program as it is: `2.398 (2.390–2.406) [−0.014]`."""
    if effect is None:
        return MISSING
    if effect.loss is None:
        return f"not tried: {effect.reason}" if effect.reason else "fails to train"
    said = interval_text(effect.loss)
    return said if own is None else f"{said} [{effect.loss.value - own.value:+.3f}]".replace("-", "−")


def failure_sheet(failures: Sequence[Failure]) -> Sheet:
    """The most frequent reasons, and the others in one row."""
    shown = list(failures[:_MOST_REASONS])
    if others := failures[_MOST_REASONS:]:
        rest = f"{len(others)} other reason{'s' * (len(others) != 1)}"
        shown.append(Failure(rest, sum(one.mutations for one in others), sum(one.programs for one in others)))
    rows = tuple((one.reason, str(one.mutations or ""), str(one.programs or "")) for one in shown)
    return Sheet(("reason", "mutations drawn again", "programs failed"), rows)
