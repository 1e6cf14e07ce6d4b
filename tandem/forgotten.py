"""Users who asked to be forgotten: no later export of a run may bring them back.

The run keeps the SHA-256 of their ids, not the ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from interactions.errors import UserError
from interactions.reader import find_files, read_table

_FILE = "forgotten_users.txt"
"""In the run folder."""
_COLUMN = "user_id"


def read_users(path: Path) -> list[str]:
    """Read ids: a .txt file with one per line, or CSV or Parquet with a column `user_id`.

    Raises `UserError` where the file cannot be read or names nobody.
    """
    if path.suffix == ".txt":
        (file,) = find_files(path, base=Path(), what="--forget-users")
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = f"{path} cannot be read ({error})"
            raise UserError(f"--forget-users: {reason}; give text in UTF-8") from error
        ids = [line for line in lines if line]
    else:
        table = read_table(path, only=[_COLUMN], strings=[_COLUMN], what="--forget-users")
        ids = [one for one in table[_COLUMN].to_pylist() if one]
    if not ids:
        raise UserError(f"--forget-users: {path} names nobody; give one id per line")
    return ids


@dataclass(frozen=True)
class Forgotten:
    """Users of whom nothing may be left."""

    digests: frozenset[str] = frozenset()

    @classmethod
    def of(cls, run: Path) -> Forgotten:
        """Return those of a run."""
        file = run / _FILE
        return cls(frozenset(file.read_text("utf-8").split()) if file.exists() else frozenset())

    def among(self, ids: np.ndarray) -> np.ndarray:
        """Say which of `ids` [n] object, str, are forgotten, [n] bool."""
        if not self.digests:
            return np.zeros(len(ids), bool)
        return np.array([_digest(one) in self.digests for one in ids], bool)


def remember(run: Path, users: Iterable[str]) -> None:
    """Have this and every later export of `run` leave these users out."""
    known = Forgotten.of(run).digests | {_digest(user) for user in users}
    file = run / _FILE
    beside = file.with_name(f".{_FILE}.partial")
    try:
        beside.write_text("".join(f"{digest}\n" for digest in sorted(known)), encoding="utf-8")
        beside.replace(file)
    except OSError as error:
        raise UserError(
            f"{file} cannot be written ({error.strerror}), so a later export would bring the users "
            "back; give the run folder rights and room"
        ) from error


def _digest(user: str) -> str:
    return hashlib.sha256(user.encode()).hexdigest()
