"""NumPy arrays to TensorProto and back, as TensorFlow's own codec does it, without TensorFlow.

The functions take any TensorProto: `serving.messages`' or TensorFlow's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.messages import DataType, TensorProto

MOST_REPEATED_BYTES = 1 << 28
"""A few bytes may claim to be a huge tensor by repeating their last value; more is refused."""


@dataclass(frozen=True)
class _Kind:
    """Where a type's values lie in a TensorProto."""

    dtype: np.dtype
    """The type of the array."""
    field: str
    wire: np.dtype
    """What the field's numbers are read as before they become the array's."""


def _kind(dtype: type, field: str, *, wire: type | None = None) -> _Kind:
    return _Kind(np.dtype(dtype), field, np.dtype(wire or dtype))


_KINDS = {
    "DT_FLOAT": _kind(np.float32, "float_val"),
    "DT_DOUBLE": _kind(np.float64, "double_val"),
    "DT_HALF": _kind(np.float16, "half_val", wire=np.int32),
    "DT_INT8": _kind(np.int8, "int_val", wire=np.int32),
    "DT_INT16": _kind(np.int16, "int_val", wire=np.int32),
    "DT_INT32": _kind(np.int32, "int_val"),
    "DT_INT64": _kind(np.int64, "int64_val"),
    "DT_UINT8": _kind(np.uint8, "int_val", wire=np.int32),
    "DT_UINT16": _kind(np.uint16, "int_val", wire=np.int32),
    "DT_UINT32": _kind(np.uint32, "uint32_val"),
    "DT_UINT64": _kind(np.uint64, "uint64_val"),
    "DT_BOOL": _kind(np.bool_, "bool_val"),
    "DT_COMPLEX64": _kind(np.complex64, "scomplex_val", wire=np.float32),
    "DT_COMPLEX128": _kind(np.complex128, "dcomplex_val", wire=np.float64),
}
_NUMBER_OF = {name: DataType.values_by_name[name].number for name in (*_KINDS, "DT_STRING")}
_KIND_OF = {_NUMBER_OF[name]: kind for name, kind in _KINDS.items()}
_NUMBER_OF_DTYPE = {kind.dtype: _NUMBER_OF[name] for name, kind in _KINDS.items()}
_STRING = _NUMBER_OF["DT_STRING"]


def to_tensor(values: Any) -> Any:
    """Return `values` (an array, or lists of str, bytes or numbers, any shape) as a TensorProto.

    Numbers keep NumPy's type, strings become UTF-8. Raises ValueError for a ragged list or a type
    that a TensorProto cannot hold.
    """
    tensor = TensorProto()
    write_tensor(tensor, values)
    return tensor


def write_tensor(tensor: Any, values: Any) -> None:
    """Write `values`, as in `to_tensor`, into the typed fields of the empty message `tensor`.

    Raises ValueError for a ragged list or a type that a TensorProto cannot hold.
    """
    array = _as_array(values)
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    # The shape of a scalar has no dimension, and must be there all the same.
    tensor.tensor_shape.SetInParent()
    if array.dtype == object:
        tensor.dtype = _STRING
        tensor.string_val.extend([_as_bytes(value) for value in array.ravel().tolist()])
        return
    number = _NUMBER_OF_DTYPE.get(array.dtype)
    if number is None:
        raise ValueError(f"a tensor cannot hold values of type {array.dtype}")
    kind = _KIND_OF[number]
    flat = np.ascontiguousarray(array).ravel()
    if kind.field == "half_val":
        flat = flat.view(np.uint16)
    elif kind.dtype.kind == "c":
        # [n] complex -> [2 n]: real and imaginary parts in turn
        flat = flat.view(kind.wire)
    getattr(tensor, kind.field).extend(flat.tolist())
    tensor.dtype = number


