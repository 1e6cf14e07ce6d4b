"""The item columns that a request may filter by, kept in the graph as numbers, one per item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import whitespace

import numpy as np
import pyarrow as pa

from features.backend import tf
from features.encoders import strings
from interactions.config import FeatureConfig
from interactions.errors import UserError

NO_VALUE = 0
"""The code that an item without a value, or without another one, has; nobody can ask for it."""
UNKNOWN = -1
"""The code of what no item has."""
_BUCKETS = 2**63 - 1


class CategoryColumn(tf.Module):
    """The values of a categorical feature, of which an item may have several or none.

    All values of the catalogue count, not only those that a model learnt. They are looked up by
    hash in a variable and compared, so that any text can be a value and no table need be saved.
    """

    def __init__(self, values: Sequence[Sequence[str]], *, padded: int, name: str) -> None:
        """Keep the distinct values of each item; the columns are `padded` long.

        Raises:
            UserError: two of the values cannot be told apart by their hash.
        """
        super().__init__(name=f"filter_{name}")
        texts = np.array(sorted({value for one in values for value in one}), object)
        hashes = _hash(tf.constant(texts, tf.string)).numpy()
        order = np.argsort(hashes)
        hashes, texts = hashes[order], texts[order]
        if (np.diff(hashes) == 0).any():
            raise UserError(
                f"two values of the filterable feature {name!r} have the same hash; rename one"
            )
        code = {text: place for place, text in enumerate(texts, start=NO_VALUE + 1)}
        self.width = max((len(one) for one in values), default=0) or 1
        columns = np.full((self.width, padded), NO_VALUE, np.int32)
        for item, one in enumerate(values):
            columns[: len(one), item] = [code[value] for value in one]
        self.distinct = len(texts) + 1
        """Number of codes."""
        # the first of each stands for no value; its hash is below all others
        texts, hashes = np.insert(texts, 0, ""), np.insert(hashes, 0, -1)
        self._hashes = tf.Variable(tf.constant(hashes), trainable=False, name="hashes")
        self._texts = tf.Variable(tf.constant(texts, tf.string), trainable=False, name="texts")
        self.values = tf.Variable(tf.constant(columns), trainable=False, name="values")

    def codes(self, texts: tf.Tensor) -> tf.Tensor:
        """Turn texts (string, any shape) into codes (int32); UNKNOWN where no item has them."""
        flat = tf.reshape(texts, [-1])
        place = tf.searchsorted(self._hashes, _hash(flat), out_type=tf.int32)
        place = tf.minimum(place, self.distinct - 1)
        known = (tf.gather(self._texts, place) == flat) & (flat != "")
        return tf.reshape(tf.where(known, place, UNKNOWN), tf.shape(texts))

    def of(self, items: tf.Tensor) -> tf.Tensor:
        """Return the codes of item rows [B, n] int32 (-1 is none), [B, n, width] int32."""
        codes = tf.gather(self.values, tf.maximum(items, 0), axis=1)  # [width, B, n]
        there = (items >= 0)[:, :, tf.newaxis]
        return tf.where(there, tf.transpose(codes, [1, 2, 0]), NO_VALUE)


class NumberColumn(tf.Module):
    """The values of a numeric feature; -inf where an item has none."""

    def __init__(self, values: np.ndarray, *, padded: int, name: str) -> None:
        """Keep `values` [items] float, NaN or infinite where there are none."""
        super().__init__(name=f"filter_{name}")
        column = np.full(padded, -np.inf, np.float32)
        column[: len(values)] = np.where(np.isfinite(values), values, -np.inf)
        self.values = tf.Variable(tf.constant(column), trainable=False, name="values")


@dataclass(frozen=True)
class FilterableColumns:
    """All columns of a catalogue that a request may filter by, by feature."""

    categories: dict[str, CategoryColumn]
    numbers: dict[str, NumberColumn]


def filterable_columns(
    features: Sequence[FeatureConfig], table: pa.Table, *, padded: int
) -> FilterableColumns:
    """Keep the filterable ones of `features`, columns of `table` [items] by feature name."""
    categories, numbers = {}, {}
    for feature in features:
        column = table[feature.name]
        if feature.kind == "numeric":
            values = column.to_numpy().astype(np.float32)
            numbers[feature.name] = NumberColumn(values, padded=padded, name=feature.name)
        else:
            values = [_split(text, feature) for text in strings(column)]
            categories[feature.name] = CategoryColumn(values, padded=padded, name=feature.name)
    return FilterableColumns(categories, numbers)


def _split(text: str, feature: FeatureConfig) -> list[str]:
    """Return the distinct values that a cell holds, as the encoders read it."""
    if feature.kind == "categorical":
        return [text] if text else []
    parts = (part.strip(whitespace) for part in text.split(feature.separator))
    return list(dict.fromkeys(part for part in parts if part))


def _hash(texts: tf.Tensor) -> tf.Tensor:
    return tf.strings.to_hash_bucket_fast(texts, _BUCKETS)
