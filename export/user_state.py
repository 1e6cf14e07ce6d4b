"""What is known of every user at export: the latest choices, and all that was seen."""

from __future__ import annotations

import numpy as np

from export.system import System, seen_by
from features.backend import tf
from interactions.log import NEVER


class UserState(tf.Module):
    """Histories and seen items of all users, gathered by user row."""

    def __init__(self, system: System) -> None:
        super().__init__(name="user_state")
        users = np.arange(-1, len(system.log.user_ids), dtype=np.int32)
        users = np.roll(users, -1)  # the unknown user, -1, has the last row
        length = max(system.searcher.retriever.config.history, system.ranker.config.history)
        past = system.histories.before(users, np.full(len(users), NEVER), length=length)
        seen = seen_by(system, users)
        self._unknown = len(users) - 1
        self._history = tf.Variable(tf.constant(past.items), trainable=False, name="history")
        self._count = tf.Variable(tf.constant(past.count), trainable=False, name="history_count")
        self._seen_offsets = tf.Variable(
            tf.constant(seen.offsets), trainable=False, name="seen_offsets"
        )
        self._seen_items = tf.Variable(tf.constant(seen.items), trainable=False, name="seen_items")

    def history(self, users: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the histories [B, H] int32 of user rows [B], oldest first, and counts [B]."""
        rows = self._known(users)
        return tf.gather(self._history, rows), tf.gather(self._count, rows)

    def seen(self, users: tf.Tensor) -> tf.RaggedTensor:
        """Return the item rows that user rows [B] must not be shown, [B, ragged] int32."""
        rows = self._known(users)
        places = tf.ragged.range(
            tf.gather(self._seen_offsets, rows), tf.gather(self._seen_offsets, rows + 1)
        )
        return places.with_flat_values(tf.gather(self._seen_items, places.flat_values))

    def _known(self, users: tf.Tensor) -> tf.Tensor:
        return tf.where(users < 0, self._unknown, users)


def latest(history: tf.Tensor, count: tf.Tensor, *, length: int) -> tf.Tensor:
    """Return the last `length` entries of each history.

    Args:
        history: [B, H] int32, oldest first, padded at the end.
        count: [B] int32, how many of the H are real.
        length: at most H.

    Returns:
        [B, length] int32, oldest first, padded with -1 at the end.
    """
    if history.shape[1] == length:
        return history
    width = tf.shape(history)[1]
    real = tf.minimum(count, length)
    column = tf.range(length)[tf.newaxis, :]
    place = tf.minimum((count - real)[:, tf.newaxis] + column, width - 1)
    there = column < real[:, tf.newaxis]
    return tf.where(there, tf.gather(history, place, batch_dims=1), -1)
