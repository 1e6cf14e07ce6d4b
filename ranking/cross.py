"""What a candidate has to do with a query's history: features without weights of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from features.backend import tf
from features.encoders import FeatureSpec
from features.layers import static_length

_MANY = 16
"""Candidates per query from which on a look-up beats a comparison."""
_SHORT = 32
"""Neighbours per query up to which a comparison always does."""
_FEW_VALUES = 4096
"""Values of a category up to which a history's are counted in a table of all."""


def chosen_before(candidates: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
    """Log of 1 + how often each candidate is in the history, [B, C] float.

    `candidates` [B, C] and `history` [B, H] are int32 item rows, -1 where there is none.
    """
    # a candidate that is not there is no history's padding either
    candidates = tf.where(candidates < 0, -2, candidates)
    same = candidates[:, :, tf.newaxis] == history[:, tf.newaxis, :]
    return tf.math.log1p(tf.reduce_sum(tf.cast(same, tf.float32), axis=2))


def chosen_together(
    candidates: tf.Tensor, near: tf.Tensor, weight: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """How near each candidate is to what the same people chose: sum and maximum, [B, C] each.

    Many candidates are looked up among the neighbours, a few are compared with each of them.

    Args:
        candidates: [B, C] int32 item rows.
        near: [B, H, M] int32, neighbours of the history's items, -1 where there are fewer.
        weight: [B, H, M] float, their similarity, 0 where there are fewer.
    """
    # [B, H, M] -> [B, H * M]
    length = static_length(near, 1) * static_length(near, 2)
    shape = [tf.shape(near)[0], length]
    near, weight = tf.reshape(near, shape), tf.reshape(weight, shape)
    if length <= _SHORT:
        return _compared(candidates, near, weight)
    return tf.cond(
        tf.shape(candidates)[1] >= _MANY,
        lambda: _looked_up(candidates, near, weight),
        lambda: _compared(candidates, near, weight),
    )


def _looked_up(
    candidates: tf.Tensor, near: tf.Tensor, weight: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """By search among each query's candidates in order: H * M binary searches per query.

    A table of the distinct (query, item) pairs gives the same at four times the time.
    """
    batch, width = tf.shape(candidates)[0], tf.shape(candidates)[1]
    ordered = tf.sort(candidates, axis=1)
    first = width * tf.range(batch)[:, tf.newaxis]
    place = tf.minimum(tf.searchsorted(ordered, near), width - 1)
    found = tf.where(tf.gather(ordered, place, batch_dims=1) == near, weight, 0.0)
    # [B, H * M] -> [B * C], by the place that the candidate has in order
    to = tf.reshape(place + first, [-1]), batch * width
    total = tf.math.unsorted_segment_sum(tf.reshape(found, [-1]), *to)
    most = tf.math.unsorted_segment_max(tf.reshape(found, [-1]), *to)
    # a candidate that stands there twice is found where it stands first
    wanted = tf.searchsorted(ordered, candidates) + first
    # a place that nothing came to has the lowest number there is as its maximum
    return tf.gather(total, wanted), tf.maximum(tf.gather(most, wanted), 0.0)


def _compared(
    candidates: tf.Tensor, near: tf.Tensor, weight: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """By comparing all: C * H * M steps per query, but quick ones."""
    same = candidates[:, :, tf.newaxis] == near[:, tf.newaxis, :]
    found = tf.where(same, weight[:, tf.newaxis, :], 0.0)
    return tf.reduce_sum(found, axis=2), tf.reduce_max(found, axis=2)


def affinities(
    specs: Sequence[FeatureSpec],
    candidates: Mapping[str, tf.Tensor],
    history: Mapping[str, tf.Tensor],
    mask: tf.Tensor,
) -> list[tf.Tensor]:
    """How alike candidate and history are in each feature, each [B, C] float.

    For a category, the share of the history that has one of the candidate's values; for a number,
    the difference from the history's mean.

    Args:
        specs: of the item features; ids and text are passed over.
        candidates: encoded, by feature, [B, C] or [B, C, width].
        history: the same of the history, [B, H] or [B, H, width].
        mask: [B, H] float, 1 where the history is real.
    """
    count = tf.maximum(tf.reduce_sum(mask, axis=1, keepdims=True), 1.0)
    result = []
    for spec in specs:
        if spec.kind == "text":
            continue
        ours, theirs = candidates[spec.name], history[spec.name]
        if spec.kind == "categorical":
            one = ours[:, :, tf.newaxis], theirs[:, :, tf.newaxis]
            result.append(_shared_values(*one, mask, size=spec.size) / count)
        elif spec.kind == "categories":
            result.append(_shared_values(ours, theirs, mask, size=spec.size) / count)
        elif spec.kind == "numeric":
            mean = tf.reduce_sum(theirs[:, :, 0] * mask, axis=1, keepdims=True) / count
            difference = ours[:, :, 0] - mean
            result += [difference, tf.abs(difference)]
    return result


def _shared_values(ours: tf.Tensor, theirs: tf.Tensor, mask: tf.Tensor, *, size: int) -> tf.Tensor:
    """Sum over the candidate's values of how much history has each, per value it has, [B, C].

    `ours` [B, C, width] and `theirs` [B, H, width] are ids below `size`, 0 where there is none.
    """
    batch = tf.shape(theirs)[0]
    real = tf.cast(theirs > 0, tf.float32) * mask[:, :, tf.newaxis]
    # [B, H, width] -> [B, H * width]
    flat = [batch, tf.shape(theirs)[1] * static_length(theirs, 2)]
    theirs, real = tf.reshape(theirs, flat), tf.reshape(real, flat)
    values = tf.maximum(tf.reduce_sum(tf.cast(ours > 0, tf.float32), axis=2), 1.0)
    if size <= _FEW_VALUES:
        place = tf.reshape(theirs + size * tf.range(batch)[:, tf.newaxis], [-1])
        counts = tf.math.unsorted_segment_sum(tf.reshape(real, [-1]), place, batch * size)
        # nothing real has the id 0, so what the candidate has not counts 0
        found = tf.gather(tf.reshape(counts, [batch, size]), ours, batch_dims=1)
        return tf.reduce_sum(found, axis=2) / values
    total = tf.zeros_like(ours[:, :, 0], tf.float32)
    # one value of the candidate at a time: [B, C, 1] against [B, 1, H * width]
    for place in range(static_length(ours, 2)):
        same = ours[:, :, place, tf.newaxis] == theirs[:, tf.newaxis, :]
        total += tf.reduce_sum(tf.where(same, real[:, tf.newaxis, :], 0.0), axis=2)
    return total / values
