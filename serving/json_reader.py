"""JSON request bodies as TF Serving reads them: RapidJSON's rules, words and offsets.

Python's own parser reads nearly every body. What it refuses, or reads otherwise than RapidJSON
1.1.0 with kParseNanAndInfFlag (`Inf`, lone surrogates, a zero byte, a byte order mark), goes to a
reader of our own, which knows what RapidJSON says and where.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from serving.errors import ServingError, invalid_argument

MOST_NESTED = 33
"""Levels of lists and objects in a body: a tensor of 32 dimensions in the top object.

RapidJSON would recurse until its stack ends; TensorFlow's session dies of strings with more
dimensions than 32.
"""
LARGEST_INT64 = (1 << 63) - 1
LARGEST_UINT64 = (1 << 64) - 1

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SPACE = re.compile(rb"[ \n\r\t]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_INTEGER = re.compile(rb"0|[1-9][0-9]*")
_DIGITS = re.compile(rb"[0-9]+")
_NO_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_HEX = re.compile(rb"[0-9a-fA-F]{4}")
_INFINITY = re.compile(rb"Inf(i)?")
_ESCAPES = dict(
    zip(b'"\\/bfnrt', (b'"', b"\\", b"/", b"\b", b"\f", b"\n", b"\r", b"\t"), strict=True)
)
_WORDS: dict[int, tuple[bytes, Any]] = {
    ord("n"): (b"null", None),
    ord("t"): (b"true", True),
    ord("f"): (b"false", False),
}


class RepeatedKeys(dict[str, Any]):
    """An object in which a key stands twice: looks up the first, as RapidJSON does."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(reversed(pairs))
        self.pairs = tuple(pairs)


def read_json(body: bytes) -> Any:
    """Return the value that `body` holds; strings keep what is no UTF-8 as `surrogateescape` does.

    A number that is too big for a double may come back as infinity, see `read_strictly`. Raises
    ServingError (INVALID_ARGUMENT) with RapidJSON's text and offset for malformed JSON, and for
    more than MOST_NESTED levels.
    """
    if not _is_special(body) and not _may_nest_deeply(body):
        try:
            text = body.decode("utf-8", "surrogateescape")
            return json.loads(text, object_pairs_hook=_object)
        except ValueError:
            pass  # malformed, or an integer of thousands of digits: the reader below says it
    return read_strictly(body)


def read_strictly(body: bytes) -> Any:
    """Return what `read_json` does, many times slower, and refuse numbers that are too big."""
    return _Reader(body).read()


def members(value: dict[str, Any]) -> Sequence[tuple[str, Any]]:
    """Return all members of an object in their order, repeated ones too."""
    return value.pairs if isinstance(value, RepeatedKeys) else tuple(value.items())


def is_integer(value: Any) -> bool:
    """Whether a value is a number that RapidJSON keeps as an integer of 64 bits."""
    return type(value) is int and -LARGEST_INT64 - 1 <= value <= LARGEST_UINT64


def as_float(number: float) -> float:
    """Return a number of a body as a double; infinity where it is too big for one."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else RepeatedKeys(pairs)


def _is_special(body: bytes) -> bool:
    """Whether a body holds what Python's parser reads otherwise than RapidJSON."""
    # Three searches for plain bytes cost a hundredth of one for a pattern.
    return (
        b"\0" in body
        or body.startswith(_BYTE_ORDER_MARK)
        or (b"\\u" in body and _SURROGATE.search(body) is not None)
    )


def _may_nest_deeply(body: bytes) -> bool:
    """Whether brackets, also those in strings, go deeper than MOST_NESTED."""
    brackets = body.translate(None, delete=_NO_BRACKETS)
    if len(brackets) <= MOST_NESTED:
        return False
    # "[" and "{" end in the bits 011, "]" and "}" in 101.
    opening = (np.frombuffer(brackets, np.uint8) & 6) == 2
    steps = np.where(opening, 1, -1)
    return int(np.cumsum(steps).max()) > MOST_NESTED


