"""Columns of files as what the project works with: strings, numbers and vectors."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interactions.errors import UserError

# What common tools write where a number is unknown.
NO_NUMBER = ("", "NA", "N/A", "na", "n/a", "nan", "NaN", "NAN", "null", "NULL", "None", "none")
_TRUTH = {"true": 1.0, "false": 0.0}


def is_text(type_: pa.DataType) -> bool:
    """Say whether the type is one of Arrow's string types."""
    return (
        pa.types.is_string(type_)
        or pa.types.is_large_string(type_)
        or pa.types.is_string_view(type_)
    )


def is_list(type_: pa.DataType) -> bool:
    """Say whether the type is one of Arrow's list types."""
    return (
        pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
    )


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column with a dictionary, if it has one, replaced by its values."""
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column


def as_strings(column: pa.ChunkedArray, *, separator: str = "|") -> pa.ChunkedArray:
    """Return the column as strings, where empty becomes null.

    Whole numbers become decimal (never `1.0`), also those that a gap made floating; the values of
    a list are joined by `separator`.
    """
    column = decoded(column)
    if is_list(column.type):
        values = pa.list_(pa.string())
        column = pc.binary_join(column.cast(values), separator)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
        whole = pc.all(pc.equal(pc.floor(column), column)).as_py()
        if whole is not False and pc.max(pc.abs(column)).as_py() not in (None, float("inf")):
            column = column.cast(pa.int64())
    text = column.cast(pa.string())
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def as_numbers(column: pa.ChunkedArray, *, name: str, remedy: str) -> np.ndarray:
    """Return the column as float64 [rows], NaN where it is null; true and false become 1 and 0.

    Raises `UserError` naming the column and its first value that is no number.
    """
    column = decoded(column)
    if is_text(column.type):
        column = _parsed(column, name=name, remedy=remedy)
    if is_list(column.type) or pa.types.is_temporal(column.type):
        raise UserError(f"column {name!r} holds {column.type}, not numbers; {remedy}")
    # Unsafe: whole numbers above 2**53 are rounded instead of refused.
    return column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64, copy=False)


def as_vectors(column: pa.ChunkedArray, *, name: str) -> pa.ChunkedArray:
    """Return the column as lists of float32, all of one length, null where unknown.

    Text such as `[0.1, 0.2]` is split at commas, semicolons, bars and blanks. Raises `UserError`
    where something is no number or lengths differ.
    """
    column = decoded(column)
    if is_text(column.type):
        inside = pc.replace_substring_regex(column, r"^[\s\[(]+|[\s\])]+$", "")
        inside = pc.if_else(pc.equal(inside, ""), pa.scalar(None, pa.string()), inside)
        column = pc.split_pattern_regex(inside, r"[,;|\s]+")
    try:
        vectors = column.cast(pa.list_(pa.float32()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            f"column {name!r} holds something that is no vector of numbers ({_line(error)}); "
            "give lists of numbers"
        ) from error
    lengths = pc.unique(pc.drop_null(pc.list_value_length(vectors))).to_pylist()
    if len(lengths) > 1:
        raise UserError(
            f"column {name!r} holds vectors of lengths {sorted(lengths)[:5]}; give them one length"
        )
    return vectors


def _parsed(column: pa.ChunkedArray, *, name: str, remedy: str) -> pa.ChunkedArray:
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    unknown = pc.is_in(text, value_set=pa.array(NO_NUMBER))
    text = pc.if_else(unknown, pa.scalar(None, pa.string()), text)
    try:
        return text.cast(pa.float64())
    except pa.ArrowInvalid:
        distinct = pc.drop_null(text.unique())
        values = [_number(value, name=name, remedy=remedy) for value in distinct.to_pylist()]
        return pa.chunked_array(
            [pc.take(pa.array(values, pa.float64()), pc.index_in(text, distinct).combine_chunks())]
        )


def _number(value: str, *, name: str, remedy: str) -> float:
    try:
        return _TRUTH[value.lower()] if value.lower() in _TRUTH else float(value)
    except ValueError:
        raise UserError(f"column {name!r} holds {value!r}, which is no number; {remedy}") from None


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
