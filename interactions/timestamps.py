"""Times of any usual unit as microseconds since 1970."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interactions.columns import NO_NUMBER, as_numbers, decoded, is_text
from interactions.config import TimestampUnit
from interactions.errors import UserError

_MICROSECONDS = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}
# A number of seconds below 1973 or above 5138 is taken for something else.
_SMALLEST_SECONDS, _LARGEST_SECONDS = 1e8, 1e11
_OFFSET = r":\d\d(\.\d+)?\s*(Z|[+-]\d\d(:?\d\d)?)$"


@dataclass(frozen=True)
class Times:
    """Times of rows and how they were read."""

    value: np.ndarray
    """[rows] int64: microseconds since 1970 (UTC), or a bare order; 0 where not valid."""
    valid: np.ndarray
    """[rows] bool: the row has a time."""
    unit: str
    """How they were read, in words."""


def read_times(column: pa.ChunkedArray, *, unit: TimestampUnit, name: str) -> Times:
    """Return the column's times; `auto` finds out the unit from type and magnitude.

    Raises `UserError` where a value is no time, or the magnitude fits no unit.
    """
    column = decoded(column)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return _from_arrow(column, f"timestamps of the file ({column.type})")
    if is_text(column.type):
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
        column = pc.if_else(
            pc.is_in(text, value_set=pa.array(NO_NUMBER)), pa.scalar(None, pa.string()), text
        )
        if unit == "iso" or (unit == "auto" and not _looks_numeric(column)):
            return _from_arrow(_parse_iso(column, name), "ISO 8601 text")
    elif unit == "iso":
        raise UserError(
            f"timestamp_unit is iso, but column {name!r} holds {column.type}; "
            "use timestamp_unit: auto"
        )
    return _from_numbers(column, unit=unit, name=name)


def _from_arrow(column: pa.ChunkedArray, words: str) -> Times:
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    moments = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False)
    valid = pc.is_valid(moments).to_numpy()
    return Times(moments.cast(pa.int64()).fill_null(0).to_numpy(), valid, words)


def _parse_iso(text: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    zoned = pc.match_substring_regex(text, _OFFSET)
    nothing = pa.scalar(None, pa.string())
    utc, plain = pa.timestamp("ns", "UTC"), pa.timestamp("ns")
    try:
        with_zone = pc.if_else(zoned, text, nothing).cast(utc).cast(plain)
        without = pc.if_else(zoned, nothing, text).cast(plain)
    except pa.ArrowInvalid as error:
        found = str(error).partition("string: '")[2].partition("'")[0]
        raise UserError(
            f"timestamp column {name!r} holds {found!r}, which is no time; give numbers, ISO 8601 "
            "text (2024-05-01T12:00:00), or timestamp_unit: order"
        ) from error
    return pc.coalesce(with_zone, without)


def _looks_numeric(text: pa.ChunkedArray) -> bool:
    first = pc.drop_null(text).slice(0, 1).to_pylist()
    return not first or re.fullmatch(r"[+-]?[\d.]+([eE][+-]?\d+)?", first[0]) is not None


def _as_integers(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return None


def _from_numbers(column: pa.ChunkedArray, *, unit: TimestampUnit, name: str) -> Times:
    remedy = "give numbers, ISO 8601 text, or timestamp: null where only the rows' order is known"
    numbers = as_numbers(column, name=name, remedy=remedy)
    valid = np.isfinite(numbers)
    words: str = unit
    if unit == "auto":
        unit = _detect(numbers[valid], name)
        words = f"{unit} (detected)"
    whole = _as_integers(column)
    # Whole numbers stay whole: float64 would round those above 2**53.
    values = np.where(valid, numbers, 0.0) if whole is None else whole.fill_null(0).to_numpy()
    if unit == "order":
        return Times(_ordered(values), valid, "bare order")
    factor = _MICROSECONDS[unit]
    if len(values) and np.abs(values).max() > 2**62 / factor:
        raise UserError(
            f"timestamp column {name!r} holds {np.abs(values).max():.6g}, too large for {unit}; "
            "use timestamp_unit: auto"
        )
    moments = values * factor
    if whole is None:
        moments = np.rint(moments).astype(np.int64)
    return Times(moments, valid, words)


def _ordered(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.int64:
        return values
    # Fractions order rows as well as whole numbers do: keep their ranks.
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _detect(numbers: np.ndarray, name: str) -> TimestampUnit:
    if not len(numbers):
        return "seconds"
    typical = float(np.median(np.abs(numbers)))
    scales: dict[TimestampUnit, float] = {
        "seconds": 1.0,
        "milliseconds": 1e3,
        "microseconds": 1e6,
    }
    for unit, scale in scales.items():
        if _SMALLEST_SECONDS * scale <= typical < _LARGEST_SECONDS * scale:
            return unit
    raise UserError(
        f"timestamp column {name!r} holds numbers like {typical:.6g}, whose unit cannot be told; "
        "give timestamp_unit: seconds, milliseconds, microseconds or order"
    )
