"""One JSON value to one array: NumPy where the whole is plain, else value by value."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.apis import DataType
from serving.errors import ServingError, invalid_argument, unimplemented
from serving.json_document import (
    LARGEST_EXACT,
    Document,
    check_lossless,
    decode_base64,
    type_word,
)
from serving.json_reader import as_float, is_integer
from serving.json_writer import value_text


class Group(enum.Enum):
    """What stands for a type in JSON."""

    FLOAT = "float"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    STRING = "string"


@dataclass(frozen=True)
class JsonKind:
    """A type of tensors, as JSON knows it."""

    word: str
    """TensorFlow's own: float, double, int32, string."""
    group: Group | None
    """None for a type that JSON has no values for."""
    dtype: np.dtype
    bounds: tuple[int, int] = (0, 0)
    """The integers that are accepted; those of int32 for the smaller signed types and uint8."""

    @staticmethod
    @functools.cache
    def of(number: Any) -> JsonKind:
        """Return the kind of a DataType's number."""
        try:
            word = DataType.Name(number).removeprefix("DT_").lower()
        except ValueError:
            word = f"unknown dtype enum ({number})"
        if word not in _GROUPS:
            # An empty tensor can still be sent; its bytes are none whatever the type.
            return JsonKind(word, None, np.dtype(np.uint8))
        group = _GROUPS[word]
        if group is Group.STRING:
            return JsonKind(word, group, np.dtype(object))
        dtype = np.dtype({"float": "float32", "double": "float64"}.get(word, word))
        return JsonKind(word, group, dtype, _bounds(dtype) if group is Group.INTEGER else (0, 0))


_GROUPS = {
    "float": Group.FLOAT,
    "double": Group.FLOAT,
    "bool": Group.BOOLEAN,
    "string": Group.STRING,
} | dict.fromkeys(("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"), Group.INTEGER)


def _bounds(dtype: np.dtype) -> tuple[int, int]:
    # TF Serving checks for int32 and then casts (AddValueToTensor); so 300 is 44 as a uint8.
    info = np.iinfo(np.int32 if dtype.itemsize < 4 else dtype)
    return int(info.min), int(info.max)


def fast_array(value: Any, kind: JsonKind, *, document: Document) -> np.ndarray | None:
    """Return a list of plain values of one kind as an array; None where `slow_array` must look."""
    if not isinstance(value, list) or kind.group is None:
        return None
    if kind.group is Group.STRING:
        return _fast_strings(value)
    if kind.group is not Group.BOOLEAN and document.may_hold_booleans:
        return None  # NumPy takes true for 1
    try:
        found = np.array(value)
    except (ValueError, OverflowError):
        return None
    if not found.size:
        return np.zeros(found.shape, kind.dtype)
    if not _fits(found, kind):
        return None
    if kind.group is Group.FLOAT:
        document.check_overflow(found)
    return found.astype(kind.dtype, copy=False)


def slow_array(value: Any, kind: JsonKind, *, document: Document) -> np.ndarray:
    """Return any value as an array, or raise ServingError with TF Serving's word for its fault."""
    shape = _shape(value)
    values: list[Any] = []
    _fill(value, kind, 0, shape, values)
    if kind.group is Group.FLOAT:
        exact = np.array(values, np.float64)
        document.check_overflow(exact)
        return exact.astype(kind.dtype).reshape(shape)
    if kind.group is Group.INTEGER and kind.dtype.itemsize < 4:
        return np.array(values, np.int32).astype(kind.dtype).reshape(shape)
    array = np.empty(len(values), kind.dtype)
    array[:] = values
    return array.reshape(shape)


def _fits(found: np.ndarray, kind: JsonKind) -> bool:
    """Whether all of a numeric array is sure to be accepted; the doubtful is not."""
    if kind.group is Group.BOOLEAN:
        return found.dtype == np.bool_
    if kind.group is Group.INTEGER:
        low, high = kind.bounds
        return found.dtype.kind in "iu" and bool(found.min() >= low and found.max() <= high)
    if found.dtype.kind not in "iuf":
        return False
    # Beyond this it matters whether a whole number was written with a point.
    most = LARGEST_EXACT[kind.word]
    outside = (found > most) | (found < -most)
    if found.dtype.kind == "f":
        outside &= np.isfinite(found)
    return not outside.any()


def _fast_strings(value: list[Any]) -> np.ndarray | None:
    found = np.array(value, dtype=object)
    values = found.ravel().tolist()
    if set(map(type, values)) - {str}:
        return None
    array = np.empty(len(values), object)
    array[:] = [text.encode("utf-8", "surrogateescape") for text in values]
    return array.reshape(found.shape)


def _shape(value: Any) -> tuple[int, ...]:
    """Return the shape that the first elements, level by level, promise."""
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _fill(
    value: Any, kind: JsonKind, level: int, shape: tuple[int, ...], values: list[Any]
) -> None:
    """Append what `value` holds at `level` of a tensor of `shape` (FillTensorProto)."""
    rank = len(shape)
    if not isinstance(value, list):
        if level != rank:
            raise invalid_argument(
                f"JSON Value: {value_text(value)} found at incorrect level: {level + 1} in the "
                f"JSON DOM. Expected at level: {rank}"
            )
        values.append(_leaf(value, kind))
        return
    if level >= rank:
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )
    for entry in value:
        _fill(entry, kind, level + 1, shape, values)


def _leaf(value: Any, kind: JsonKind) -> Any:
    """Return one value of a tensor (AddValueToTensor)."""
    if isinstance(value, dict):
        if kind.group is not Group.STRING:
            raise _type_error(value, kind)
        return decode_base64(value)
    if kind.group is None:
        raise unimplemented(f"Conversion of JSON Value: {value_text(value)} to type: {kind.word}")
    return _LEAVES[kind.group](value, kind)


def _float_leaf(value: Any, kind: JsonKind) -> float:
    if type(value) not in (int, float):
        raise _type_error(value, kind)
    check_lossless(value, kind.word)
    return as_float(value)


def _integer_leaf(value: Any, kind: JsonKind) -> int:
    low, high = kind.bounds
    if not is_integer(value) or not low <= value <= high:
        raise _type_error(value, kind)
    return value


def _boolean_leaf(value: Any, kind: JsonKind) -> bool:
    if type(value) is not bool:
        raise _type_error(value, kind)
    return value


def _string_leaf(value: Any, kind: JsonKind) -> bytes:
    if type(value) is not str:
        raise _type_error(value, kind)
    return value.encode("utf-8", "surrogateescape")


_LEAVES: dict[Group, Callable[[Any, JsonKind], Any]] = {
    Group.FLOAT: _float_leaf,
    Group.INTEGER: _integer_leaf,
    Group.BOOLEAN: _boolean_leaf,
    Group.STRING: _string_leaf,
}


def _type_error(value: Any, kind: JsonKind) -> ServingError:
    return invalid_argument(
        f"JSON Value: {value_text(value)} Type: {type_word(value)} is not of expected type: "
        f"{kind.word}"
    )
