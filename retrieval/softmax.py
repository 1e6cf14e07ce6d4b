"""Softmax cross-entropy of many queries against many candidates, fused and in chunks.

A plain matmul and softmax write the logits [Q, C], their exponentials and their gradient to memory,
which costs more than the arithmetic. Here a chunk of queries is scored, and its loss and gradients
are taken at once, while the scores are in the processor's cache; and the products do what would
else be passes over them: they add the bias, keep exponents in range and sum the shares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from features.backend import tf

_CHUNK_CELLS = 2**20
"""Logits of a chunk: 4 MB."""
_FEWEST_ROWS = 16
_MASKED = -1e9
"""Logit of a candidate that must not count; finite, so that no gradient is NaN."""
_HEADROOM = 40.0
"""Largest exponent of a chunk that is not looked through for its largest one."""
_DEPTH = 90.0
"""How far below it the chosen item's may then lie: shares of less than a total's 1e-16 may be lost,
others not."""


@dataclass(frozen=True)
class Shift:
    """What is added to the logits, a row of it for each group of queries."""

    table: tf.Tensor
    """[G, C] float32."""
    row: tf.Tensor | None = None
    """[Q] int32: the row of each query; None where one row holds for all (G = 1)."""

    def at(self, index: tf.Tensor) -> tf.Tensor:
        """Return the rows of the queries at `index` [n] int32: [n, C], or [1, C] for all."""
        if self.row is None:
            return self.table
        return tf.gather(self.table, tf.gather(self.row, index))

    def rows(self, number: tf.Tensor) -> tf.Tensor:
        """Return the row of each of `number` queries, [Q] int32."""
        return tf.zeros([number], tf.int32) if self.row is None else self.row


@dataclass(frozen=True)
class Arrival:
    """Which candidates had appeared when a query came."""

    order: tf.Tensor
    """[C] int32: how many candidates appeared before each one, ties broken somehow."""
    known: tf.Tensor
    """[Q] int32: how many candidates had appeared at a query's time."""

    @classmethod
    def of(cls, first_seen: tf.Tensor, time: tf.Tensor) -> Arrival:
        """Rank the first appearances [C] int64 of candidates against queries' times [Q] int64.

        An item that appears at the very time of a query has appeared.
        """
        # small integers compare faster, Q x C times
        order = tf.argsort(first_seen)
        known = tf.searchsorted(tf.gather(first_seen, order), time, side="right")
        return cls(tf.math.invert_permutation(order), known)


def fused_softmax(
    queries: tf.Tensor,
    candidates: tf.Tensor,
    *,
    bias: Shift,
    positive: tf.Tensor,
    positive_shift: tf.Tensor | None,
    correction: Shift,
    arrival: Arrival | None,
    weight: tf.Tensor,
) -> tf.Tensor:
    """Weighted sum of the queries' softmax losses.

    The logit of a negative is query x candidate + bias + correction; that of the chosen item
    is query x candidate + bias + `positive_shift`, and it stands once. Gradients flow to `queries`,
    `candidates` and `bias.table`, to nothing else.

    Args:
        queries: [Q, D] float32.
        candidates: [C, D] float32.
        bias: part of the score.
        positive: [Q] int32, column of the chosen item.
        positive_shift: [Q] float32 or None.
        correction: of negatives; -1e9 for one that must not count.
        arrival: candidates that appeared later are no negatives; None where time is unknown.
        weight: [Q] float32.

    Returns:
        scalar float32.
    """
    contest = _Contest(positive, positive_shift, correction, arrival, weight)

    def total(
        queries: tf.Tensor, candidates: tf.Tensor, table: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[..., Any]]:
        loss, gradients = _loss_and_gradients(queries, candidates, Shift(table, bias.row), contest)
        return loss, lambda upstream: [upstream * gradient for gradient in gradients]

    # Any: the stubs do not know that the gradient is taken off
    fused: Any = tf.custom_gradient(total)
    return fused(queries, candidates, bias.table)


