"""What a user chose before and may choose again: a bonus beside taste and popularity."""

from __future__ import annotations

from typing import NamedTuple

from features.backend import tf
from retrieval.index import NOTHING, Found, best_of


class RepeatBonus(NamedTuple):
    """What an item of the user's own history scores above what taste and popularity give it.

    Whoever buys groceries mostly buys what was bought before, and the more often the likelier
    (Anderson et al. 2014, "The dynamics of repeat consumption"); a product of two short vectors
    cannot single out a handful of items for each user.
    """

    once: float | tf.Tensor = 0.0
    """What having chosen it once adds, at least 0."""
    again: float | tf.Tensor = 0.0
    """What the natural logarithm of how often adds, at least 0."""

    def of(self, items: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
        """Return the bonus of item rows [B, n] int32 under histories [B, H] int32, [B, n] float32.

        -1 stands for no item in both.
        """
        same = items[:, :, tf.newaxis] == history[:, tf.newaxis, :]
        count = tf.reduce_sum(tf.cast(same, tf.float32), axis=2)
        there = (count > 0) & (items >= 0)
        return tf.where(there, self.once + self.again * tf.math.log(tf.maximum(count, 1.0)), 0.0)


def distinct(history: tf.Tensor) -> tf.Tensor:
    """Return histories [B, H] int32 with -1 in place of what stood in them before."""
    same = history[:, :, tf.newaxis] == history[:, tf.newaxis, :]
    place = tf.range(tf.shape(history)[1])
    repeated = tf.reduce_any(same & (place[:, tf.newaxis] > place), axis=2)
    return tf.where(repeated, -1, history)


def lift(found: Found, own: Found, history: tf.Tensor, *, bonus: RepeatBonus, k: int) -> Found:
    """Find the best `k` items with the bonus, given the best ones without it.

    The bonus is never below 0 and only items of the history have one, so nothing else can come up
    that was not found without it: as exact as `found` is.

    Args:
        found: the best `k` items without the bonus, or more.
        own: [B, H] items of the histories that may be found, each once, and their scores without
            the bonus; -1 for none.
        history: [B, H] int32 item rows, -1 for none.
        bonus: what history is worth.
        k: how many are asked for.
    """
    among_found = own.item[:, :, tf.newaxis] == found.item[:, tf.newaxis, :]
    new = (own.item >= 0) & ~tf.reduce_any(among_found, axis=2)
    item = tf.concat([found.item, own.item], axis=1)
    score = tf.concat([found.score, own.score], axis=1) + bonus.of(item, history)
    there = tf.concat([found.item >= 0, new], axis=1)
    return best_of(Found(item, tf.where(there, score, NOTHING)), there, k=k)
