"""Version folders, and the life of a version."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from pathlib import Path

from serving.errors import ServingError

_INT64 = range(-(1 << 63), 1 << 63)


class State(enum.IntEnum):
    """The life of a version, by TF Serving's names and numbers."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionState:
    """The state of one version; a load that failed is END with its error."""

    version: int
    state: State
    error: ServingError | None = None


def find_versions(base_path: Path) -> dict[int, Path] | None:
    """Return the version folders below `base_path` by number, newest first.

    Names that are not an int64 in digits are no versions. None where the folder cannot be read,
    which is not the same as a folder without versions.
    """
    try:
        folders = sorted(folder for folder in base_path.iterdir() if folder.is_dir())
    except OSError:
        return None
    found: dict[int, Path] = {}
    for folder in folders:
        if re.fullmatch("-?[0-9]+", folder.name) and int(folder.name) in _INT64:
            found[int(folder.name)] = folder
    return dict(sorted(found.items(), reverse=True))


def fingerprint(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return name, size and time of change of every file, which differ while a copy is made.

    Empty where the folder cannot be read.
    """
    try:
        stats = [(file, file.stat()) for file in sorted(folder.rglob("*"))]
    except OSError:
        return ()
    return tuple((str(file), stat.st_size, stat.st_mtime_ns) for file, stat in stats)
