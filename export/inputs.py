"""The inputs of the signature `recommend`: their names, types and widths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from export.config import RequestConfig
from export.system import LOWEST, System
from export.user_state import history_length
from features.backend import tf
from features.encoders import FeatureSpec
from interactions.errors import UserError

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
