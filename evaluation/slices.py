"""Kinds of queries to be judged apart: new users, cold items, popular and rare items."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evaluation.bootstrap import Estimate, mean_intervals


def slices(
    relevant: np.ndarray, *, history_counts: np.ndarray, training_counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Return a mask [Q] bool per kind of query.

    `relevant` [Q] int: the true item, -1 where the catalogue does not have it. `history_counts`
    [Q] int: chosen events of the user before the query. `training_counts` [I] int: chosen training
    events per item. Kinds: `new_users`, without a history; `cold_items`, without a training event;
    `popularity_decile_01` (rarest) to `_10` (most popular): warm items in order of their counts,
    cut so that each decile gathers about a tenth of the training events; items of equal count
    share a decile, so that a decile may be empty.
    """
    # A last entry of 0 and -1 stands for the true item that the catalogue does not have.
    counts = np.append(training_counts, 0)[relevant]
    decile = np.append(_deciles(training_counts), -1)[relevant]
    masks = {"new_users": np.asarray(history_counts) == 0, "cold_items": counts == 0}
    return masks | {f"popularity_decile_{d + 1:02d}": decile == d for d in range(10)}


def _deciles(training_counts: np.ndarray) -> np.ndarray:
    """Return each item's decile, [I] int64 from 0 to 9; -1 for a cold item."""
    levels, level = np.unique(training_counts, return_inverse=True)
    events = np.bincount(level, training_counts)
    # The middle of what the items of one count gather, as a share of all events.
    middle = (np.cumsum(events) - events / 2) / max(events.sum(), 1)
    return np.where(levels > 0, np.minimum((middle * 10).astype(np.int64), 9), -1)[level]


def slice_intervals(
    per_query: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
    *,
    clusters: np.ndarray | None = None,
    seed: int,
    resamples: int = 1000,
) -> dict[str, dict[str, Estimate]]:
    """Return, for each mask ([Q] bool) that holds a query, every metric's mean and interval.

    `per_query` as in `RankedQueries`, each [Q] float64; `clusters` [Q] the user of each query.
    """
    return {
        name: mean_intervals(
            {metric: values[mask] for metric, values in per_query.items()},
            clusters=None if clusters is None else clusters[mask],
            seed=seed,
            resamples=resamples,
        )
        for name, mask in masks.items()
        if mask.any()
    }
