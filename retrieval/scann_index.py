"""The approximate index: ScaNN's tree and quantised scores, with the exact index behind it.

Its graphs hold ScaNN's own operations, which a server must have. Importing this module needs the
package scann.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from scann.scann_ops.py import scann_ops

from features.backend import tf
from retrieval.index import NOTHING, ExactIndex, Filter, Found, best_of

_TRAINING_SAMPLE = 100_000
_ANISOTROPIC = 0.2
"""Quantisation threshold that ScaNN's authors take for inner products."""


@dataclass(frozen=True)
class ScannSettings:
    """What ScaNN's recall and speed depend on."""

    leaves: int
    """Partitions of the catalogue."""
    searched: int
    """Partitions that a query looks into."""
    reordered: int
    """Best items by quantised score whose true score is computed."""


class Partitions(tf.Module):
    """A catalogue as ScaNN keeps it: partitioned, and quantised within each partition.

    R. Guo et al. 2020, "Accelerating large-scale inference with anisotropic vector quantization".
    """

    def __init__(self, embeddings: np.ndarray, offered: np.ndarray, *, leaves: int) -> None:
        """Build the tree over those of `embeddings` [items, D] float32 that are `offered`."""
        super().__init__(name="scann")
        rows = np.flatnonzero(offered).astype(np.int32)
        vectors = np.ascontiguousarray(embeddings[rows])
        self.leaves, self.size = leaves, len(rows)
        built = (
            scann_ops.builder(vectors, 1, "dot_product")
            .tree(leaves, leaves, training_sample_size=_TRAINING_SAMPLE)
            .score_ah(2, anisotropic_quantization_threshold=_ANISOTROPIC)
            .reorder(1)
            .build()
        )
        state = scann_ops.scann_to_tensors(built.searcher_handle)
        # in the order in which `tensors_to_scann` takes them, but for the vectors, its first
        self._state = [tf.Variable(part, trainable=False, name="scann") for part in state]
        self._rows = tf.Variable(tf.constant(rows), trainable=False, name="scann_rows")
        # Whoever loads several models shares what has the same name, so the content is the name.
        digest = hashlib.sha256(vectors.tobytes() + rows.tobytes())
        self._name = f"scann-{leaves}-{digest.hexdigest()[:32]}"

    def nearest(self, queries: tf.Tensor, *, searched: int | tf.Tensor, reordered: int) -> Found:
        """Return about the best `reordered` items of queries [B, D], with their true scores.

        `searched` is how many leaves are looked into.
        """
        *state, vectors = self._state
        searcher = scann_ops.tensors_to_scann(vectors, *state, shared_name=self._name)
        most, batch = min(reordered, self.size), tf.shape(queries)[0]
        # ScaNN refuses a batch of none
        some = tf.pad(queries, tf.stack([[0, tf.maximum(1 - batch, 0)], [0, 0]]))
        place, score = scann_ops.scann_search_batched(searcher, some, most, most, searched, False)
        place, score = place[:batch], score[:batch]
        # as wide as the longest answer, where the partitions hold fewer items than asked for
        more = [[0, 0], [0, most - tf.shape(place)[1]]]
        place = tf.ensure_shape(tf.pad(place, more, constant_values=-1), [None, most])
        score = tf.ensure_shape(tf.pad(score, more), [None, most])
        there = tf.math.is_finite(score) & (place >= 0)
        item = tf.gather(self._rows, tf.where(there, place, 0))
        return Found(tf.where(there, item, -1), tf.where(there, score, NOTHING))


class ScannIndex(tf.Module):
    """Approximate top k, and the exact one for queries of whose items too few pass the rules."""

    def __init__(self, exact: ExactIndex, partitions: Partitions, settings: ScannSettings) -> None:
        super().__init__(name="scann_index")
        self.exact, self.settings = exact, settings
        self._partitions = partitions

    def is_exact(self) -> bool:
        """Say whether the top k is always the true one."""
        return False

    def look(self, queries: tf.Tensor) -> tf.Tensor:
        """Return the queries: rules change how many items are enough."""
        return queries

    def find(self, looked: tf.Tensor, *, k: int, rules: Filter | None = None) -> Found:
        """As `search`, for the queries that `look` returned."""
        return self.search(looked, k=k, rules=rules)

    def search(
        self,
        queries: tf.Tensor,
        *,
        k: int,
        rules: Filter | None = None,
        searched: tf.Tensor | None = None,
    ) -> Found:
        """Find about the best `k` items that `rules` let through, for queries [B, D] float32.

        As many as are reordered are fetched and checked. Where fewer than `k` pass, that query, and
        no other, is answered by the exact index: a narrow rule still finds k items if k exist.
        `searched` (scalar int32) stands for the settings' own.
        """
        k = min(k, self.exact.items)
        found = self._partitions.nearest(
            queries,
            searched=self.settings.searched if searched is None else searched,
            reordered=max(self.settings.reordered, k),
        )
        passes = found.item >= 0
        if rules is not None:
            passes &= rules.passes(tf.maximum(found.item, 0))
        enough = tf.reduce_sum(tf.cast(passes, tf.int32), axis=1) >= k
        some = best_of(found, passes, k=k)
        return tf.cond(
            tf.reduce_all(enough),
            lambda: some,
            lambda: _where(enough, some, self.exact.search(queries, k=k, rules=rules)),
        )


def _where(rows: tf.Tensor, yes: Found, no: Found) -> Found:
    """Take rows [B] bool from `yes`, the others from `no`."""
    return Found(*(tf.where(rows[:, tf.newaxis], a, b) for a, b in zip(yes, no, strict=True)))
