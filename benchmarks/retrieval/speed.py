"""Tandem's speed against the tutorial model's, as ratios of one run in one process.

1. The time Tandem takes to reach the tutorial model's best validation NDCG@10, against the time the
   tutorial model took to it; the tutorial model has the batch of its grid that is best.
2. Training events per second at the same loss (in-batch softmax), negatives (the batch's own) and
   embedding size, by batch and, for Tandem, by history encoder.
3. Queries per second of an evaluation over the whole catalogue: lists of 200 without seen items,
   against `model.evaluate` with `FactorizedTopK`.

Times are of training or evaluation alone: validation, and reading the data, are left out.

    python -m benchmarks.retrieval.speed --data ml-latest-small-last-five
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from benchmarks.arguments import results_folder
from benchmarks.retrieval import datasets, ours
from benchmarks.retrieval.baselines import tutorial
from benchmarks.retrieval.contender import Evaluation, Fitted, Point
from benchmarks.retrieval.machine import machine, machine_lines
from benchmarks.retrieval.problem import Problem
from benchmarks.tables import table
from features.backend import tf
from interactions.errors import UserError
from interactions.split import TEST

BATCHES = (512, 2048, 8192)
ENCODERS = ("mean", "gru", "transformer")
EPOCHS = 3
"""Timed epochs of the second measurement, after one that traces the graph."""


@dataclass(frozen=True)
class Reached:
    """How soon a quality was reached."""

    batch: int
    """Of the tutorial model's best run."""
    ndcg: float
    """Its best validation NDCG@10."""
    tutorial_seconds: float
    our_ndcg: float
    """Ours when it had first reached that, or its best where it never did."""
    our_seconds: float | None
    """None where ours never reached it."""

    @property
    def ratio(self) -> float:
        """The tutorial model's time over ours; 0 where ours never reached it."""
        return self.tutorial_seconds / self.our_seconds if self.our_seconds else 0.0


@dataclass(frozen=True)
class Throughput:
    """Training events per second with the same batch and in-batch negatives."""

    batch: int
    tutorial: float
    ours: dict[str, float]
    """By history encoder."""


@dataclass(frozen=True)
class Speed:
    """All three measurements."""

    data: str
    reached: Reached
    throughput: tuple[Throughput, ...]
    tutorial_evaluation: Evaluation
    our_evaluation: Evaluation


def measure(
    data: str, problem: Problem, *, batches: Sequence[int], epochs: int, console: Console
) -> Speed:
    """Measure all three on one data set."""
    console.print("the tutorial model, trained until validation no longer improves")
    best = _best_tutorial(problem, batches)
    batch, fitted = best
    console.print("Tandem, the same")
    with tempfile.TemporaryDirectory() as folder:
        learning = ours.Learning(
            problem,
            problem.rows,
            folder=Path(folder),
            validation=problem.tuning_queries(),  # those of the tutorial model's curve
        )
        retriever, _ = learning.fit(problem.data.config.retrieval, seed=0, watch=True)
        reached = _reached(batch, fitted, learning.curve)
        console.print("evaluation over the whole catalogue")
        our_evaluation = _our_evaluation(learning, retriever, problem)
    assert fitted.evaluate is not None, "the tutorial model times its own evaluation"
    tutorial_evaluation = fitted.evaluate(problem.queries(TEST))
    throughput = []
    for batch in batches:
        console.print(f"training events per second, batch {batch}")
        rates = {name: _our_rate(problem, name, batch=batch, epochs=epochs) for name in ENCODERS}
        rate = _tutorial_rate(problem, batch=batch, epochs=epochs)
        throughput.append(Throughput(batch, rate, rates))
    return Speed(data, reached, tuple(throughput), tutorial_evaluation, our_evaluation)


