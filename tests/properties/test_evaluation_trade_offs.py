"""Efficient choices, of any."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evaluation.trade_offs import efficient

points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30)


@given(points)
def test_efficient_choices_are_those_that_none_beats(choices):
    first, second = np.array(choices, float).T
    front = [(first[i], second[i]) for i in efficient(first, second)]
    unbeaten = {
        one for one in zip(first, second, strict=True)
        if not any(a >= one[0] and b >= one[1] and (a, b) != one for a, b in choices)
    }  # fmt: skip
    assert front == sorted(unbeaten)
