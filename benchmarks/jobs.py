"""Steps of a benchmark, each in a process of its own; a benchmark that was stopped goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.retrieval.machine import machine
from interactions.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = "settings.json"


@dataclass(frozen=True)
class Job:
    """One step, and the file that says it is done."""

    title: str
    """What the progress bar says."""
    module: str
    arguments: tuple[str, ...]
    """Of `python -m module`, with absolute paths."""
    done: Path
    environment: Mapping[str, str] = field(default_factory=dict)


def work(jobs: Sequence[Job], *, console: Console) -> None:
    """Run, one after the other, the jobs that are not yet done.

    Raises `UserError` with the last line of a job that ended with status 2, as the user's mistake.
    """
    jobs = [job for job in jobs if not job.done.exists()]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("", total=len(jobs))
        for job in jobs:
            progress.update(task, description=job.title)
            _run(job)
            progress.advance(task)
        progress.update(task, description="done")


def _run(job: Job) -> None:
    command = [sys.executable, "-m", job.module, *job.arguments]
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | job.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode == 2:
        raise UserError(ended.stderr.strip().splitlines()[-1].removeprefix("error: "))
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stderr}")


def open_results(out: Path, *, quick: bool) -> None:
    """Make the folder of results, refusing to mix quick figures with real ones.

    Raises `UserError` for an `out` of other settings and one that cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        path = out / SETTINGS
        if not path.exists():
            path.write_text(json.dumps({"quick": quick, "machine": machine()}, indent=1) + "\n")
        if json.loads(path.read_text(encoding="utf-8"))["quick"] != quick:
            other = "without" if quick else "with"
            raise UserError(f"{out} holds figures made {other} --quick; name another --out")
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror}); name another --out"
        ) from error


def write_json(path: Path, content: object) -> None:
    """Write JSON; the file appears only when complete, since its being there means done."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
