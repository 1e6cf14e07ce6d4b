"""How fast the ranker is, as ratios measured in one run on the generated marketplace.

What a scored candidate costs against its matrix products alone; what sharing the query's side
saves; how fast it trains against the same model fed by strings. Both sides of a ratio take turns,
so that a busy machine slows both; the ratio of their medians is what to read.

    python -m benchmarks.ranking.speed --out FOLDER
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.arguments import results_folder
from benchmarks.retrieval.datasets import prepare
from features.backend import tf
from features.entities import EntityEncoders
from interactions.candidates import Candidates, Exposures
from interactions.queries import Queries
from interactions.split import RANKING, RETRIEVAL
from ranking.batches import Batches, Examples
from ranking.config import RankingConfig
from ranking.inputs import ItemVectors, RankerInputs, Request
from ranking.model import Ranker
from ranking.objective import Objective
from ranking.scoring import Scorer
from tandem.data import ITEM_ID, USER_ID, Data, Encoded, encode
from training.optimizer import adam, apply_gradients

CANDIDATES = 200


@dataclass(frozen=True)
class World:
    """A marketplace, encoded, with the ranker's examples; retrieval scores are random."""

    data: Data
    encoded: Encoded
    folder: Path
    examples: Examples

    def ranker(self, config: RankingConfig, *, kind: type[Ranker] = Ranker) -> Ranker:
        """Make an untrained ranker: its speed does not depend on its weights."""
        counted = self.data.statistics(RETRIEVAL)
        inputs = RankerInputs(
            users=self.encoded.users,
            items=self.encoded.items,
            context=self.encoded.context.specs,
            item_id=ITEM_ID,
            user_id=USER_ID,
            tasks=self.data.config.trained_tasks,
            label_mean=counted.label_mean,
            label_std=counted.label_std,
            label_range=counted.label_range,
        )
        return kind(inputs, config, self.examples.past)

    def scorer(self, ranker: Ranker) -> Scorer:
        """Ask `ranker` with the histories and contexts of the log."""
        return Scorer(ranker, histories=self.data.histories, context=self.encoded.context)


@dataclass(frozen=True)
class Ratio:
    """Two ways that took turns."""

    name: str
    slow: float
    """Median seconds."""
    fast: float
    """Median seconds."""
    bar: str

    def row(self) -> str:
        """Return a line of the table."""
        slow, fast = (f"{seconds * 1e3:.2f}" for seconds in (self.slow, self.fast))
        return f"| {self.name} | {slow} | {fast} | {self.slow / self.fast:.2f} | {self.bar} |"


def world(name: str, folder: Path, *, seed: int) -> World:
    """Generate and encode a marketplace of `benchmarks.retrieval.datasets` in `folder`."""
    data = prepare(name, folder, console=Console(quiet=True)).data
    rng = np.random.default_rng(seed)
    past = data.windows.rows(RETRIEVAL)
    features = folder / "features"
    encoded = encode(data, past, folder=features)
    asked = data.queries(RANKING)
    size = (len(asked), data.config.ranking.negatives)
    others = rng.integers(0, len(data.log.item_ids), size).astype(np.int32)
    items = np.concatenate([asked.item[:, np.newaxis], others], axis=1)
    scores = rng.normal(size=items.shape).astype(np.float32)
    rows = data.windows.rows(RANKING)
    rows, log = rows[data.log.exposure[rows]], data.log
    shown = Queries(rows, log.user[rows], log.time[rows], log.item[rows])
    labels = {task: values[rows] for task, values in data.labels(RANKING).items()}
    exposures = Exposures(shown, rng.normal(size=len(rows)).astype(np.float32), labels)
    table = Candidates(asked, items, scores, np.zeros_like(scores))
    return World(data, encoded, features, Examples(table, exposures, data.past(RETRIEVAL)))


