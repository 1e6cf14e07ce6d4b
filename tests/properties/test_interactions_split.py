import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from interactions.config import SplitConfig
from interactions.errors import UserError
from interactions.log import EventLog
from interactions.split import RANKING, RETRIEVAL, TEST, VALIDATION, split

row = st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 15), st.booleans())


def log_of(events) -> EventLog:
    events = sorted(events, key=lambda event: (event[0], event[2]))
    user, item, time, chosen = (
        np.array([event[k] for event in events], np.int64) for k in range(4)
    )
    return EventLog(
        user_ids=np.arange(4).astype(str).astype(object),
        item_ids=np.arange(5).astype(str).astype(object),
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


@given(st.lists(row, min_size=10, max_size=60), st.sampled_from(["time", "leave_last_out"]))
def test_windows_follow_time_within_a_user_and_none_is_empty(events, kind):
    log = log_of(events)
    try:
        windows = split(log, SplitConfig(kind=kind))
    except UserError:
        return
    assert set(windows.window[log.chosen]) == {RETRIEVAL, RANKING, VALIDATION, TEST}
    same_user = log.user[1:] == log.user[:-1]
    assert (np.diff(windows.window)[same_user] >= 0).all()
    if kind == "time":
        assert (np.diff(windows.window[np.argsort(log.time, kind="stable")]) >= 0).all()


@given(st.lists(row, min_size=10, max_size=60), st.sampled_from(["time", "leave_last_out"]))
def test_nothing_after_the_end_of_a_window_is_in_it(events, kind):
    log = log_of(events)
    try:
        windows = split(log, SplitConfig(kind=kind))
    except UserError:
        return
    for code in (RETRIEVAL, RANKING, VALIDATION, TEST):
        end = np.broadcast_to(windows.end(code), len(log))
        assert (log.time[windows.window > code] >= end[windows.window > code]).all()
        assert (log.time[windows.window <= code] <= end[windows.window <= code]).all()


@given(st.lists(row, min_size=10, max_size=60), st.integers(1, 6))
def test_leave_last_out_deals_at_most_what_was_asked(events, most):
    log = log_of(events)
    try:
        windows = split(log, SplitConfig(kind="leave_last_out", ranking_events=most))
    except UserError:
        return
    for user in range(4):
        codes = windows.window[log.chosen & (log.user == user)]
        given_ = np.bincount(codes, minlength=4)
        if len(codes) < 3:
            assert given_[RETRIEVAL] == len(codes)
        else:
            assert (given_[TEST], given_[VALIDATION]) == (1, 1)
            assert given_[RANKING] <= min(most, given_[RETRIEVAL])
