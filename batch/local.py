"""Batch recommendations on this machine: shard by shard, and going on where it was stopped."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from batch.answers import Answerer
from batch.users import count_users, read_users
from export.manifest import MANIFEST, read_bundle, sha256
from interactions.errors import UserError

JOB, SUCCESS = "_batch.json", "_SUCCESS"


@dataclass(frozen=True)
class Batch:
    """Recommendations that were written."""

    folder: Path
    users: int
    shards: int
    resumed: int
    """Shards that were there already."""


@dataclass(frozen=True)
class _Job:
    """What makes the shards of a folder belong together."""

    manifest: str
    version: int
    users: str
    k: int
    chunk: int


def batch_recommend(
    bundle: Path,
    users_file: Path,
    out: Path,
    *,
    k: int,
    chunk: int = 1024,
    console: Console | None = None,
) -> Batch:
    """Recommend `k` items to every user of a file, into `out`/part-00000.parquet and so on.

    `users_file` is Parquet or CSV with a column `user_id`; each shard holds the answers of `chunk`
    users, one row per recommendation. A job that was stopped goes on with the first shard that is
    missing; `_SUCCESS` appears when all are there.

    Raises:
        UserError: the bundle or the users cannot be read, `k` or `chunk` is impossible, or `out`
            holds something else, such as the shards of another job.
    """
    if chunk < 1:
        raise UserError(f"chunk is {chunk}; give at least 1 user per shard")
    opened = read_bundle(bundle)
    total = count_users(users_file)
    pieces = read_users(users_file, size=chunk)
    # a file that is of no use is found out before the models are loaded
    pieces = chain(list(islice(pieces, 1)), pieces)
    answer = Answerer(opened, k=k)
    job = _Job(
        manifest=sha256(opened.folder / MANIFEST),
        version=opened.manifest.version,
        users=_fingerprint(users_file),
        k=k,
        chunk=chunk,
    )
    users = shards = resumed = 0
    columns = (TextColumn("batch"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        _open_folder(out, job)
        with Progress(*columns, console=console or Console(quiet=True)) as progress:
            task = progress.add_task("batch", total=total)
            for user_ids in pieces:
                shard = out / f"part-{shards:05d}.parquet"
                if shard.exists():
                    resumed += 1
                else:
                    beside = shard.with_name(f".{shard.name}.partial")
                    pq.write_table(answer(user_ids), beside)
                    beside.replace(shard)
                shards += 1
                users += len(user_ids)
                progress.update(task, completed=users)
        (out / SUCCESS).touch()
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror}); choose a folder with rights and room; "
            "the same command goes on where this one stopped"
        ) from error
    return Batch(out, users=users, shards=shards, resumed=resumed)


def _fingerprint(file: Path) -> str:
    try:
        return sha256(file)
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}); give a Parquet or CSV file of users"
        ) from error


def _open_folder(out: Path, job: _Job) -> None:
    """Make `out`, or find in it the same job; raises UserError for another."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / JOB
    if not file.exists():
        if any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise UserError(f"{out} is not empty and holds no batch; give a new --out folder")
        beside = out / f".{JOB}.partial"
        beside.write_text(json.dumps(asdict(job), indent=1) + "\n", encoding="utf-8")
        beside.replace(file)
        return
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        differs = [name for name, value in asdict(job).items() if found.get(name) != value]
    except (ValueError, AttributeError) as error:
        raise UserError(f"{file} is broken; remove {out}, or give a new --out folder") from error
    if differs:
        name = differs[0]
        raise UserError(
            f"{out} holds shards of another job: its {_WORDS[name]} was {found.get(name)}, "
            f"now it is {asdict(job)[name]}; remove the folder, or give a new --out folder"
        )


_WORDS = {
    "manifest": "bundle's manifest (SHA-256)",
    "version": "bundle version",
    "users": "users file (SHA-256)",
    "k": "k",
    "chunk": "chunk",
}
