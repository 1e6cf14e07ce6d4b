"""The item columns that a request may filter by, kept in the graph as numbers, one per item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import whitespace
from typing import NamedTuple

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
_FEW = 8
"""Items of a value are few where they are at most this part of the catalogue."""


class Listed(NamedTuple):
    """Where the items of B values stand in a column's list of items by value."""

    start: tf.Tensor
    """[B] int32."""
    number: tf.Tensor
    """[B] int32, how many; 0 for what no item has."""


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
        self._few = padded // _FEW
        slot, item = np.nonzero(columns.T)[::-1]  # by item
        codes_of, order = columns[slot, item], np.argsort(columns[slot, item], kind="stable")
        ends = np.cumsum(np.bincount(codes_of, minlength=self.distinct))
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        self._offsets = tf.Variable(tf.constant(offsets), trainable=False, name="offsets")
        listed = np.append(item[order], -1).astype(np.int32)  # place 0 can always be gathered
        self._listed = tf.Variable(tf.constant(listed), trainable=False, name="listed")

    def listed(self, texts: tf.Tensor) -> Listed:
        """Say where the items that have each of `texts` [B] string are listed."""
        # what no item has is code 0, which nothing is listed under
        code = tf.maximum(self.codes(texts), NO_VALUE)
        start = tf.gather(self._offsets, code)
        return Listed(start, tf.gather(self._offsets, code + 1) - start)

    def are_few(self, listed: Listed) -> tf.Tensor:
        """Say whether few items are listed in each of B places, scalar bool."""
        return tf.reduce_max(listed.number) <= self._few

    def items_at(self, listed: Listed) -> tf.Tensor:
        """Return what is listed in B places, [B, n] int32 rows, ascending, -1 after the last."""
        # one column at least, which a search in sorted rows must have
        column = tf.range(tf.maximum(tf.reduce_max(listed.number), 1))[tf.newaxis, :]
        there = column < listed.number[:, tf.newaxis]
        place = tf.where(there, listed.start[:, tf.newaxis] + column, 0)
        return tf.where(there, tf.gather(self._listed, place), -1)

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
