"""The tensor codec: what TensorFlow reads and writes, and what is refused."""

import numpy as np
import pytest

from features.backend import tf
from serving.messages import TensorProto
from serving.tensors import to_array, to_tensor


def test_strings_become_utf8_bytes_in_their_shape():
    tensor = to_tensor([["a", "é"], ["", "c\0"]])
    assert to_array(tensor).tolist() == [[b"a", "é".encode()], [b"", b"c\0"]]


def test_a_scalar_has_a_shape_of_no_dimensions():
    tensor = to_tensor("x")
    assert tensor.HasField("tensor_shape")
    assert to_array(tensor).shape == ()


@pytest.mark.parametrize(
    ("field", "given", "full"),
    [
        ("float_val", [1.5, 2.5], [1.5, 2.5, 2.5, 2.5]),
        ("float_val", [], [0.0] * 4),
        ("float_val", [1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0]),
        ("string_val", [b"a", b"b"], [b"a", b"b", b"b", b"b"]),
        ("string_val", [], [b""] * 4),
    ],
)
def test_short_typed_fields_repeat_their_last_value(field, given, full):
    tensor = TensorProto(dtype=7 if field == "string_val" else 1)
    tensor.tensor_shape.dim.add().size = 4
    getattr(tensor, field).extend(given)
    assert to_array(tensor).tolist() == full


def test_integers_wrap_as_in_tensorflow():
    tensor = TensorProto(dtype=tf.uint8.as_datatype_enum, int_val=[257])
    tensor.tensor_shape.dim.add().size = 1
    assert to_array(tensor).tolist() == [1]


def test_strings_are_read_from_content():
    # Lengths as varints, then the bytes: what Tensor::AsProtoTensorContent writes.
    tensor = TensorProto(dtype=7, tensor_content=bytes([2, 0, 0x82, 0x01]) + b"hi" + b"x" * 130)
    tensor.tensor_shape.dim.add().size = 3
    assert to_array(tensor).tolist() == [b"hi", b"", b"x" * 130]


def _tensor(dtype, *sizes, **fields):
    tensor = TensorProto(dtype=dtype, **fields)
    for size in sizes:
        tensor.tensor_shape.dim.add().size = size
    return tensor


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (_tensor(0, 2), "type number 0"),
        (_tensor(9999, 2), "type number 9999"),
        (_tensor(1, -1), "shape"),
        (_tensor(1, 2, tensor_content=b"1234567"), "do not fill"),
        (_tensor(7, 2, tensor_content=b"\x01"), "cannot hold"),
        (_tensor(7, 2, tensor_content=b"\xff\xff"), "cut off"),
        (_tensor(7, 1, tensor_content=b"\x05ab"), "lengths"),
        (_tensor(1, 1 << 40, float_val=[1.0]), "cannot stand for"),
        (_tensor(7, 1 << 40, string_val=[b"a"]), "cannot stand for"),
        (_tensor(1, *[1] * 65), "not allowed"),
    ],
)
def test_what_cannot_be_read_is_refused(tensor, why):
    with pytest.raises(ValueError, match=why):
        to_array(tensor)


def test_unknown_rank_is_refused():
    tensor = TensorProto(dtype=1, float_val=[1.0])
    tensor.tensor_shape.unknown_rank = True
    with pytest.raises(ValueError, match="rank"):
        to_array(tensor)


@pytest.mark.parametrize(
    "values",
    [[["a"], ["b", "c"]], ["a", 1], [[1, 2], [3]], [object()], np.array(["2024"], "M8[Y]")],
)
def test_what_cannot_be_written_is_refused(values):
    with pytest.raises(ValueError):
        to_tensor(values)


def test_more_axes_than_the_graph_can_take_are_refused_not_run():
    tensor = TensorProto(dtype=7)
    for _ in range(33):
        tensor.tensor_shape.dim.add().size = 0
    with pytest.raises(ValueError, match="not allowed"):
        to_array(tensor)
