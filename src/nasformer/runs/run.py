"""A run: the folder that remembers what was asked, where it ran, what happened and what came out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from nasformer.errors import RequestError, RunError
from nasformer.runs.environment import environment
from nasformer.runs.files import full_disk_explained, json_text, plain, whole_folder, write_all, write_whole
from nasformer.runs.lock import Lock

RECIPE, ENVIRONMENT, JOURNAL, LOCK = "recipe.json", "environment.json", "journal.jsonl", "lock"


@final
class Run:
    """One run folder, open for writing (`create`, `open`: locked for this process) or for reading (`look`)."""

    def __init__(self, path: Path, lock: Lock | None) -> None:
        """Takes a checked folder; call `create`, `open` or `look` instead."""
        self._path = path
        self._lock = lock
        self._journal = os.open(path / JOURNAL, os.O_RDWR | os.O_APPEND) if lock else None

    @classmethod
    def create(cls, path: Path | str, recipe: dict[str, Any], *, seed: int, command: str) -> Self:
        """A new run in a new or empty folder, with its recipe, its environment and an empty journal.

        Raises `RequestError` where the folder holds anything, is a run already, is in use or cannot be made.
        """
        path = Path(path)
        _check_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = Lock(path / LOCK)
        except OSError as error:
            raise RequestError(f"expected a folder for the run that can be written; {path}: {error.strerror}") from None
        try:
            _check_free(path)
            with full_disk_explained(path, path):
                write_whole(path / JOURNAL, b"")
                write_whole(path / ENVIRONMENT, json_text(environment(seed, command)).encode())
                write_whole(path / RECIPE, json_text(recipe).encode())  # the last: from here on it is a run
            return cls(path, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """An existing run, to go on with; a half-written last line of its journal is cut off.

        Raises `RequestError` where the folder is no run, is in use or cannot be written.
        """
        path = Path(path)
        _check_run(path)
        try:
            lock = Lock(path / LOCK)
        except OSError as error:
            raise RequestError(f"expected a run folder that can be written; {path}: {error.strerror}") from None
        try:
            run = cls(path, lock)
            run.truncate_journal(_whole_lines((path / JOURNAL).read_bytes()))
            return run
        except BaseException:
            lock.release()
            raise

    @classmethod
    def look(cls, path: Path | str) -> Self:
        """An existing run, to read only; needs no lock. Raises `RequestError` where the folder is no run."""
        _check_run(Path(path))
        return cls(Path(path), None)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints; it may not exist yet."""
        return self._path / "checkpoints"

    def recipe(self) -> dict[str, Any]:
        """The resolved recipe as plain data."""
        return self.read_json(RECIPE)

    def record(self, event: str, **fields: Any) -> None:
        """Appends one line to the journal: the event, its time (seconds since 1970) and the fields.

        Raises `RunError` where the disk is full: the journal then ends as before.
        """
        if "time" in fields:
            raise ValueError("expected fields of the event; `time` is set by the journal")
        entry = plain({"event": event, "time": round(time.time(), 3)} | fields)
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"
        file = self._writable()
        end = os.fstat(file).st_size
        with full_disk_explained(self._path / JOURNAL, self._path):
            try:
                write_all(file, line.encode())
            except BaseException:
                os.ftruncate(file, end)
                raise

    def events(self, *names: str) -> list[dict[str, Any]]:
        """The journal's events in their order, all or those with one of the names.

        Raises `RunError` where a line in the middle is damaged.
        """
        content = (self._path / JOURNAL).read_bytes()
        found = []
        for number, line in enumerate(content[: _whole_lines(content)].splitlines(), start=1):
            entry = _entry(line)
            if entry is None:
                raise RunError(f"line {number} of {self._path / JOURNAL} is damaged; remove that line to go on")
            if not names or entry["event"] in names:
                found.append(entry)
        return found

    def journal_position(self) -> int:
        """The journal's length in bytes, once all of it is on the disk: a checkpoint keeps this number."""
        file = self._writable()
        with full_disk_explained(self._path / JOURNAL, self._path):
            os.fsync(file)
        return os.fstat(file).st_size

    def truncate_journal(self, position: int) -> None:
        """Forgets the events after a position, so that a resumed run's journal equals the uninterrupted one's.

        Raises `RunError` where the position is not the end of a line of this journal.
        """
        file = self._writable()
        size = os.fstat(file).st_size
        if not 0 <= position <= size or (position and os.pread(file, 1, position - 1) != b"\n"):
            raise RunError(
                f"expected a journal with a line that ends at byte {position}; {self._path / JOURNAL} has {size} bytes"
                " and is not the one that the checkpoint was written with"
            )
        if position < size:
            os.ftruncate(file, position)
            os.fsync(file)

    def forget(self, stage: str, after: int) -> None:
        """Forgets a stage's events after a position, and with the first of them all that follows: work done anew.

        Where the stage has none there, nothing is forgotten: what follows then belongs to later stages.
        """
        content = (self._path / JOURNAL).read_bytes()
        position = after
        for line in content[after : _whole_lines(content)].splitlines(keepends=True):
            if (_entry(line) or {}).get("stage") == stage:
                return self.truncate_journal(position)
            position += len(line)

    def write_json(self, name: str, data: Any) -> None:
        """Writes a JSON file of the run in one step (`architectures/best.json`); the same errors as `write_text`."""
        self.write_text(name, json_text(data))

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file of the run in one step: readers see the old text or the new.

        Raises `RunError` where the disk is full.
        """
        self._writable()
        path = self._inside(name)
        with full_disk_explained(path, self._path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text.encode())

    @contextmanager
    def write_folder(self, name: str) -> Iterator[Path]:
        """A folder to fill, which becomes a folder of the run in one step; the same errors as `write_text`."""
        self._writable()
        path = self._inside(name)
        with full_disk_explained(path, self._path), whole_folder(path) as part:
            yield part

    def read_json(self, name: str) -> Any:
        """The data of a JSON file of the run. Raises `RequestError` where the file is missing or is not JSON."""
        path = self._inside(name)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RequestError(f"expected {name} in the run {self._path}; it was never written") from None
        except ValueError as error:
            raise RequestError(f"expected JSON in {path}: {error}") from None

    def close(self) -> None:
        """Closes the journal and gives the lock back; a second call does nothing."""
        if self._journal is not None:
            os.close(self._journal)
            self._journal = None
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _writable(self) -> int:
        if self._journal is None:
            raise ValueError(f"expected a run open for writing; {self._path} is closed or was opened with `look`")
        return self._journal

    def _inside(self, name: str) -> Path:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise RequestError(f"expected the name of a file inside the run, got {name!r}")
        return self._path / name


def _check_free(path: Path) -> None:
    if (path / RECIPE).is_file():
        raise RequestError(f"expected a new or empty folder; {path} is a run already: use `nasformer resume {path}`")
    if path.exists() and not path.is_dir():
        raise RequestError(f"expected a new or empty folder; {path} is a file")
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    # What a `create` that was killed leaves behind is no reason to refuse the folder.
    ours = {LOCK} | ({JOURNAL, ENVIRONMENT} if LOCK in names else set())
    if others := sorted(name for name in names - ours if not (LOCK in names and name.startswith(".tmp-"))):
        raise RequestError(f"expected a new or empty folder; {path} holds {', '.join(others[:3])}: choose another")


def _check_run(path: Path) -> None:
    if missing := [name for name in (RECIPE, JOURNAL) if not (path / name).is_file()]:
        came = f"has no {' and no '.join(missing)}" if path.is_dir() else "is no folder"
        raise RequestError(f"expected a run folder, as `nasformer search … --run DIR` makes it; {path} {came}")


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "event" in entry else None


def _whole_lines(content: bytes) -> int:
    """The length of the journal without the damaged end that a crash may leave."""
    end = content.rfind(b"\n") + 1
    while end and _entry(content[(start := content.rfind(b"\n", 0, end - 1) + 1) : end]) is None:
        end = start
    return end
