"""Each row of a table once, however small the table is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.backend import tf
from features.distinct import distinct


@pytest.mark.parametrize("size", [9, 2**16 + 1, None])
@settings(deadline=None)
@given(rows=st.lists(st.integers(0, 8), max_size=30))
def test_every_row_is_there_once_and_found_at_its_places(size: int | None, rows: list[int]) -> None:
    found, place = distinct(tf.constant(rows, tf.int32), size=size)
    assert sorted(found.numpy().tolist()) == sorted(set(rows))
    np.testing.assert_array_equal(found.numpy()[place.numpy()], rows)
    assert found.dtype == tf.int32


def test_rows_keep_their_dtype_and_size_is_respected_in_a_graph() -> None:
    rows = tf.constant([5, 2, 5], tf.int64)
    graph = tf.function(lambda rows: distinct(rows, size=6), reduce_retracing=True)
    found, place = graph(rows)
    assert found.dtype == tf.int64
    np.testing.assert_array_equal(tf.gather(found, place), rows)
