"""JSON to the tensors of a Predict request and back, by the rules of util/json_tensor.cc."""

from __future__ import annotations

import base64
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.errors import ServingError, invalid_argument
from serving.json_array import Group, JsonKind, fast_array, slow_array
from serving.json_document import Document, is_base64
from serving.json_reader import members
from serving.json_writer import (
    decimal_texts,
    indented,
    object_text,
    single_line,
    string_text,
    value_text,
)
from serving.tensors import to_array

_ROWS, _COLUMNS = "instances", "inputs"
_BYTES_SUFFIX = "_bytes"


class Layout(enum.Enum):
    """How a request lists its tensors, and its answer too."""

    ROWS = _ROWS
    """One entry per row: `instances`, answered by `predictions`."""
    COLUMNS = _COLUMNS
    """One entry per tensor: `inputs`, answered by `outputs`."""


@dataclass(frozen=True)
class _Column:
    """The values of one input."""

    name: str
    kind: JsonKind


def fill_inputs(request: Any, document: Document, *, types: Mapping[str, int]) -> Layout:
    """Fill the inputs of a PredictRequest from a body; `types` are DataTypes by input name.

    Raises ServingError with TF Serving's text for values and forms that do not fit.
    """
    body = document.value
    if _ROWS in body and _COLUMNS in body:
        raise document.refused(
            f"Not formatted correctly expecting only one of '{_COLUMNS}' or '{_ROWS}' keys to "
            "exist "
        )
    columns = [_Column(name, JsonKind.of(types[name])) for name in sorted(types)]
    if _ROWS in body:
        arrays = _read_rows(document, columns)
    elif _COLUMNS in body:
        arrays = _read_columns(document, columns)
    else:
        raise invalid_argument("Missing 'inputs' or 'instances' key")
    for name, array in arrays.items():
        _write_tensor(request.inputs[name], array, number=types[name])
    return Layout.ROWS if _ROWS in body else Layout.COLUMNS


def outputs_text(outputs: Mapping[str, Any], *, layout: Layout) -> str:
    """Return the body that answers with TensorProtos by output name.

    Raises ServingError where there is none, a type has no JSON, or the row layout finds a scalar
    or sizes that differ.
    """
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    if layout is Layout.ROWS:
        return _rows_text({name: outputs[name] for name in sorted(outputs)})
    return _columns_text({name: outputs[name] for name in sorted(outputs)})


def _read_rows(document: Document, columns: Sequence[_Column]) -> dict[str, np.ndarray]:
    """Return arrays [rows, ...] by input name."""
    rows = document.value[_ROWS]
    if not isinstance(rows, list):
        raise document.refused(f"Excepting '{_ROWS}' to be an list/array")
    if not rows:
        raise document.refused(f"No values in '{_ROWS}' array")
    if not isinstance(rows[0], dict) and len(columns) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    if _is_named(rows[0]):
        return _named_rows_fast(rows, columns, document) or _named_rows(rows, columns, document)
    column = columns[0]
    array = fast_array(rows, column.kind, document=document)
    return {column.name: _plain_rows(rows, column, document) if array is None else array}


def _is_named(row: Any) -> bool:
    return isinstance(row, dict) and not is_base64(row)


def _named_rows_fast(
    rows: Sequence[Any], columns: Sequence[_Column], document: Document
) -> dict[str, np.ndarray] | None:
    names = {column.name for column in columns}
    if not all(type(row) is dict and row.keys() == names and _is_named(row) for row in rows):
        return None
    arrays: dict[str, np.ndarray] = {}
    for column in columns:
        values = [row[column.name] for row in rows]
        array = fast_array(values, column.kind, document=document)
        if array is None:
            return None
        arrays[column.name] = array
    return arrays


def _named_rows(
    rows: Sequence[Any], columns: Sequence[_Column], document: Document
) -> dict[str, np.ndarray]:
    """Read row after row, as TF Serving does, so that its first error is ours."""
    kinds = {column.name: column.kind for column in columns}
    items: dict[str, list[np.ndarray]] = {}
    for number, row in enumerate(rows):
        if not _is_named(row):
            raise invalid_argument(f"Expecting object but got list at item {number} of input list")
        for name, value in members(row):
            try:
                if name not in kinds:
                    raise invalid_argument(f"JSON object: does not have named input: {name}")
                _add_item(items.setdefault(name, []), value, kinds[name], document=document)
            except ServingError as error:
                raise _in_element(error, f"{number} key: {name}") from error
        if row.keys() != kinds.keys():
            raise invalid_argument(
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{value_text(row)} keys must be equal to: {','.join(sorted(kinds))}"
            )
    # A key that stands twice adds an item too many; as in a TensorProto, the first ones count.
    return {name: np.stack(found[: len(rows)]) for name, found in items.items()}


def _plain_rows(rows: Sequence[Any], column: _Column, document: Document) -> np.ndarray:
    items: list[np.ndarray] = []
    for number, row in enumerate(rows):
        if _is_named(row):
            raise invalid_argument(
                f"Expecting value/list but got object at item {number} of input list"
            )
        try:
            _add_item(items, row, column.kind, document=document)
        except ServingError as error:
            raise _in_element(error, str(number)) from error
    return np.stack(items)


