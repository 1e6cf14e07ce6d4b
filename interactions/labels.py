"""The labels of each task: read from columns, checked, and put on the rows they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interactions.columns import as_numbers
from interactions.conditions import Condition, is_condition
from interactions.config import TaskConfig
from interactions.errors import UserError
from interactions.log import NEVER, Labels
from interactions.search import first_at_or_after

_ALWAYS = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Rows:
    """Cleaned rows in the log's total order, label rows included."""

    user: np.ndarray
    """[rows] int64."""
    item: np.ndarray
    """[rows] int64."""
    time: np.ndarray
    """[rows] int64."""
    exposure: np.ndarray
    """[rows] bool: labels are observed on this row."""


def label_columns(task: TaskConfig) -> tuple[str, ...]:
    """Return the columns of the events that the task's label is made from."""
    if task.column is None:
        return ()
    if task.kind == "binary" and is_condition(task.column):
        return Condition.parse(task.column).columns
    return (task.column,)


def read_labels(table: pa.Table, task: TaskConfig, *, name: str) -> np.ndarray:
    """Return the label that each row carries, float64 [rows], NaN where none.

    Raises `UserError` where it is text, or, for a binary task, anything but 0 and 1.
    """
    assert task.column is not None
    if task.kind == "binary" and is_condition(task.column):
        holds = Condition.parse(task.column).holds(table)
        return holds.cast(pa.float64()).to_numpy()
    remedy = f"task {name!r} needs a column of numbers"
    values = as_numbers(table[task.column], name=task.column, remedy=remedy)
    if task.kind == "binary":
        odd = values[~np.isnan(values) & (values != 0) & (values != 1)]
        if len(odd):
            raise UserError(
                f"task {name!r} is binary, but column {task.column!r} holds {odd[0]:g}; "
                f"make it 0 and 1, or write a condition such as column: '{task.column} > 0'"
            )
    return values


def carries_event(table: pa.Table, task: TaskConfig, *, type_column: str) -> np.ndarray:
    """Return which rows are of the task's event types, bool [rows]."""
    types = pa.array(task.event, pa.string())
    return pc.is_in(table[type_column], value_set=types).to_numpy()


def outside(values: np.ndarray, task: TaskConfig) -> np.ndarray:
    """Return where a label is infinite or outside the task's range, bool [rows]; NaN is not."""
    low, high = task.range or (-np.inf, np.inf)
    return np.isinf(values) | (values < low) | (values > high)


def own_labels(values: np.ndarray, rows: Rows) -> Labels:
    """Return labels that stand on the row itself, known when it happens."""
    return Labels(values.astype(np.float32), rows.time.astype(np.int64))


def attribute_event(happened: np.ndarray, rows: Rows) -> Labels:
    """Return 1 on each exposure that a row where `happened` is attributed to, and 0 on the others.

    A 1 is known once the first such row has come; before, the label is 0.
    """
    found = _first_attributed(happened, rows)
    has = found >= 0
    value = np.where(rows.exposure, has, np.nan).astype(np.float32)
    known_at = np.where(has, rows.time[np.maximum(found, 0)], rows.time)
    # A row that is no exposure has no label at any time, not the 0 of one that has not come yet.
    return Labels(value, np.where(rows.exposure, known_at, _ALWAYS), absent=0.0)


def attribute_values(values: np.ndarray, rows: Rows) -> Labels:
    """Return on each exposure the first of the values attributed to it, known when that came."""
    found = _first_attributed(~np.isnan(values), rows)
    has = found >= 0
    source = np.maximum(found, 0)
    value = np.where(has, values[source], np.nan).astype(np.float32)
    return Labels(value, np.where(has, rows.time[source], NEVER))


def _first_attributed(carries: np.ndarray, rows: Rows) -> np.ndarray:
    """Return for each row the first label row attributed to it, int64 [rows], -1 where none.

    A label row belongs to itself where it is an exposure, else to the same user's latest exposure
    of the same item at or before its time.
    """
    label_rows = np.flatnonzero(carries)
    exposures = np.flatnonzero(rows.exposure)
    pair = rows.user.astype(np.int64) * (int(rows.item.max(initial=0)) + 1) + rows.item
    # Stable: exposures of a pair stay in the log's order, which is the order of time.
    exposures = exposures[np.argsort(pair[exposures], kind="stable")]
    pairs = pair[exposures]
    starts = np.searchsorted(pairs, pair[label_rows], side="left")
    ends = np.searchsorted(pairs, pair[label_rows], side="right")
    times = rows.time[label_rows]
    after = first_at_or_after(rows.time[exposures], starts, ends, times + 1)
    target = np.full(len(label_rows), -1, np.int64)
    some = after > starts
    target[some] = exposures[after[some] - 1]
    target = np.where(rows.exposure[label_rows], label_rows, target)
    first = np.full(len(rows.user), -1, np.int64)
    # Written from the last to the first, so that the first stays.
    first[target[target >= 0][::-1]] = label_rows[target >= 0][::-1]
    return first


def label_warnings(labels: Mapping[str, Labels], tasks: Mapping[str, TaskConfig]) -> list[str]:
    """Return one line for each task whose labels nothing can be learned from."""
    lines = []
    for name, label in labels.items():
        known = label.value[~np.isnan(label.value)]
        if not len(known):
            lines.append(f"task {name!r} has no label on any row; check its column or events")
        elif known.min() == known.max():
            kind = "one class only" if tasks[name].kind == "binary" else "one value only"
            lines.append(
                f"task {name!r}: its {len(known):,} labels have {kind} ({known[0]:g}); "
                "nothing can be learned from it"
            )
    return lines
