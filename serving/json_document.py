"""The body of a request: one JSON object, and what its parts are refused for."""

from __future__ import annotations

import base64
import functools
from typing import Any

import numpy as np

from serving.errors import ServingError, invalid_argument
from serving.json_reader import as_float, is_integer, read_json, read_strictly
from serving.json_writer import value_text

_BASE64_KEY = "b64"
_LARGEST = {"float": float(np.finfo(np.float32).max), "double": float(np.finfo(np.float64).max)}
LARGEST_EXACT = {"float": (1 << 24) - 1, "double": (1 << 53) - 1}
"""The largest integer that TF Serving accepts for a float of either type."""


class Document:
    """A parsed body."""

    def __init__(self, value: dict[str, Any], *, body: bytes) -> None:
        self.value = value
        self._body = body

    @functools.cached_property
    def may_hold_booleans(self) -> bool:
        """Whether a true or false can stand anywhere in the body."""
        return b"true" in self._body or b"false" in self._body

    @property
    def signature_name(self) -> str:
        """The signature that is asked for; empty is the default. Raises ServingError."""
        name = self.value.get("signature_name", "")
        if not isinstance(name, str):
            raise self.refused(
                "not formatted correctly. 'signature_name' key must be a string value."
            )
        return name

    def refused(self, why: str) -> ServingError:
        """Return the error of a body whose form is wrong."""
        return invalid_argument(f"JSON Value: {value_text(self.value)} {why}")

    def check_overflow(self, numbers: np.ndarray) -> None:
        """Raise ServingError where one of `numbers` (floats, any shape) was too big for a double.

        Python reads 1e999 as infinity; RapidJSON refuses it.
        """
        if np.isinf(numbers).any() and b"Inf" not in self._body:
            read_strictly(self._body)


def read_document(body: bytes) -> Document:
    """Return a body whose top level is an object; raises ServingError, see `read_json`."""
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    value = read_json(body)
    if not isinstance(value, dict):
        raise invalid_argument(f"JSON Value: {value_text(value)} Is not object")
    return Document(value, body=body)


def type_word(value: Any) -> str:
    """Return RapidJSON's word for the type of a value."""
    match value:
        case None:
            return "Null"
        case bool():
            return str(value)
        case dict():
            return "Object"
        case list():
            return "Array"
        case str():
            return "String"
    return "Number"


def is_base64(value: Any) -> bool:
    """Whether a value is {"b64": a string} and nothing else."""
    return isinstance(value, dict) and len(value) == 1 and type(value.get(_BASE64_KEY)) is str


def decode_base64(value: Any) -> bytes:
    """Return the bytes of a {"b64": ...}; raises ServingError for anything else."""
    if not is_base64(value):
        raise invalid_argument(
            f"JSON Value: {value_text(value)} not formatted correctly for base64 data"
        )
    # absl::Base64Unescape: white space is skipped, and the padding is right or missing.
    text = "".join(value[_BASE64_KEY].split())
    digits = text.rstrip("=.")
    padding = -len(digits) % 4
    if len(text) - len(digits) not in (0, padding):
        raise invalid_argument("Unable to base64 decode")
    try:
        return base64.b64decode(digits + "=" * padding, validate=True)
    except ValueError as error:
        raise invalid_argument("Unable to base64 decode") from error


def check_lossless(value: Any, kind: str) -> None:
    """Raise ServingError for a number that the type `kind` (float or double) cannot hold.

    An integer must be small enough that every one up to it is exact (IsLosslessDecimal).
    """
    if is_integer(value):
        fits = abs(value) <= LARGEST_EXACT[kind]
    else:
        number = as_float(value)
        fits = not np.isfinite(number) or abs(number) <= _LARGEST[kind]
    if not fits:
        raise invalid_argument(
            f"Cannot convert JSON value: {value_text(value)} to {kind} without loss of precision."
        )
