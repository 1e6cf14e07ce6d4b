"""One contender in a process of its own, so that its peak memory is its own.

    python -m benchmarks.retrieval.contest FOLDER NAME tune
    python -m benchmarks.retrieval.contest FOLDER NAME judge SEED

FOLDER holds a data set made by `datasets.prepare`. `tune` leaves NAME/choice.json in it, `judge`
NAME/seed-SEED.json and the lists, NAME/seed-SEED.npy; what was not tuned is judged with the first
settings of its grid. `compare` runs both.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console

from benchmarks.jobs import write_json
from benchmarks.retrieval.contender import Contender, Evaluation
from benchmarks.retrieval.contenders import contender
from benchmarks.retrieval.datasets import find
from benchmarks.retrieval.problem import Problem, mean_ndcg
from interactions.errors import UserError
from interactions.split import TEST


@dataclass(frozen=True)
class Choice:
    """What tuning decided."""

    training: dict[str, Any]
    asking: dict[str, Any]
    seconds: float
    """Of the whole search."""
    tried: list[dict[str, Any]]
    """Every pair of settings with its validation NDCG@10."""


@dataclass(frozen=True)
class Measured:
    """What a contender cost at one seed."""

    training_seconds: float
    training_events: int
    evaluation_queries: int
    evaluation_seconds: float
    peak_mib: float
    """Highest resident memory of the process, up to the end of ranking."""
    idle_mib: float
    """Resident memory before training: libraries and the mapped log."""
    curve: list[dict[str, float]]


def tune(problem: Problem, subject: Contender) -> Choice:
    """Try the contender's grid on the validation queries."""
    started = time.perf_counter()
    queries = problem.tuning_queries()
    tried: list[dict[str, Any]] = []
    for training in subject.training:
        fitted = subject.fit(problem, training, 0)
        for asking in subject.asking:
            ndcg = mean_ndcg(fitted.rank(queries, asking), queries)
            tried.append({"training": dict(training), "asking": dict(asking), "ndcg@10": ndcg})
    best = max(tried, key=lambda one: one["ndcg@10"])
    return Choice(best["training"], best["asking"], time.perf_counter() - started, tried)


def judge(problem: Problem, subject: Contender, choice: Choice, *, seed: int, path: Path) -> None:
    """Train with the chosen settings, rank the test queries, write lists and costs to `path`."""
    idle = psutil.Process().memory_info().rss / 2**20
    fitted = subject.fit(problem, choice.training, seed)
    queries = problem.queries(TEST)
    started = time.perf_counter()
    ranked = fitted.rank(queries, choice.asking)
    evaluation = Evaluation(len(queries), time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if fitted.evaluate is not None:  # after the peak was taken, which is that of ranking
        evaluation = fitted.evaluate(queries)
    measured = Measured(
        training_seconds=fitted.seconds,
        training_events=fitted.events,
        evaluation_queries=evaluation.queries,
        evaluation_seconds=evaluation.seconds,
        peak_mib=peak,
        idle_mib=idle,
        curve=[asdict(point) for point in fitted.curve],
    )
    np.save(path.with_suffix(".npy"), ranked.astype(np.int32), allow_pickle=False)
    write_json(path, asdict(measured))


def read_choice(subject: Contender, folder: Path) -> Choice:
    """Return what tuning left in a contender's folder, or the first settings of its grid."""
    if not (folder / "choice.json").exists():
        return Choice(dict(subject.training[0]), dict(subject.asking[0]), 0.0, [])
    return Choice(**json.loads((folder / "choice.json").read_text(encoding="utf-8")))


def read_measured(folder: Path, seed: int) -> Measured:
    """Return what judging left in a contender's folder."""
    return Measured(**json.loads((folder / f"seed-{seed}.json").read_text(encoding="utf-8")))


def read_lists(folder: Path, seed: int) -> np.ndarray:
    """Return the lists of the test queries, [queries, K] int32."""
    return np.load(folder / f"seed-{seed}.npy", allow_pickle=False)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("step", choices=("tune", "judge"))
    parser.add_argument("seed", type=int, nargs="?", default=0)
    arguments = parser.parse_args()
    folder = arguments.folder / arguments.name
    folder.mkdir(exist_ok=True)
    try:
        subject = contender(arguments.name)
        problem = find(arguments.folder, console=Console(quiet=True))
        if arguments.step == "tune":
            write_json(folder / "choice.json", asdict(tune(problem, subject)))
        else:
            path = folder / f"seed-{arguments.seed}.json"
            choice = read_choice(subject, folder)
            judge(problem, subject, choice, seed=arguments.seed, path=path)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
