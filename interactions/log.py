"""The interaction log as arrays: sorted by user and time, ids encoded once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

NEVER = np.iinfo(np.int64).max
"""The time of what has not happened."""


@dataclass(frozen=True)
class Labels:
    """The labels of one task on every row of the log."""

    value: np.ndarray
    """[rows] float32; NaN where the row has no label."""
    known_at: np.ndarray
    """[rows] int64: when the label could first be known."""
    absent: float = float("nan")
    """What a row's label is before it is known: NaN, or 0 for events that have not come yet."""

    def at(self, cut: np.ndarray | int) -> np.ndarray:
        """Return the labels [rows] float32 as known before the time `cut` (scalar or [rows])."""
        return np.where(self.known_at < cut, self.value, np.float32(self.absent)).astype(np.float32)


@dataclass(frozen=True)
class EventLog:
    """Interactions sorted by (user, time, order in the file), with one offset per user.

    Users and items are rows of `user_ids` and `item_ids`; those two also hold users and items that
    only their own files mention. The order in the file is the one tie order of equal times.
    """

    user_ids: np.ndarray
    """[users] object, str: distinct ids."""
    item_ids: np.ndarray
    """[items] object, str: distinct ids."""
    user: np.ndarray
    """[rows] int32, row of `user_ids`."""
    item: np.ndarray
    """[rows] int32, row of `item_ids`."""
    time: np.ndarray
    """[rows] int64: microseconds since 1970 (UTC), or a bare order where `has_times` is False."""
    chosen: np.ndarray
    """[rows] bool: the user chose the item."""
    exposure: np.ndarray
    """[rows] bool: the row says that the item was shown, so labels are observed on it."""
    labels: Mapping[str, Labels]
    """By task name, for every task but retrieval."""
    event_table: pa.Table
    """[rows]: the columns of the event features, by feature name."""
    user_table: pa.Table
    """[users]: the columns of the user features, by feature name; null where unknown."""
    item_table: pa.Table
    """[items]: the columns of the item features, by feature name; null where unknown."""
    has_times: bool
    """False where only an order is known: then nothing can be said across users."""
    weight: np.ndarray | None = None
    """[rows] float32, at least 0: how much a row counts in the losses; None: all do alike."""
    propensity: np.ndarray | None = None
    """[rows] float64 in (0, 1], NaN where unknown: with which probability an exposure's place was
    given to its item; None where nobody logged it."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.user)

    @cached_property
    def offsets(self) -> np.ndarray:
        """[users + 1] int64: the rows of user u are offsets[u]:offsets[u + 1]."""
        return np.searchsorted(self.user, np.arange(len(self.user_ids) + 1)).astype(np.int64)

    @cached_property
    def first_seen(self) -> np.ndarray:
        """[items] int64: time of an item's first row; NEVER where it has none.

        Where the data has no times, every item counts as there from the beginning.
        """
        first = np.full(len(self.item_ids), NEVER, np.int64)
        if not self.has_times:
            return np.full(len(self.item_ids), np.iinfo(np.int64).min, np.int64)
        np.minimum.at(first, self.item, self.time)
        return first
