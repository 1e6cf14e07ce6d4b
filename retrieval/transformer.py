"""A causal transformer over a user's history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from features.backend import tf
from features.layers import static_length
from training.dropout import dropout

GAP_BUCKETS = 32
_SECOND = 1_000_000
"""Microseconds."""


def gap_buckets(microseconds: tf.Tensor) -> tf.Tensor:
    """Return the bucket of a span of time, int32 in [0, 32): fine for seconds, coarse for years."""
    seconds = tf.cast(tf.maximum(microseconds // _SECOND, 0), tf.float32)
    bucket = tf.cast(tf.math.log1p(seconds) * 1.5, tf.int32)
    return tf.minimum(bucket, GAP_BUCKETS - 1)


class TransformerHistory(tf.keras.layers.Layer):
    """Self-attention over what was chosen, each event seeing itself and what came before.

    The structure is SASRec's (Kang and McAuley 2018) with what was found better since: norms
    before the blocks (Xiong et al. 2020), SwiGLU (Shazeer 2020), gated residuals (LiGR: Hou et
    al. 2025), and attention biased by distance and by the gap in time, which replaces absolute
    positions (HSTU: Zhai et al. 2024) and so does not mind where a window was cut.
    """

    def __init__(self, *, dim: int, blocks: int, heads: int, length: int, rate: float) -> None:
        super().__init__(name="history")
        self._dim, self._rate = dim, rate
        # Any: the stubs of Keras let a layer take one argument
        self._blocks: list[Any] = [
            TransformerBlock(dim=dim, heads=heads, length=length, rate=rate, salt=30 + 10 * n)
            for n in range(blocks)
        ]
        self._start = self.add_weight(
            name="start", shape=[dim], initializer=tf.keras.initializers.TruncatedNormal(0.1)
        )
        self._scale = self.add_weight(name="input_scale", shape=[1], initializer="ones")
        self._norm = self.add_weight(name="norm_scale", shape=[dim], initializer="ones")
        self._taste = self.add_weight(name="taste_scale", shape=[dim], initializer="ones")

    def states(
        self, embeddings: tf.Tensor, times: tf.Tensor | None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Encode as `HistoryEncoder` says."""
        windows = tf.shape(embeddings)[0]
        start = tf.broadcast_to(self._start, tf.stack([windows, 1, self._dim]))
        # unit vectors -> entries of size 1, which the norms and the dropout expect
        hidden = tf.concat([start, embeddings], axis=1) * self._scale * self._dim**0.5
        # what a user likes at all, which attention would take long to find by itself
        taste = tf.matmul(_means_so_far(tf.shape(hidden)[1])[tf.newaxis], hidden)
        hidden = dropout(hidden, self._rate, seed, salt=21)
        gaps = None
        if times is not None:
            # nothing lies between the start and the first event
            times = tf.concat([times[:, :1], times], axis=1)
            gaps = gap_buckets(times[:, :, tf.newaxis] - times[:, tf.newaxis, :])
        for block in self._blocks:
            hidden = block(hidden, gaps, seed)
        return _norm(hidden, self._norm) + _norm(taste, self._taste)


