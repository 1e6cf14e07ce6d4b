"""The exact index: inner-product search over the whole catalogue, in stock TensorFlow ops."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from features.backend import tf

_BLOCK = 32
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


class ExactIndex(tf.Module):
    """All scores by one matrix product, then the exact top k by blocks.

    The k best items lie in the k blocks with the highest maxima, so only those are sorted. The
    embeddings are kept transposed, [D, N], which multiplies about three times as fast, and padded
    to whole blocks. A last row, which every query multiplies by 1, holds 0 for items and -1e30 for
    padding; no query can lift that, whatever it does with the bias. Items of equal score come in
    the order of their rows.
    """

    def __init__(self, embeddings: np.ndarray) -> None:
        """Index `embeddings` [items, D] float32, whose last entry is a bias."""
        super().__init__(name="exact_index")
        columns = _padded_columns(embeddings)
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
        self._embeddings.assign(_padded_columns(embeddings))

    def scores(self, queries: tf.Tensor) -> tf.Tensor:
        """Score every item for queries [B, D], [B, padded items]; padding scores about -1e30."""
        ones = tf.ones_like(queries[:, :1])
        return tf.matmul(tf.concat([queries, ones], axis=1), self._embeddings)

    def gather(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the embeddings of item rows [...] int32, [..., D]."""
        # columns are gathered first: transposing all of them would copy the catalogue
        columns = tf.gather(self._embeddings, tf.reshape(rows, [-1]), axis=1)[:-1]
        shape = tf.concat([tf.shape(rows), [self._dim]], axis=0)
        return tf.reshape(tf.transpose(columns), shape)

    def top_k(self, scores: tf.Tensor, k: int) -> Found:
        """Return the best k of `scores` [B, padded items]."""
        k = min(k, self.items)
        number = self.padded // _BLOCK
        # [B, padded items] -> [B, blocks, 32]
        blocks = tf.reshape(scores, [-1, number, _BLOCK])
        number = min(k, number)
        _, best_blocks = tf.math.top_k(tf.reduce_max(blocks, axis=2), number)
        # in the catalogue's order, as the first of equal scores is taken below
        best_blocks = tf.sort(best_blocks, axis=1)
        # [B, blocks, 32] -> [B, best blocks * 32]
        within = tf.reshape(tf.gather(blocks, best_blocks, batch_dims=1), [-1, number * _BLOCK])
        score, place = tf.math.top_k(within, k)
        block = tf.gather(best_blocks, place // _BLOCK, batch_dims=1)
        item = block * _BLOCK + place % _BLOCK
        return Found(tf.where(score > _LOWEST_REAL, item, -1), score)


def _padded_columns(embeddings: np.ndarray) -> np.ndarray:
    """[items, D] -> [D + 1, items rounded up to whole blocks]."""
    items, dim = embeddings.shape
    columns = np.zeros((dim + 1, -(-items // _BLOCK) * _BLOCK), np.float32)
    columns[:dim, :items] = embeddings.T
    columns[dim, items:] = NOTHING
    return columns


def exclude(scores: tf.Tensor, items: tf.RaggedTensor) -> tf.Tensor:
    """Take `items` ([B, ragged] int32 rows) out of `scores` [B, N]."""
    rows = tf.cast(items.value_rowids(), tf.int32)
    places = tf.stack([rows, tf.cast(items.flat_values, tf.int32)], axis=1)
    return tf.tensor_scatter_nd_update(
        scores, places, tf.fill([tf.shape(places)[0]], tf.constant(NOTHING, scores.dtype))
    )
