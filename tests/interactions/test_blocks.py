from pathlib import Path

import numpy as np
import pytest

from interactions import blocks
from interactions.blocks import Spill, count_values, spans, whole_spans
from interactions.errors import UserError


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 4)


@pytest.mark.parametrize("length", [0, 1, 4, 5, 12])
def test_spans_hold_every_row_once(length):
    covered = [row for part in spans(length) for row in range(part.start, part.stop)]
    assert covered == list(range(length))
    assert all(part.stop - part.start <= 4 for part in spans(length))


def test_segments_stay_whole_even_where_one_is_longer_than_a_block():
    offsets = np.array([0, 2, 4, 4, 5, 14, 15, 15])
    found = list(whole_spans(offsets))
    assert found == [slice(0, 3), slice(3, 4), slice(4, 5), slice(5, 7)]
    assert list(whole_spans(np.array([0]))) == []
    assert list(whole_spans(np.array([0, 0, 0]))) == [slice(0, 2)]


def test_values_are_counted_over_blocks():
    column, rows = np.array([2, 0, 2, 1, 2, 2, 0, 1, 2]), np.array([0, 2, 3, 5, 6, 8])
    assert count_values(column, None, size=4).tolist() == [2, 2, 5, 0]
    assert count_values(column, rows, size=4).tolist() == [1, 1, 4, 0]


@pytest.mark.parametrize("lengths", [(), (0,), (4,), (3, 2), (9, 0, 1, 4)])
def test_a_spill_joins_its_blocks_whether_in_memory_or_on_disk(lengths):
    expected = np.arange(sum(lengths), dtype=np.int32)
    with Spill(np.int32) as spill:
        for block in np.split(expected, np.cumsum(lengths)[:-1]) if lengths else ():
            spill.append(block.astype(np.int64))
        joined = spill.array()
    np.testing.assert_array_equal(joined, expected)
    assert joined.dtype == np.int32
    assert joined.flags.writeable == (sum(lengths) <= 4)  # what is on disk is mapped, not copied


def test_a_full_disk_is_one_clear_line(monkeypatch):
    # what is written there fails as a disk without room does
    full = Path("/dev/full")
    monkeypatch.setattr(blocks.tempfile, "TemporaryFile", lambda prefix: full.open("r+b"))
    told = r"No space left .*; name one with more room by TMPDIR"
    with pytest.raises(UserError, match=told), Spill(np.int64) as spill:
        spill.append(np.zeros(9))
