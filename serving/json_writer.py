"""JSON as TF Serving writes it: RapidJSON's PrettyWriter, and decimals that read back exactly."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from serving.json_reader import as_float, is_integer, members

_INDENT = 4
_LONGEST_VALUE = 8192
_ESCAPED = re.compile('["\\\\\x00-\x1f]')
_SHORT_ESCAPES = {
    '"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
}  # fmt: skip
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_LARGEST_FLOAT = 3.4028234e38
_FULL_DIGITS = {4: "%.9g ", 8: "%.17g "}


def error_text(text: str) -> str:
    """Return the body of an answer that says what went wrong."""
    return f'{{\n    "error": {string_text(text)}\n}}'


def string_text(value: str) -> str:
    """Return a string in quotes; only what must be escaped is."""
    return f'"{_ESCAPED.sub(_escape, value)}"'


def decimal_texts(numbers: np.ndarray) -> list[str]:
    """Return each of `numbers` (float32 or float64, any shape, row by row) as TF Serving writes it.

    Six digits where they read back as the same number, else 9 (float64: 17); `.0` behind whole
    numbers without an exponent; NaN, Infinity and -Infinity (WriteDecimal in util/json_tensor.cc).
    """
    flat = numbers.ravel()
    values = flat.tolist()
    texts = _printed("%g ", values)
    back = np.fromiter(map(float, texts), np.float64, count=len(texts)).astype(flat.dtype)
    inexact = np.flatnonzero((back != flat) & ~np.isnan(flat)).tolist()
    full = _printed(_FULL_DIGITS[flat.dtype.itemsize], [values[place] for place in inexact])
    for place, text in zip(inexact, full, strict=True):
        texts[place] = text
    if not np.isfinite(flat).all():
        texts = [_NOT_FINITE.get(text, text) for text in texts]
    return [_with_point(text) for text in texts]


def single_line(texts: Sequence[str], shape: Sequence[int]) -> list[str]:
    """Join `texts`, the values of `shape` [rows, ...] row by row, into one line for each row."""
    joined = list(texts)
    for axis in reversed(range(1, len(shape))):
        width = shape[axis]
        joined = [
            f"[{', '.join(joined[start * width : (start + 1) * width])}]"
            for start in range(math.prod(shape[:axis]))
        ]
    return joined


def indented(texts: Sequence[str], shape: Sequence[int], *, depth: int) -> str:
    """Join `texts` (row by row) into one array of `shape` that opens at `depth`, a value a line."""
    joined = list(texts)
    for axis in reversed(range(len(shape))):
        width = shape[axis]
        joined = [
            _array_text(joined[start * width : (start + 1) * width], depth=depth + axis)
            for start in range(math.prod(shape[:axis]))
        ]
    return joined[0]


def object_text(pairs: Sequence[tuple[str, str]], *, depth: int) -> str:
    """Return an object that opens at `depth`, of names and values that are JSON already."""
    if not pairs:
        return "{}"
    outer, inner = " " * (_INDENT * depth), " " * (_INDENT * (depth + 1))
    lines = ",\n".join(f"{inner}{string_text(name)}: {value}" for name, value in pairs)
    return f"{{\n{lines}\n{outer}}}"


def value_text(value: Any) -> str:
    """Return a value of a request as errors quote it, cut after some thousand characters."""
    if isinstance(value, int | float) and not isinstance(value, bool) and not is_integer(value):
        value = as_float(value)
        is_float = -_LARGEST_FLOAT <= value <= _LARGEST_FLOAT
        return decimal_texts(np.array([value], np.float32 if is_float else np.float64))[0]
    parts: list[str] = []
    length = 0
    for part in _parts(value, depth=0):
        parts.append(part)
        length += len(part)
        if length > _LONGEST_VALUE:
            return f"{''.join(parts)[:_LONGEST_VALUE]}...TRUNCATED"
    return "".join(parts)


def _parts(value: Any, *, depth: int) -> Iterator[str]:
    """Return the text of a value piece by piece, so that a huge one need not be written."""
    if isinstance(value, dict | list) and value:
        is_object = isinstance(value, dict)
        separator = "{\n" if is_object else "[\n"
        entries = members(value) if is_object else enumerate(value)
        for name, entry in entries:
            yield separator + " " * (_INDENT * (depth + 1))
            if is_object:
                yield f"{string_text(str(name))}: "
            yield from _parts(entry, depth=depth + 1)
            separator = ",\n"
        yield "\n" + " " * (_INDENT * depth) + ("}" if is_object else "]")
    else:
        yield _leaf_text(value)


def _leaf_text(value: Any) -> str:
    """Return the text of a value that holds no other."""
    match value:
        case None | True | False:
            return {None: "null", True: "true", False: "false"}[value]
        case str():
            return string_text(value[:_LONGEST_VALUE])
        case float():
            return _shortest(value)
        case dict():
            return "{}"
        case list():
            return "[]"
    return str(value) if is_integer(value) else _shortest(as_float(value))


def _shortest(value: float) -> str:
    """Return a float within a list or object as RapidJSON's Grisu2 prints it."""
    if not math.isfinite(value):
        return _NOT_FINITE[str(value)]
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        text = format(Decimal(repr(value)), "f")
        return text if "." in text else f"{text}.0"
    return re.sub(r"e([+-])0?", lambda match: "e" + match[1].strip("+"), repr(value))


def _array_text(texts: Sequence[str], *, depth: int) -> str:
    if not texts:
        return "[]"
    outer, inner = " " * (_INDENT * depth), " " * (_INDENT * (depth + 1))
    separator = f",\n{inner}"
    return f"[\n{inner}{separator.join(texts)}\n{outer}]"


def _printed(form: str, values: Sequence[float]) -> list[str]:
    # One format for all: a tenth of the time of one call per value.
    return (form * len(values) % tuple(values)).split()


def _with_point(text: str) -> str:
    whole = "." not in text and "e" not in text and text[-1].isdigit()
    return f"{text}.0" if whole else text


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return _SHORT_ESCAPES.get(character) or f"\\u{ord(character):04X}"
