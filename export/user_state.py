"""What is known of every user at export: the latest choices, and all that was seen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from export.system import System, seen_by
from features.backend import tf
from features.layers import static_length


class Past(NamedTuple):
    """The histories of B users, oldest first."""

    items: tf.Tensor
    """[B, H] int32 item rows, -1 after the last."""
    times: tf.Tensor
    """[B, H] int64 microseconds since 1970, 0 after the last."""
    length: tf.Tensor
    """[B] int32, how many are real."""

    def latest(self, most: int) -> Past:
        """Return the last `most` of each history, at most H."""
        if static_length(self.items, 1) == most:
            return self
        real = tf.minimum(self.length, most)
        column = tf.range(most)[tf.newaxis, :]
        place = tf.minimum(
            (self.length - real)[:, tf.newaxis] + column, static_length(self.items, 1) - 1
        )
        there = column < real[:, tf.newaxis]
        return Past(
            tf.where(there, tf.gather(self.items, place, batch_dims=1), -1),
            tf.where(there, tf.gather(self.times, place, batch_dims=1), 0),
            real,
        )

    def trimmed(self) -> Past:
        """Return the histories as wide as the longest one, at least 1: most are short."""
        width = tf.maximum(tf.reduce_max(self.length), 1)
        return Past(self.items[:, :width], self.times[:, :width], self.length)


class UserState(tf.Module):
    """Histories and seen items of all users, gathered by user row.

    Both are kept end to end with offsets: most users have far fewer events than the longest
    history that is looked at.
    """

    def __init__(self, system: System) -> None:
        super().__init__(name="user_state")
        users = np.arange(-1, len(system.log.user_ids), dtype=np.int32)
        users = np.roll(users, -1)  # the unknown user, -1, has the last row
        self._length = history_length(system)
        past = system.histories.latest(users, length=self._length)
        seen = seen_by(system, users)
        self._unknown = len(users) - 1
        self._offsets = _fixed(past.offsets, "history_offsets")
        self._items = _fixed(past.items, "history")
        self._times = _fixed(past.times, "history_times")
        self._seen_offsets = _fixed(seen.offsets, "seen_offsets")
        self._seen_items = _fixed(seen.items, "seen_items")

    def history(self, users: tf.Tensor) -> Past:
        """Return the histories of user rows [B] int32, -1 is unknown."""
        rows = self._known(users)
        start = tf.gather(self._offsets, rows)
        count = tf.gather(self._offsets, rows + 1) - start
        column = tf.range(self._length, dtype=tf.int64)[tf.newaxis, :]
        there = column < count[:, tf.newaxis]
        place = tf.where(there, start[:, tf.newaxis] + column, 0)
        return Past(
            tf.where(there, tf.gather(self._items, place), -1),
            tf.where(there, tf.gather(self._times, place), 0),
            tf.cast(count, tf.int32),
        )

    def seen(self, users: tf.Tensor) -> tf.RaggedTensor:
        """Return the item rows that user rows [B] must not be shown, [B, ragged] int32."""
        rows = self._known(users)
        places = tf.ragged.range(
            tf.gather(self._seen_offsets, rows), tf.gather(self._seen_offsets, rows + 1)
        )
        return places.with_flat_values(tf.gather(self._seen_items, places.flat_values))

    def _known(self, users: tf.Tensor) -> tf.Tensor:
        return tf.where(users < 0, self._unknown, users)


def history_length(system: System) -> int:
    """Return how many of a user's latest events are kept: as many as a model looks at."""
    return max(system.searcher.retriever.config.history, system.ranker.config.history)


def _fixed(values: np.ndarray, name: str) -> tf.Variable:
    """Keep `values` as a variable; at least one entry, so that place 0 can always be gathered."""
    values = values if len(values) else np.zeros(1, values.dtype)
    return tf.Variable(tf.constant(values), trainable=False, name=name)
