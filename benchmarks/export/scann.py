"""ScaNN beside the exact index over a million items of a trained model.

No data set at hand has a million items: the catalogue is that of a trained run, and each further
item is one of its items, drawn by chance, moved by half of the distance to its nearest neighbour in
a random direction. So the items keep the shape that training gave them. Queries are those of the
run's users.

    python -m benchmarks.export.scann RUN --out FOLDER
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.arguments import results_folder
from benchmarks.export.bars import Bar, alternating, ratio, report, times_table
from export.indexing import index_entry, plot_curve
from export.system import queries_now
from features.backend import tf
from retrieval.index import ExactIndex
from retrieval.index_choice import choose_index
from retrieval.search import Searcher
from tandem.fit import load_run

K = 100
_BLOCK = 1024


def enlarged(embeddings: np.ndarray, *, items: int, seed: int) -> np.ndarray:
    """Return `items` embeddings [items, D + 1] in the shape of trained ones [n, D + 1]."""
    rng = np.random.default_rng(seed)
    vectors = embeddings[:, :-1]
    source = rng.integers(0, len(vectors), items - len(vectors))
    step = rng.normal(size=(len(source), vectors.shape[1])).astype(np.float32)
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    moved = vectors[source] + 0.5 * _gaps(vectors)[source, np.newaxis] * step
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    new = np.concatenate([moved, embeddings[source, -1:]], axis=1)
    return np.concatenate([embeddings, new]).astype(np.float32)


def _gaps(vectors: np.ndarray) -> np.ndarray:
    """Return the distance of each unit vector to its nearest other one."""
    found = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        part = vectors[start : start + _BLOCK]
        near = part @ vectors.T
        near[np.arange(len(part)), start + np.arange(len(part))] = -1.0
        found[start : start + _BLOCK] = np.sqrt(np.maximum(2 - 2 * near.max(axis=1), 0))
    return found


def user_queries(searcher: Searcher, users: int, *, number: int, seed: int) -> np.ndarray:
    """Return the query vectors of some users as of now."""
    rows = np.random.default_rng(seed).permutation(users)[:number].astype(np.int32)
    return searcher.embed(queries_now(rows))


def main() -> int:
    """Tune ScaNN as an export does, then time it beside the exact index on other users."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--out", type=results_folder, default="runs/benchmarks/export")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--queries", type=int, default=1536)
    asked = parser.parse_args()
    trained = load_run(asked.run, console=Console(quiet=True))
    queries = user_queries(
        trained.searcher, len(trained.data.log.user_ids), number=asked.queries, seed=1
    )
    embeddings = enlarged(trained.searcher.embeddings, items=asked.items, seed=1)
    exact, offered = ExactIndex(embeddings), np.ones(len(embeddings), bool)
    tuning, held_out = queries[: 2 * len(queries) // 3], queries[2 * len(queries) // 3 :]
    choice = choose_index(
        exact, embeddings, offered=offered, queries=tuning, asked="scann", recall=0.99, k=K
    )
    entry = index_entry(choice, recall=1.0, k=K)
    plot_curve(entry, asked.out / "scann.png")
    searches = {
        "exact": tf.function(lambda q: exact.search(q, k=K)),
        "ScaNN": tf.function(lambda q: choice.index.search(q, k=K)),
    }
    found = {name: search(tf.constant(held_out)) for name, search in searches.items()}
    worst = found["exact"].score.numpy()[:, -1:]
    recall = float((found["ScaNN"].score.numpy() >= worst - 1e-4).mean())
    one = tf.constant(held_out[:1])
    times = alternating(
        {
            name: lambda search=search: search(one).score.numpy()
            for name, search in searches.items()
        },
        rounds=asked.rounds,
    )
    bars = [
        Bar(f"recall@{K} on other users", recall, 0.99, at_least=True),
        Bar(
            "times faster than exact, one query", ratio(times, "exact", "ScaNN"), 4.0, at_least=True
        ),
    ]
    details = {
        "trained_items": len(trained.searcher.embeddings),
        "reason": choice.reason,
        "index": entry.model_dump(mode="json"),
    }
    return report(
        "scann", bars, out=asked.out, tables=[choice.reason, "", times_table(times)], **details
    )


if __name__ == "__main__":
    sys.exit(main())
