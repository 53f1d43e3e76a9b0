"""The command line: what one can ask for. Each command is a file of `nasformer.commands`, imported when called."""

from __future__ import annotations

import json
import os
import shlex
import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from nasformer.errors import RequestError, RunError
from nasformer.runs.files import is_full_disk

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="nasformer finds a better Transformer for your data and your budget.",
)
_INTERRUPTED = 130
RunFolder = Annotated[Path, typer.Option("--run", help="the folder that remembers the run; must not exist yet")]
ARCHITECTURE = "a known architecture, a JSON or YAML file, a program as text (.txt, .program), or a run folder"
LISTS = "spaces, architectures, operators, primitives, strategies, recipes or tasks"
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON, progress on standard error")]


def _console(as_json: bool) -> Console:
    console = Console(stderr=as_json)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 120  # a log has no width of its own
    return console


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


@app.command()
def search(
    recipe: Annotated[str, typer.Argument(help="a recipe's name, or a JSON or YAML file")],
    run: RunFolder,
    changes: Annotated[list[str] | None, typer.Argument(help="changes to the recipe: key.path=value")] = None,
    as_json: AsJson = False,
) -> None:
    """Search an architecture, train it, and prove it against the controls of the recipe."""
    from nasformer.commands.search import search as work

    result = work(recipe, changes or [], run, shlex.join(["nasformer", *sys.argv[1:]]), _console(as_json))
    if as_json:
        _print_json(result)


@app.command()
def resume(folder: Annotated[Path, typer.Argument(help="the run folder")], as_json: AsJson = False) -> None:
    """Go on with a run that was stopped."""
    from nasformer.commands.search import resume as work

    result = work(folder, _console(as_json))
    if as_json:
        _print_json(result)


@app.command()
def train(
    architecture: Annotated[str, typer.Argument(help=ARCHITECTURE)],
    run: RunFolder,
    changes: Annotated[list[str] | None, typer.Argument(help="changes: key.path=value")] = None,
    task: Annotated[
        str | None, typer.Option(help="path of the data; without it a run's own, or those that come along")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train one architecture from scratch."""
    from nasformer.commands.train import train as work

    result = work(architecture, task, changes or [], run, shlex.join(["nasformer", *sys.argv[1:]]), _console(as_json))
    if as_json:
        _print_json(result)


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(help="the run folder")],
    split: Annotated[str, typer.Option(help="valid or test")] = "test",
    as_json: AsJson = False,
) -> None:
    """Score the model of a run on a split of its data."""
    from nasformer.commands.evaluate import evaluate as work

    quality = work(folder, split, _console(as_json))
    if as_json:
        _print_json(quality)


@app.command()
def report(folders: Annotated[list[Path], typer.Argument(help="run folders")]) -> None:
    """Write the report of each run; of several runs also a table over seeds."""
    from nasformer.commands.report import report as work

    work(folders, Console())


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="the run folder")],
    out: Annotated[Path, typer.Option(help="the folder to write")],
    to: Annotated[str, typer.Option(help="hf: a folder that transformers loads")] = "hf",
) -> None:
    """Hand over the trained model of a run."""
    from nasformer.commands.export import export as work

    work(folder, to, out, Console())


@app.command()
def profile(
    architecture: Annotated[str, typer.Argument(help=ARCHITECTURE)],
    vocabulary: Annotated[int, typer.Option(min=5, help="size of both vocabularies")] = 8000,
    as_json: AsJson = False,
) -> None:
    """Show what an architecture costs, part by part."""
    from nasformer.commands.profile import profile as work

    found = work(architecture, vocabulary, _console(as_json))
    if as_json:
        _print_json(found)


@app.command("list")
def list_command(
    what: Annotated[str, typer.Argument(help=LISTS)],
    as_json: AsJson = False,
) -> None:
    """Show what there is to choose from."""
    from nasformer.commands.list import list_things

    found = list_things(what, _console(as_json))
    if as_json:
        _print_json(found)


def main() -> None:
    """Run a command; a wrong request exits with 2 and a failure with 1, each with one clear line."""
    try:
        code = app(standalone_mode=False)  # an interrupt comes back as a code
        if code == _INTERRUPTED:
            print(f"nasformer: stopped; go on with: nasformer resume {_run_folder(sys.argv)}", file=sys.stderr)
        sys.exit(code if isinstance(code, int) else 0)
    except RequestError as error:
        sys.exit(_tell(error, 2))
    except RunError as error:
        sys.exit(_tell(error, 1))
    except OSError as error:
        sys.exit(_tell(error, 1 if is_full_disk(error) else 2))
    except Exception as error:
        if is_full_disk(error):  # from a library that raises no OSError
            sys.exit(_tell(error, 1))
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # what the command line itself refuses
            print(f"nasformer: {error.format_message()}", file=sys.stderr)
            sys.exit(2)
        raise


def _run_folder(words: list[str]) -> str:
    """The run folder that a command line names."""
    words = [word for word in words if word != "--json"]
    named = [word.removeprefix("--run=") for word in words if word.startswith("--run=")]
    named += [word for before, word in pairwise(words) if before in ("--run", "resume")]
    return shlex.quote(named[0]) if named else "FOLDER"


def _tell(error: Exception, code: int) -> int:
    print(f"nasformer: {' '.join(str(error).split())}", file=sys.stderr)
    return code
