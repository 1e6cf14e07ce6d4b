"""Rules over the attributes of items: values that must or must not be, numbers within bounds."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, Protocol

from export.filterable import NO_VALUE, CategoryColumn, Listed, NumberColumn
from features.backend import tf
from retrieval.index import NOTHING, Few, first_of


class AttributeRule(Protocol):
    """One rule over one attribute."""

    def used(self) -> tf.Tensor:
        """Say which rows use it, [B] bool."""
        ...

    def everywhere(self) -> tf.Tensor:
        """Say which items of the catalogue it lets through, [B, N] bool; all in unused rows."""
        ...

    def passes(self, items: tf.Tensor) -> tf.Tensor:
        """Say which item rows [B, n] int32 it lets through, [B, n] bool; all in unused rows."""
        ...

    def few(self) -> Few | None:
        """Say among which few items all are that it lets through, where it can know."""
        ...


class Attributes(NamedTuple):
    """All of a request's rules over attributes, taken together in one pass over the scores."""

    rules: tuple[AttributeRule, ...]

    def mask(self, scores: tf.Tensor) -> tf.Tensor:
        """Return `scores` [B, N] float32 with what a rule forbids at NOTHING."""
        if not self.rules:
            return scores
        used = tf.reduce_any(tf.stack([rule.used() for rule in self.rules]))
        return tf.cond(used, partial(self._masked, scores), lambda: scores)

    def _masked(self, scores: tf.Tensor) -> tf.Tensor:
        allowed = tf.ones(tf.shape(scores), tf.bool)
        for rule in self.rules:
            stricter = partial(_both, allowed, rule)
            allowed = tf.cond(tf.reduce_any(rule.used()), stricter, partial(tf.identity, allowed))
        return tf.where(allowed, scores, NOTHING)

    def passes(self, items: tf.Tensor) -> tf.Tensor:
        """Say which item rows [B, n] int32 every rule lets through, [B, n] bool."""
        passed = items >= 0
        for rule in self.rules:
            stricter = partial(_both_of, passed, rule, items)
            passed = tf.cond(tf.reduce_any(rule.used()), stricter, partial(tf.identity, passed))
        return passed

    def few(self) -> Few | None:
        """Return the few items of the first rule that knows some."""
        return first_of([rule.few() for rule in self.rules])


class OneOf(NamedTuple):
    """An item needs one of the given values; without any there is no rule."""

    column: CategoryColumn
    values: tf.Tensor
    """[B, V] string, "" is none; unknown ones no item has."""

    def used(self) -> tf.Tensor:
        """Say which rows give a value, [B] bool."""
        return tf.reduce_any(self.values != "", axis=1)

    def everywhere(self) -> tf.Tensor:
        """Say which items have one of the values, [B, N] bool."""
        return _holding(self.column, self.values, start=tf.logical_not(self.used()))

    def passes(self, items: tf.Tensor) -> tf.Tensor:
        """Say which item rows [B, n] int32 have one of the values, [B, n] bool."""
        return _held(self.column, self.values, items) | tf.logical_not(self.used())[:, tf.newaxis]

    def few(self) -> Few:
        """Return the items of the value, where every row gives one and few items have it."""
        given = self.values != ""
        single = tf.reduce_all(tf.reduce_sum(tf.cast(given, tf.int32), axis=1) == 1)
        # the only one that is not empty
        value = tf.strings.reduce_join(self.values, axis=1)
        nowhere = Listed(tf.zeros_like(given[:, 0], tf.int32), tf.zeros_like(given[:, 0], tf.int32))
        listed = tf.cond(single, lambda: self.column.listed(value), lambda: nowhere)
        return Few(single & self.column.are_few(listed), lambda: self.column.items_at(listed))


