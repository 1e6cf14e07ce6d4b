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
    return tf.nn.experimental.stateless_dropout(values, rate, seed=seed + [0, salt * 1_000_003])


def drop_rows(rows: tf.Tensor, rate: float, seed: tf.Tensor | None, *, salt: int) -> tf.Tensor:
    """Replace ids in `rows` (int32, any shape) by 0, the missing one, with probability `rate`."""
    if seed is None or rate == 0.0:
        return rows
    draw = tf.random.stateless_uniform(tf.shape(rows), seed=seed + [0, salt * 1_000_003])
    return tf.where(draw < rate, 0, rows)
