import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interactions import blocks
from interactions.histories import PAD, Histories
from interactions.log import EventLog
from interactions.queries import first_choices
from interactions.search import first_at_or_after

USERS, ITEMS = 4, 5
row = st.tuples(
    st.integers(0, USERS - 1), st.integers(0, ITEMS - 1), st.integers(0, 6), st.booleans()
)
rows = st.lists(row, max_size=30)


def log_of(events) -> EventLog:
    events = sorted(events, key=lambda event: (event[0], event[2]))
    user, item, time, chosen = (
        np.array([event[k] for event in events], np.int64) for k in range(4)
    )
    return EventLog(
        user_ids=np.arange(USERS).astype(str).astype(object),
        item_ids=np.arange(ITEMS).astype(str).astype(object),
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        time=time,
        chosen=chosen.astype(bool),
        exposure=np.ones(len(events), bool),
        labels={},
        event_table=pa.table({}),
        user_table=pa.table({}),
        item_table=pa.table({}),
        has_times=True,
    )


@given(rows, st.integers(0, USERS - 1), st.integers(-1, 8), st.integers(1, 4))
def test_before_is_the_written_out_definition(events, user, time, length):
    log = log_of(events)
    history = Histories.of(log).before(np.array([user]), np.array([time]), length=length)
    earlier = [
        int(i)
        for u, i, t, c in zip(log.user, log.item, log.time, log.chosen, strict=True)
        if u == user and t < time and c
    ][-length:]
    assert history.items[0].tolist() == earlier + [PAD] * (length - len(earlier))
    assert history.count[0] == len(earlier)


@given(rows)
def test_seen_is_the_written_out_definition(events):
    log = log_of(events)
    seen = Histories.of(log).seen(np.arange(len(log)))
    for row in range(len(log)):
        own = (log.user[:row] == log.user[row]) & log.chosen[:row]
        found = seen.items[seen.offsets[row] : seen.offsets[row + 1]].tolist()
        assert sorted(found) == sorted(set(log.item[:row][own].tolist()))


@given(rows, st.integers(1, 5), st.lists(st.integers(0, 29), unique=True))
def test_histories_made_block_by_block_are_those_made_at_once(events, block, among):
    log = log_of(events)
    some = np.sort([row for row in among if row < len(log)]).astype(np.int64)
    whole = [Histories.of(log), Histories.of(log, among=some)]
    firsts = first_choices(log)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", block)
        parted = [Histories.of(log), Histories.of(log, among=some)]
        np.testing.assert_array_equal(first_choices(log), firsts)
    for one, other in zip(whole, parted, strict=True):
        for field in dataclasses.fields(Histories):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


@given(rows)
def test_what_lies_before_a_tie_is_what_came_strictly_before(events):
    log = log_of(events)
    histories = Histories.of(log)
    if not len(histories.rows):
        return
    users = log.user[histories.rows]
    counts = histories.before(users, histories.times, length=len(log)).count
    np.testing.assert_array_equal(histories.tie_start - histories.offsets[users], counts)


@given(st.lists(st.lists(st.integers(-9, 9), max_size=8), min_size=1, max_size=5), st.data())
def test_search_agrees_with_numpy_in_every_segment(segments, data):
    ends = np.cumsum([len(segment) for segment in segments])
    values = np.array([value for segment in segments for value in sorted(segment)], np.int64)
    which = np.array(data.draw(st.lists(st.integers(0, len(segments) - 1), max_size=6)), np.int64)
    targets = np.array([data.draw(st.integers(-11, 11)) for _ in which], np.int64)
    starts = np.concatenate([[0], ends[:-1]])[which]
    found = first_at_or_after(values, starts, ends[which], targets)
    expected = [
        start + np.searchsorted(values[start:end], target)
        for start, end, target in zip(starts, ends[which], targets, strict=True)
    ]
    assert found.tolist() == expected
