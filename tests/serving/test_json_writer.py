"""Numbers and strings are written as TF Serving writes them."""

import numpy as np
import pytest

from serving.json_tensors import Layout, outputs_text
from serving.json_writer import decimal_texts, error_text, string_text, value_text
from serving.tensors import to_tensor


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (9000000, "9e+06"), (999999, "999999.0"), (0.5, "0.5"), (0.0003, "0.0003"),
        (0.00003, "3e-05"), (555557.5, "555557.5"), (1 / 3, "0.333333343"), (0.1, "0.1"),
        (16777216, "16777216.0"), (0, "0.0"), (-0.0, "-0.0"), (-2, "-2.0"),
        (3.4028235e38, "3.40282347e+38"), (1e-45, "1.4013e-45"), (np.nan, "NaN"),
        (np.inf, "Infinity"), (-np.inf, "-Infinity"),
    ],
)  # fmt: skip
def test_floats(number, text):
    assert decimal_texts(np.array([number, 1.5], np.float32)) == [text, "1.5"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.1, "0.1"),
        (1 / 3, "0.33333333333333331"),
        (1e300, "1e+300"),
        (2**53, "9007199254740992.0"),
    ],
)
def test_doubles(number, text):
    assert decimal_texts(np.array([number])) == [text]


def test_strings():
    assert string_text('a"\\/\b\f\n\r\t\x1f é') == '"a\\"\\\\/\\b\\f\\n\\r\\t\\u001F é"'
    assert error_text('Bad "key"') == '{\n    "error": "Bad \\"key\\""\n}'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"), (1e300, "1e+300"), (7, "7"), (True, "true"), (None, "null"), ({}, "{}"),
        ([1.0, 1e22, 1e-7, 1.5e16, float("nan")], "[ 1.0, 1e22, 1e-7, 15000000000000000.0, NaN]"),
        ({"a": [[]], "b": "x"}, '{ "a": [ [] ], "b": "x"}'),
    ],
)  # fmt: skip
def test_values_as_errors_quote_them(value, text):
    assert " ".join(value_text(value).split()).replace(" ]", "]").replace(
        " }", "}"
    ) == text.replace(" ]", "]")


def test_a_huge_value_is_cut():
    text = value_text([0] * 1_000_000)
    assert text.endswith("...TRUNCATED") and len(text) < 10_000


@pytest.mark.parametrize(
    ("array", "rows", "columns"),
    [
        (np.arange(4).reshape(2, 2), "[[0, 1], [2, 3]\n    ]", None),
        (np.zeros((0, 2)), "[]", "[]"),
        (np.zeros((2, 0)), "[[], []\n    ]", "[\n        [],\n        []\n    ]"),
        (np.ones((1, 2, 1)), "[[[1.0], [1.0]]\n    ]", None),
        (np.array([True, False]), "[true, false\n    ]", None),
    ],
)
def test_layouts(array, rows, columns):
    outputs = {"a": to_tensor(array)}
    assert outputs_text(outputs, layout=Layout.ROWS) == f'{{\n    "predictions": {rows}\n}}'
    if columns:
        assert outputs_text(outputs, layout=Layout.COLUMNS) == f'{{\n    "outputs": {columns}\n}}'


def test_named_rows():
    outputs = {"b": to_tensor(["x", "y"]), "a_bytes": to_tensor([[b"hi"], [b"\0"]])}
    assert (
        outputs_text(outputs, layout=Layout.ROWS)
        == """{
    "predictions": [
        {
            "a_bytes": [{
                    "b64": "aGk="
                }],
            "b": "x"
        },
        {
            "a_bytes": [{
                    "b64": "AA=="
                }],
            "b": "y"
        }
    ]
}"""
    )
