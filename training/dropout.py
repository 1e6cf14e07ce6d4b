"""Dropout whose randomness is an argument."""

from __future__ import annotations

from features.backend import tf

_LEVELS = 256
"""Of a random byte: rates are rounded to one in so many."""


def dropout(values: tf.Tensor, rate: float, seed: tf.Tensor | None, *, salt: int) -> tf.Tensor:
    """Drop entries of `values` with probability `rate`; all are kept where `seed` is None.

    `seed` is [2] int32, new at each step; `salt` tells the places of one model apart. Stateless,
    so that a resumed run draws what an uninterrupted one would have drawn. A byte decides on each
    entry, which takes a quarter of the random numbers, so `rate` is rounded to a 256th; what is
    kept is scaled by the rounded one.
    """
    dropped = min(round(rate * _LEVELS), _LEVELS - 1)
    if seed is None or dropped == 0:
        return values
    size = tf.size(values)
    words = tf.random.stateless_uniform(
        [(size + 3) // 4],
        seed + tf.constant([0, salt * 1_000_003]),
        minval=None,  # pyright: ignore[reportArgumentType]  (None draws from all there are)
        maxval=None,
        dtype=tf.int32,
    )
    draws = tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size]
    kept = tf.reshape(draws >= dropped, tf.shape(values))
    return tf.where(kept, values * (_LEVELS / (_LEVELS - dropped)), 0.0)


def hide_ids(
    ids: tf.Tensor, rate: float, seed: tf.Tensor | None, *, unknown: int, salt: int
) -> tf.Tensor:
    """Replace `ids` (int32, any shape) by the `unknown` id with probability `rate`.

    So the unknown id's embedding is learnt, as what an item or user is that nobody has met.
    """
    if seed is None or rate == 0.0:
        return ids
    draw = tf.random.stateless_uniform(
        tf.shape(ids), seed=seed + tf.constant([0, salt * 1_000_003])
    )
    return tf.where(draw < rate, unknown, ids)