def scoring_ratio(
    given: World, config: RankingConfig, *, queries: int, rounds: int, name: str, bar: str
) -> Ratio:
    """Compare a call for `queries` x 200 candidates with its matrix products alone.

    As served: the items' vectors are those that the bundle keeps.
    """
    ranker = given.ranker(config)
    kept = tf.Variable(ranker.vectors_of_items(), trainable=False)
    feeds = _request(given, ranker, queries=queries)
    scored = _call(ranker, item_vectors=kept)
    call = tf.compat.v1.wrap_function(scored, [_spec(value) for value in feeds])
    products = [
        operation
        for operation in call.graph.get_operations()
        if operation.type in ("MatMul", "BatchMatMulV2")
    ]
    operands = call.prune(call.inputs[: len(feeds)], [list(one.inputs) for one in products])(*feeds)

    @tf.function
    def alone(operands: list[list[tf.Tensor]]) -> list[tf.Tensor]:
        return [
            tf.linalg.matmul(
                *pair,
                transpose_a=_flag(operation, "transpose_a", "adj_x"),
                transpose_b=_flag(operation, "transpose_b", "adj_y"),
            )
            for operation, pair in zip(products, operands, strict=True)
        ]

    whole = tf.function(scored)
    taken = medians({"whole": lambda: whole(*feeds), "alone": lambda: alone(operands)}, rounds)
    return Ratio(f"{name}, {queries} x {CANDIDATES}", taken["whole"], taken["alone"], bar)


class _Unshared(Ranker):
    """Embeds an item wherever it stands: the user side of each query is computed for itself."""

    def _vectors(self, requests: Sequence[Request], seed: tf.Tensor | None) -> list[ItemVectors]:
        """As the ranker's, which embeds each distinct item of all queries once."""

        def vectors(rows: tf.Tensor) -> tf.Tensor:
            shape = tf.concat([tf.shape(rows), [self.config.embedding_dim]], axis=0)
            return tf.reshape(self._embedded(tf.reshape(rows, [-1]), seed), shape)

        return [ItemVectors(vectors(one.candidates), vectors(one.history)) for one in requests]


def sharing_ratios(
    given: World, config: RankingConfig, *, queries: int, rounds: int, name: str
) -> list[Ratio]:
    """Compare requests of 200 candidates with 200 times as many of one candidate each.

    First where each of these computes its own user side, the history's items included, then where
    the items are still embedded once, as the ranker does for all queries of a batch.
    """
    ranker = given.ranker(config)
    shared = _request(given, ranker, queries=queries)
    repeated = [tf.repeat(value, CANDIDATES, axis=0) for value in shared[:-2]]
    # [B, 200] -> [B * 200, 1]
    repeated += [tf.reshape(value, [-1, 1]) for value in shared[-2:]]
    call = tf.function(_call(ranker))
    apart = tf.function(_call(given.ranker(config, kind=_Unshared)))
    taken = medians(
        {
            "apart": lambda: apart(*repeated),
            "repeated": lambda: call(*repeated),
            "shared": lambda: call(*shared),
        },
        rounds,
    )
    what = f"{name}, {queries} x {CANDIDATES}"
    return [
        Ratio(f"user side repeated, {what}", taken["apart"], taken["shared"], ">= 3"),
        Ratio(f"the same, items embedded once, {what}", taken["repeated"], taken["shared"], "-"),
    ]


