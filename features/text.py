"""Text as a bag of hashed words and character trigrams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from features.backend import tf
from features.config import FeaturesConfig
from features.encoders import CategoricalEncoder, FeatureSpec
from interactions.config import FeatureConfig


class TextEncoder(tf.Module):
    """A text to the ids of its words and character trigrams, [n] -> [n, width] int32.

    Words carry meaning, trigrams survive misspelling and inflection (Bojanowski et al. 2017,
    "Enriching word vectors with subword information"). Id 0 is padding; hashing needs no
    vocabulary, so a new item's title is encoded as well as an old one's.
    """

    def __init__(self, feature: FeatureConfig, *, buckets: int, words: int, trigrams: int) -> None:
        super().__init__()
        self.spec = FeatureSpec(feature.name, feature.kind, buckets + 1, words + trigrams)
        self.state: dict[str, Any] = {"buckets": buckets, "words": words, "trigrams": trigrams}
        self._buckets, self._words, self._trigrams = buckets, words, trigrams

    @classmethod
    def fit(
        cls,
        feature: FeatureConfig,
        values: pa.ChunkedArray,
        *,
        config: FeaturesConfig,
        folder: Path,
    ) -> TextEncoder:
        """Take the sizes from the config; there is nothing to learn."""
        return cls(
            feature,
            buckets=config.text_buckets,
            words=config.text_words,
            trigrams=config.text_trigrams,
        )

    raw = CategoricalEncoder.raw

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Encode [n] string to [n, width] int32."""
        clean = tf.strings.regex_replace(
            tf.strings.lower(values, encoding="utf-8"), r"[^\p{L}\p{N}]+", " "
        )
        words = tf.strings.split(tf.strings.strip(clean))[:, : self._words]
        ids = [self._hash(words, self._words)]
        if self._trigrams:
            signs = tf.strings.unicode_split("<" + words + ">", "UTF-8")
            # [n, words, trigrams] -> [n, all trigrams of the text]
            grams = tf.strings.ngrams(signs, 3, separator="").merge_dims(1, 2)
            ids.append(self._hash(grams, self._trigrams))
        return tf.concat(ids, axis=1)

    def _hash(self, tokens: tf.RaggedTensor, width: int) -> tf.Tensor:
        hashed = tf.ragged.map_flat_values(
            tf.strings.to_hash_bucket_fast, tokens, num_buckets=self._buckets
        )
        return tf.cast((hashed + 1).to_tensor(0, shape=[None, width]), tf.int32)
