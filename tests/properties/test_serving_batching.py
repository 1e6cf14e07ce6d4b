"""Whatever is joined comes back to whom it belongs."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from serving.batching import count_rows, join, padding_for, split

dtypes = st.sampled_from([np.dtype(t) for t in ("f4", "f8", "i4", "i8", "u1", "?", "O")])


@st.composite
def requests(draw, inner_varies=False):
    """Some requests with inputs `a` and `b`: rows of each their own, dtype and rank in common."""
    kinds = {
        name: (draw(dtypes), draw(st.integers(0, 2) if not inner_varies else st.just(2)))
        for name in ("a", "b")
    }
    inner = {
        name: draw(st.tuples(*[st.integers(1, 3)] * rank)) for name, (_, rank) in kinds.items()
    }
    made = []
    for _ in range(draw(st.integers(1, 5))):
        rows = draw(st.integers(0, 3))
        arrays = {}
        for name, (dtype, rank) in kinds.items():
            width = draw(st.tuples(*[st.integers(1, 3)] * rank)) if inner_varies else inner[name]
            values = st.binary(max_size=3) if dtype.kind == "O" else nps.from_dtype(dtype)
            arrays[name] = draw(nps.arrays(dtype, (rows, *width), elements=values))
        made.append(arrays)
    return made


@given(requests(), st.integers(0, 4))
def test_split_undoes_join(asked, padding):
    rows = [count_rows(inputs) for inputs in asked]
    padding = padding if sum(rows) else 0
    joined = join(asked, padding=padding)
    assert all(len(array) == sum(rows) + padding for array in joined.values())
    for inputs, answer in zip(asked, split(joined, rows=rows, padding=padding), strict=True):
        for name, array in inputs.items():
            np.testing.assert_array_equal(answer[name], array)
            assert answer[name].dtype == array.dtype


@example([{"a": np.array([[b"\0"]], object)}, {"a": np.array([[b"", b""]], object)}])
@given(requests(inner_varies=True).filter(lambda r: all(count_rows(x) for x in r)))
def test_filling_up_keeps_every_value_in_its_place(asked):
    rows = [count_rows(inputs) for inputs in asked]
    answers = split(join(asked, pad_inner=True), rows=rows)
    for inputs, answer in zip(asked, answers, strict=True):
        for name, array in inputs.items():
            kept = answer[name][tuple(map(slice, array.shape))]
            np.testing.assert_array_equal(kept, array)
            added = np.ones(answer[name].shape, bool)
            added[tuple(map(slice, array.shape))] = False
            first = np.broadcast_to(array.reshape(-1)[:1], int(added.sum()))
            np.testing.assert_array_equal(answer[name][added], first)


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=6, unique=True).map(sorted),
    st.integers(0, 60),
)
def test_a_batch_reaches_the_smallest_allowed_size_that_holds_it(allowed, rows):
    size = rows + padding_for(rows, allowed)
    fitting = [candidate for candidate in allowed if candidate >= rows]
    assert size == (min(fitting) if fitting else rows)
