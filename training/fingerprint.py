"""What a training run was started with, so that it is not resumed with something else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from interactions.errors import UserError
from training.storage import write_json

_SHOWN = 5
"""Changed keys that a message names at the most."""


def flatten(given: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten configs and mappings to `{"retrieval.schedule.decay": "none", ...}`, as in JSON."""
    flat: dict[str, Any] = {}
    for key, value in given.items():
        value = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        if isinstance(value, Mapping) and value:
            flat |= {f"{key}.{inner}": leaf for inner, leaf in flatten(value).items()}
        else:
            flat[key] = value
    return flat


def hold_to(fingerprint: Mapping[str, Any], *, folder: Path, started: bool) -> None:
    """Write the flat `fingerprint` of a run into `folder`, or compare that of one that `started`.

    Raises:
        UserError: the run was started with other values; names them, old and new.
    """
    path = folder / "fingerprint.json"
    if not started:
        write_json(path, fingerprint)
        return
    old = _read(path)
    # through JSON, where a tuple is a list
    new = json.loads(json.dumps(fingerprint))
    changed = [
        f"{key} was {_shown(old, key)} and is now {_shown(new, key)}"
        for key in sorted(old.keys() | new.keys())
        if _shown(old, key) != _shown(new, key)
    ]
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise UserError(
            f"the run in {folder} was started with another config: {'; '.join(changed[:_SHOWN])}"
            f"{more}; restore the values, or remove {folder} to train it anew"
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read; remove {path.parent} to train it anew") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} cannot be read; remove {path.parent} to train it anew")
    return found


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], sort_keys=True) if key in values else "absent"
