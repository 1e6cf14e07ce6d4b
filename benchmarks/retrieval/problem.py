"""What every contender is given: training events, queries, and one way to rank a catalogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix

from evaluation.baselines import top_k
from evaluation.metrics import hits, ndcg_at
from interactions.histories import PAD
from interactions.queries import Queries
from interactions.split import RANKING, RETRIEVAL, VALIDATION
from tandem.data import Data

K = 200
"""Length of every list."""
TUNING_QUERIES = 2_000
"""Most validation queries on which a baseline is tuned, spread over the window."""
_TIE = 1e-6
"""What popularity may add to a score, as a share of the row's largest: it only parts ties."""

Scores = Callable[[Queries], np.ndarray]
"""Queries -> scores [queries, items]."""


@dataclass(frozen=True)
class Problem:
    """The log's windows, seen as a recommender may see them."""

    data: Data

    @property
    def items(self) -> int:
        """Rows of the catalogue."""
        return len(self.data.log.item_ids)

    @cached_property
    def rows(self) -> np.ndarray:
        """[n] int64: log rows of all training events (retrieval and ranking windows)."""
        return self.data.windows.rows(RETRIEVAL, RANKING)

    @cached_property
    def chosen(self) -> np.ndarray:
        """[n] int64: the chosen ones among `rows`."""
        return self.rows[self.data.log.chosen[self.rows]]

    @cached_property
    def matrix(self) -> csr_matrix:
        """[users, items] float32: 1 where a user chose an item; how often, where repeats count."""
        log = self.data.log
        ones = np.ones(len(self.chosen), np.float32)
        pairs = (log.user[self.chosen], log.item[self.chosen])
        matrix = csr_matrix((ones, pairs), shape=(len(log.user_ids), self.items))
        if not self.data.repeats:
            matrix.data[:] = 1.0
        return matrix

    @cached_property
    def popularity(self) -> np.ndarray:
        """[items] int64: how often each item was chosen in training."""
        return np.bincount(self.data.log.item[self.chosen], minlength=self.items)

    def queries(self, window: int) -> Queries:
        """Return the queries of a window, one per event that could have been recommended."""
        return self.data.queries(window)

    def tuning_queries(self) -> Queries:
        """Return validation queries, at most `TUNING_QUERIES`."""
        queries = self.queries(VALIDATION)
        index = np.linspace(0, len(queries) - 1, min(len(queries), TUNING_QUERIES))
        return queries.take(np.unique(index.astype(np.int64)))

    def profiles(self, queries: Queries, *, half_life: float | None = None) -> csr_matrix:
        """Return each query's history, rolled up to it, as weights [queries, items] float32.

        Without `half_life` every item of the history weighs 1 (or as often as it was chosen, where
        repeats count); with it an event weighs half as much every `half_life` events back.
        """
        history = self.data.histories.before(queries.user, queries.time, length=self._longest)
        position, place = np.nonzero(history.items != PAD)
        age = history.count[position] - 1 - place
        weight = np.ones(len(age)) if half_life is None else 0.5 ** (age / half_life)
        item = history.items[position, place]
        profiles = csr_matrix(
            (weight.astype(np.float32), (position, item)), shape=(len(queries), self.items)
        )
        if half_life is None and not self.data.repeats:
            profiles.data[:] = 1.0
        return profiles

    def rank(self, queries: Queries, scores: Scores) -> np.ndarray:
        """Return the best items of each query, [queries, K] int32, -1 where there are no more.

        Seen items and items that had not appeared are left out; of equal scores, as those of a user
        without a history, the more popular item comes first.
        """
        popular = self.popularity / max(self.popularity.max(), 1)

        def parted(index: np.ndarray) -> np.ndarray:
            chunk = np.asarray(scores(queries.take(index)), np.float64)
            largest = np.abs(chunk).max(axis=1, initial=0.0, keepdims=True)
            return chunk + np.where(largest > 0, largest, 1.0) * _TIE * popular

        return top_k(
            parted,
            k=K,
            times=queries.time,
            seen=self.data.seen(queries),
            available_from=self.data.log.first_seen,
        )

    @cached_property
    def _longest(self) -> int:
        """Events of the longest history."""
        return int(np.diff(self.data.histories.offsets).max(initial=1))


def mean_ndcg(ranked: np.ndarray, queries: Queries) -> float:
    """Return the mean NDCG@10 of lists [queries, K] int32 whose one true item each query has."""
    return float(ndcg_at(hits(ranked, queries.item), np.ones(len(queries), np.int64), 10).mean())
