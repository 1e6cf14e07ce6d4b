"""What the rows before a cut say, apart from the ranker's weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from features.backend import tf
from features.label_factors import LARGEST_LOG, LabelFactors
from features.layers import static_length
from features.neighbours import Neighbours
from features.own_labels import OwnLabels
from features.statistics import Statistics


class Past(tf.Module):
    """What the rows before a cut say: statistics, neighbours and factors, gathered by row.

    Kept apart from the ranker's weights, because a ranker trained on what was known at one cut is
    served with what is known at a later one.
    """

    def __init__(
        self,
        statistics: Statistics,
        neighbours: Neighbours,
        factors: Mapping[str, LabelFactors] | None = None,
    ) -> None:
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
        self._factors = {
            task: [
                tf.Variable(tf.constant(table), trainable=False, name=f"{name}_{task}")
                for name, table in (
                    ("user_factors", found.user),
                    ("item_factors", found.item),
                    ("logarithm", np.array(found.logarithm, np.float32)),
                )
            ]
            for task, found in (factors or {}).items()
        }
        # how many pairs are known differs from cut to cut
        self._own = {
            task: [
                tf.Variable(
                    tf.constant(table), trainable=False, name=f"{name}_{task}", shape=[None]
                )
                for name, table in (("pair", found.own.pair), ("own", found.own.difference))
            ]
            for task, found in (factors or {}).items()
        }

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

    @property
    def factorised(self) -> tuple[str, ...]:
        """The tasks of which `expected` knows."""
        return tuple(self._factors)

    def expected(self, task: str, users: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        """What the labels' factors expect of `users` [B] and `candidates` [B, C], a label each."""
        user, item, logarithm = self._factors[task]
        mine = tf.gather(user, _known(users, user))
        theirs = tf.gather(item, _known(candidates, item))
        # the item's bias counts once, whatever the user's row begins with
        ones = tf.concat([tf.ones_like(mine[:, :1]), mine[:, 1:]], axis=1)
        total = mine[:, :1] + tf.squeeze(tf.matmul(theirs, ones[:, :, tf.newaxis]), axis=-1)
        factor, offset = logarithm[0], logarithm[1]
        own = self._own_labels(task, users, candidates)
        amount = factor * (tf.exp(tf.minimum(total, LARGEST_LOG)) * (1 + own) - offset)
        return tf.where(factor > 0, amount, total + own)

    def spread(self, task: str, expected: np.ndarray) -> np.ndarray | None:
        """What labels of which so much is `expected` [n] differ from that in proportion to, [n].

        None where they all differ alike, and not as amounts do.
        """
        factor, offset = self._factors[task][2].numpy()
        return np.maximum(expected, 0.0) + factor * offset if factor > 0 else None

    def _own_labels(self, task: str, users: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        """What earlier labels of the very pairs add, [B, C], as `features.own_labels` says."""
        pairs, difference = self._own[task]
        items = static_length(self._factors[task][1], 0)
        mine = tf.cast(users, tf.int64)[:, tf.newaxis]
        pair = mine * items + tf.cast(candidates, tf.int64)
        place = tf.searchsorted(pairs, tf.reshape(pair, [-1]))
        place = tf.reshape(tf.minimum(place, tf.size(pairs) - 1), tf.shape(pair))
        same = (tf.gather(pairs, place) == pair) & (mine >= 0) & (candidates >= 0)
        return tf.where(same, tf.gather(difference, place), 0.0)

    def copy(self) -> Past:
        """Return another `Past` with the same content."""
        user, item, near, weight = (
            v.numpy() for v in (self._user, self._item, self._near, self._weight)
        )
        factors = {
            task: LabelFactors(
                user.numpy(),
                item.numpy(),
                tuple(logarithm.numpy().tolist()),
                OwnLabels(*(table.numpy() for table in self._own[task])),
            )
            for task, (user, item, logarithm) in self._factors.items()
        }
        return Past(Statistics(user, item, {}, {}), Neighbours(near, weight), factors)

    def replace(self, other: Past) -> None:
        """Take over what is known at another cut, of the same users and items."""
        for mine, theirs in zip(self.variables, other.variables, strict=True):
            mine.assign(theirs)


def _known(rows: tf.Tensor, table: tf.Variable) -> tf.Tensor:
    return tf.where(rows < 0, static_length(table, 0) - 1, rows)
