"""The inputs of the signature `recommend`: their names, types and widths, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from export.attributes import AttributeRule, Attributes, NoneOf, OneOf, Within
from export.config import RequestConfig
from export.recommender import Query, Recommender
from export.rules import Allowed, Excluded, Together
from export.system import LOWEST, System
from export.user_state import Past, history_length
from features.backend import tf
from features.encoders import FeatureSpec
from interactions.errors import UserError
from retrieval.index import Filter

USER_ID, K, TIME = "user_id", "k", "time"
HISTORY, HISTORY_TIME = "history", "history_time"
EXCLUDE, ALLOW, TASK_WEIGHTS = "exclude", "allow", "task_weights"
DIVERSITY, EXPLAIN = "diversity", "explain"
ONLY, NEVER, AT_MOST = "only_", "never_", "at_most_"
"""Before the name of a filterable category."""
LEAST, MOST = "min_", "max_"
"""Before the name of a filterable number."""
CONTEXT, USER = "context_", "user_"
"""Before the name of a feature of the request, and of one of its user."""


@dataclass(frozen=True)
class Input:
    """An input, and what says nothing in it."""

    name: str
    dtype: tf.DType
    shape: tuple[int, ...]
    """After the batch."""
    blank: str | float

    def spec(self) -> tf.TensorSpec:
        """Return what a signature calls it."""
        return tf.TensorSpec([None, *self.shape], self.dtype, name=self.name)

    def blanks(self, batch: int) -> np.ndarray:
        """Return the input of `batch` requests that say nothing."""
        dtype = object if self.dtype == tf.string else self.dtype.as_numpy_dtype
        return np.full((batch, *self.shape), self.blank, dtype)


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
    """B requests as they are read."""

    query: Query
    rules: Filter
    variety: Variety
    weights: tf.Tensor
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
        self._own_weights = [system.order.weights[task] for task in sorted(system.tasks)]

    def read(self, given: Sequence[tf.Tensor]) -> Asked:
        """Read the inputs, in the order of `all`. Nothing is refused: a batch has others in it."""
        values = {one.name: value for one, value in zip(self.all, given, strict=True)}
        query = self._query(values)
        exclude = [self._rows(values[EXCLUDE])]
        if not self._recommender.repeats:
            exclude.append(self._rows(values[HISTORY]))
        strength = values[DIVERSITY]
        return Asked(
            query=query,
            rules=Together(
                (
                    self._recommender.unseen(query),
                    Excluded(tf.concat(exclude, axis=1)),
                    Allowed(self._rows(values[ALLOW]), tf.reduce_any(values[ALLOW] != "", axis=1)),
                    Attributes(tuple(self._attribute_rules(values))),
                )
            ),
            variety=Variety(
                tf.where(strength > 0, tf.minimum(strength, 1.0), 0.0),
                {
                    name: values[AT_MOST + plain(name)]
                    for name in self._recommender.columns.categories
                },
            ),
            weights=self._weights(values[TASK_WEIGHTS]),
            k=tf.maximum(values[K], 0),
            explain=values[EXPLAIN],
        )

    def _query(self, values: Mapping[str, tf.Tensor]) -> Query:
        """Who asks: what the request says, and what the tables say where it is silent."""
        query = self._recommender.encode(values[USER_ID])
        time = tf.where(values[TIME] > 0, values[TIME], query.time)
        given = tf.reduce_any(values[HISTORY] != "", axis=1)
        past = tf.cond(
            tf.reduce_any(given),
            lambda: _chosen(given, self._past(values, time), query.past),
            lambda: query.past,
        )
        query = self._about_user(query._replace(time=time, past=past), values)
        encoders = self._recommender.context_encoders
        if encoders is None:
            return query
        raw = {spec.name: values[CONTEXT + plain(spec.name)] for spec in encoders.ranker.specs}
        return query._replace(
            retriever_context=encoders.retriever(raw), ranker_context=encoders.ranker(raw)
        )

    def _about_user(self, query: Query, values: Mapping[str, tf.Tensor]) -> Query:
        encoders = self._recommender.user_encoders
        if encoders is None:
            return query
        raw = {spec.name: values[USER + plain(spec.name)] for spec in encoders.ranker.specs}
        given = {name: _says(value) for name, value in raw.items()}
        retriever, ranker = self._recommender.about(query.users, raw, given)
        return query._replace(retriever_about=retriever, ranker_about=ranker)

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
        own = tf.constant(self._own_weights, tf.float32)
        nothing = tf.reduce_all(given == 0, axis=1, keepdims=True)
        return tf.where(nothing | ~tf.math.is_finite(given), own, given)


def plain(name: str) -> str:
    """Return a feature's name as it stands in the name of an input."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def request_inputs(system: System, *, widths: RequestConfig) -> tuple[Input, ...]:
    """Return the inputs of the signature `recommend`, in order.

    Raises:
        UserError: two features would make inputs of one name.
    """
    found = tuple(_inputs(system, widths))
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"two features make the input {name!r} of the signature `recommend`; "
                "rename one of them"
            )
    return found


def _inputs(system: System, widths: RequestConfig) -> Iterator[Input]:
    past = (history_length(system),)
    yield Input(USER_ID, tf.string, (), "")
    yield Input(K, tf.int32, (), 0)
    yield Input(TIME, tf.int64, (), 0)
    yield Input(HISTORY, tf.string, past, "")
    yield Input(HISTORY_TIME, tf.int64, past, 0)
    yield Input(EXCLUDE, tf.string, (widths.exclude,), "")
    yield Input(ALLOW, tf.string, (widths.allow,), "")
    yield Input(TASK_WEIGHTS, tf.float32, (len(system.tasks),), 0.0)
    yield Input(DIVERSITY, tf.float32, (), 0.0)
    yield Input(EXPLAIN, tf.bool, (), False)
    for feature in system.filterable:
        name = plain(feature.name)
        if feature.kind == "numeric":
            yield Input(LEAST + name, tf.float32, (), LOWEST)
            yield Input(MOST + name, tf.float32, (), -LOWEST)
        else:
            yield Input(ONLY + name, tf.string, (widths.values,), "")
            yield Input(NEVER + name, tf.string, (widths.values,), "")
            yield Input(AT_MOST + name, tf.int32, (), 0)
    if system.context_encoders is not None:
        yield from (_feature(CONTEXT, spec) for spec in system.context_encoders.ranker.specs)
    if system.user_encoders is not None:
        yield from (_feature(USER, spec) for spec in system.user_encoders.ranker.specs)


def _feature(prefix: str, spec: FeatureSpec) -> Input:
    name = prefix + plain(spec.name)
    if spec.kind == "numeric":
        return Input(name, tf.float32, (), float("nan"))
    if spec.kind == "vector":
        return Input(name, tf.float32, (spec.width,), float("nan"))
    return Input(name, tf.string, (), "")


def _says(raw: tf.Tensor) -> tf.Tensor:
    """Say which rows of a feature, [B] or [B, width], hold anything, [B] bool."""
    something = raw != "" if raw.dtype == tf.string else tf.math.is_finite(raw)
    return something if len(raw.shape) == 1 else tf.reduce_all(something, axis=1)


def _chosen(given: tf.Tensor, first: Past, second: Past) -> Past:
    """Take rows of `first` where `given` [B] bool, else of `second`."""
    wide = given[:, tf.newaxis]
    return Past(
        tf.where(wide, first.items, second.items),
        tf.where(wide, first.times, second.times),
        tf.where(given, first.length, second.length),
    )
