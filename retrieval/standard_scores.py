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
        centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
        covariance = centred.T @ centred / len(embeddings)
        return cls(embeddings.mean(axis=0).astype(np.float32), covariance.astype(np.float32))


class Standardise(tf.Module):
    """Standardises the scores of queries by the catalogue's moments."""

    def __init__(self, moments: CatalogueMoments) -> None:
        super().__init__(name="standardise")
        self._mean = tf.Variable(moments.mean[:, np.newaxis], trainable=False, name="mean")
        self._covariance = tf.Variable(moments.covariance, trainable=False, name="covariance")

    def replace(self, moments: CatalogueMoments) -> None:
        """Standardise by other moments."""
        self._mean.assign(moments.mean[:, np.newaxis])
        self._covariance.assign(moments.covariance)

    def scale(self, queries: tf.Tensor) -> Scale:
        """Return the scale of queries [B, D]."""
        mean = tf.matmul(queries, self._mean)
        variance = tf.reduce_sum(tf.matmul(queries, self._covariance) * queries, axis=1, keepdims=True)
        return Scale(mean, tf.sqrt(tf.maximum(variance, 1e-6)))
