"""Compare Tandem's retriever with what a user would otherwise pick, in one run.

Every contender learns from the retrieval and ranking windows, is tuned on the validation window by
NDCG@10 over the grid at the top of its file, and is judged on the test window once, in a process of
its own. All get the same queries; histories roll up to each query; seen items (unless repeats are
kept) and items that had not yet appeared are left out.

    python -m benchmarks.retrieval.compare --data ml-latest-small --seeds 5

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
from benchmarks.retrieval import contenders, datasets
from benchmarks.retrieval.contender import Contender
from benchmarks.retrieval.machine import machine, machine_lines
from benchmarks.retrieval.report import as_json, markdown, plot
from benchmarks.retrieval.results import Comparison, compare, seeds_of

CONTEST = "benchmarks.retrieval.contest"


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
    problems = {}
    for name in data:
        console.print(f"[bold]{datasets.ABOUT.get(name, name)}[/bold]")
        problems[name] = datasets.prepare(name, out / name, console=console)
    jobs = [
        job
        for name in data
        for model, subject in subjects.items()
        for job in _jobs(name, model, subject, seeds=seeds, out=out, quick=quick)
    ]
    work(jobs, console=console)
    comparisons = [
        compare(name, problem, folder=out / name, models=models, seeds=seeds)
        for name, problem in problems.items()
    ]
    _write(comparisons, out=out)
    return comparisons


def _jobs(
    data: str, name: str, subject: Contender, *, seeds: int, out: Path, quick: bool
) -> list[Job]:
    folder = out / data / name

    def job(step: tuple[str, ...], done: str) -> Job:
        arguments = (str((out / data).resolve()), name, *step)
        title = f"{data}: {name}, {' '.join(step)}"
        return Job(title, CONTEST, arguments, folder / done, subject.environment)

    tuning = [job(("tune",), "choice.json")] if subject.tuned and not quick else []
    seeds_wanted = seeds_of(subject, seeds)
    return tuning + [job(("judge", str(seed)), f"seed-{seed}.json") for seed in seeds_wanted]


def _write(comparisons: Sequence[Comparison], *, out: Path) -> None:
    parts = ["# Retrieval, compared in one run", "\n".join(machine_lines())]
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
        data=datasets.NAMES,
        models=contenders.NAMES,
        out=Path("runs/benchmarks/retrieval"),
    )


if __name__ == "__main__":
    sys.exit(main())
