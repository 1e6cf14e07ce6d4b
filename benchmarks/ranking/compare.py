"""Compare Tandem's ranker with what a user would otherwise pick, in one run.

Every contender orders the same candidates, made once per data set by the retrievers that `tandem
fit` would train, and predicts the same exposures. All are tuned or stopped on the validation window
and judged on the test window once in a run, each in a process of its own. But our own defaults were
chosen with figures of earlier runs on these test windows in view, which no baseline's were: on data
that nobody has looked at, ours may be ahead by less.

    python -m benchmarks.ranking.compare --data marketplace --seeds 5

A run that was stopped goes on where it stood; another --out starts anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.comparing import compare_command
from benchmarks.jobs import Job, open_results, work
from benchmarks.ranking import contenders
from benchmarks.ranking.contender import Contender
from benchmarks.ranking.contenders import seeds_of
from benchmarks.ranking.problem import DONE, find_problem
from benchmarks.ranking.report import as_json, markdown, plot
from benchmarks.ranking.results import Comparison, compare
from benchmarks.retrieval import datasets
from benchmarks.retrieval.machine import machine, machine_lines
from tandem.config import TandemConfig
from tandem.marketplace_truth import find_marketplace

DATA = ("marketplace", "ml-latest-small", "amazon-electronics", "complete-journey")
PROBLEM, CONTEST = "benchmarks.ranking.problem", "benchmarks.ranking.contest"


def run(
    data: Sequence[str],
    models: Sequence[str],
    *,
    seeds: int,
    out: Path,
    quick: bool,
    console: Console,
) -> list[Comparison]:
    """Run what is not yet done, write tables, JSON and plot into `out`, return the figures.

    Raises `UserError` for unknown names, data that is not there, and an `out` of other settings.
    """
    subjects = {name: contenders.contender(name) for name in models}
    open_results(out, quick=quick)
    comparisons = []
    for name in data:
        console.print(f"[bold]{datasets.ABOUT.get(name, name)}[/bold]")
        prepared = datasets.prepare(name, out / name, console=console).data
        some = {
            model: subject
            for model, subject in subjects.items()
            if belongs(subject, prepared.config)
        }
        work(_jobs(name, some, seeds=seeds, out=out, quick=quick), console=console)
        problem = find_problem(out / name)
        comparisons.append(
            compare(name, problem, folder=out / name, models=list(some), seeds=seeds)
        )
        _write(comparisons, out=out)
    return comparisons


def belongs(subject: Contender, config: TandemConfig) -> bool:
    """Whether a contender says something of its own of this data."""
    known = not subject.needs_truth or find_marketplace(config.data) is not None
    return known and not is_default(subject, config)


def is_default(subject: Contender, config: TandemConfig) -> bool:
    """Whether a version of ours is what `config` has anyway, or would correct nothing."""
    if subject.selection is not None:
        rated = [task for task in config.tasks.values() if task.kind == "regression"]
        # only where impressions are logged are there exposures without a rating
        selected = [] if config.data.event is None else rated
        return all(task.selection == subject.selection for task in selected)
    changes = subject.changes.items()
    return bool(changes) and all(getattr(config.ranking, key) == value for key, value in changes)


def _jobs(
    data: str, subjects: dict[str, Contender], *, seeds: int, out: Path, quick: bool
) -> list[Job]:
    folder = (out / data).resolve()
    jobs = [Job(f"{data}: candidates", PROBLEM, (str(folder),), folder / DONE)]
    flags = ("--quick",) if quick else ()
    for name, subject in subjects.items():
        jobs += [
            Job(
                f"{data}: {name}, seed {seed}",
                CONTEST,
                (str(folder), name, str(seed), *flags),
                folder / name / f"seed-{seed}.json",
            )
            for seed in seeds_of(subject, seeds)
        ]
    return jobs


def _write(comparisons: Sequence[Comparison], *, out: Path) -> None:
    parts = ["# Ranking, compared in one run", "\n".join(machine_lines())]
    text = "\n\n".join([*parts, *(markdown(one) for one in comparisons)])
    (out / "compare.md").write_text(text, encoding="utf-8")
    content = {"machine": machine(), "data": [as_json(one) for one in comparisons]}
    (out / "compare.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    plot(comparisons, out / "compare.png")


def main() -> int:
    """Compare what the command line names."""
    return compare_command(
        run,
        about=__doc__,
        data=DATA,
        models=contenders.NAMES,
        out=Path("runs/benchmarks/ranking"),
    )


if __name__ == "__main__":
    sys.exit(main())
