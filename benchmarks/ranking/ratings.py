"""Compare how ratings are predicted, without training a network, on rows split by lot.

    python -m benchmarks.ranking.ratings --data ml-latest-small --seeds 5

A fifth of the rows is the test, as published figures have it, a twentieth the validation on which
means and factorisation are tuned. Ours are the factors that a ranker's ratings begin with; they
are tuned by nobody. A seed draws another split; everybody learns from the same rows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.ranking.baselines.factorisation import FACTORISATION
from benchmarks.ranking.baselines.simple import CONSTANT, ITEM_MEAN, USER_MEAN
from benchmarks.ranking.contender import Answers, Contender, Fitted
from benchmarks.ranking.problem import Part, Problem
from benchmarks.retrieval import datasets
from benchmarks.retrieval.machine import machine, machine_lines
from benchmarks.tables import interval, percent, plain, table
from evaluation.bootstrap import Estimate, mean_interval, paired_ratio
from interactions.candidates import Candidates, Exposures
from interactions.config import SplitConfig
from interactions.errors import UserError
from interactions.queries import Queries
from interactions.split import RANKING, RETRIEVAL, TEST, VALIDATION, split
from tandem.data import Data

NAMES = ("ml-latest-small", "amazon-electronics")
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.05


@dataclass(frozen=True)
class Ratings(Problem):
    """A problem of labels alone: nobody is asked for an order."""

    @cached_property
    def validation(self) -> Part:
        """Labelled rows of the validation window."""
        return _labelled(self.data, VALIDATION)

    @cached_property
    def test(self) -> Part:
        """Labelled rows of the test window."""
        return _labelled(self.data, TEST)


@dataclass(frozen=True)
class Compared:
    """How well one contender predicts."""

    title: str
    rmse: Estimate
    by_seed: tuple[float, ...]
    gain: Estimate | None
    """How much smaller the error of ours is, as a share; None of ours itself."""
    seconds: float


def _labelled(data: Data, window: int) -> Part:
    log, labels = data.log, data.labels(window)
    rows = data.windows.rows(window)
    rows = rows[log.exposure[rows]]
    asked = Queries(rows, log.user[rows], log.time[rows], log.item[rows])
    nothing = np.zeros((0, 1), np.float32)
    lists = Candidates(
        asked.take(np.zeros(0, np.int64)), nothing.astype(np.int32), nothing, nothing
    )
    shown = Exposures(
        asked, np.zeros(len(rows), np.float32), {t: values[rows] for t, values in labels.items()}
    )
    return Part(lists, shown)


def _fit_factors(problem: Problem, seed: int, quick: bool) -> Fitted:
    started = time.perf_counter()
    tasks = problem.data.config.tasks
    every = problem.data.label_factors(RETRIEVAL, RANKING)
    # that of the policy which filled the log is of no task
    factors = {task: one for task, one in every.items() if task in tasks}

    def answer(part: Part) -> Answers:
        asked = part.exposures.queries
        found = {t: one.predict(asked.user, asked.item) for t, one in factors.items()}
        bounds = {t: tasks[t].range or (-np.inf, np.inf) for t in found}
        return Answers(tasks={t: np.clip(found[t], *bounds[t]) for t in found})

    return Fitted(answer, time.perf_counter() - started)


OURS = Contender("Tandem's factors", "features/label_factors.py", _fit_factors)
CONTENDERS = (CONSTANT, USER_MEAN, ITEM_MEAN, FACTORISATION, OURS)


def compare_ratings(name: str, folder: Path, *, seeds: int, console: Console) -> list[Compared]:
    """Let every contender predict the test rows of each split."""
    whole = datasets.prepare(name, folder, console=console).data
    errors: dict[str, list[np.ndarray]] = {one.title: [] for one in CONTENDERS}
    seconds = dict.fromkeys(errors, 0.0)
    users: list[np.ndarray] = []
    for seed in range(seeds):
        lot = SplitConfig(kind="random", seed=seed, test=TEST_SHARE, validation=VALIDATION_SHARE)
        problem = Ratings(Data(whole.log, split(whole.log, lot), whole.config), folder)
        shown = problem.test.exposures
        task = next(t for t in shown.labels if whole.config.tasks[t].kind == "regression")
        there = ~np.isnan(shown.labels[task])
        users.append(shown.queries.user[there])
        for one in CONTENDERS:
            fitted = one.fit(problem, seed, False)
            predicted = fitted.answer(problem.test).tasks[task]
            errors[one.title].append(np.square(predicted - shown.labels[task])[there])
            seconds[one.title] += fitted.seconds / seeds
    who = np.concatenate(users)
    pooled = {title: np.concatenate(parts).astype(np.float64) for title, parts in errors.items()}
    result = []
    for title, parts in errors.items():
        found = mean_interval(pooled[title], clusters=who, seed=0)
        ends = np.sqrt([found.value, found.low, found.high])
        gain = None
        if title != OURS.title:
            ratio = paired_ratio(pooled[OURS.title], pooled[title], clusters=who, seed=0)
            of = 1 - np.sqrt([ratio.value, ratio.high, ratio.low])
            gain = Estimate(float(of[0]), float(of[1]), float(of[2]), ratio.n)
        by_seed = tuple(float(np.sqrt(part.mean())) for part in parts)
        rmse = Estimate(float(ends[0]), float(ends[1]), float(ends[2]), found.n)
        result.append(Compared(title, rmse, by_seed, gain, seconds[title]))
    return result


def markdown(name: str, compared: list[Compared]) -> str:
    """Return the table of one data set."""
    rows = [
        [
            one.title,
            interval(one.rmse),
            f"{min(one.by_seed):.4f} to {max(one.by_seed):.4f}",
            "" if one.gain is None else percent(one.gain),
            f"{one.seconds:.1f}",
        ]
        for one in compared
    ]
    header = ["model", "RMSE", "by split", "error of ours smaller by", "training and tuning, s"]
    return f"## {name}, rows by lot\n\n" + table(header, rows) + "\n"


def main() -> int:
    """Compare what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/ratings"))
    asked = parser.parse_args()
    console = Console()
    try:
        if asked.seeds < 1:
            raise UserError(f"--seeds {asked.seeds}: give at least one")
        parts, found = ["# Ratings\n\n" + "\n".join(machine_lines())], {}
        for name in asked.data:
            compared = compare_ratings(
                name, asked.out / name, seeds=asked.seeds, console=Console(quiet=True)
            )
            parts.append(markdown(name, compared))
            found[name] = [asdict(one) for one in compared]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    content = json.dumps(plain({"machine": machine(), "data": found}), indent=1)
    (asked.out / "ratings.json").write_text(content + "\n", encoding="utf-8")
    (asked.out / "ratings.md").write_text("\n\n".join(parts), encoding="utf-8")
    console.print(Markdown("\n\n".join(parts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
