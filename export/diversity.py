"""Lists that are not all of one kind: maximal marginal relevance, and caps per value.

Source: Carbonell and Goldstein 1998, "The use of MMR, diversity-based reranking for reordering
documents and producing summaries". The next item of a list is the one with the highest
`(1 - strength) * relevance - strength * similarity`, where similarity is the largest cosine to an
item that is already in the list, and relevance the score, stretched over the pool to [0, 1]. An
item is passed over where one of its values has reached its limit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from export.system import LOWEST
from features.backend import tf
from features.layers import static_length

_AT_ONCE = 10
"""Steps in a round of the loop."""


class Pool(NamedTuple):
    """The items that are chosen among, best first, and what was chosen before them."""

    there: tf.Tensor
    """[B, P] bool: whether there is an item."""
    score: tf.Tensor
    """[B, P] float32."""
    similarity: tf.Tensor
    """[B, P, P] float32 cosines."""
    nearest: tf.Tensor
    """[B, P] float32: the largest cosine to an item chosen before, -1 where there is none."""
    values: tf.Tensor
    """[B, P, W] int32 codes of the values that count, distinct over the features; 0 is none."""
    counts: tf.Tensor
    """[B, P, W] int32: how many items chosen before share the value."""


def choose(
    pool: Pool, *, strength: tf.Tensor, limit: tf.Tensor, most: tf.Tensor, width: int
) -> tf.Tensor:
    """Choose items from `pool` one after the other.

    Args:
        pool: of B rows and P items.
        strength: [B] float32 from 0 (by score alone) to 1 (by difference alone).
        limit: [B, W] int32, how many items of a list may share a value; 0 is no limit.
        most: scalar int32, how many items to choose, at most `width`.
        width: length of the answer.

    Returns:
        [B, width] int32 places in the pool, in the order in which they were chosen; -1 where
        nothing more could be.
    """
    gain = (1.0 - strength)[:, tf.newaxis] * _stretched(pool.score, pool.there)
    gain = tf.where(pool.there, gain, LOWEST)
    weight = strength[:, tf.newaxis]
    # what an item (last axis) is worth once another (the one before) is chosen; nothing, once it is
    # chosen itself. The worth beside all that is chosen is the least of these.
    chosen_itself = np.eye(static_length(gain, 1), dtype=bool)
    beside = gain[:, tf.newaxis] - weight[:, tf.newaxis] * pool.similarity
    beside = tf.where(chosen_itself, LOWEST, beside)
    worth = gain - weight * pool.nearest
    nothing = tf.fill(tf.stack([width, tf.shape(gain)[0]]), -1)
    chosen = tf.cond(
        tf.reduce_any(limit > 0),
        lambda: _choose_capped(pool, worth, beside, nothing, limit=limit, most=most),
        lambda: _choose(pool, worth, beside, nothing, most=most),
    )
    return tf.transpose(chosen)


def _choose(
    pool: Pool, worth: tf.Tensor, beside: tf.Tensor, chosen: tf.Tensor, *, most: tf.Tensor
) -> tf.Tensor:
    """The steps without limits; fills `chosen` [width, B] int32 with places.

    Few operations, as there are up to a hundred steps one after the other; some at a time, as a
    round of a loop costs as much as a few steps.
    """
    width = static_length(chosen, 0)
    chosen = tf.pad(chosen, [[0, -width % _AT_ONCE], [0, 0]])

    def another(
        step: tf.Tensor, chosen: tf.Tensor, worth: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        found = []
        for _ in range(_AT_ONCE):
            found.append(tf.argmax(worth, axis=1, output_type=tf.int32))
            worth = tf.minimum(worth, tf.gather(beside, found[-1], batch_dims=1))
        at = (step + tf.range(_AT_ONCE))[:, tf.newaxis]
        chosen = tf.tensor_scatter_nd_update(chosen, at, tf.stack(found))
        return step + _AT_ONCE, chosen, worth

    _, chosen, _ = tf.while_loop(lambda step, *_: step < most, another, (0, chosen, worth))
    count = tf.minimum(tf.reduce_sum(tf.cast(pool.there, tf.int32), axis=1), most)
    return tf.where(tf.range(width)[:, tf.newaxis] < count, chosen[:width], -1)


def _choose_capped(
    pool: Pool,
    worth: tf.Tensor,
    beside: tf.Tensor,
    chosen: tf.Tensor,
    *,
    limit: tf.Tensor,
    most: tf.Tensor,
) -> tf.Tensor:
    """The steps with limits; fills `chosen` [width, B] int32 with places."""
    limit = tf.where(limit > 0, limit, tf.int32.max)[:, tf.newaxis, :]

    def within(worth: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
        return tf.where(tf.reduce_any(counts >= limit, axis=2), LOWEST, worth)

    def another(
        step: tf.Tensor, chosen: tf.Tensor, worth: tf.Tensor, counts: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        best = tf.argmax(worth, axis=1, output_type=tf.int32)
        found = tf.where(tf.reduce_max(worth, axis=1) > LOWEST, best, -1)
        counts += _shared(pool.values, tf.gather(pool.values, best, batch_dims=1))
        worth = within(tf.minimum(worth, tf.gather(beside, best, batch_dims=1)), counts)
        chosen = tf.tensor_scatter_nd_update(chosen, [[step]], found[tf.newaxis, :])
        return step + 1, chosen, worth, counts

    state = (0, chosen, within(worth, pool.counts), pool.counts)
    _, chosen, *_ = tf.while_loop(lambda step, *_: step < most, another, state)
    return chosen


def similarity(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Cosines of vectors of length 1, [B, n, D] and [B, m, D] float32, [B, n, m]."""
    return tf.matmul(first, second, transpose_b=True)


def shared_counts(values: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Count, for values [B, P, W] int32, the items of `chosen` [B, K, W] that have them."""
    same = values[:, :, :, tf.newaxis, tf.newaxis] == chosen[:, tf.newaxis, tf.newaxis, :, :]
    # [B, P, W, K, W] -> [B, P, W]
    counts = tf.reduce_sum(tf.cast(tf.reduce_any(same, axis=4), tf.int32), axis=3)
    return tf.where(values > 0, counts, 0)


def _shared(values: tf.Tensor, one: tf.Tensor) -> tf.Tensor:
    """1 where values [B, P, W] are among those [B, W] of one item, else 0."""
    same = tf.reduce_any(values[:, :, :, tf.newaxis] == one[:, tf.newaxis, tf.newaxis, :], axis=3)
    return tf.cast(same & (values > 0), tf.int32)


def _stretched(score: tf.Tensor, there: tf.Tensor) -> tf.Tensor:
    """Scores [B, P] from 0, the lowest that is there, to 1, the highest; all 0 where equal."""
    highest = tf.reduce_max(tf.where(there, score, tf.float32.min), axis=1, keepdims=True)
    lowest = tf.reduce_min(tf.where(there, score, tf.float32.max), axis=1, keepdims=True)
    return tf.where(there, tf.math.divide_no_nan(score - lowest, highest - lowest), 0.0)
