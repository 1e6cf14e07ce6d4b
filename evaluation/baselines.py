"""Popularity baselines, and the one top-k that ranks a whole catalogue for them and others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from evaluation.metrics import hits, ndcg_at, relevant_counts
from interactions.ragged import Ragged, entries_of, take

CELLS = 2_000_000
"""Most (query, item) scores held in memory at once."""
DAY = 24 * 60 * 60 * 1_000_000
"""Microseconds, the unit of the log's times."""
CHOICE_QUERIES = 2_000
"""Most validation queries on which a window is chosen."""

Scorer = Callable[[np.ndarray], np.ndarray]
"""Query numbers [q] int64, ascending in time, -> scores [q, I]."""


def top_k(
    scores: np.ndarray | Scorer,
    *,
    k: int,
    times: np.ndarray,
    seen: Ragged | None = None,
    available_from: np.ndarray | None = None,
) -> np.ndarray:
    """Return the k best items of the whole catalogue for each query, [Q, k] int32, -1 at the end.

    `scores`: [I] the same for all, or a `Scorer`. `times` [Q] int64. `seen`: per query the items
    to leave out. `available_from` [I] int64: an item is left out before that time. Of equal scores
    the lower item row comes first. Works in chunks of queries of rising time. Raises ValueError
    for NaN scores and for seen items outside the catalogue.
    """
    if k < 1:
        raise ValueError(f"k={k}: ask for at least one item")
    ranked = np.full((len(times), k), -1, np.int32)
    order = np.argsort(times, kind="stable")
    start, size = 0, 1  # the first query alone tells how wide the catalogue is
    while start < len(order):
        queries = order[start : start + size]
        allowed = _allowed_scores(scores, queries, times, seen, available_from)
        if available_from is None:
            ranked[queries] = _best(allowed, k)
        else:
            # Items that nobody in the chunk can be shown need not be sorted.
            columns = np.flatnonzero(available_from <= times[queries[-1]])
            best = _best(allowed[:, columns], k)
            ranked[queries] = np.where(best >= 0, np.append(columns, -1)[best], -1)
        start += len(queries)
        size = max(1, CELLS // max(allowed.shape[1], 1))
    return ranked


def _allowed_scores(
    scores: np.ndarray | Scorer,
    queries: np.ndarray,
    times: np.ndarray,
    seen: Ragged | None,
    available_from: np.ndarray | None,
) -> np.ndarray:
    """Return the scores of one chunk, [q, I] float64, -inf where an item may not be shown."""
    if isinstance(scores, np.ndarray):
        chunk = np.tile(scores.astype(np.float64), (len(queries), 1))
    else:
        chunk = np.array(scores(queries), np.float64)
    if np.isnan(chunk).any():
        raise ValueError("scores: NaN cannot be ranked; use -inf for an item not to be shown")
    if seen is not None:
        entries = entries_of(seen, queries)
        if entries.item.size and not 0 <= entries.item.min() <= entries.item.max() < chunk.shape[1]:
            raise ValueError(f"seen: an item row is outside the catalogue of {chunk.shape[1]}")
        chunk[entries.position, entries.item] = -np.inf
    if available_from is not None:
        chunk[available_from[None, :] > times[queries][:, None]] = -np.inf
    return chunk


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the columns of the k highest scores above -inf, ties by column, [q, k] int64."""
    queries, items = scores.shape
    width = min(k, items)
    best = np.full((queries, k), -1, np.int64)
    if width == 0:
        return best
    last_in = np.partition(scores, items - width, axis=1)[:, items - width, None]
    chosen = scores > last_in
    # Of the items that tie with the last one in, the first columns fill the places left.
    tied = scores == last_in
    places_left = width - chosen.sum(axis=1, keepdims=True)
    chosen |= tied & (np.cumsum(tied, axis=1, dtype=np.int32) <= places_left)
    columns = np.nonzero(chosen)[1].reshape(queries, width)  # ascending in each row
    values = np.take_along_axis(scores, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    shown = np.take_along_axis(values, order, axis=1) > -np.inf
    best[:, :width] = np.where(shown, np.take_along_axis(columns, order, axis=1), -1)
    return best


@dataclass(frozen=True)
class Popularity:
    """Ranks items by how often they were chosen in training, the same for everybody."""

    counts: np.ndarray
    """[I] int64."""

    @classmethod
    def of(cls, items: np.ndarray, *, catalogue: int) -> Self:
        """Count the chosen training events `items` ([M] int item rows) of `catalogue` items."""
        return cls(np.bincount(items, minlength=catalogue))

    @classmethod
    def of_latest(
        cls, items: np.ndarray, order: np.ndarray, *, catalogue: int, share: float = 0.1
    ) -> Self:
        """Count only the last `share` of the events by `order` ([M] int).

        Recent popularity for data without times, where no window of days can be laid.
        """
        latest = np.argsort(order, kind="stable")[len(items) - int(np.ceil(len(items) * share)) :]
        return cls.of(items[latest], catalogue=catalogue)

    def top_k(
        self,
        times: np.ndarray,
        *,
        k: int,
        seen: Ragged | None = None,
        available_from: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the lists of queries at `times` ([Q] int64), [Q, k] int32; see `top_k`."""
        return top_k(self.counts, k=k, times=times, seen=seen, available_from=available_from)


@dataclass(frozen=True)
class RecentPopularity:
    """Ranks items by how often they were chosen in the `days` before the query's own time.

    The window rolls: it holds the events from `days` before the query up to, but not at, its time.
    """

    items: np.ndarray
    """[M] int: item rows of the chosen events, by time."""
    times: np.ndarray
    """[M] int64 microseconds, ascending."""
    catalogue: int
    days: float

    @classmethod
    def of(cls, items: np.ndarray, times: np.ndarray, *, catalogue: int, days: float) -> Self:
        """Take the chosen events `items` ([M] int) at `times` ([M] int64), in any order."""
        order = np.argsort(times, kind="stable")
        return cls(items[order], times[order], catalogue, days)

    def counts_at(self, times: np.ndarray) -> np.ndarray:
        """Return the events per item in the window before each time, [q, I] int32.

        `times` [q] int64, ascending.
        """
        if (np.diff(times) < 0).any():
            raise ValueError("times: the window rolls forwards; sort the queries by time")
        ends = np.searchsorted(self.times, times)
        starts = np.searchsorted(self.times, times - int(self.days * DAY))
        counts = np.zeros((len(times), self.catalogue), np.int32)
        if len(times) == 0:
            return counts
        first = self.items[starts[0] : ends[0]]
        counts[0] = np.bincount(first, minlength=self.catalogue)
        # Each later row holds what entered and left since the row before; their sum runs down.
        entered, left = np.arange(ends[0], ends[-1]), np.arange(starts[0], starts[-1])
        np.add.at(counts, (np.searchsorted(ends, entered, "right"), self.items[entered]), 1)
        np.add.at(counts, (np.searchsorted(starts, left, "right"), self.items[left]), -1)
        return np.cumsum(counts, axis=0, out=counts)

    def top_k(
        self,
        times: np.ndarray,
        *,
        k: int,
        seen: Ragged | None = None,
        available_from: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the lists of queries at `times` ([Q] int64), [Q, k] int32; see `top_k`."""
        return top_k(
            lambda queries: self.counts_at(times[queries]),
            k=k,
            times=times,
            seen=seen,
            available_from=available_from,
        )


@dataclass(frozen=True)
class WindowChoice:
    """The number of days that ranked the validation queries best, and how each one did."""

    days: float
    ndcg: dict[float, float]
    """Mean NDCG@10 by number of days."""


def choose_days(
    items: np.ndarray,
    event_times: np.ndarray,
    *,
    catalogue: int,
    times: np.ndarray,
    relevant: np.ndarray | Ragged,
    seen: Ragged | None = None,
    available_from: np.ndarray | None = None,
    days: Sequence[float] = (1, 7, 30, 90),
) -> WindowChoice:
    """Choose the window of `RecentPopularity` by NDCG@10 on validation queries.

    `items` [M] int and `event_times` [M] int64 are the chosen events, `times` [Q] int64, `relevant`
    ([Q] int, or lists) and `seen` the queries (at most 2,000, spread over their order, are ranked).
    Of equal windows the shortest wins. Raises ValueError without queries.
    """
    if len(times) == 0:
        raise ValueError("times: no validation queries to choose the window on; give at least one")
    sample = np.unique(np.linspace(0, len(times) - 1, CHOICE_QUERIES).astype(np.int64))
    one_each = isinstance(relevant, np.ndarray)
    wanted = relevant[sample] if one_each else take(relevant, sample)
    left_out = None if seen is None else take(seen, sample)
    ndcg: dict[float, float] = {}
    for window in sorted(days):
        model = RecentPopularity.of(items, event_times, catalogue=catalogue, days=window)
        ranked = model.top_k(times[sample], k=10, seen=left_out, available_from=available_from)
        found = hits(ranked, wanted)
        ndcg[window] = float(ndcg_at(found, relevant_counts(wanted), 10).mean())
    return WindowChoice(max(ndcg, key=lambda window: ndcg[window]), ndcg)
