"""What the log says of every pair of user and item: the factors of each task's labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from features.content_labels import content_values
from features.label_factors import LabelFactors, label_factors
from features.traits import content_traits, meeting_traits
from interactions.blocks import count_values
from interactions.config import DataConfig
from interactions.log import EventLog
from ranking.config import LOGGING_POLICY


def factors_by_task(
    log: EventLog,
    rows: np.ndarray,
    labels: Mapping[str, np.ndarray],
    *,
    config: DataConfig,
) -> dict[str, LabelFactors]:
    """Factorise the `labels` by task, [log rows] float each and NaN where there is none.

    Nothing but `rows` [n] int64 of the log is looked at. Where a logging policy is among the tasks,
    the labels of the others lean on what it thought of a pair: it knew more than this log.
    """
    if not labels:
        return {}
    seen = [
        count_values(ids, rows, size=len(names)) > 0
        for ids, names in ((log.user, log.user_ids), (log.item, log.item_ids))
    ]
    told = [
        _with_unknown(content_traits(table, features, known))
        for table, features, known in (
            (log.user_table, config.user_features, seen[0]),
            (log.item_table, config.item_features, seen[1]),
        )
    ]
    content = content_values(log.item_table, config.item_features, seen[1])
    traits: dict[bytes, list[np.ndarray]] = {}
    result: dict[str, LabelFactors] = {}
    for task in sorted(labels, key=lambda task: task != LOGGING_POLICY):
        values = labels[task]
        labelled = ~np.isnan(values[rows])
        # that a user knew an item must not depend on what the label is
        met = log.chosen[rows] | labelled
        key = met.tobytes()  # tasks are often labelled on the same rows
        if key not in traits:
            traits[key] = _traits(log, rows[met], told)
        there = rows[labelled]
        result[task] = label_factors(
            log.user[there],
            log.item[there],
            values[there].astype(np.float64),
            user_traits=traits[key][0],
            item_traits=traits[key][1],
            item_content=content,
            other=result.get(LOGGING_POLICY),
        )
    return {task: result[task] for task in labels}


def _traits(log: EventLog, met: np.ndarray, told: list[np.ndarray]) -> list[np.ndarray]:
    """What is known of users and of items beside labels: whom they `met`, and their content."""
    users, items = len(log.user_ids) + 1, len(log.item_ids) + 1
    sides = meeting_traits(log.user[met], log.item[met], users=users, items=items)
    return [np.concatenate(both, axis=1) for both in zip(sides, told, strict=True)]


def _with_unknown(table: np.ndarray) -> np.ndarray:
    """Add a last row of zeros."""
    return np.concatenate([table, np.zeros((1, table.shape[1]))])