def to_array(tensor: Any) -> np.ndarray:
    """Return a TensorProto's values; strings come as an object array of bytes.

    Reads the typed fields, whose last value stands for all that are missing, and `tensor_content`,
    as `Tensor::FromProto` in tensorflow/core/framework/tensor.cc does. Raises ValueError for a
    type that NumPy does not know, a shape that is unknown or does not agree with the content, and
    a short list that claims to be a tensor of more than 256 MiB.
    """
    shape = _shape(tensor)
    size = math.prod(shape)
    if tensor.dtype == _STRING:
        return _strings(tensor, size=size).reshape(shape)
    kind = _KIND_OF.get(tensor.dtype)
    if kind is None:
        raise ValueError(f"tensors of type number {tensor.dtype} are not supported")
    if tensor.tensor_content:
        content = tensor.tensor_content
        if len(content) != size * kind.dtype.itemsize:
            raise ValueError(f"{len(content)} bytes of content do not fill the shape {shape}")
        return np.frombuffer(content, dtype=kind.dtype).reshape(shape).copy()
    return _numbers(tensor, kind, size=size).reshape(shape)


def _as_array(values: Any) -> np.ndarray:
    """Return `values` as an array whose dtype is object where they are strings."""
    if isinstance(values, np.ndarray):
        return values.astype(object) if values.dtype.kind in "US" else values
    try:
        # By way of object: NumPy's own bytes lose what ends with a zero byte.
        array = np.array(values, dtype=object)
        if any(isinstance(value, str | bytes) for value in array.ravel()[:1]):
            return array
        return np.asarray(values)
    except ValueError as error:
        raise ValueError("the lists of a tensor must have equal lengths") from error


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8")
    raise ValueError(f"a tensor of strings cannot hold {value!r}")


_MOST_AXES = 32
"""TensorFlow allows 254, but ends the process at 33 of strings that come in from Python."""


def _shape(tensor: Any) -> tuple[int, ...]:
    if tensor.tensor_shape.unknown_rank:
        raise ValueError("the tensor's shape has no known rank")
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if len(shape) > _MOST_AXES or any(size < 0 for size in shape):
        raise ValueError(f"the tensor's shape {shape[:8]} is not allowed")
    return shape


def _numbers(tensor: Any, kind: _Kind, *, size: int) -> np.ndarray:
    """Return the [size] values in the typed field."""
    parts = 2 if kind.dtype.kind == "c" else 1
    field = getattr(tensor, kind.field)
    _refuse_inflation(size * kind.dtype.itemsize, given=len(field) // parts, size=size)
    given = np.fromiter(field, dtype=kind.wire, count=min(len(field) // parts, size) * parts)
    if kind.field == "half_val":
        given = given.astype(np.uint16).view(np.float16)
    elif parts == 2:
        given = given.view(kind.dtype)
    return _filled(given.astype(kind.dtype, copy=False), size=size)


def _filled(given: np.ndarray, *, size: int) -> np.ndarray:
    """Return [size] values: those given [n], then the last of them, or zero where there is none."""
    if len(given) == size:
        return given
    rest = given[-1] if len(given) else np.zeros((), given.dtype)[()]
    return np.concatenate([given, np.full(size - len(given), rest, dtype=given.dtype)])


def _strings(tensor: Any, *, size: int) -> np.ndarray:
    """Return the [size] strings as an object array of bytes."""
    if tensor.tensor_content:
        values = _split_strings(tensor.tensor_content, count=size)
    else:
        values = list(tensor.string_val[:size])
        _refuse_inflation(size * 8, given=len(values), size=size)
        values += [values[-1] if values else b""] * (size - len(values))
    array = np.empty(size, dtype=object)
    array[:] = values
    return array


def _refuse_inflation(size_in_bytes: int, *, given: int, size: int) -> None:
    if given < size and size_in_bytes > MOST_REPEATED_BYTES:
        raise ValueError(f"{given} values cannot stand for a tensor of {size}")


def _split_strings(content: bytes, *, count: int) -> list[bytes]:
    """Return strings from content: all lengths as varints, then the bytes (DecodeStringList)."""
    if count > len(content):
        raise ValueError(f"{len(content)} bytes of content cannot hold {count} strings")
    position = 0
    lengths = []
    for _ in range(count):
        length, shift = 0, 0
        while True:
            if position >= len(content) or shift > 28:
                raise ValueError("the content of a tensor of strings is cut off")
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise ValueError("the content of a tensor of strings does not agree with its lengths")
    values = []
    for length in lengths:
        values.append(content[position : position + length])
        position += length
    return values