class TransformerBlock(tf.keras.layers.Layer):
    """Causal self-attention and a gated feed-forward layer, each behind a gated residual."""

    def __init__(self, *, dim: int, heads: int, length: int, rate: float, salt: int) -> None:
        super().__init__()
        self._dim, self._heads, self._rate, self._salt = dim, heads, rate, salt
        self._length = length
        self._inner = 8 * dim // 3
        self._attention_norm = self._weight("attention_norm_scale", [dim], "ones")
        self._attention_in = self._weight("attention_in", [dim, 4 * dim])
        self._attention_gate_bias = self._weight("attention_gate_bias", [dim], "zeros")
        self._attention_out = self._weight("attention_out", [dim, dim])
        self._distance = self._weight("distance_bias", [heads, length + 1], "zeros")
        self._gap = self._weight("gap_bias", [heads, GAP_BUCKETS], "zeros")
        self._feed_norm = self._weight("feed_norm_scale", [dim], "ones")
        self._feed_in = self._weight("feed_in", [dim, 2 * self._inner + dim])
        self._feed_gate_bias = self._weight("feed_gate_bias", [dim], "zeros")
        self._feed_out = self._weight("feed_out", [self._inner, dim])

    def _weight(self, name: str, shape: list[int], start: str = "glorot_uniform") -> tf.Variable:
        return self.add_weight(name=name, shape=shape, initializer=start)

    def call(  # pyright: ignore[reportIncompatibleMethodOverride]  (its stub knows one input)
        self, hidden: tf.Tensor, gaps: tf.Tensor | None, seed: tf.Tensor | None
    ) -> tf.Tensor:
        """Transform [W, L, D]; `gaps` [W, L, L] int32 are buckets of the time between events."""
        hidden += self._attend(_norm(hidden, self._attention_norm), gaps, seed)
        return hidden + self._feed(_norm(hidden, self._feed_norm), seed)

    def _attend(
        self, values: tf.Tensor, gaps: tf.Tensor | None, seed: tf.Tensor | None
    ) -> tf.Tensor:
        mixed = tf.matmul(values, self._attention_in)
        query, key, value, gate = tf.split(mixed, 4, axis=-1)
        logits = tf.matmul(self._split(query), self._split(key), transpose_b=True)
        logits *= (self._dim // self._heads) ** -0.5
        weights = tf.nn.softmax(logits + self._bias(tf.shape(values)[1], gaps))
        weights = dropout(weights, self._rate, seed, salt=self._salt)
        # [W, heads, L, D / heads] -> [W, L, D]
        joined = tf.transpose(tf.matmul(weights, self._split(value)), [0, 2, 1, 3])
        joined = tf.reshape(joined, tf.shape(values))
        attended = tf.matmul(joined, self._attention_out)
        attended = dropout(attended, self._rate, seed, salt=self._salt + 1)
        return attended * tf.sigmoid(gate + self._attention_gate_bias)

    def _bias(self, length: tf.Tensor, gaps: tf.Tensor | None) -> tf.Tensor:
        """[1 or W, heads, L, L]: distance and gap in time; what comes later is out of sight."""
        place = tf.range(length)
        distance = place[:, tf.newaxis] - place[tf.newaxis, :]
        near = tf.gather(self._distance, tf.clip_by_value(distance, 0, self._length), axis=1)
        bias = tf.where(distance[tf.newaxis] >= 0, near, -1e9)[tf.newaxis]
        return bias if gaps is None else bias + look_up(tf.identity(self._gap), gaps)

    def _feed(self, values: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        mixed = tf.matmul(values, self._feed_in)
        inner, open_, gate = tf.split(mixed, [self._inner, self._inner, self._dim], axis=-1)
        inner = dropout(tf.nn.silu(inner) * open_, self._rate, seed, salt=self._salt + 2)
        fed = dropout(tf.matmul(inner, self._feed_out), self._rate, seed, salt=self._salt + 3)
        return fed * tf.sigmoid(gate + self._feed_gate_bias)

    def _split(self, values: tf.Tensor) -> tf.Tensor:
        """[W, L, D] -> [W, heads, L, D / heads]."""
        shape = tf.shape(values)
        split = [shape[0], shape[1], self._heads, self._dim // self._heads]
        return tf.transpose(tf.reshape(values, split), [0, 2, 1, 3])


def look_up(table: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Look numbers up for every head: [heads, n] float32, [W, L, L] int32 -> [W, heads, L, L].

    A gather whose gradient adds up by counting, which is five times as fast as scattering; window
    by window, as a sum that many threads share would come out differently each time.
    """
    # Any: the stubs do not know that the gradient is taken off
    looked: Any = tf.custom_gradient(_look_up)
    return looked(table, ids)


def _look_up(table: tf.Tensor, ids: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
    found = tf.stack([tf.gather(row, ids) for row in tf.unstack(table)], axis=1)
    flat = [tf.shape(ids)[0], -1]

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        sums = [
            tf.math.bincount(
                tf.reshape(ids, flat),
                weights=tf.reshape(head, flat),
                minlength=static_length(table, 1),
                maxlength=static_length(table, 1),
                axis=-1,
            )
            for head in tf.unstack(upstream, num=static_length(table, 0), axis=1)
        ]
        return tf.reduce_sum(tf.stack(sums), axis=1), None

    return found, gradient


def _means_so_far(length: tf.Tensor) -> tf.Tensor:
    """[L, L]: its product with a sequence is the mean of each entry and all before it."""
    so_far = tf.linalg.band_part(tf.ones([length, length]), -1, 0)
    return so_far / tf.reduce_sum(so_far, axis=1, keepdims=True)


def _norm(values: tf.Tensor, scale: tf.Variable) -> tf.Tensor:
    """Root mean square norm (Zhang and Sennrich 2019)."""
    size = tf.reduce_mean(tf.square(values), axis=-1, keepdims=True)
    return values * tf.math.rsqrt(size + 1e-6) * scale
