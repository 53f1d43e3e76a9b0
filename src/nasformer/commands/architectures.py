"""An architecture as a person names it: a known name, a JSON or YAML file, or a run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from nasformer.errors import RequestError, nearest
from nasformer.spaces.named import ARCHITECTURES
from nasformer.spaces.open import is_open
from nasformer.spaces.transformer import read_architecture


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
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RequestError(
            f"expected an architecture as JSON or YAML in {path}: {str(error).splitlines()[0]}"
        ) from None
    architecture = read_architecture(data)
    if is_open(architecture):
        raise RequestError(f"{path} describes a space, not one architecture: {json.dumps(data)[:80]}…")
    return architecture