@dataclass(frozen=True)
class _Contest:
    """What `fused_softmax` is told about who competes; no gradient flows to it."""

    positive: tf.Tensor
    positive_shift: tf.Tensor | None
    correction: Shift
    arrival: Arrival | None
    weight: tf.Tensor

    def chosen(self, queries: tf.Tensor, candidates: tf.Tensor, bias: Shift) -> tf.Tensor:
        """Return the chosen items' logits [Q]."""
        logit = tf.reduce_sum(queries * tf.gather(candidates, self.positive), axis=1)
        row = bias.rows(tf.size(self.positive))
        logit += tf.gather_nd(bias.table, tf.stack([row, self.positive], axis=1))
        return logit if self.positive_shift is None else logit + self.positive_shift

    def hide_late(self, logits: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        """Mask, in the logits [n, C] of the queries at `index` [n], what appeared later."""
        if self.arrival is None:
            return logits
        known = tf.gather(self.arrival.known, index)
        late = self.arrival.order[tf.newaxis, :] >= known[:, tf.newaxis]
        return tf.where(late, _MASKED, logits)


def _loss_and_gradients(
    queries: tf.Tensor, candidates: tf.Tensor, bias: Shift, contest: _Contest
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Return the loss and its gradients by queries, candidates and the bias table."""
    number, width = tf.shape(queries)[0], tf.shape(queries)[1]
    rows = tf.maximum(_CHUNK_CELLS // tf.maximum(tf.shape(candidates)[0], 1), _FEWEST_ROWS)
    chunks = tf.maximum((number + rows - 1) // rows, 1)
    transposed = tf.transpose(candidates)
    # its last column makes the sum of the shares
    summing = tf.concat([candidates, tf.ones_like(candidates[:, :1])], axis=1)
    folded, added = _folded_and_added(bias, contest.correction)
    chosen = contest.chosen(queries, candidates, bias)
    top = _upper_bound(queries, candidates, chosen, (folded, *added)) - _HEADROOM
    # sorted, so that a chunk of queries has few rows of the table
    order = None if folded.row is None else tf.argsort(folded.row, stable=True)

    def array(dtype: tf.DType, shape: list[int | None]) -> tf.TensorArray:
        return tf.TensorArray(dtype, chunks, infer_shape=False, element_shape=shape)

    def step(
        chunk: tf.Tensor,
        loss: tf.Tensor,
        by_candidates: tf.Tensor,
        by_queries: tf.TensorArray,
        by_bias: tf.TensorArray,
        groups: tf.TensorArray,
    ) -> tuple[Any, ...]:
        index = tf.range(chunk * rows, tf.minimum((chunk + 1) * rows, number))
        index = index if order is None else tf.gather(order, index)
        query, weight = tf.gather(queries, index), tf.gather(contest.weight, index)
        own, zero = tf.gather(chosen, index), tf.gather(top, index)
        tame = tf.reduce_min(own - zero) > -_DEPTH
        zero = tf.where(tame, zero, 0.0)
        own -= zero
        group, member = _groups(folded, index)
        shift = tf.concat([tf.gather(folded.table, group), tf.ones_like(transposed[:1])], axis=0)
        logits = tf.matmul(
            tf.concat([query, member, -zero[:, tf.newaxis]], axis=1),
            tf.concat([transposed, shift], axis=0),
        )
        for other in added:
            logits += other.at(index)
        logits = contest.hide_late(logits, index)
        # the chosen item takes the place of its accidental appearance
        place = tf.stack([tf.range(tf.size(index)), tf.gather(contest.positive, index)], axis=1)
        logits = tf.tensor_scatter_nd_update(logits, place, own)
        logits, own = tf.cond(tame, lambda: (logits, own), lambda: _below_largest(logits, own))
        shares = tf.exp(logits)
        left = tf.matmul(shares, summing)
        total = left[:, width]
        scale = (weight / total)[:, tf.newaxis]
        if folded.row is not bias.row:
            group, member = _groups(bias, index)
        # one product for both gradients: [C, D] by the candidates, [C, G] by the bias
        right = tf.matmul(shares, tf.concat([query, member], axis=1) * scale, transpose_a=True)
        return (
            chunk + 1,
            loss + tf.tensordot(tf.math.log(total) - own, weight, 1),
            by_candidates + right[:, :width],
            by_queries.write(chunk, left[:, :width] * scale),
            by_bias.write(chunk, tf.transpose(right[:, width:])),
            groups.write(chunk, group),
        )

    start = (
        tf.constant(0),
        tf.constant(0.0),
        tf.zeros_like(candidates),
        array(tf.float32, [None, queries.shape[1]]),
        array(tf.float32, [None, candidates.shape[0]]),
        array(tf.int32, [None]),
    )
    _, loss, by_candidates, by_queries, by_bias, groups = tf.while_loop(
        lambda chunk, *_: chunk < chunks, step, start
    )
    by_table = tf.math.unsorted_segment_sum(
        by_bias.concat(), groups.concat(), tf.shape(bias.table)[0]
    )
    by_query = by_queries.concat()
    if order is not None:
        by_query = tf.gather(by_query, tf.math.invert_permutation(order))
    # the gradient of a softmax is its shares less one at the chosen item; summed by segments, as a
    # scattered sum of what falls on one place comes out differently each time
    weight, size = contest.weight, tf.shape(candidates)[0]
    mine = queries * weight[:, tf.newaxis]
    entry = bias.rows(number) * size + contest.positive
    own = tf.math.unsorted_segment_sum(weight, entry, tf.size(bias.table))
    return loss, [
        by_query - tf.gather(candidates, contest.positive) * weight[:, tf.newaxis],
        by_candidates - tf.math.unsorted_segment_sum(mine, contest.positive, size),
        by_table - tf.reshape(own, tf.shape(bias.table)),
    ]


def _folded_and_added(bias: Shift, correction: Shift) -> tuple[Shift, tuple[Shift, ...]]:
    """Tell what the product of queries and candidates adds to the scores, and what comes after."""
    if bias.row is not None and correction.row is not None:
        return bias, (correction,)
    row = correction.row if bias.row is None else bias.row
    return Shift(bias.table + correction.table, row), ()


def _upper_bound(
    queries: tf.Tensor, candidates: tf.Tensor, chosen: tf.Tensor, shifts: tuple[Shift, ...]
) -> tf.Tensor:
    """Return what no logit of a query exceeds, [Q], by the inequality of Cauchy and Schwarz."""
    bound = tf.norm(queries, axis=1) * tf.reduce_max(tf.norm(candidates, axis=1))
    for shift in shifts:
        # of the query's own row: what slots to come say must not even move the rounding
        bound += tf.gather(tf.reduce_max(shift.table, axis=1), shift.rows(tf.size(chosen)))
    return tf.maximum(bound, chosen)


def _below_largest(logits: tf.Tensor, own: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    largest = tf.reduce_max(logits, axis=1)
    return logits - largest[:, tf.newaxis], own - largest


def _groups(shift: Shift, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the G rows that the queries at `index` [n] have, and who has which, [n, G] float."""
    if shift.row is None:
        return tf.zeros([1], tf.int32), tf.ones([tf.size(index), 1])
    group, place = tf.unique(tf.gather(shift.row, index))
    return group, tf.one_hot(place, tf.size(group))
