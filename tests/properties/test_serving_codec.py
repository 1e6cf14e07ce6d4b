"""The tensor codec loses nothing, and agrees with TensorFlow's in both directions."""

import numpy as np
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow.core.framework import tensor_pb2

from features.backend import tf
from serving.messages import TensorProto
from serving.tensors import to_array, to_tensor

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "float32", "float64", "complex64", "complex128")
DTYPES = ("bool", *INTEGERS, *FLOATS)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
NUMBERS = st.sampled_from(DTYPES).flatmap(lambda dtype: arrays.arrays(np.dtype(dtype), SHAPES))
STRINGS = SHAPES.flatmap(
    lambda shape: arrays.arrays(object, shape, elements=st.binary(max_size=6), fill=st.nothing())
)
ARRAYS = st.one_of(NUMBERS, STRINGS)


def same(left, right):
    np.testing.assert_array_equal(left, right, strict=True)


@settings(deadline=None, max_examples=200)
@given(ARRAYS)
def test_round_trip(array):
    same(to_array(to_tensor(array)), array)


@settings(deadline=None, max_examples=200)
@given(ARRAYS)
def test_tensorflow_reads_what_we_write(array):
    theirs = tensor_pb2.TensorProto.FromString(to_tensor(array).SerializeToString())
    same(np.asarray(tf.make_ndarray(theirs)), array)


@settings(deadline=None, max_examples=200)
@given(ARRAYS)
def test_we_read_what_tensorflow_writes(array):
    # make_tensor_proto uses the content for most arrays, the typed field for small ones.
    theirs = tf.make_tensor_proto(array, dtype=tf.string if array.dtype == object else None)
    same(to_array(TensorProto.FromString(theirs.SerializeToString())), array)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_tensor_or_a_value_error(data):
    try:
        tensor = TensorProto.FromString(data)
    except DecodeError:
        return
    try:
        to_array(tensor)
    except ValueError:
        return


@settings(deadline=None, max_examples=200)
@given(
    dtype=st.integers(0, 24),
    sizes=st.lists(st.integers(-1, 5), max_size=3),
    content=st.binary(max_size=24),
    strings=st.lists(st.binary(max_size=3), max_size=3),
    floats=st.lists(st.floats(width=32), max_size=3),
)
def test_any_tensor_is_read_or_refused(dtype, sizes, content, strings, floats):
    tensor = TensorProto(dtype=dtype, tensor_content=content, string_val=strings, float_val=floats)
    for size in sizes:
        tensor.tensor_shape.dim.add().size = size
    try:
        assert to_array(tensor).shape == tuple(sizes)
    except ValueError:
        return
