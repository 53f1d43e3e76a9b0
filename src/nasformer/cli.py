"""The command line: what one can ask for. Each command is a file of `nasformer.commands`, imported when it is called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from nasformer.errors import RequestError, RunError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="nasformer finds a better Transformer for your data and your budget.",
)
RunFolder = Annotated[Path, typer.Option("--run", help="the folder that remembers the run; must not exist yet")]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON, progress on standard error")]


def _console(as_json: bool) -> Console:
    return Console(stderr=as_json)


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

    result = work(recipe, changes or [], run, "nasformer " + " ".join(sys.argv[1:]), _console(as_json))
    if as_json:
        _print_json(result)


@app.command()
def resume(folder: Annotated[Path, typer.Argument(help="the run folder")], as_json: AsJson = False) -> None:
    """Go on with a run that was stopped."""
    from nasformer.commands.search import resume as work

    result = work(folder, _console(as_json))
    if as_json:
        _print_json(result)


def main() -> None:
    """Run a command; a wrong request exits with 2 and a failure with 1, each with one clear line."""
    try:
        app(standalone_mode=False)
    except RequestError as error:
        sys.exit(_tell(error, 2))
    except RunError as error:
        sys.exit(_tell(error, 1))
    except KeyboardInterrupt:
        print("stopped; go on with: nasformer resume DIR", file=sys.stderr)
        sys.exit(130)
    except typer.Exit as error:
        sys.exit(error.exit_code)
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # what the command line itself refuses
            print(f"nasformer: {error.format_message()}", file=sys.stderr)
            sys.exit(2)
        raise


def _tell(error: Exception, code: int) -> int:
    print(f"nasformer: {' '.join(str(error).split())}", file=sys.stderr)
    return code
