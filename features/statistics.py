"""What the rows before a cut say of users and items: popularity, activity, mean labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from interactions.log import EventLog

_PRIOR = 10.0
"""Labels at the global mean that every user and item starts with (Laplace smoothing)."""
_RECENT = 0.1
"""Share of the rows, the latest ones, that recent popularity counts."""


@dataclass(frozen=True)
class Statistics:
    """Numbers about users and items, all in about [-1, 1], from the rows before a cut.

    Counts enter as percentiles, so that the same item looks alike whether the cut is early or
    late; labels as means shrunk towards the global one, in its standard deviations.
    """

    user: np.ndarray
    """[users + 1, user_names] float32; the last row is the unknown user."""
    item: np.ndarray
    """[items + 1, item_names] float32; the last row is the unknown item."""
    label_mean: Mapping[str, float]
    """By task: mean of the labels."""
    label_std: Mapping[str, float]
    """By task: their standard deviation, 1 where they are constant."""
    label_range: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By task with labels: the lowest and the highest."""


def statistics(log: EventLog, rows: np.ndarray, labels: Mapping[str, np.ndarray]) -> Statistics:
    """Count `rows` of the log ([n] int64).

    `labels` holds, by task, the labels [log rows] float32 as known at the cut, NaN where missing.
    """
    chosen = rows[log.chosen[rows]]
    users, items = len(log.user_ids), len(log.item_ids)
    recent = chosen[np.argsort(log.time[chosen], kind="stable")][
        -max(1, int(_RECENT * len(chosen))) :
    ]
    user_columns = [_percentile(np.bincount(log.user[chosen], minlength=users))]
    item_columns = [
        _percentile(np.bincount(log.item[chosen], minlength=items)),
        _percentile(np.bincount(log.item[recent], minlength=items)),
    ]
    shown = rows[log.exposure[rows] & ~log.chosen[rows]]
    # said of the whole log, so that all cuts have the same columns
    if (log.exposure & ~log.chosen).any():
        user_columns.append(_rate(log.user[chosen], log.user[shown], users))
        item_columns.append(_rate(log.item[chosen], log.item[shown], items))
    means, deviations, ranges = {}, {}, {}
    for task, all_labels in labels.items():
        value = all_labels[rows]
        there = rows[~np.isnan(value)]
        value = value[~np.isnan(value)].astype(np.float64)
        mean = float(value.mean()) if len(value) else 0.0
        std = float(value.std()) if len(value) and value.std() > 0 else 1.0
        means[task], deviations[task] = mean, std
        if len(value):
            ranges[task] = (float(value.min()), float(value.max()))
        scaled = (value - mean) / std
        user_columns += _shrunk(log.user[there], scaled, users)
        item_columns += _shrunk(log.item[there], scaled, items)
    return Statistics(_table(user_columns), _table(item_columns), means, deviations, ranges)


def _percentile(counts: np.ndarray) -> np.ndarray:
    """Place of each count among the distinct entities with any, 0 for none, up to 1."""
    known = np.sort(counts[counts > 0])
    if not len(known):
        return np.zeros(len(counts))
    return np.searchsorted(known, counts, side="right") / len(known) * (counts > 0)


def _rate(chosen: np.ndarray, shown: np.ndarray, size: int) -> np.ndarray:
    """How many times likelier than others an entity's exposures end in a choice, shrunk, as a log.

    Popularity says how often an item was shown as well; this is what is left of it for its merit.
    """
    if not len(chosen) or not len(shown):
        return np.zeros(size)
    overall = len(chosen) / len(shown)
    choices = np.bincount(chosen, minlength=size) + _PRIOR * overall
    exposures = np.bincount(shown, minlength=size) + _PRIOR
    return np.log(choices / exposures / overall)


def _shrunk(entity: np.ndarray, value: np.ndarray, size: int) -> list[np.ndarray]:
    """Mean of `value` per entity shrunk to 0, and how far it can be trusted, in [0, 1)."""
    count = np.bincount(entity, minlength=size)
    total = np.bincount(entity, weights=value, minlength=size)
    return [total / (count + _PRIOR), count / (count + _PRIOR)]


def _table(columns: list[np.ndarray]) -> np.ndarray:
    table = np.stack(columns, axis=1).astype(np.float32)
    return np.concatenate([table, np.zeros_like(table[:1])])
