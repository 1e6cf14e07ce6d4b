"""Compare Tandem's ranker with what a user would otherwise pick, in one run.

Every contender orders the same candidates, made once per data set by the retrievers that `tandem
fit` would train, and predicts the same exposures. All are tuned or stopped on the validation window
and judged on the test window once, each in a process of its own.

    python -m benchmarks.ranking.compare --data marketplace --seeds 5

A run that was stopped goes on where it stood; another --out starts anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from benchmarks.jobs import Job, open_results, work
from benchmarks.ranking import contenders
from benchmarks.ranking.contender import Contender
from benchmarks.ranking.contenders import seeds_of
from benchmarks.ranking.problem import DONE, find_problem
from benchmarks.ranking.report import as_json, markdown, plot
from benchmarks.ranking.results import Comparison, compare
from benchmarks.retrieval import datasets
from benchmarks.retrieval.machine import machine, machine_lines
from interactions.errors import UserError
from ranking.config import RankingConfig

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
            if not is_default(subject, prepared.config.ranking)
        }
        work(_jobs(name, some, seeds=seeds, out=out, quick=quick), console=console)
        problem = find_problem(out / name)
        comparisons.append(
            compare(name, problem, folder=out / name, models=list(some), seeds=seeds)
        )
        _write(comparisons, out=out)
    return comparisons


def is_default(subject: Contender, config: RankingConfig) -> bool:
    """Whether a version of ours is what `config` has anyway."""
    changes = subject.changes.items()
    return bool(changes) and all(getattr(config, key) == value for key, value in changes)


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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=None, help=", ".join(DATA))
    parser.add_argument("--models", nargs="+", default=contenders.NAMES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/ranking"))
    parser.add_argument(
        "--quick", action="store_true",
        help="a tiny generated data set, two epochs and the first settings of each grid",
    )  # fmt: skip
    arguments = parser.parse_args()
    console = Console()
    data = arguments.data or (("quick",) if arguments.quick else DATA)
    try:
        if arguments.seeds < 1:
            raise UserError(f"--seeds {arguments.seeds}: give at least one")
        run(
            data,
            arguments.models,
            seeds=arguments.seeds,
            out=arguments.out,
            quick=arguments.quick,
            console=console,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console.print(Markdown((arguments.out / "compare.md").read_text(encoding="utf-8")))
    for name in ("compare.md", "compare.json", "compare.png"):
        console.print(f"{arguments.out / name}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
