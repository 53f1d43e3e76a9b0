"""The order of the rooms is the architecture: every import goes to the left, and the house rules hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import nasformer

HOUSE = Path(nasformer.__file__).parent
CORRIDOR = (
    "spaces",
    "operators",
    "models",
    "supernets",
    "measures",
    "tasks",
    "runs",
    "training",
    "strategies",
    "report",
    "recipes",
    "commands",
    "cli",
)
"""From left to right; a room may import only itself and rooms to its left."""
OPEN_TO_ALL = {"errors", "__init__"}
"""The two ways in which work ends badly, and the version."""
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "base", "core", "misc"}
FILES = sorted(HOUSE.rglob("*.py"))
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _room(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.AST, package: str) -> set[str]:
    """The rooms that a module of `package` imports, wherever in it the import stands."""
    rooms: set[str] = set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            outer = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*outer, *([node.module] if node.module else [])])
            names = [f"{origin}.{name.name}" for name in node.names]
        for name in names:
            first, *rest = name.split(".")
            if first == "nasformer":
                rooms.add(
                    rest[0]
                    if (rest and (HOUSE / rest[0]).is_dir()) or rest[:1] in (["errors"], ["cli"])
                    else "__init__"
                )
    return rooms


def violations(room: str, rooms: set[str]) -> set[str]:
    """The imported rooms that do not lie to the left of `room`."""
    allowed = OPEN_TO_ALL | set(CORRIDOR[: CORRIDOR.index(room) + 1] if room in CORRIDOR else ())
    return rooms - allowed


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a module with what is called, as written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.fixture(params=FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def module(request: pytest.FixtureRequest) -> tuple[Path, ast.Module]:
    """Every file of the package, parsed."""
    return request.param, ast.parse(request.param.read_text(encoding="utf-8"))


def test_every_room_has_a_place_in_the_corridor() -> None:
    assert {_room(path) for path in FILES} - OPEN_TO_ALL == set(CORRIDOR)


def test_imports_go_to_the_left(module: tuple[Path, ast.Module]) -> None:
    path, tree = module
    package = ".".join(["nasformer", *path.relative_to(HOUSE).parts[:-1]])
    assert not violations(_room(path), imported_rooms(tree, package))


@pytest.mark.parametrize(
    "text",
    [
        "import nasformer.training.train",
        "from nasformer.strategies import drive",
        "from nasformer import training",
        "from ..training import train",
        "def f():\n    from nasformer.cli import app",
        "if TYPE_CHECKING:\n    from nasformer.runs.run import Run",
    ],
)
def test_an_import_to_the_right_is_seen(text: str) -> None:
    assert violations("models", imported_rooms(ast.parse(text), "nasformer.models"))
    assert not violations("cli", imported_rooms(ast.parse(text), "nasformer.models"))


def test_no_room_or_file_without_a_meaning() -> None:
    names = {part.removesuffix(".py") for path in FILES for part in path.relative_to(HOUSE).parts}
    assert not names & FORBIDDEN_NAMES
    assert not {name for name in names if name.startswith("v2") or name.endswith("_v2")}


def test_everything_public_says_what_it_is(module: tuple[Path, ast.Module]) -> None:
    path, tree = module
    if path.name == "__init__.py" and not tree.body:
        return
    assert ast.get_docstring(tree), "the module has no docstring"

    def silent(owner: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
        for node in owner.body:
            if isinstance(node, Definition) and not node.name.startswith("_"):
                overload = any(ast.unparse(mark).endswith((".setter", "overload")) for mark in node.decorator_list)
                if not ast.get_docstring(node) and not overload:
                    yield prefix + node.name
                if isinstance(node, ast.ClassDef):
                    yield from silent(node, f"{prefix}{node.name}.")

    # A forward says its shapes where a class is public; private classes and the __init__ of a class may be silent.
    assert not list(silent(tree, ""))


def test_nothing_is_unpickled_or_evaluated(module: tuple[Path, ast.Module]) -> None:
    _, tree = module
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {getattr(node, "module", None) or "", *(name.name for name in node.names)}
            assert not {name.split(".")[0] for name in names} & {"pickle", "cPickle", "dill", "cloudpickle", "joblib"}
    for name, call in calls(tree):
        assert name not in ("eval", "exec", "builtins.eval", "builtins.exec")
        if name == "torch.load":
            assert {word.arg: ast.unparse(word.value) for word in call.keywords}.get("weights_only") == "True"


GLOBAL_RANDOMNESS = {
    *(f"torch.{name}" for name in ("manual_seed", "seed", "set_rng_state", "random.manual_seed", "cuda.manual_seed")),
    *(f"torch.{name}" for name in ("cuda.manual_seed_all", "random.fork_rng")),
    *(
        f"{module}.random.{name}"
        for module in ("np", "numpy")
        for name in ("seed", "rand", "randn", "randint", "choice")
    ),
    *(
        f"random.{name}"
        for name in ("seed", "random", "randint", "choice", "choices", "sample", "shuffle", "randrange")
    ),
}
OWNERS = {"operators/reversible.py", "tasks/images.py", "training/randomness.py"}
"""Who may touch the global generators: they are put back as they were."""


def test_global_generators_are_left_alone(module: tuple[Path, ast.Module]) -> None:
    path, tree = module
    if path.relative_to(HOUSE).as_posix() in OWNERS:
        return
    # A local variable may be called `random`: only where the standard module is imported is the name its own.
    standard = any(isinstance(n, ast.Import) and any(a.name == "random" for a in n.names) for n in ast.walk(tree))
    for name, _ in calls(tree):
        assert name not in GLOBAL_RANDOMNESS or (name.startswith("random.") and not standard), name
