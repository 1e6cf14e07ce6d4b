"""When a request comes: how long after the last event, at what hour, on what day."""

from __future__ import annotations

from features.backend import tf
from retrieval.transformer import GAP_BUCKETS, gap_buckets

_HOUR = 3_600_000_000
"""Microseconds."""
_HOURS, _DAYS = 24, 7


class Moment(tf.keras.layers.Layer):
    """Times to a vector: [...] int64 -> [..., dim]."""

    def __init__(self, dim: int) -> None:
        super().__init__(name="moment")

        def table(name: str, size: int) -> tf.keras.layers.Embedding:
            start = tf.keras.initializers.TruncatedNormal(stddev=0.05)
            return tf.keras.layers.Embedding(size, dim, embeddings_initializer=start, name=name)

        # one more for users of whom nothing is known yet
        self._gap = table("gap", GAP_BUCKETS + 1)
        self._hour, self._day = table("hour", _HOURS), table("day", _DAYS)

    def call(  # pyright: ignore[reportIncompatibleMethodOverride]  (its stub knows one input)
        self, time: tf.Tensor, previous: tf.Tensor, known: tf.Tensor
    ) -> tf.Tensor:
        """Embed moments.

        Args:
            time: [...] int64, microseconds since 1970, when the request comes.
            previous: [...] int64, when the last event of its history happened.
            known: [...] bool, whether there is one.
        """
        gap = tf.where(known, gap_buckets(time - previous), GAP_BUCKETS)
        hours = time // _HOUR
        hour, day = tf.math.floormod(hours, _HOURS), tf.math.floormod(hours // _HOURS, _DAYS)
        return self._gap(gap) + self._hour(hour) + self._day(day)