def training_ratio(given: World, config: RankingConfig, *, rounds: int) -> Ratio:
    """Compare a training step on encoded tables with one that is fed by strings.

    By strings means what a model with its look-ups inside does: ids, categories and texts of users,
    items and events are looked up at each step, wherever they stand.
    """
    ranker = given.ranker(config)
    scorer = given.scorer(ranker)
    batches = Batches(given.examples, scorer, config=config, seed=0)
    objective, weights = Objective(ranker), ranker.trainable_variables
    optimizer = adam(weights, config=config.schedule, steps=10_000)

    @tf.function(reduce_retracing=True)
    def update(batch: Mapping[str, Any], seed: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            total = objective.total(objective(batch, seed))
        apply_gradients(optimizer, tape, total, weights, config=config.schedule)
        return total

    strings = _Strings(given)
    lists, pages = np.arange(config.batch_queries), np.arange(config.batch_queries)
    events = given.examples.candidates.queries.row[lists], batches.pages.take(pages).queries.row

    def step() -> tf.Tensor:
        return update(batches.batch(lists, pages), tf.constant([0, 0]))

    def step_of_strings() -> tf.Tensor:
        batch = batches.batch(lists, pages)
        for part, rows in zip((batch["choices"], batch["exposures"]), events, strict=True):
            strings.encode("items", part["items"].numpy(), part["history"].numpy())
            strings.encode("users", part["users"].numpy())
            strings.encode("context", rows)
        return update(batch, tf.constant([0, 0]))

    taken = medians({"strings": step_of_strings, "tables": step}, rounds)
    return Ratio("a training step fed by strings", taken["strings"], taken["tables"], ">= 3")


class _Strings:
    """Encodes users, items and events from their raw columns, as the serving graph would."""

    def __init__(self, given: World) -> None:
        log = given.data.log
        tables = {
            "items": log.item_table.append_column(ITEM_ID, [log.item_ids.tolist()]),
            "users": log.user_table.append_column(USER_ID, [log.user_ids.tolist()]),
            "context": log.event_table,
        }
        encoders = {
            kind: EntityEncoders.load(given.folder / kind)
            for kind in tables
            if (given.folder / kind).exists()
        }
        self._raw = {
            kind: {
                name: value.numpy() if isinstance(value, tf.Tensor) else value
                for name, value in own.raw(tables[kind]).items()
            }
            for kind, own in encoders.items()
        }
        self._encode = {
            kind: tf.function(own, reduce_retracing=True) for kind, own in encoders.items()
        }

    def encode(self, kind: str, *rows: np.ndarray) -> None:
        """Look up every one of `rows`, as often as it stands there."""
        if kind not in self._encode:
            return
        wanted = np.maximum(np.concatenate([one.ravel() for one in rows]), 0)
        raw = self._raw[kind]
        self._encode[kind]({name: tf.constant(values[wanted]) for name, values in raw.items()})


def medians(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return each function's median seconds; they take turns."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 2):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            if number > 1:  # the first ones trace and warm up
                taken[name].append(time.perf_counter() - begin)
    return {name: float(np.median(seconds)) for name, seconds in taken.items()}


def _request(given: World, ranker: Ranker, *, queries: int) -> list[tf.Tensor]:
    """Users, history, context in the order of its names, candidates and scores."""
    rng = np.random.default_rng(0)
    asked = given.examples.candidates.queries.take(np.arange(queries))
    inputs: dict[str, Any] = given.scorer(ranker).inputs(asked, asked.row)
    items = rng.integers(0, len(given.data.log.item_ids), (queries, CANDIDATES)).astype(np.int32)
    scores = rng.normal(size=items.shape).astype(np.float32)
    context = [inputs["context"][spec.name] for spec in ranker.inputs.context]
    return [inputs["users"], inputs["history"], *context, tf.constant(items), tf.constant(scores)]


def _call(
    ranker: Ranker, *, item_vectors: tf.Variable | None = None
) -> Callable[..., list[tf.Tensor]]:
    names = [spec.name for spec in ranker.inputs.context]

    def call(users: tf.Tensor, history: tf.Tensor, *rest: tf.Tensor) -> list[tf.Tensor]:
        context = dict(zip(names, rest[:-2], strict=True))
        items, score = rest[-2:]
        request = Request(users, history, context, items, score)
        return list(ranker(request, item_vectors=item_vectors).values())

    return call


def _spec(value: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec(value.shape, value.dtype)


def _flag(operation: Any, *names: str) -> bool:
    return any(operation.get_attr(name) for name in names if name in operation.node_def.attr)


def main() -> None:
    """Print a Markdown table, and write it into the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=results_folder, required=True)
    parser.add_argument("--dataset", default="marketplace", choices=("marketplace", "quick"))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    given = world(options.dataset, options.out / options.dataset, seed=options.seed)
    dcn = RankingConfig(history_model="mean")
    attention = RankingConfig(history_model="target_attention")
    rows = ["| compared | slow, ms | fast, ms | ratio | bar |", "|---|---|---|---|---|"]
    print("\n".join(rows), flush=True)

    def tell(ratio: Ratio) -> None:
        rows.append(ratio.row())
        print(rows[-1], flush=True)

    for queries in (1, 32):
        for name, config, bar in (
            ("DCN-v2 over its products", dcn, "<= 2"),
            ("target attention over its products", attention, "<= 4"),
        ):
            tell(
                scoring_ratio(
                    given, config, queries=queries, rounds=options.rounds, name=name, bar=bar
                )
            )
    for name, config in (("DCN-v2", dcn), ("target attention", attention)):
        for queries in (1, 32):
            for ratio in sharing_ratios(
                given, config, queries=queries, rounds=options.rounds, name=name
            ):
                tell(ratio)
    tell(training_ratio(given, attention, rounds=options.rounds))
    (options.out / "speed.md").write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