class _Reader:
    """Reads one value from a body by RapidJSON's rules."""

    def __init__(self, body: bytes) -> None:
        # RapidJSON takes a zero byte for the end.
        self._body = body.partition(b"\0")[0]
        self._at = len(_BYTE_ORDER_MARK) if body.startswith(_BYTE_ORDER_MARK) else 0
        self._depth = 0

    def read(self) -> Any:
        self._skip_space()
        if self._at == len(self._body):
            self._fail("The document is empty.")
        value = self._value()
        self._skip_space()
        if self._at < len(self._body):
            self._fail("The document root must not be followed by other values.")
        return value

    def _value(self) -> Any:
        code = self._peek()
        if code == ord("{"):
            return self._nested(self._members)
        if code == ord("["):
            return self._nested(self._elements)
        if code == ord('"'):
            return self._string()
        return self._word() if code in _WORDS else self._number()

    def _nested(self, read: Any) -> Any:
        self._depth += 1
        if self._depth > MOST_NESTED:
            self._fail(f"Nested deeper than {MOST_NESTED} levels.")
        self._at += 1
        value = read()
        self._depth -= 1
        return value

    def _members(self) -> dict[str, Any]:
        pairs: list[tuple[str, Any]] = []
        self._skip_space()
        if self._consume(b"}"):
            return {}
        while True:
            if self._peek() != ord('"'):
                self._fail("Missing a name for object member.")
            name = self._string()
            self._skip_space()
            if not self._consume(b":"):
                self._fail("Missing a colon after a name of object member.")
            self._skip_space()
            pairs.append((name, self._value()))
            self._skip_space()
            if self._consume(b"}"):
                return _object(pairs)
            if not self._consume(b","):
                self._fail("Missing a comma or } after an object member.")
            self._skip_space()

    def _elements(self) -> list[Any]:
        values: list[Any] = []
        self._skip_space()
        if self._consume(b"]"):
            return values
        while True:
            values.append(self._value())
            self._skip_space()
            if self._consume(b"]"):
                return values
            if not self._consume(b","):
                self._fail("Missing a comma or ] after an array element.")
            self._skip_space()

    def _word(self) -> Any:
        word, value = _WORDS[self._peek()]
        self._expect(word)
        return value

    def _string(self) -> str:
        self._at += 1
        parts: list[bytes] = []
        while True:
            parts.append(self._match(_PLAIN))
            if self._consume(b'"'):
                return b"".join(parts).decode("utf-8", "surrogateescape")
            if self._at == len(self._body):
                self._fail("Missing a closing quotation mark in string.")
            if self._peek() != ord("\\"):
                self._fail("Invalid escape character in string.")
            parts.append(self._escape())

    def _escape(self) -> bytes:
        start = self._at
        self._at += 1
        code = self._peek()
        self._at += 1
        if code in _ESCAPES:
            return _ESCAPES[code]
        if code != ord("u"):
            self._fail("Invalid escape character in string.", at=start)
        point = self._hex(start)
        if 0xD800 <= point <= 0xDBFF:
            second = self._hex(start) if self._consume(b"\\u") else 0
            if not 0xDC00 <= second <= 0xDFFF:
                self._fail("The surrogate pair in string is invalid.", at=start)
            point = ((point - 0xD800) << 10 | (second - 0xDC00)) + 0x10000
        return chr(point).encode("utf-8", "surrogatepass")

    def _hex(self, start: int) -> int:
        digits = self._match(_HEX)
        if not digits:
            self._fail("Incorrect hex digit after \\u escape in string.", at=start)
        return int(digits, 16)

    def _number(self) -> float | int:
        start = self._at
        negative = self._consume(b"-")
        if self._peek() in b"IN":
            return self._not_finite(negative=negative)
        if not self._match(_INTEGER):
            self._fail("Invalid value.")
        whole = self._at
        if self._consume(b".") and not self._match(_DIGITS):
            self._fail("Miss fraction part in number.")
        if self._consume(b"e") or self._consume(b"E"):
            if not self._consume(b"+"):
                self._consume(b"-")
            if not self._match(_DIGITS):
                self._fail("Miss exponent in number.")
        text = self._body[start : self._at]
        number = float(text)
        if math.isinf(number):
            self._fail("Number too big to be stored in double.", at=start)
        return int(text) if self._at == whole else number

    def _not_finite(self, *, negative: bool) -> float:
        if self._peek() == ord("N"):
            self._expect(b"NaN")
            return math.nan
        match = _INFINITY.match(self._body, self._at)
        self._expect(b"Infinity" if match and match[1] else b"Inf")
        return -math.inf if negative else math.inf

    def _expect(self, word: bytes) -> None:
        """Read `word`; the offset of an error is after the letters that are right."""
        for letter in word:
            if self._peek() != letter:
                self._fail("Invalid value.")
            self._at += 1

    def _peek(self) -> int:
        """Return the next byte, 0 at the end."""
        return self._body[self._at] if self._at < len(self._body) else 0

    def _consume(self, expected: bytes) -> bool:
        found = self._body.startswith(expected, self._at)
        self._at += len(expected) if found else 0
        return found

    def _match(self, pattern: re.Pattern[bytes]) -> bytes:
        match = pattern.match(self._body, self._at)
        if match is None:
            return b""
        self._at = match.end()
        return match[0]

    def _skip_space(self) -> None:
        self._match(_SPACE)

    def _fail(self, text: str, *, at: int | None = None) -> NoReturn:
        raise _parse_error(text, at=self._at if at is None else at)


def _parse_error(text: str, *, at: int) -> ServingError:
    return invalid_argument(f"JSON Parse error: {text} at offset: {at}")
