"""The exact index beside TFRS's, and beside what reading the embeddings once takes.

100,000 items and 32 queries: at most a third of the time of TFRS `BruteForce`. A million items and
one query: at most 1.25 times reading the embeddings from memory with as many threads.

    python -m benchmarks.export.exact_index --out FOLDER
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.arguments import results_folder
from benchmarks.export.bars import Bar, alternating, ratio, report, times_table
from features.backend import tf, tfrs
from retrieval.index import ExactIndex

DIM, K = 64, 100


def catalogue(items: int, *, seed: int) -> np.ndarray:
    """Return unit vectors with a bias, [items, DIM + 1] float32."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(items, DIM + 1)).astype(np.float32)
    vectors[:, :DIM] /= np.linalg.norm(vectors[:, :DIM], axis=1, keepdims=True)
    return vectors


def queries(number: int, *, seed: int) -> tf.Tensor:
    """Return query vectors [number, DIM + 1]."""
    rng = np.random.default_rng(seed)
    vectors = 5 * rng.normal(size=(number, DIM + 1)).astype(np.float32)
    vectors[:, -1] = 1.0
    return tf.constant(vectors)


def exact(embeddings: np.ndarray, asked: tf.Tensor) -> Callable[[], object]:
    """Return a call of our index."""
    index = ExactIndex(embeddings)
    search = tf.function(lambda q: index.search(q, k=K))
    return lambda: search(asked).score.numpy()


def brute_force(embeddings: np.ndarray, asked: tf.Tensor) -> Callable[[], object]:
    """Return a call of TFRS's index."""
    layer = tfrs.layers.factorized_top_k.BruteForce(k=K).index(tf.constant(embeddings))
    search = tf.function(lambda q: layer(q))
    return lambda: search(asked)[0].numpy()


def reading(embeddings: np.ndarray, *, threads: int) -> Callable[[], object]:
    """Return a call that reads every number once, from `threads` threads."""
    parts = np.array_split(np.ascontiguousarray(embeddings).ravel(), threads)
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.max, parts))


def main() -> int:
    """Measure both bars."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=results_folder, default="runs/benchmarks/export")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=40)
    asked = parser.parse_args()
    embeddings, batch = catalogue(asked.items, seed=1), queries(32, seed=2)
    against = alternating(
        {"exact": exact(embeddings, batch), "BruteForce": brute_force(embeddings, batch)},
        rounds=asked.rounds,
    )
    embeddings, one = catalogue(asked.many, seed=1), queries(1, seed=2)
    threads = len(os.sched_getaffinity(0))
    alone = alternating(
        {"exact": exact(embeddings, one), "reading": reading(embeddings, threads=threads)},
        rounds=asked.rounds,
    )
    bars = [
        Bar(
            f"{asked.items:,} items, 32 queries: share of BruteForce",
            ratio(against, "exact", "BruteForce"),
            1 / 3,
        ),
        Bar(
            f"{asked.many:,} items, one query: times reading",
            ratio(alone, "exact", "reading"),
            1.25,
        ),
    ]
    tables = [times_table(against), times_table(alone)]
    return report("exact_index", bars, out=asked.out, tables=tables, threads=threads)


if __name__ == "__main__":
    sys.exit(main())
