"""Scores that mean the same whichever retriever made them: standardised over the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from features.backend import tf


class Scale(NamedTuple):
    """Mean and standard deviation of a query's scores, [B, 1] float32 each."""

    mean: tf.Tensor
    std: tf.Tensor


@dataclass(frozen=True)
class CatalogueMoments:
    """Mean and covariance of the item embeddings: enough to standardise any query's scores.

    The mean of q.e over the items is q.mean(e), and its variance is q' cov(e) q, so no pass over
    the catalogue is needed, and an item's standardised score does not depend on which others were
    retrieved with it.
    """

    mean: np.ndarray
    """[D] float32."""
    covariance: np.ndarray
    """[D, D] float32."""

    @classmethod
    def of(cls, embeddings: np.ndarray) -> CatalogueMoments:
        """Compute the moments of `embeddings` [items, D]."""
        mean = embeddings.mean(axis=0, dtype=np.float64)
        centred = embeddings - mean
        covariance = centred.T @ centred / len(embeddings)
        return cls(mean.astype(np.float32), covariance.astype(np.float32))


class Standardise(tf.Module):
    """Standardises the scores of queries by the catalogue's moments."""

    def __init__(self, moments: CatalogueMoments) -> None:
        super().__init__(name="standardise")
        self._mean = tf.Variable(
            tf.constant(moments.mean[:, np.newaxis]), trainable=False, name="mean"
        )
        self._covariance = tf.Variable(
            tf.constant(moments.covariance), trainable=False, name="covariance"
        )

    def scale(self, queries: tf.Tensor) -> Scale:
        """Return the scale of queries [B, D]."""
        mean = tf.matmul(queries, self._mean)
        variance = tf.reduce_sum(
            tf.matmul(queries, self._covariance) * queries, axis=1, keepdims=True
        )
        return Scale(mean, tf.sqrt(tf.maximum(variance, 1e-6)))


@dataclass(frozen=True)
class SlotMoments:
    """The same for every slot of the trends, in which each item's bias is another."""

    mean: np.ndarray
    """[slots, D] float32."""
    covariance: np.ndarray
    """[slots, D, D] float32."""

    @classmethod
    def of(cls, embeddings: np.ndarray, trend: np.ndarray) -> SlotMoments:
        """Compute them of `embeddings` [items, D] whose bias `trend` [slots, items] is added to."""
        slots = len(trend)
        fixed = CatalogueMoments.of(embeddings)
        centred = embeddings - fixed.mean
        moving = trend - trend.mean(axis=1, keepdims=True)
        mean = np.repeat(fixed.mean[np.newaxis], slots, axis=0)
        mean[:, -1] += trend.mean(axis=1)
        covariance = np.repeat(fixed.covariance[np.newaxis], slots, axis=0)
        with_bias = moving @ centred / len(embeddings)  # [slots, D]
        covariance[:, -1, :] += with_bias
        covariance[:, :, -1] += with_bias
        covariance[:, -1, -1] += (moving**2).mean(axis=1)
        return cls(mean, covariance)

    def scale(self, queries: np.ndarray, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation, [Q] each, of queries [Q, D] in `slots` [Q]."""
        mean = np.einsum("qd,qd->q", queries, self.mean[slots])
        variance = np.empty(len(queries), np.float32)
        for slot in np.unique(slots):
            index = slots == slot
            part = queries[index]
            variance[index] = np.einsum("qd,qd->q", part @ self.covariance[slot], part)
        return mean, np.sqrt(np.maximum(variance, 1e-6))
