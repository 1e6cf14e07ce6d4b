"""Encoders: one raw column to one array of numbers.

Each encoder is a `tf.Module` called on a whole column, eagerly to prepare training arrays and
traced inside a served graph, so that both are the same code. `spec` says what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import whitespace
from typing import Any

import numpy as np
import pyarrow as pa

from features.backend import tf
from features.config import FeaturesConfig
from features.vocabulary import Vocabulary, VocabularyLookup
from interactions.config import FeatureConfig, FeatureKind


@dataclass(frozen=True)
class FeatureSpec:
    """What an encoded feature looks like."""

    name: str
    kind: FeatureKind
    size: int
    """Number of distinct ids, for kinds that are ids; 0 for numbers."""
    width: int
    """Length of the last axis; 0 where an encoded value is one id."""


class CategoricalEncoder(tf.Module):
    """One string to one id, [n] -> [n] int32."""

    def __init__(self, feature: FeatureConfig, vocabulary: Vocabulary, folder: Path) -> None:
        super().__init__()
        path = folder / f"{feature.name}.tsv"
        vocabulary.save(path)
        self._lookup = VocabularyLookup(
            path, oov_buckets=vocabulary.oov_buckets, empty=not vocabulary.tokens
        )
        self.spec = FeatureSpec(feature.name, feature.kind, vocabulary.size, 0)
        self.state: dict[str, Any] = {"oov_buckets": vocabulary.oov_buckets}

    @classmethod
    def fit(
        cls,
        feature: FeatureConfig,
        values: pa.ChunkedArray,
        *,
        config: FeaturesConfig,
        folder: Path,
    ) -> CategoricalEncoder:
        """Learn the vocabulary from `values`, the column on the training rows."""
        vocabulary = Vocabulary.of(
            strings(values), min_count=config.min_count, oov_buckets=config.oov_buckets
        )
        return cls(feature, vocabulary, folder)

    def raw(self, values: pa.ChunkedArray) -> tf.Tensor:
        """Turn a column into this encoder's input, [n] string; null becomes the empty string."""
        return tf.constant(strings(values), tf.string)

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Encode [n] string to [n] int32."""
        return self._lookup(values)


class CategoriesEncoder(tf.Module):
    """Several values in one string to their ids, [n] -> [n, width] int32, padded with 0."""

    def __init__(
        self, feature: FeatureConfig, vocabulary: Vocabulary, folder: Path, *, width: int
    ) -> None:
        super().__init__()
        path = folder / f"{feature.name}.tsv"
        vocabulary.save(path)
        self._separator = feature.separator
        self._lookup = VocabularyLookup(
            path, oov_buckets=vocabulary.oov_buckets, empty=not vocabulary.tokens
        )
        self.spec = FeatureSpec(feature.name, feature.kind, vocabulary.size, width)
        self.state: dict[str, Any] = {"oov_buckets": vocabulary.oov_buckets, "width": width}

    @classmethod
    def fit(
        cls,
        feature: FeatureConfig,
        values: pa.ChunkedArray,
        *,
        config: FeaturesConfig,
        folder: Path,
    ) -> CategoriesEncoder:
        """Learn the vocabulary and the number of values kept."""
        lists = [text.split(feature.separator) for text in strings(values) if text]
        # only what TensorFlow strips too, which keeps a no-break space
        tokens = np.array([token.strip(whitespace) for one in lists for token in one], object)
        vocabulary = Vocabulary.of(
            tokens, min_count=config.min_count, oov_buckets=config.oov_buckets
        )
        width = min(max((len(one) for one in lists), default=1), config.most_categories)
        return cls(feature, vocabulary, folder, width=width)

    raw = CategoricalEncoder.raw

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Encode [n] string to [n, width] int32."""
        tokens = tf.strings.strip(tf.strings.split(values, self._separator))
        return self._lookup(tokens).to_tensor(0, shape=[None, self.spec.width])


class NumericEncoder(tf.Module):
    """A number to its place in the training distribution, [n] -> [n, 2] float32.

    The first value is the empirical distribution function stretched to [-1, 1], which neither
    outliers nor a skewed scale disturb; the second is 1 where the number is missing.
    """

    def __init__(self, feature: FeatureConfig, knots: np.ndarray) -> None:
        super().__init__()
        self._knots = knots.astype(np.float32)
        self.spec = FeatureSpec(feature.name, feature.kind, 0, 2)
        self.state: dict[str, Any] = {"knots": [float(knot) for knot in self._knots]}

    @classmethod
    def fit(
        cls,
        feature: FeatureConfig,
        values: pa.ChunkedArray,
        *,
        config: FeaturesConfig,
        folder: Path,
    ) -> NumericEncoder:
        """Learn the quantiles; repeated ones are kept once."""
        numbers = values.to_numpy().astype(np.float32)
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            return cls(feature, np.zeros(1))
        knots = np.quantile(numbers, np.linspace(0, 1, config.quantiles))
        # unique as float32, the precision they are compared in
        return cls(feature, np.unique(knots.astype(np.float32)))

    def raw(self, values: pa.ChunkedArray) -> tf.Tensor:
        """Turn a column into this encoder's input, [n] float32; null becomes NaN."""
        return tf.constant(values.to_numpy().astype(np.float32), tf.float32)

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Encode [n] float32 to [n, 2] float32."""
        missing = ~tf.math.is_finite(values)
        place = tf.zeros_like(values)
        last = len(self._knots) - 1
        if last > 0:
            knots = tf.constant(self._knots)
            known = tf.clip_by_value(tf.where(missing, knots[0], values), knots[0], knots[-1])
            right = tf.clip_by_value(tf.searchsorted(knots, known, side="right"), 1, last)
            below, above = tf.gather(knots, right - 1), tf.gather(knots, right)
            # the difference of two tiny knots counts as 0
            part = tf.math.divide_no_nan(known - below, above - below)
            step = tf.cast(right - 1, tf.float32) + part
            place = tf.where(missing, 0.0, 2.0 * step / last - 1.0)
        return tf.stack([place, tf.cast(missing, tf.float32)], axis=-1)


class VectorEncoder(tf.Module):
    """A given embedding, passed on, [n, width] float32; zeros where it is missing."""

    def __init__(self, feature: FeatureConfig, *, width: int) -> None:
        super().__init__()
        self.spec = FeatureSpec(feature.name, feature.kind, 0, width)
        self.state: dict[str, Any] = {"width": width}

    @classmethod
    def fit(
        cls,
        feature: FeatureConfig,
        values: pa.ChunkedArray,
        *,
        config: FeaturesConfig,
        folder: Path,
    ) -> VectorEncoder:
        """Take the width from the first vector."""
        widths = [len(one) for one in values.to_pylist() if one is not None]
        return cls(feature, width=widths[0] if widths else 1)

    def raw(self, values: pa.ChunkedArray) -> tf.Tensor:
        """Turn a column of lists into [n, width] float32; null becomes NaN."""
        missing = [float("nan")] * self.spec.width
        rows = [missing if one is None else one for one in values.to_pylist()]
        return tf.reshape(tf.constant(rows, tf.float32), [-1, self.spec.width])

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Replace what is not finite by 0, [n, width] float32."""
        return tf.where(tf.math.is_finite(values), values, 0.0)


def strings(values: pa.ChunkedArray) -> np.ndarray:
    """Return a column as [n] object, str; null becomes the empty string."""
    return values.cast(pa.string()).fill_null("").to_numpy().astype(object)
