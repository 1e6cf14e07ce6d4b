"""Dropout whose randomness is an argument."""

from __future__ import annotations

from features.backend import tf


def dropout(values: tf.Tensor, rate: float, seed: tf.Tensor | None, *, salt: int) -> tf.Tensor:
    """Drop entries of `values` with probability `rate`; all are kept where `seed` is None.

    `seed` is [2] int32, new at each step; `salt` tells the places of one model apart. Stateless,
    so that a resumed run draws what an uninterrupted one would have drawn.
    """
    if seed is None or rate == 0.0:
        return values
    return tf.nn.experimental.stateless_dropout(
        values, rate, seed=seed + tf.constant([0, salt * 1_000_003])
    )


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