def _add_item(items: list[np.ndarray], value: Any, kind: JsonKind, *, document: Document) -> None:
    """Append the array of one row, which must be of the first one's shape."""
    item = slow_array(value, kind, document=document)
    if items and items[0].size != item.size:
        raise invalid_argument(f"Expecting tensor size: {items[0].size} but got: {item.size}")
    if items and items[0].shape != item.shape:
        raise invalid_argument(
            f"Expecting shape {_shape_text(items[0])} but got: {_shape_text(item)}"
        )
    items.append(item)


def _in_element(error: ServingError, place: str) -> ServingError:
    return invalid_argument(
        f"Failed to process element: {place} of 'instances' list. Error: {error.code.name}: {error}"
    )


def _shape_text(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _read_columns(document: Document, columns: Sequence[_Column]) -> dict[str, np.ndarray]:
    """Return arrays by input name."""
    value = document.value[_COLUMNS]
    if _is_named(value):
        for column in columns:
            if column.name not in value:
                raise invalid_argument(
                    f"Missing named input: {column.name} in '{_COLUMNS}' object."
                )
        return {
            column.name: _array(value[column.name], column.kind, document) for column in columns
        }
    if len(columns) > 1:
        raise invalid_argument(
            "inputs is a plain value/list, but expecting an object as multiple input tensors "
            "required as per tensorinfo_map"
        )
    return {columns[0].name: _array(value, columns[0].kind, document)}


def _array(value: Any, kind: JsonKind, document: Document) -> np.ndarray:
    array = fast_array(value, kind, document=document)
    return slow_array(value, kind, document=document) if array is None else array


def _write_tensor(tensor: Any, array: np.ndarray, *, number: int) -> None:
    tensor.dtype = number
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    tensor.tensor_shape.SetInParent()
    if array.dtype == object:
        tensor.string_val.extend(array.ravel().tolist())
    else:
        tensor.tensor_content = array.tobytes()


def _rows_text(outputs: Mapping[str, Any]) -> str:
    count = -1
    for name, tensor in outputs.items():
        if not tensor.tensor_shape.dim:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        size = tensor.tensor_shape.dim[0].size
        if count not in (-1, size):
            raise invalid_argument(
                f"Tensor name: {name} has inconsistent batch size: {size} expecting: {count}"
            )
        count = size
    # Two levels around a row, and its own braces where it has names.
    depth = 2 + (len(outputs) > 1)
    rows = {name: _row_texts(name, tensor, depth=depth) for name, tensor in outputs.items()}
    if not count:
        return _root("predictions", "[]")
    if len(rows) == 1:
        return _root("predictions", f"[{', '.join(*rows.values())}\n    ]")
    objects = [
        object_text(list(zip(rows, values, strict=True)), depth=2)
        for values in zip(*rows.values(), strict=True)
    ]
    inner = "\n        "
    return _root("predictions", f"[{inner}{f',{inner}'.join(objects)}\n    ]")


def _row_texts(name: str, tensor: Any, *, depth: int) -> list[str]:
    """Return the text of each row of a tensor [rows, ...]."""
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    return single_line(_value_texts(name, tensor, depth=depth + len(shape) - 1), shape)


def _columns_text(outputs: Mapping[str, Any]) -> str:
    depth = 1 + (len(outputs) > 1)
    texts: list[tuple[str, str]] = []
    for name, tensor in outputs.items():
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        values = _value_texts(name, tensor, depth=depth + len(shape))
        texts.append((name, indented(values, shape, depth=depth)))
    if len(texts) == 1:
        return _root("outputs", texts[0][1])
    return _root("outputs", object_text(texts, depth=1))


def _root(key: str, text: str) -> str:
    return object_text([(key, text)], depth=0)


def _value_texts(name: str, tensor: Any, *, depth: int) -> list[str]:
    """Return the text of every value of a tensor, row by row; `depth` is that of a value."""
    kind = JsonKind.of(tensor.dtype)
    if any(dim.size == 0 for dim in tensor.tensor_shape.dim):
        return []
    if kind.group is None:
        raise invalid_argument(f"Failed to write JSON value for tensor type: {kind.word}")
    values = to_array(tensor).ravel()
    if kind.group is Group.FLOAT:
        return decimal_texts(values)
    if kind.group is Group.BOOLEAN:
        return ["true" if value else "false" for value in values.tolist()]
    if kind.group is Group.INTEGER:
        return list(map(str, values.tolist()))
    if name.endswith(_BYTES_SUFFIX):
        return [_base64_text(value, depth=depth) for value in values.tolist()]
    return [string_text(value.decode("utf-8", "surrogateescape")) for value in values.tolist()]


def _base64_text(value: bytes, *, depth: int) -> str:
    return object_text([("b64", f'"{base64.b64encode(value).decode("ascii")}"')], depth=depth)
