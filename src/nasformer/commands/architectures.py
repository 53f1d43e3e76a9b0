"""An architecture as a person names it: a known name, a file (JSON, YAML or a program as text), or a run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nasformer.errors import RequestError, nearest
from nasformer.spaces.families import read_architecture_file
from nasformer.spaces.named import ARCHITECTURES
from nasformer.spaces.open import is_open


def find_architecture(name: str) -> Any:
    """The architecture called `name`, or in the file or run folder `name`.

    Raises `RequestError` where there is none, or where it still has open fields.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]()
    path = Path(name)
    if path.is_dir():
        path = path / "architectures" / "best.json"
        if not path.exists():
            raise RequestError(
                f"expected a run folder with architectures/best.json, got {name}; did its search finish?"
            )
    if not path.exists():
        raise RequestError(f"no architecture, file or run folder {name!r}; {nearest(name, ARCHITECTURES)}")
    architecture = read_architecture_file(path)
    if is_open(architecture):
        raise RequestError(f"{path} describes a space, not one architecture: {json.dumps(architecture.data())[:80]}…")
    return architecture