def markdown(speed: Speed) -> str:
    """Return the figures as Markdown."""
    reached = speed.reached
    ours_seconds = "never" if reached.our_seconds is None else f"{reached.our_seconds:.1f}"
    slow, fast = _rate(speed.tutorial_evaluation), _rate(speed.our_evaluation)
    return "\n\n".join(
        [
            "# Speed against the tutorial model",
            "\n".join([*machine_lines(), f"- data: {datasets.ABOUT[speed.data]}"]),
            f"## Time to the tutorial model's best validation NDCG@10, {reached.ndcg:.4f}",
            table(
                ["model", "seconds", "NDCG@10 then", "ratio"],
                [
                    [f"TFRS tutorial, batch {reached.batch}", f"{reached.tutorial_seconds:.1f}",
                     f"{reached.ndcg:.4f}", "1"],
                    ["Tandem", ours_seconds, f"{reached.our_ndcg:.4f}", f"{reached.ratio:.1f}"],
                ],
            ),
            f"## Training events per second, in-batch softmax, {tutorial.EMBEDDING_DIM} dimensions",
            table(
                ["batch", "TFRS tutorial", *(f"Tandem, {name}: ratio" for name in ENCODERS)],
                [
                    [f"{one.batch:,}", f"{one.tutorial:,.0f}"]
                    + [f"{r:,.0f}: {r / one.tutorial:.2f}" for r in one.ours.values()]
                    for one in speed.throughput
                ],
            ),
            "## Queries per second, evaluation over the whole catalogue",
            table(
                ["model", "queries/s", "ratio"],
                [
                    ["TFRS tutorial, `FactorizedTopK`", f"{slow:,.0f}", "1"],
                    ["Tandem", f"{fast:,.0f}", f"{fast / slow:.1f}"],
                ],
            ),
        ]
    )  # fmt: skip


def _best_tutorial(problem: Problem, batches: Sequence[int]) -> tuple[int, Fitted]:
    settings = {one["batch"]: one for one in tutorial.TRAINING if one["batch"] in batches}
    runs = [(batch, tutorial.TUTORIAL.fit(problem, one, 0)) for batch, one in settings.items()]
    return max(runs, key=lambda run: _best(run[1].curve).ndcg)


def _best(curve: Sequence[Point]) -> Point:
    return max(curve, key=lambda point: point.ndcg)


def _reached(batch: int, fitted: Fitted, curve: Sequence[Point]) -> Reached:
    goal = _best(fitted.curve)
    enough = [point for point in curve if point.ndcg >= goal.ndcg]
    first = enough[0] if enough else _best(curve)
    return Reached(batch, goal.ndcg, goal.seconds, first.ndcg, first.seconds if enough else None)


def _our_evaluation(learning: ours.Learning, retriever: ours.Retriever, problem: Problem):
    searcher, queries = learning.searcher(retriever), problem.queries(TEST)
    ours.ask(searcher, problem, queries)  # traces the graph for each shape there is
    started = time.perf_counter()
    ours.ask(searcher, problem, queries)
    return Evaluation(len(queries), time.perf_counter() - started)


def _our_rate(problem: Problem, encoder: str, *, batch: int, epochs: int) -> float:
    """Return events per second over `epochs` epochs, after one that traces the graph."""
    config = ours.in_batch(
        encoder=encoder, batch=batch, epochs=epochs + 1, dim=tutorial.EMBEDDING_DIM
    )
    with tempfile.TemporaryDirectory() as folder:
        learning = ours.Learning(problem, problem.rows, folder=Path(folder))
        learning.fit(config, seed=0, watch=True)
    first, last = learning.curve[0], learning.curve[-1]
    return len(problem.chosen) * (len(learning.curve) - 1) / (last.seconds - first.seconds)


def _tutorial_rate(problem: Problem, *, batch: int, epochs: int) -> float:
    tf.keras.utils.set_random_seed(0)
    model = tutorial.new_model(problem)
    batches = tutorial.training_batches(problem, batch=batch, seed=0)
    model.fit(batches, epochs=1, verbose=0)
    started = time.perf_counter()
    model.fit(batches, epochs=epochs, verbose=0)
    return len(problem.chosen) * epochs / (time.perf_counter() - started)


def _rate(evaluation: Evaluation) -> float:
    return evaluation.queries / evaluation.seconds


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="ml-latest-small-last-five")
    parser.add_argument("--out", type=results_folder, default="runs/benchmarks/retrieval-speed")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, choices=BATCHES)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    console = Console()
    try:
        problem = datasets.prepare(
            arguments.data, arguments.out / arguments.data, console=Console(quiet=True)
        )
        speed = measure(
            arguments.data,
            problem,
            batches=arguments.batches,
            epochs=arguments.epochs,
            console=console,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = markdown(speed)
    (arguments.out / "speed.md").write_text(text + "\n", encoding="utf-8")
    content = {"machine": machine(), **asdict(speed)}
    (arguments.out / "speed.json").write_text(json.dumps(content, indent=1) + "\n")
    console.print(Markdown(text))
    console.print(f"{arguments.out / 'speed.md'}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