class NoneOf(NamedTuple):
    """An item must have none of the given values."""

    column: CategoryColumn
    values: tf.Tensor
    """[B, V] string, "" is none."""

    def used(self) -> tf.Tensor:
        """Say which rows give a value, [B] bool."""
        return tf.reduce_any(self.values != "", axis=1)

    def everywhere(self) -> tf.Tensor:
        """Say which items have none of the values, [B, N] bool."""
        nobody = tf.zeros_like(self.used())
        return tf.logical_not(_holding(self.column, self.values, start=nobody))

    def passes(self, items: tf.Tensor) -> tf.Tensor:
        """Say which item rows [B, n] int32 have none of the values, [B, n] bool."""
        return tf.logical_not(_held(self.column, self.values, items))

    def few(self) -> None:
        """Know of none: what a rule leaves out leaves most."""


class Within(NamedTuple):
    """An item's number must lie within bounds, both included; an item without one never does."""

    column: NumberColumn
    least: tf.Tensor
    """[B] float32; no bound where it is not finite, or the lowest float."""
    most: tf.Tensor
    """[B] float32; no bound where it is not finite, or the highest float."""

    def used(self) -> tf.Tensor:
        """Say which rows have a bound, [B] bool."""
        return self._from_below() | self._from_above()

    def everywhere(self) -> tf.Tensor:
        """Say which items lie within the bounds, [B, N] bool."""
        return self._within(self.column.values[tf.newaxis, :])

    def passes(self, items: tf.Tensor) -> tf.Tensor:
        """Say which item rows [B, n] int32 lie within the bounds, [B, n] bool."""
        return self._within(tf.gather(self.column.values, items))

    def few(self) -> None:
        """Know of none, as items are not kept by their numbers."""

    def _within(self, numbers: tf.Tensor) -> tf.Tensor:
        # missing numbers are -inf: out of any range, and in the way of no row without one
        no_least = tf.where(self.used(), tf.float32.min, -float("inf"))
        least = tf.where(self._from_below(), self.least, no_least)
        most = tf.where(self._from_above(), self.most, float("inf"))
        return (numbers >= least[:, tf.newaxis]) & (numbers <= most[:, tf.newaxis])

    def _from_below(self) -> tf.Tensor:
        return tf.math.is_finite(self.least) & (self.least > tf.float32.min)

    def _from_above(self) -> tf.Tensor:
        return tf.math.is_finite(self.most) & (self.most < tf.float32.max)


def _both(allowed: tf.Tensor, rule: AttributeRule) -> tf.Tensor:
    return allowed & rule.everywhere()


def _both_of(passed: tf.Tensor, rule: AttributeRule, items: tf.Tensor) -> tf.Tensor:
    return passed & rule.passes(items)


def _holding(column: CategoryColumn, values: tf.Tensor, *, start: tf.Tensor) -> tf.Tensor:
    """Say which items have one of `values` [B, V] string, [B, N] bool; all where `start` [B].

    One comparison per value that some row really gives: a gather costs five times as much.
    """
    # known values first, so that the loop ends with the last of them
    codes = tf.sort(column.codes(values), axis=1, direction="DESCENDING")
    most = tf.reduce_max(tf.reduce_sum(tf.cast(codes > NO_VALUE, tf.int32), axis=1))
    shape = tf.stack([tf.shape(codes)[0], tf.shape(column.values)[1]])
    found = tf.broadcast_to(start[:, tf.newaxis], shape)

    def another(place: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        code = tf.gather(codes, place, axis=1)[:, tf.newaxis]
        for slot in range(column.width):
            found |= column.values[slot][tf.newaxis, :] == code
        return place + 1, found

    return tf.while_loop(lambda place, _: place < most, another, (0, found))[1]


def _held(column: CategoryColumn, values: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """Say which item rows [B, n] int32 have one of `values` [B, V] string, [B, n] bool."""
    # [width, B, n, 1] and [B, 1, V]; no item has the code of what is left out or unknown
    held = tf.expand_dims(tf.gather(column.values, items, axis=1), -1)
    return tf.reduce_any(held == column.codes(values)[:, tf.newaxis, :], axis=[0, 3])
