"""REST loses no value, refuses what it must, and never fails on what it is sent."""

import json
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchmarks.serving.fuzz import fuzz
from serving.apis import DataType, PredictRequest
from serving.errors import ServingError
from serving.json_array import JsonKind, fast_array, slow_array
from serving.json_document import read_document
from serving.json_reader import read_json, read_strictly
from serving.json_tensors import Layout, fill_inputs, outputs_text
from serving.json_writer import decimal_texts
from serving.tensors import to_array, to_tensor

EXACT = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")
SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=3)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=4),
    st.builds(lambda text: {"b64": text}, st.sampled_from(["aGk=", "aGk", "a", "", "a===", "é"])),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["x", "y", "b64"]), inner, max_size=3),
        st.builds(lambda value, count: [value] * count, inner, st.integers(0, 3)),
    ),
    max_leaves=8,
)
TYPES = st.sampled_from(["DT_FLOAT", "DT_DOUBLE", "DT_INT32", "DT_INT64", "DT_UINT8", "DT_UINT64",
                         "DT_BOOL", "DT_STRING", "DT_HALF", "DT_COMPLEX64"])  # fmt: skip


def numbers():
    return st.sampled_from((*EXACT, "float32", "float64")).flatmap(
        lambda dtype: arrays.arrays(np.dtype(dtype), SHAPES)
    )


def strings():
    elements = st.binary(max_size=5)
    return SHAPES.flatmap(
        lambda shape: arrays.arrays(object, shape, elements=elements, fill=st.nothing())
    )


@settings(deadline=None, max_examples=60)
@given(numbers())
def test_what_is_written_reads_back(array):
    """What the server writes has every bit, and a client may send it back as `inputs`."""
    text = outputs_text({"x": to_tensor(array)}, layout=Layout.COLUMNS)
    values = json.loads(text)["outputs"]
    expected = array.astype(np.float64) if array.dtype == np.float32 else array
    found = np.array(values, dtype=array.dtype if array.size else expected.dtype)
    np.testing.assert_array_equal(found.reshape(array.shape), array)


@settings(deadline=None, max_examples=60)
@given(st.one_of(numbers(), strings()))
def test_both_layouts_hold_the_same(array):
    outputs = {"x_bytes": to_tensor(array), "other": to_tensor(np.arange(len(array)))}
    rows = json.loads(outputs_text(outputs, layout=Layout.ROWS))["predictions"]
    columns = json.loads(outputs_text(outputs, layout=Layout.COLUMNS))["outputs"]
    by_row = [row["x_bytes"] for row in rows]
    assert repr(by_row) == repr(columns["x_bytes"])  # NaN is not equal to itself


@settings(deadline=None, max_examples=60)
@given(strings())
def test_bytes_survive_the_way_there_and_back(array):
    text = outputs_text({"x_bytes": to_tensor(array)}, layout=Layout.COLUMNS)
    body = json.dumps({"inputs": json.loads(text)["outputs"]}).encode()
    request = PredictRequest()
    fill_inputs(request, read_document(body), types={"x": DataType.Value("DT_STRING")})
    back = to_array(request.inputs["x"])
    assert back.ravel().tolist() == array.ravel().tolist()
    if array.size:
        assert back.shape == array.shape


@settings(deadline=None, max_examples=150)
@given(st.floats(width=32) | st.floats(width=32, min_value=-1, max_value=1))
def test_a_float_has_at_most_nine_digits_and_reads_back(number):
    text = decimal_texts(np.array([number], np.float32))[0]
    back = float(text.replace("Infinity", "inf"))
    assert math.isnan(number) if math.isnan(back) else np.float32(back) == np.float32(number)
    if math.isfinite(number):
        mantissa = text.split("e")[0].replace("-", "").removesuffix(".0").replace(".", "")
        assert len(mantissa.lstrip("0")) <= 9
        assert "." in text or "e" in text


@settings(deadline=None, max_examples=150)
@given(VALUES, TYPES)
@example([[], [[]]], "DT_FLOAT")
@example([16777217, 1.5], "DT_FLOAT")
@example([True, 1], "DT_INT32")
@example([2**63, 1], "DT_INT64")
@example([-1, 2**64 - 1], "DT_UINT64")
@example([["a"], "b"], "DT_STRING")
def test_the_fast_way_gives_what_the_slow_one_does_or_nothing(value, type_name):
    body = json.dumps({"v": value}).encode()
    document = read_document(body)
    kind = JsonKind.of(DataType.Value(type_name))
    fast = fast_array(document.value["v"], kind, document=document)
    if fast is not None:
        slow = slow_array(document.value["v"], kind, document=document)
        np.testing.assert_array_equal(fast, slow, strict=True)


@settings(deadline=None, max_examples=150)
@given(VALUES, TYPES, TYPES, st.sampled_from(["instances", "inputs"]))
def test_any_value_is_read_or_refused(value, first, second, key):
    body = json.dumps({key: value}).encode()
    request = PredictRequest()
    try:
        types = {"x": DataType.Value(first), "y": DataType.Value(second)}
        layout = fill_inputs(request, read_document(body), types=types)
    except ServingError as error:
        assert error.code.name in ("INVALID_ARGUMENT", "UNIMPLEMENTED")
        assert str(error)
        return
    assert layout.value == key
    for tensor in request.inputs.values():
        if tensor.dtype != DataType.Value("DT_COMPLEX64"):
            to_array(tensor)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_bytes_are_read_or_refused(data):
    value = data.draw(VALUES)
    body = bytearray(json.dumps({"instances": value}).encode())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(body)))
        piece = data.draw(st.binary(max_size=2) | st.sampled_from([b"\\u", b"\\ud800", b"-Inf"]))
        body[at : at + data.draw(st.integers(0, 2))] = piece
    try:
        found = read_json(bytes(body))
    except ServingError as error:
        assert str(error).startswith("JSON Parse error: ")
        assert 0 <= int(str(error).rpartition(" ")[2]) <= len(body)
        with pytest.raises(ServingError, match=r"JSON Parse error"):
            read_strictly(bytes(body))
        return
    try:
        strict = read_strictly(bytes(body))
    except ServingError as error:
        assert "too big" in str(error)  # the one thing that Python reads and RapidJSON does not
        return
    assert repr(found) == repr(strict)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_thousands_of_mutated_requests_bring_no_fault(seed):
    report = fuzz(20_000, seed=seed, say=print)
    assert not report.failures
    assert report.outcomes["REST 200"] > 100 and report.outcomes["message OK"] > 100
