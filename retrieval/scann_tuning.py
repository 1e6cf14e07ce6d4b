"""ScaNN's settings: what recall and time they give is measured, and the fastest good ones win."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from features.backend import tf
from retrieval.index import ExactIndex, Found
from retrieval.index_choice import Choice, Measured
from retrieval.scann_index import Partitions, ScannIndex, ScannSettings

_TIMED = 48
"""Queries whose time is taken, one after the other."""
_BATCH = 64
_FIRST_SHARE = 128
"""The first try looks into this part of the leaves; every further one into 1.5 times as many."""
_FETCHED = (1.5, 3, 6, 12, 25)
"""Items reordered, in units of k: more than k, as rules take some of them away."""
_LEAST_GAIN = 1e-3
"""Rise of the recall below which more leaves do not help."""
_ERRORS = 3
"""Standard errors by which the recall of queries must lie above what is asked for. Two are too few:
some seventy settings are tried, and a query in a hundred finds next to nothing."""
_SLACK = 1e-5
"""Difference of scores, relative above 1, below which an item is as good as the k-th."""

Search = Callable[[tf.Tensor, tf.Tensor], Found]


@dataclass(frozen=True)
class _Try:
    """An index, and what it was measured to do."""

    index: ScannIndex
    measured: Measured
    recall: float
    """Of the first half of the queries; `measured` has that of the second, where it was asked."""
    promising: bool
    """Whether it is enough for the first half."""
    good: bool
    """Whether it is enough for both."""


def tune(
    exact: ExactIndex,
    embeddings: np.ndarray,
    *,
    offered: np.ndarray,
    queries: np.ndarray,
    recall: float,
    k: int,
) -> Choice:
    """Return ScaNN with the fastest settings that are sure to reach `recall`, as `queries` show.

    The exact index is returned, with the reason, where none reach it. Arguments as in
    `choose_index`.
    """
    bench = _Bench(exact, queries, k=k)
    slowest = bench.milliseconds(bench.exact, tf.constant(0))
    items = int(offered.sum())
    tries = [
        one
        for leaves in _numbers_of_leaves(items)
        for one in _tries(bench, Partitions(embeddings, offered, leaves=leaves), recall=recall)
    ]
    tries.sort(key=lambda one: one.measured.milliseconds)
    curve = tuple(one.measured for one in tries)
    best = next((one for one in tries if one.good), None)
    if best is None:
        most = max(measured.recall for measured in curve)
        reason = f"ScaNN's recall is {most:.4f} at the most, where {recall:g} is asked for"
        return Choice(exact, reason, slowest, None, curve)
    reason = (
        f"of {items:,} items ScaNN finds {best.measured.recall:.4f} of the top {k} in "
        f"{best.measured.milliseconds:.2g} ms, exact search takes {slowest:.2g} ms; "
        "servers need ScaNN's operations"
    )
    return Choice(best.index, reason, slowest, best.measured, curve)


def _numbers_of_leaves(items: int) -> list[int]:
    """About the square root of the items, and twice as many."""
    root = 2 ** round(math.log2(math.sqrt(items)))
    return [root, 2 * root]


def _tries(bench: _Bench, partitions: Partitions, *, recall: float) -> Iterator[_Try]:
    """Look into more and more leaves, until the recall is reached, for each number reordered."""
    for reordered in (round(times * bench.k) for times in _FETCHED):
        searched, before = max(partitions.leaves // _FIRST_SHARE, 1), 0.0
        # traced once for all numbers of leaves
        widest = ScannIndex(
            bench.index, partitions, ScannSettings(partitions.leaves, searched, reordered)
        )
        search = bench.traced(partial(widest.search, k=bench.k))
        while True:
            settings = ScannSettings(partitions.leaves, searched, reordered)
            one = bench.measure(
                ScannIndex(bench.index, partitions, settings), search, recall=recall
            )
            yield one
            # where the first half lacks nothing, it cannot tell what the second gains
            no_use = one.recall - before < _LEAST_GAIN and not one.promising
            if one.good or no_use or searched == partitions.leaves:
                break
            searched = min(math.ceil(1.5 * searched), partitions.leaves)
            before = one.recall


@dataclass(frozen=True)
class _Sample:
    """Some of the queries."""

    queries: np.ndarray
    """[Q, D] float32."""
    enough: np.ndarray
    """[Q, 1] float32, the score from which on an item is one of the true top k."""

    def shares(self, search: Search, leaves: int) -> np.ndarray:
        """Share of the true top k that a search finds for each, [Q]."""
        return (_scores(search, self.queries, leaves) >= self.enough).mean(axis=1)


class _Bench:
    """Queries, and what the exact index finds for them.

    The fastest of many settings that find enough for some users is the luckiest too, and finds
    less for others. So one half of the queries says which settings may do, and the other half,
    which has had no part in that, whether they do.
    """

    def __init__(self, index: ExactIndex, queries: np.ndarray, *, k: int) -> None:
        self.index, self.k = index, min(k, index.items)
        self._queries = queries
        self.exact = self.traced(lambda queries, searched: index.search(queries, k=self.k))
        self._halves = [self._sample(queries[::2]), self._sample(queries[1::2])]

    def _sample(self, queries: np.ndarray) -> _Sample:
        # the score of the k-th best: any other item with that score is as good
        worst = _scores(self.exact, queries, 0)[:, -1:]
        return _Sample(queries, worst - _SLACK * np.maximum(np.abs(worst), 1.0))

    def measure(self, index: ScannIndex, search: Search, *, recall: float) -> _Try:
        """Measure `index`, which `search` is; good if it finds `recall` of the true top k."""
        leaves = index.settings.searched
        first, second = self._halves
        share = first.shares(search, leaves)
        recall_of_first, promising = float(share.mean()), _is_sure(share, recall)
        if promising:
            share = second.shares(search, leaves)
        measured = Measured(
            index.settings.leaves,
            index.settings.searched,
            index.settings.reordered,
            recall=float(share.mean()),
            milliseconds=self.milliseconds(search, tf.constant(leaves)),
        )
        good = promising and _is_sure(share, recall)
        return _Try(index, measured, recall_of_first, promising, good)

    def traced(self, search: Callable[..., Found]) -> Search:
        """Return a search as a graph of queries and of the number of leaves to look into."""
        queries = tf.TensorSpec([None, self._queries.shape[1]], tf.float32)
        leaves = tf.TensorSpec([], tf.int32)

        def call(queries: tf.Tensor, searched: tf.Tensor) -> Found:
            return search(queries, searched=searched)

        return tf.function(call, input_signature=[queries, leaves])

    def milliseconds(self, search: Search, leaves: tf.Tensor) -> float:
        """Median time of one query."""
        times = []
        for number in range(-2, min(_TIMED, len(self._queries))):
            query = tf.constant(self._queries[[max(number, 0)]])
            began = time.perf_counter()
            search(query, leaves).score.numpy()
            times.append((time.perf_counter() - began) * 1e3)
        return float(np.median(times[2:]))  # the first two warm up


def _scores(search: Search, queries: np.ndarray, leaves: int) -> np.ndarray:
    """Scores of what is found for queries [Q, D], [Q, k]."""
    number, starts = tf.constant(leaves), range(0, len(queries), _BATCH)
    found = [search(tf.constant(queries[s : s + _BATCH]), number) for s in starts]
    return np.concatenate([one.score.numpy() for one in found])


def _is_sure(share: np.ndarray, recall: float) -> bool:
    """Say whether shares [Q] of the true top lie above `recall` beyond chance."""
    return bool(share.mean() - _ERRORS * share.std() / math.sqrt(len(share)) >= recall)
