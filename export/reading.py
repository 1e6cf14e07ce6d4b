"""How the inputs of the signature `recommend` are read: what they say, and what the tables know."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from export.attributes import AttributeRule, Attributes, NoneOf, OneOf, Within
from export.config import RequestConfig
from export.inputs import (
    ALLOW,
    AT_MOST,
    CONTEXT,
    DIVERSITY,
    EXCLUDE,
    EXPLAIN,
    HISTORY,
    HISTORY_TIME,
    LEAST,
    MOST,
    NEVER,
    ONLY,
    TASK_WEIGHTS,
    TIME,
    USER,
    USER_ID,
    Input,
    K,
    plain,
    request_inputs,
)  # fmt: skip
from export.recommender import Query, Recommender
from export.rules import Allowed, Excluded, Together
from export.system import RequestEncoders
from export.user_state import Past
from features.backend import tf
from retrieval.index import Filter


class Variety(NamedTuple):
    """How different the items of a list must be."""

    strength: tf.Tensor
    """[B] float32 from 0 to 1; 0 is no wish."""
    limits: Mapping[str, tf.Tensor]
    """By filterable category, [B] int32: how many items may share a value; 0 is no limit."""

    def used(self) -> tf.Tensor:
        """Say whether any row wishes anything, scalar bool."""
        return tf.reduce_any(self.strength > 0) | tf.reduce_any(self.capped())

    def capped(self) -> tf.Tensor:
        """Say which rows have a limit, [B] bool."""
        capped = tf.zeros_like(self.strength, tf.bool)
        for limit in self.limits.values():
            capped |= limit > 0
        return capped


class Asked(NamedTuple):
    """B requests as they are read.

    What is a function is read where it is used, in branches that most requests never enter.
    """

    wishes: tf.Tensor
    """Scalar bool: whether any row says more than who asks for how many items."""
    query: Query
    rules: Callable[[], Filter]
    variety: Callable[[], Variety]
    weights: Callable[[], tf.Tensor]
    """[B, tasks] float32, how much each counts in the score, by the tasks' names in order."""
    k: tf.Tensor
    """[B] int32, at least 0."""
    explain: tf.Tensor
    """[B] bool."""


