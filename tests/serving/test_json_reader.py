"""Bodies are read by RapidJSON's rules, and refused with its words and offsets."""

import json
import math

import pytest

from serving.errors import ServingError
from serving.json_document import read_document
from serving.json_reader import read_json, read_strictly


@pytest.mark.parametrize(
    ("body", "text", "offset"),
    [
        (b"  ", "The document is empty.", 2),
        (b"{} x", "The document root must not be followed by other values.", 3),
        (b"instances", "Invalid value.", 0),
        (b'{"a": nul}', "Invalid value.", 9),
        (b'{"a": truE}', "Invalid value.", 9),
        (b'{"a": Inx}', "Invalid value.", 8),
        (b'{"a": Infinite}', "Invalid value.", 13),
        (b'{"a": -}', "Invalid value.", 7),
        (b"{a: 1}", "Missing a name for object member.", 1),
        (b'{"a": 1,}', "Missing a name for object member.", 8),
        (b'{"a" 1}', "Missing a colon after a name of object member.", 5),
        (b'{"a": 1 "b": 2}', "Missing a comma or } after an object member.", 8),
        (b'{"a": 01}', "Missing a comma or } after an object member.", 7),
        (b'{"a": [1 2]}', "Missing a comma or ] after an array element.", 9),
        (b'{"a": [1,]}', "Invalid value.", 9),
        (b'{"a": "\\u12G4"}', "Incorrect hex digit after \\u escape in string.", 7),
        (b'{"a": "\\ud800"}', "The surrogate pair in string is invalid.", 7),
        (b'{"a": "\\ud800\\u0041"}', "The surrogate pair in string is invalid.", 7),
        (b'{"a": "b\\x"}', "Invalid escape character in string.", 8),
        (b'{"a": "b\nc"}', "Invalid escape character in string.", 8),
        (b'{"a": "bc', "Missing a closing quotation mark in string.", 9),
        (b'{"a": "b\0c"}', "Missing a closing quotation mark in string.", 8),
        (b'{"a": 1e309}', "Number too big to be stored in double.", 6),
        (b'{"a": ' + b"9" * 5000 + b"}", "Number too big to be stored in double.", 6),
        (b'{"a": 1.}', "Miss fraction part in number.", 8),
        (b'{"a": 1e+}', "Miss exponent in number.", 9),
        (b"[" * 100_000, "Nested deeper than 33 levels.", 33),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "Nested deeper than 33 levels.", 165),
    ],
)
def test_malformed(body, text, offset):
    with pytest.raises(ServingError) as caught:
        read_strictly(body)
    assert str(caught.value) == f"JSON Parse error: {text} at offset: {offset}"
    if b"1e309" not in body:
        with pytest.raises(ServingError) as caught:
            read_json(body)
        assert str(caught.value) == f"JSON Parse error: {text} at offset: {offset}"


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": 1}\0garbage', {"a": 1}),
        (b'{"a": "\\ud83d\\ude00\\u00e9\\/"}', {"a": "\U0001f600é/"}),
        (b'{"a": "\xff"}', {"a": "\udcff"}),
        (b'{"a": [Inf, -Infinity, -0, -0.5, 1E2]}', {"a": [math.inf, -math.inf, 0, -0.5, 100.0]}),
        (b'{"a": "[[[{{"}', {"a": "[[[{{"}),
        (b"[" * 33 + b"]" * 33, None),
        (b'{"a": ' + b'"' + b"[" * 99 + b'"}', {"a": "[" * 99}),
    ],
)
def test_accepted(body, value):
    found = read_json(body)
    if value is not None:
        assert found == value
    assert found == read_strictly(body)


def test_a_lone_low_surrogate_keeps_its_three_bytes():
    text = read_json(b'"\\udc80"')
    assert text.encode("utf-8", "surrogateescape") == b"\xed\xb2\x80"


def test_a_key_that_stands_twice():
    found = read_json(b'{"a": 1, "b": 2, "a": 3}')
    assert found["a"] == 1
    assert found.pairs == (("a", 1), ("b", 2), ("a", 3))


def test_both_readers_agree():
    value = {"instances": [{"x": [1, 2.5, -3e-7, None], "y": 'zoë \n"\\'}, True, False, {}, []]}
    body = json.dumps(value, indent=2).encode()
    assert read_json(body) == read_strictly(body) == value


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"[]", "JSON Value: [] Is not object"),
        (b"1.5", "JSON Value: 1.5 Is not object"),
        (b'"a\x7f\\u0001"', 'JSON Value: "a\x7f\\u0001" Is not object'),
        (b"18446744073709551616", "JSON Value: 1.84467441e+19 Is not object"),
    ],
)
def test_only_objects_are_documents(body, text):
    with pytest.raises(ServingError) as caught:
        read_document(body)
    assert str(caught.value) == text
