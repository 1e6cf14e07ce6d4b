"""A request's own wishes, and how they become the inputs of the signature `recommend`.

The inputs are those that the server says it has, so that no manifest is needed beside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from interactions.errors import UserError
from serving.answers import Signature, TensorSpec

SIGNATURE = "recommend"
BECAUSE_ITEM_ID, BECAUSE_SCORE, TASK_WEIGHTS = "because_item_id", "because_score", "task_weights"
_COLUMNS = ("item_id", "score", "retrieval_score", "count", BECAUSE_ITEM_ID, BECAUSE_SCORE)
_DTYPES = {
    "DT_STRING": np.dtype(object), "DT_FLOAT": np.dtype(np.float32), "DT_INT32": np.dtype(np.int32),
    "DT_INT64": np.dtype(np.int64), "DT_BOOL": np.dtype(np.bool_),
}  # fmt: skip
_LARGEST = float(np.finfo(np.float32).max)
# no id holds a line end, so a list of this names nothing
_NO_ITEM = "\n"


@dataclass(frozen=True)
class Wishes:
    """What the users of a request want, beside how many items; the same for all of them."""

    exclude: Sequence[str] = ()
    """Items that must not come back."""
    allow: Sequence[str] | None = None
    """The only items that may; None is no such list, an empty one lets nothing through."""
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By filterable category: values of which an item needs one."""
    never: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By filterable category: values of which an item must have none."""
    least: Mapping[str, float] = field(default_factory=dict)
    """By filterable number: the lowest that is wanted."""
    most: Mapping[str, float] = field(default_factory=dict)
    """By filterable number: the highest that is wanted."""
    at_most: Mapping[str, int] = field(default_factory=dict)
    """By filterable category: how many items of a list may share a value."""
    diversity: float = 0.0
    """From 0, by score alone, to 1, by difference from what stands before alone."""
    task_weights: Mapping[str, float] = field(default_factory=dict)
    """How much tasks count in the score; the others as they were exported."""
    time: int | None = None
    """When it is asked, in microseconds since 1970; the end of the exported log where left out."""
    history: Sequence[str] | None = None
    """What the user chose, oldest first, in place of what the server knows; the latest are used."""
    history_time: Sequence[int] = ()
    """When, in microseconds since 1970, one per item; now where left out."""
    context: Mapping[str, Any] = field(default_factory=dict)
    """Features of the request by name: text, a number, or a vector."""
    explain: bool = False
    """Whether each item comes with what of the user's history is closest to it."""

    def __post_init__(self) -> None:
        """Refuse what no server can mean anything by."""
        if self.history_time and len(self.history_time) != len(self.history or ()):
            raise UserError(
                f"history_time has {len(self.history_time)} times, but history has "
                f"{len(self.history or ())} items; give one time per item"
            )
        if not 0 <= self.diversity <= 1:
            raise UserError(f"diversity is {self.diversity}; give a number from 0 to 1")
        for task, weight in self.task_weights.items():
            if not 0 <= weight < math.inf:
                raise UserError(
                    f"the weight of {task!r} is {weight}; give a finite number of at least 0"
                )
        for name, most in self.at_most.items():
            if most < 1:
                raise UserError(f"at most {most} items per {name!r} is no list; give at least 1")


def request_inputs(
    signature: Signature, wishes: Wishes, user_ids: Sequence[str], *, k: int
) -> dict[str, np.ndarray]:
    """Return the inputs of the signature `recommend` by name.

    Raises UserError for a feature that the model cannot be asked by, and a list that is too long.
    """
    said = _said(signature, wishes)
    unknown = sorted(set(said) - set(signature.inputs))
    if unknown:
        raise UserError(
            f"the model has no input {unknown[0]!r}; it has {_names(signature.inputs)}. Features "
            "can be filtered by once they are `filterable: true` and exported again"
        )
    users = len(user_ids)
    arrays = {
        name: np.repeat(_row(name, spec, said.get(name)), users, axis=0)
        for name, spec in signature.inputs.items()
    }
    arrays["user_id"] = np.array(user_ids, object)
    arrays["k"] = np.full(users, k, np.int32)
    return arrays


def tasks_of(outputs: Iterable[str]) -> list[str]:
    """Return the tasks among the names of outputs, in the order of their weights."""
    return sorted(set(outputs) - {*_COLUMNS, TASK_WEIGHTS})


def _said(signature: Signature, wishes: Wishes) -> dict[str, Any]:
    """By input, what is not left out."""
    said: dict[str, Any] = {}
    for prefix, by_feature in (
        ("only_", wishes.only),
        ("never_", wishes.never),
        ("min_", wishes.least),
        ("max_", wishes.most),
        ("at_most_", wishes.at_most),
        ("context_", wishes.context),
    ):
        for name, value in by_feature.items():
            said[prefix + re.sub(r"[^A-Za-z0-9_]", "_", name)] = value
    if wishes.exclude:
        said["exclude"] = [one for one in wishes.exclude if one]
    if wishes.allow is not None:
        said["allow"] = [one for one in wishes.allow if one] or [_NO_ITEM]
    if wishes.history is not None:
        latest = -_width("history", signature.inputs["history"])
        said["history"] = list(wishes.history)[latest:] or [_NO_ITEM]
        said["history_time"] = list(wishes.history_time)[latest:]
    if wishes.task_weights:
        said[TASK_WEIGHTS] = _weights(signature, wishes.task_weights)
    if wishes.time is not None:
        said["time"] = wishes.time
    said["diversity"], said["explain"] = wishes.diversity, wishes.explain
    return said


def _weights(signature: Signature, weights: Mapping[str, float]) -> list[float]:
    tasks = tasks_of(signature.outputs)
    for name in weights:
        if name not in tasks:
            raise UserError(f"the model has no task {name!r}; it has {', '.join(tasks)}")
    return [weights.get(task, float("nan")) for task in tasks]


def _row(name: str, spec: TensorSpec, said: Any) -> np.ndarray:
    """One request's row of an input, [1] or [1, width]."""
    dtype = _DTYPES[spec.dtype]
    if len(spec.shape or ()) == 1:
        return np.array([_blank(name, dtype) if said is None else said], dtype)
    row = np.full((1, _width(name, spec)), _blank(name, dtype), dtype)
    values = [] if said is None else list(said)
    if len(values) > row.shape[1]:
        raise UserError(
            f"{name} has {len(values)} entries, but the model takes {row.shape[1]}; "
            "give fewer, or export with larger lists (export.request)"
        )
    row[0, : len(values)] = values
    return row


def _blank(name: str, dtype: np.dtype) -> Any:
    """What says nothing in an input."""
    if dtype.hasobject:
        return ""
    if name.startswith("min_"):
        return -_LARGEST
    if name.startswith("max_"):
        return _LARGEST
    return float("nan") if name.startswith("context_") else 0


def _width(name: str, spec: TensorSpec) -> int:
    width = spec.shape[1] if spec.shape is not None and len(spec.shape) == 2 else None
    if width is None:
        raise UserError(
            f"the input {name!r} of the model has no fixed width; "
            "name a recommender model that `tandem export` wrote"
        )
    return width


def _names(inputs: Iterable[str]) -> str:
    return ", ".join(sorted(inputs))
