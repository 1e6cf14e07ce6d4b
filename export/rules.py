"""What a request rules out, as filters that an index applies before it takes the top k.

Each says the same in two ways, as `retrieval.index.Filter` asks: over all scores, and of some
items. A rule that no row of a batch uses costs nothing: its mask stands behind a `tf.cond`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from export.filterable import NO_VALUE, CategoryColumn
from features.backend import tf
from retrieval.index import NOTHING, Few, Filter, first_of, listed


class Together(NamedTuple):
    """Several filters, of which an item must pass all."""

    filters: tuple[Filter, ...]

    def mask(self, scores: tf.Tensor) -> tf.Tensor:
        """Return `scores` [B, N] float32 with what any of them rules out at NOTHING."""
        for one in self.filters:
            scores = one.mask(scores)
        return scores

    def passes(self, items: tf.Tensor) -> tf.Tensor:
        """Say which item rows [B, n] int32 pass all, [B, n] bool."""
        passed = items >= 0
        for one in self.filters:
            passed &= one.passes(items)
        return passed

    def few(self) -> Few | None:
        """Return the few items of the first filter that knows some."""
        return first_of([one.few() for one in self.filters])


class Excluded(NamedTuple):
    """Items that a request does not want."""

    items: tf.Tensor
    """[B, E] int32 item rows, -1 is none."""

    def mask(self, scores: tf.Tensor) -> tf.Tensor:
        """Return `scores` [B, N] float32 without the items."""
        return tf.cond(
            tf.reduce_any(self.items >= 0), partial(self._remove, scores), lambda: scores
        )

    def _remove(self, scores: tf.Tensor) -> tf.Tensor:
        places = _places(self.items)
        nothing = tf.fill([tf.shape(places)[0]], tf.constant(NOTHING, scores.dtype))
        return tf.tensor_scatter_nd_update(scores, places, nothing)

    def passes(self, items: tf.Tensor) -> tf.Tensor:
        """Say which item rows [B, n] int32 are not among them, [B, n] bool."""
        return tf.logical_not(listed(items, self.items))

    def few(self) -> None:
        """Know of none: what a list leaves out leaves most."""


class Allowed(NamedTuple):
    """The only items that a request wants, in the rows that name any."""

    items: tf.Tensor
    """[B, A] int32 item rows, -1 is none."""
    given: tf.Tensor
    """[B] bool: whether there is a list. One that names nothing known leaves nothing."""

    def mask(self, scores: tf.Tensor) -> tf.Tensor:
        """Return `scores` [B, N] float32 with nothing but the items, in rows that have a list."""
        return tf.cond(tf.reduce_any(self.given), partial(self._keep, scores), lambda: scores)

    def _keep(self, scores: tf.Tensor) -> tf.Tensor:
        places = _places(self.items)
        kept = tf.gather_nd(scores, places)
        others = tf.where(self.given[:, tf.newaxis], NOTHING, scores)
        return tf.tensor_scatter_nd_update(others, places, kept)

    def passes(self, items: tf.Tensor) -> tf.Tensor:
        """Say which item rows [B, n] int32 are among them, [B, n] bool; all where no list is."""
        without = tf.logical_not(self.given)[:, tf.newaxis]
        return tf.cond(
            tf.reduce_any(self.given),
            lambda: listed(items, self.items) | without,
            lambda: tf.ones_like(items, tf.bool),
        )

    def few(self) -> Few:
        """Return the lists, where every row has one."""
        return Few(tf.reduce_all(self.given), self._ordered)

    def _ordered(self) -> tf.Tensor:
        """The items, ascending, -1 in place of what is named twice, [B, A] int32."""
        ordered = tf.sort(self.items, axis=1)
        before = tf.pad(ordered[:, :-1], [[0, 0], [1, 0]], constant_values=-1)
        return tf.where(ordered == before, -1, ordered)


class UsedUp(NamedTuple):
    """Values of a categorical feature that a list has as often as it may."""

    column: CategoryColumn
    chosen: tf.Tensor
    """[B, K] int32 item rows of the list so far, -1 is none."""
    limit: tf.Tensor
    """[B] int32, how many items may share a value; 0 is no limit."""

    def mask(self, scores: tf.Tensor) -> tf.Tensor:
        """Return `scores` [B, N] float32 without the items that have such a value."""
        full = self._full()
        for slot in range(self.column.width):
            used_up = tf.gather(full, self.column.values[slot], axis=1)
            scores = tf.where(used_up, NOTHING, scores)
        return scores

    def passes(self, items: tf.Tensor) -> tf.Tensor:
        """Say which item rows [B, n] int32 have no such value, [B, n] bool."""
        return ~tf.reduce_any(tf.gather(self._full(), self.column.of(items), batch_dims=1), axis=2)

    def few(self) -> None:
        """Know of none: there are other values."""

    def _full(self) -> tf.Tensor:
        """Say which values are used up, [B, values] bool; never that of items without one."""
        values = self.column.of(self.chosen)  # [B, K, width]
        real = tf.where(values != NO_VALUE)
        value = tf.gather_nd(values, real)
        places = tf.stack([tf.cast(real[:, 0], tf.int32), value], axis=1)
        shape = tf.stack([tf.shape(values)[0], self.column.distinct])
        limit = self.limit[:, tf.newaxis]
        return (tf.scatter_nd(places, tf.ones_like(value), shape) >= limit) & (limit > 0)


def _places(items: tf.Tensor) -> tf.Tensor:
    """Where the items [B, E] int32 that are not -1 lie among scores: [n, (row, item)] int32."""
    real = tf.where(items >= 0)
    return tf.stack([tf.cast(real[:, 0], tf.int32), tf.gather_nd(items, real)], axis=1)
