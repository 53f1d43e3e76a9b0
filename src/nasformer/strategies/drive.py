"""The only loop that searches: step, record, show, checkpoint."""

from __future__ import annotations

from nasformer.runs.stage import Stage
from nasformer.strategies.strategy import Search


def drive(search: Search, stage: Stage) -> Search:
    """Take a search from its newest checkpoint (or its beginning) to its end."""
    done = 0
    if found := stage.restore():
        done = found.step
        search.load(found.tensors, found.state)
    del found  # as much as the search holds
    while not search.finished():
        progress = search.step()
        done += 1
        for event, fields in progress.events:
            if event == "update":
                fields = fields | {"seconds": stage.seconds}
            stage.record(event, **fields)
        if search.finished():
            stage.record("finished", seconds=stage.seconds)
        if stage.due() or search.finished():
            stage.save(done, search.tensors(), search.state())
        stage.progress(progress.done, progress.total, progress.text)
    return search
