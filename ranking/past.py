"""What the rows before a cut say, apart from the ranker's weights."""

from __future__ import annotations

from features.backend import tf
from features.layers import static_length
from features.neighbours import Neighbours
from features.statistics import Statistics


class Past(tf.Module):
    """What the rows before a cut say: statistics and neighbours, gathered by row.

    Kept apart from the ranker's weights, because a ranker trained on what was known at one cut is
    served with what is known at a later one.
    """

    def __init__(self, statistics: Statistics, neighbours: Neighbours) -> None:
        super().__init__(name="past")
        self._user = tf.Variable(
            tf.constant(statistics.user), trainable=False, name="user_statistics"
        )
        self._item = tf.Variable(
            tf.constant(statistics.item), trainable=False, name="item_statistics"
        )
        self._near = tf.Variable(tf.constant(neighbours.item), trainable=False, name="neighbours")
        self._weight = tf.Variable(
            tf.constant(neighbours.weight), trainable=False, name="similarities"
        )

    def user(self, rows: tf.Tensor) -> tf.Tensor:
        """Statistics of user rows [...] int32 (-1 is unknown), [..., names]."""
        return tf.gather(self._user, _known(rows, self._user))

    def item(self, rows: tf.Tensor) -> tf.Tensor:
        """Statistics of item rows [...] int32, [..., names]."""
        return tf.gather(self._item, _known(rows, self._item))

    def neighbours(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Neighbours of item rows [B, H] and their similarity, [B, H, M] each."""
        known = _known(rows, self._near)
        return tf.gather(self._near, known), tf.gather(self._weight, known)

    def copy(self) -> Past:
        """Return another `Past` with the same content."""
        user, item, near, weight = (
            v.numpy() for v in (self._user, self._item, self._near, self._weight)
        )
        return Past(Statistics(user, item, {}, {}), Neighbours(near, weight))

    def replace(self, other: Past) -> None:
        """Take over what is known at another cut, of the same users and items."""
        for mine, theirs in zip(self.variables, other.variables, strict=True):
            mine.assign(theirs)


def _known(rows: tf.Tensor, table: tf.Variable) -> tf.Tensor:
    return tf.where(rows < 0, static_length(table, 0) - 1, rows)