class RequestReader:
    """Reads the inputs of `request_inputs` by a recommender's tables."""

    def __init__(self, recommender: Recommender, *, widths: RequestConfig) -> None:
        system = recommender.system
        self._recommender = recommender
        self.all = request_inputs(system, widths=widths)

    def read(self, given: Sequence[tf.Tensor]) -> Asked:
        """Read the inputs, in the order of `all`. Nothing is refused: a batch has others in it."""
        values = {one.name: value for one, value in zip(self.all, given, strict=True)}
        wishes = self._says_anything(values)
        query = self._recommender.encode(values[USER_ID])
        if self._recommender.user_encoders is not None:
            retriever, ranker = self._recommender.about(query.users)
            query = query._replace(retriever_about=retriever, ranker_about=ranker)
        query = self._told(query, values, wishes)
        return Asked(
            wishes=wishes,
            query=query,
            rules=lambda: self._rules(query, values),
            variety=lambda: self._variety(values),
            weights=lambda: self._weights(values[TASK_WEIGHTS]),
            k=tf.maximum(values[K], 0),
            explain=values[EXPLAIN],
        )

    def _says_anything(self, values: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Say whether any row says more than who asks for how many items, scalar bool.

        Asked once, so that nothing else need be asked of requests that say nothing; numbers of one
        type are compared together.
        """
        alike: defaultdict[tf.DType, list[Input]] = defaultdict(list)
        for one in self.all:
            if one.name not in (USER_ID, K, HISTORY_TIME):  # times say nothing without their items
                alike[one.dtype].append(one)
        said = [_said_together(inputs, values) for inputs in alike.values()]
        return tf.reduce_any(tf.concat(said, axis=1))

    def _rules(self, query: Query, values: Mapping[str, tf.Tensor]) -> Filter:
        exclude = values[EXCLUDE]
        if not self._recommender.repeats:
            exclude = tf.concat([exclude, values[HISTORY]], axis=1)
        return Together(
            (
                self._recommender.unseen(query),
                Excluded(self._rows(exclude)),
                Allowed(self._rows(values[ALLOW]), tf.reduce_any(values[ALLOW] != "", axis=1)),
                Attributes(tuple(self._attribute_rules(values))),
            )
        )

    def _variety(self, values: Mapping[str, tf.Tensor]) -> Variety:
        strength = values[DIVERSITY]
        return Variety(
            tf.where(strength > 0, tf.minimum(strength, 1.0), 0.0),
            {name: values[AT_MOST + plain(name)] for name in self._recommender.columns.categories},
        )

    def _told(self, known: Query, values: Mapping[str, tf.Tensor], wishes: tf.Tensor) -> Query:
        """Take what the requests say of who asks, in place of what the tables know."""
        told = tf.cond(
            wishes,
            lambda: self._own(known, values),
            # what no request can change is left out: each tensor that a branch returns costs
            lambda: {name: getattr(known, name) for name in self._tellable()},
        )
        return known._replace(**told)

    def _tellable(self) -> list[str]:
        """Return which parts of a query requests can say themselves."""
        names = ["time", "past"]
        if self._recommender.context_encoders is not None:
            names += ["retriever_context", "ranker_context"]
        if self._recommender.user_encoders is not None:
            names += ["retriever_about", "ranker_about"]
        return names

    def _own(self, known: Query, values: Mapping[str, tf.Tensor]) -> dict[str, Any]:
        """Return what requests say, and what the tables know where they are silent, by part."""
        time = tf.where(values[TIME] > 0, values[TIME], known.time)
        given = tf.reduce_any(values[HISTORY] != "", axis=1)
        past = tf.cond(
            tf.reduce_any(given),
            lambda: _chosen(given, self._past(values, time), known.past),
            lambda: known.past,
        )
        own: dict[str, Any] = {"time": time, "past": past}
        if (context := self._recommender.context_encoders) is not None:
            raw = _raw(CONTEXT, context, values)
            own |= {
                "retriever_context": context.retriever(raw),
                "ranker_context": context.ranker(raw),
            }
        if (user := self._recommender.user_encoders) is not None:
            raw = _raw(USER, user, values)
            given_of = {name: _says(value) for name, value in raw.items()}
            own |= {
                "retriever_about": _said(known.retriever_about, user.retriever(raw), given_of),
                "ranker_about": _said(known.ranker_about, user.ranker(raw), given_of),
            }
        return own

    def _past(self, values: Mapping[str, tf.Tensor], now: tf.Tensor) -> Past:
        """Read the histories; unknown items are left out, missing times are now."""
        rows = self._recommender.items.rows(values[HISTORY])
        known = rows >= 0
        order = tf.argsort(tf.cast(rows < 0, tf.int32), axis=1, stable=True)
        times = tf.where(values[HISTORY_TIME] > 0, values[HISTORY_TIME], now[:, tf.newaxis])
        return Past(
            tf.gather(rows, order, batch_dims=1),
            tf.gather(tf.where(known, times, 0), order, batch_dims=1),
            tf.reduce_sum(tf.cast(known, tf.int32), axis=1),
        )

    def _rows(self, ids: tf.Tensor) -> tf.Tensor:
        """Look item ids [B, n] string up, [B, n] int32; -1 is unknown, and padding."""
        return tf.cond(
            tf.reduce_any(ids != ""),
            lambda: self._recommender.items.rows(ids),
            lambda: tf.fill(tf.shape(ids), -1),
        )

    def _attribute_rules(self, values: Mapping[str, tf.Tensor]) -> Iterator[AttributeRule]:
        for name, column in self._recommender.columns.categories.items():
            yield OneOf(column, values[ONLY + plain(name)])
            yield NoneOf(column, values[NEVER + plain(name)])
        for name, column in self._recommender.columns.numbers.items():
            yield Within(column, values[LEAST + plain(name)], values[MOST + plain(name)])

    def _weights(self, given: tf.Tensor) -> tf.Tensor:
        """Take the order's own weights for what is no number, and for a row of zeros."""
        own = self._recommender.own_weights()
        nothing = tf.reduce_all(given == 0, axis=1, keepdims=True)
        return tf.where(nothing | ~tf.math.is_finite(given), own, given)


def _said_together(inputs: Sequence[Input], values: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Say what differs from its blank in inputs of one type, [B, n] bool; NaN says nothing."""
    parts = [values[one.name] for one in inputs if one.shape]
    narrow = [values[one.name] for one in inputs if not one.shape]
    parts += [tf.stack(narrow, axis=1)] if narrow else []
    if parts[0].dtype == tf.string:  # empty where nothing is said; to join them would copy each
        return tf.concat([part != "" for part in parts], axis=1)
    blanks = [one.blank for one in inputs if one.shape for _ in range(one.shape[0])]
    blanks += [one.blank for one in inputs if not one.shape]
    together = tf.concat(parts, axis=1)
    said = together != np.array([blanks], together.dtype.as_numpy_dtype)
    return said & (together == together) if together.dtype == tf.float32 else said


def _raw(
    prefix: str, encoders: RequestEncoders, values: Mapping[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Return the features that requests bring under `prefix`, by name."""
    return {spec.name: values[prefix + plain(spec.name)] for spec in encoders.ranker.specs}


def _says(raw: tf.Tensor) -> tf.Tensor:
    """Say which rows of a feature, [B] or [B, width], hold anything, [B] bool."""
    something = raw != "" if raw.dtype == tf.string else tf.math.is_finite(raw)
    return something if len(raw.shape) == 1 else tf.reduce_all(something, axis=1)


def _said(
    table: Mapping[str, tf.Tensor] | None,
    said: Mapping[str, tf.Tensor],
    given: Mapping[str, tf.Tensor],
) -> dict[str, tf.Tensor]:
    """Take each feature of a row from `said` where it is `given` [B] bool, else from `table`."""
    assert table is not None, "a query whose user may be told of comes with what is known"
    return dict(table) | {
        name: tf.where(
            tf.reshape(given[name], [-1] + [1] * (len(value.shape) - 1)), value, table[name]
        )
        for name, value in said.items()
    }


def _chosen(given: tf.Tensor, first: Past, second: Past) -> Past:
    """Take rows of `first` where `given` [B] bool, else of `second`."""
    wide = given[:, tf.newaxis]
    return Past(
        tf.where(wide, first.items, second.items),
        tf.where(wide, first.times, second.times),
        tf.where(given, first.length, second.length),
    )
