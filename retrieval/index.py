"""The exact index: inner-product search over the whole catalogue, in stock TensorFlow ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from features.backend import tf

_BLOCK = 64
"""Items that are sorted or left out together; 32 to 128 take about the same time."""
_WIDE = 1024
"""Columns of a large catalogue come in multiples of it: the matrix product of other widths takes up
to half as long again."""
NOTHING = -1e30
"""Score of what must not be found; finite, as an infinity is not JSON."""
_LOWEST_REAL = -1e29
"""No item scores below; what is out scores about -1e30."""


class Found(NamedTuple):
    """What an index returns, best first."""

    item: tf.Tensor
    """[B, k] int32 item rows, -1 where fewer than k could be found."""
    score: tf.Tensor
    """[B, k] float32, -1e30 where there is no item."""


class Few(NamedTuple):
    """A few items among which is everything that a filter lets through."""

    known: tf.Tensor
    """Scalar bool: whether the filter knows such items for every row of its batch."""
    items: Callable[[], tf.Tensor]
    """Where it does, computes them: [B, n] int32 rows, ascending, none twice, -1 is none."""


class Filter(Protocol):
    """What requests rule out; `mask` and `passes` say the same, of all items or of some."""

    def mask(self, scores: tf.Tensor) -> tf.Tensor:
        """Return `scores` [B, padded items] float32 with what is ruled out at NOTHING."""
        ...

    def passes(self, items: tf.Tensor) -> tf.Tensor:
        """Say which item rows [B, n] int32, none below 0, are not ruled out, [B, n] bool."""
        ...

    def few(self) -> Few | None:
        """Say among which few items all are that pass; None where the filter never knows."""
        ...


class Index(Protocol):
    """What answers top k."""

    def is_exact(self) -> bool:
        """Say whether the top k is always the true one."""
        ...

    def search(self, queries: tf.Tensor, *, k: int, rules: Filter | None = None) -> Found:
        """Find the best `k` items that `rules` let through, for queries [B, D] float32."""
        ...

    def look(self, queries: tf.Tensor) -> tf.Tensor:
        """Do the part of a search that no rules change, so that several finds can share it."""
        ...

    def find(self, looked: tf.Tensor, *, k: int, rules: Filter | None = None) -> Found:
        """Do the rest of a search, given what `look` returned for its queries."""
        ...


class ExactIndex(tf.Module):
    """All scores by one matrix product, then the exact top k by blocks.

    The k best items lie in the k blocks with the highest maxima, so only those are sorted. The
    embeddings are kept transposed, [D, N], which multiplies about three times as fast, and padded
    to whole blocks. A last row, which every query multiplies by 1, holds 0 for items and -1e30 for
    padding and for items that are not offered; no query can lift that, whatever it does with the
    bias. Items of equal score come in the order of their rows.
    """

    def __init__(self, embeddings: np.ndarray, *, offered: np.ndarray | None = None) -> None:
        """Index `embeddings` [items, D] float32, whose last entry is a bias.

        `offered` [items] bool says which items can be found, all where left out; the others only
        have an embedding, which histories need.
        """
        super().__init__(name="exact_index")
        self._offered = np.ones(len(embeddings), bool) if offered is None else offered
        columns = _padded_columns(embeddings, self._offered)
        self.items, self.padded = len(embeddings), columns.shape[1]
        self._dim = embeddings.shape[1]
        self._embeddings = tf.Variable(
            tf.constant(columns), trainable=False, name="item_embeddings"
        )

    def is_exact(self) -> bool:
        """Say whether the top k is always the true one."""
        return True

    def replace(self, embeddings: np.ndarray) -> None:
        """Index other embeddings of the same items."""
        self._embeddings.assign(_padded_columns(embeddings, self._offered))

    def search(self, queries: tf.Tensor, *, k: int, rules: Filter | None = None) -> Found:
        """Find the best `k` items that `rules` let through, for queries [B, D] float32."""
        return self.find(self.look(queries), k=k, rules=rules)

    def look(self, queries: tf.Tensor) -> tf.Tensor:
        """Score every item for queries [B, D], [B, padded items]."""
        return self.scores(queries)

    def find(self, looked: tf.Tensor, *, k: int, rules: Filter | None = None) -> Found:
        """Find the best `k` items that `rules` let through, given what `look` returned."""
        few = None if rules is None else rules.few()
        if rules is None or few is None:
            return self.top_k(looked if rules is None else rules.mask(looked), k)
        # where a rule is narrow, to look at what it leaves costs less than to mask all the rest
        return tf.cond(
            few.known,
            lambda: self._top_k_of(looked, few.items(), rules, k),
            lambda: self.top_k(rules.mask(looked), k),
        )

    def scores(self, queries: tf.Tensor) -> tf.Tensor:
        """Score every item for queries [B, D], [B, padded items]; padding scores about -1e30."""
        ones = tf.ones_like(queries[:, :1])
        return tf.matmul(tf.concat([queries, ones], axis=1), self._embeddings)

    def gather(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the embeddings of item rows [...] int32, [..., D]."""
        # entry d of an item lies d rows of the matrix further on; transposing it would copy it
        places = tf.range(self._dim, dtype=tf.int64) * self.padded
        places += tf.cast(tf.expand_dims(rows, -1), tf.int64)
        return tf.gather(tf.reshape(self._embeddings, [-1]), places)

    def score(self, queries: tf.Tensor, rows: tf.Tensor) -> Found:
        """Score item rows [B, n] int32, -1 for none, for queries [B, D], in the order given.

        What is not offered is none.
        """
        real = tf.maximum(rows, 0)
        score = tf.einsum("bd,bnd->bn", queries, self.gather(real))
        score += tf.gather(self._embeddings[-1], real)
        return Found(tf.where(score > _LOWEST_REAL, rows, -1), score)

    def top_k(self, scores: tf.Tensor, k: int) -> Found:
        """Return the best k of `scores` [B, padded items]."""
        k = min(k, self.items)
        number = self.padded // _BLOCK
        # [B, padded items] -> [B, blocks, 64]
        blocks = tf.reshape(scores, [-1, number, _BLOCK])
        number = min(k, number)
        _, best_blocks = tf.math.top_k(tf.reduce_max(blocks, axis=2), number, sorted=False)
        # in the catalogue's order, as the first of equal scores is taken below
        best_blocks = tf.sort(best_blocks, axis=1)
        # [B, blocks, 64] -> [B, best blocks * 64]
        within = tf.reshape(tf.gather(blocks, best_blocks, batch_dims=1), [-1, number * _BLOCK])
        score, place = tf.math.top_k(within, k)
        block = tf.gather(best_blocks, place // _BLOCK, batch_dims=1)
        item = block * _BLOCK + place % _BLOCK
        return Found(tf.where(score > _LOWEST_REAL, item, -1), score)

    def _top_k_of(self, scores: tf.Tensor, items: tf.Tensor, rules: Filter, k: int) -> Found:
        """Return the best k of `items` [B, n] int32, as `Few` has them, that pass the rules."""
        k = min(k, self.items)
        real = tf.maximum(items, 0)
        score = tf.gather(scores, real, batch_dims=1)
        there = (items >= 0) & (score > _LOWEST_REAL) & rules.passes(real)
        more = [[0, 0], [0, tf.maximum(k - tf.shape(items)[1], 0)]]
        score = tf.pad(tf.where(there, score, NOTHING), more, constant_values=NOTHING)
        score, place = tf.math.top_k(score, k)
        item = tf.gather(tf.pad(items, more, constant_values=-1), place, batch_dims=1)
        return Found(tf.where(score > _LOWEST_REAL, item, -1), score)


def first_of(fews: Sequence[Few | None]) -> Few | None:
    """Return the first of several that knows its items; None where there is none of them."""
    some = [few for few in fews if few is not None]
    if not some:
        return None
    first, rest = some[0], first_of(some[1:])
    if rest is None:
        return first
    return Few(first.known | rest.known, lambda: tf.cond(first.known, first.items, rest.items))


def best_of(found: Found, passes: tf.Tensor, *, k: int) -> Found:
    """Return the best `k` of what passes ([B, n] bool), padded where there are fewer.

    Items of equal score come in the order of their rows.
    """
    item, score = tf.where(passes, found.item, -1), tf.where(passes, found.score, NOTHING)
    more = [[0, 0], [0, tf.maximum(k - tf.shape(item)[1], 0)]]
    item, score = tf.pad(item, more, constant_values=-1), tf.pad(score, more, "CONSTANT", NOTHING)
    order = tf.argsort(item, axis=1)
    item, score = (tf.gather(part, order, batch_dims=1) for part in (item, score))
    score, place = tf.math.top_k(score, k)
    return Found(tf.gather(item, place, batch_dims=1), score)


def _padded_columns(embeddings: np.ndarray, offered: np.ndarray) -> np.ndarray:
    """[items, D] -> [D + 1, items rounded up to whole blocks, many of them to `_WIDE`]."""
    items, dim = embeddings.shape
    whole = _WIDE if items > 8 * _WIDE else _BLOCK
    columns = np.zeros((dim + 1, -(-items // whole) * whole), np.float32)
    columns[:dim, :items] = embeddings.T
    columns[dim, :items] = np.where(offered, 0.0, NOTHING)
    columns[dim, items:] = NOTHING
    return columns


def exclude(scores: tf.Tensor, items: tf.RaggedTensor) -> tf.Tensor:
    """Take `items` ([B, ragged] int32 rows) out of `scores` [B, N]."""
    # as `value_rowids` would say, which takes some forty operations
    rows = tf.raw_ops.UpperBound(
        sorted_inputs=items.row_splits[tf.newaxis, 1:],
        values=tf.range(items.row_splits[-1])[tf.newaxis],
    )[0]
    places = tf.stack([rows, tf.cast(items.flat_values, tf.int32)], axis=1)
    return tf.tensor_scatter_nd_update(
        scores, places, tf.fill([tf.shape(places)[0]], tf.constant(NOTHING, scores.dtype))
    )


class Without(NamedTuple):
    """A filter that takes out what was seen."""

    items: tf.RaggedTensor
    """[B, ragged] int32 item rows."""

    def mask(self, scores: tf.Tensor) -> tf.Tensor:
        """Return `scores` [B, padded items] without the items."""
        return exclude(scores, self.items)

    def passes(self, items: tf.Tensor) -> tf.Tensor:
        """Say which of `items` [B, n] int32 are none of them, [B, n] bool."""
        # padded by what is above every row
        seen = tf.cast(self.items, items.dtype).to_tensor(items.dtype.max)
        return tf.logical_not(listed(items, seen))

    def few(self) -> None:
        """Know of none: what was seen leaves most."""


def listed(items: tf.Tensor, lists: tf.Tensor) -> tf.Tensor:
    """Say which of `items` [B, n] int32, none below 0, stand in `lists` [B, E], [B, n] bool.

    Lists are in any order and may hold other numbers between.
    """
    ordered = tf.sort(lists, axis=1)
    # what is above all of a list finds a place too
    ordered = tf.pad(ordered, [[0, 0], [0, 1]], constant_values=items.dtype.max)
    place = tf.searchsorted(ordered, items)
    return tf.gather(ordered, place, batch_dims=1) == items
