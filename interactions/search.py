"""Binary search in many sorted segments of one array at once."""

from __future__ import annotations

import numpy as np


def first_at_or_after(
    values: np.ndarray, starts: np.ndarray, ends: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Return for each query the first place in its segment whose value is at or after the target.

    `values` [n] int64 are sorted within each segment; segment q is values[starts[q]:ends[q]].
    `starts`, `ends` and `targets` are [Q] int64, and so is the result; it is ends[q] where all
    values are smaller.
    """
    low, high = np.array(starts, np.int64), np.array(ends, np.int64)
    if not len(values):
        return low
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = (low + high) >> 1
        open_ = low < high
        smaller = open_ & (values[np.minimum(middle, len(values) - 1)] < targets)
        low = np.where(smaller, middle + 1, low)
        high = np.where(open_ & ~smaller, middle, high)
    return low
