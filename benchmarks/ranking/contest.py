"""One contender on one data set at one seed, in a process of its own.

    python -m benchmarks.ranking.contest FOLDER NAME SEED [--quick]

FOLDER holds what `benchmarks.ranking.problem` left. The answers go to NAME/seed-SEED.npz, what they
cost to NAME/seed-SEED.json. `compare` runs it.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.jobs import write_json
from benchmarks.ranking.contender import Answers, Contender
from benchmarks.ranking.contenders import contender
from benchmarks.ranking.problem import Problem, find_problem
from interactions.errors import UserError


def judge(problem: Problem, subject: Contender, *, seed: int, quick: bool, path: Path) -> None:
    """Train, answer for the test window, and write answers and costs to `path`."""
    fitted = subject.fit(problem, seed, quick)
    started = time.perf_counter()
    answers = fitted.answer(problem.test)
    seconds = time.perf_counter() - started
    asked = int((problem.test.candidates.item >= 0).sum()) + len(problem.test.exposures)
    if problem.unselected is not None:
        answers = replace(answers, unselected=fitted.answer(problem.unselected).tasks)
    save_answers(answers, path.with_suffix(".npz"))
    if problem.pages is not None and answers.order is not None:
        save_answers(fitted.answer(problem.pages.part), of_pages(path))
    write_json(
        path,
        {
            "training_seconds": fitted.seconds,
            "training_rows": fitted.rows,
            "answer_seconds": seconds,
            "answered": asked,
            "notes": dict(fitted.notes),
        },
    )


def of_pages(path: Path) -> Path:
    """Return the file of the answers to logged pages, beside that of the costs."""
    return path.with_name(f"{path.stem}-pages.npz")


def save_answers(answers: Answers, path: Path) -> None:
    """Write answers as float32 arrays."""
    single = {"order": answers.order, "choice": answers.choice}
    arrays = {name: values for name, values in single.items() if values is not None}
    arrays |= {f"task_{task}": values for task, values in answers.tasks.items()}
    arrays |= {f"served_{task}": values for task, values in answers.served.items()}
    arrays |= {f"unselected_{task}": values for task, values in answers.unselected.items()}
    kept: dict[str, Any] = {name: np.asarray(values, np.float32) for name, values in arrays.items()}
    np.savez(path, **kept)


def load_answers(path: Path) -> Answers:
    """Read what `save_answers` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)

    def of(kind: str) -> dict[str, np.ndarray]:
        found = {key: values for key, values in arrays.items() if key.startswith(kind)}
        return {key.removeprefix(kind): values for key, values in found.items()}

    return Answers(
        arrays.get("order"), arrays.get("choice"), of("task_"), of("served_"), of("unselected_")
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("seed", type=int)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.folder / arguments.name
    try:
        subject, problem = contender(arguments.name), find_problem(arguments.folder)
        folder.mkdir(exist_ok=True)
        path = folder / f"seed-{arguments.seed}.json"
        judge(problem, subject, seed=arguments.seed, quick=arguments.quick, path=path)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
