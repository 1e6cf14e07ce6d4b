import dataclasses
import re

import numpy as np
import pytest

from interactions.config import SplitConfig
from interactions.errors import UserError
from interactions.log import NEVER, Labels
from interactions.split import RANKING, RETRIEVAL, TEST, VALIDATION, known_labels, split

LAST_OUT = SplitConfig(kind="leave_last_out", ranking_events=2)


def steady(make_log, *, users=4, each=25, **more):
    rows = [(u, (u + n) % 7, n * users + u) for u in range(users) for n in range(each)]
    return make_log(rows, **more)


def test_time_gives_each_window_its_share_in_the_order_of_time(make_log):
    log = steady(make_log)
    windows = split(log, SplitConfig(ranking=0.2, validation=0.1, test=0.1))
    assert np.bincount(windows.window).tolist() == [60, 20, 10, 10]
    assert (np.diff(windows.window[np.argsort(log.time)]) >= 0).all()


def test_time_never_cuts_between_equal_times(make_log):
    rng = np.random.default_rng(3)
    times = np.sort(rng.integers(0, 12, (5, 40)), axis=1)
    log = make_log([(u, i % 9, t) for u in range(5) for i, t in enumerate(times[u])])
    windows = split(log, SplitConfig())
    for time in np.unique(log.time):
        assert len(np.unique(windows.window[log.time == time])) == 1


def test_the_end_of_a_window_is_the_first_event_after_it(make_log):
    log = steady(make_log)
    windows = split(log, SplitConfig())
    for code in (RETRIEVAL, RANKING, VALIDATION):
        end = windows.end(code)
        assert end == log.time[windows.window > code].min()
        assert log.time[windows.window <= code].max() < end
    assert windows.end(TEST) == NEVER


def test_exposures_go_by_their_own_time(make_log):
    chosen = np.arange(100) % 2 == 0
    log = steady(make_log, chosen=chosen)
    windows = split(log, SplitConfig())
    order = np.argsort(log.time)
    assert (np.diff(windows.window[order]) >= 0).all()


def test_random_gives_each_window_its_share_of_the_rows_whatever_their_time(make_log):
    log = steady(make_log)
    lot = SplitConfig(kind="random", ranking=0.2, validation=0.1, test=0.1)
    windows = split(log, lot)
    assert np.bincount(windows.window).tolist() == [60, 20, 10, 10]
    assert log.time[windows.window == RETRIEVAL].max() > log.time[windows.window == TEST].min()
    np.testing.assert_array_equal(windows.window, split(log, lot).window)
    other = split(log, lot.model_copy(update={"seed": 1}))
    assert (windows.window != other.window).any()


def test_random_needs_no_times_and_knows_every_label(make_log):
    log = steady(make_log, has_times=False)
    labels = Labels(np.arange(len(log), dtype=np.float32), log.time)
    log = dataclasses.replace(log, labels={"rating": labels})
    windows = split(log, SplitConfig(kind="random"))
    known = known_labels(log, windows, task="rating", code=RETRIEVAL)
    np.testing.assert_array_equal(known, labels.value)


def test_leave_last_out_deals_each_user_a_few(make_log):
    counts = [1, 2, 3, 4, 5, 6, 9]
    log = make_log([(u, n, 10 * n) for u, count in enumerate(counts) for n in range(count)])
    windows = split(log, LAST_OUT)
    dealt = [
        "".join("RKVT"[c] for c in part) for part in np.split(windows.window, log.offsets[1:-1])
    ]
    assert dealt == ["R", "RR", "RVT", "RKVT", "RRKVT", "RRKKVT", "RRRRRKKVT"]


def test_leave_last_out_deals_several_events_to_the_test(make_log):
    counts = [2, 3, 4, 5, 6, 7, 9, 12]
    log = make_log([(u, n, 10 * n) for u, count in enumerate(counts) for n in range(count)])
    windows = split(log, LAST_OUT.model_copy(update={"test_events": 3}))
    dealt = [
        "".join("RKVT"[c] for c in part) for part in np.split(windows.window, log.offsets[1:-1])
    ]
    assert dealt == [
        "RR", "RVT", "RKVT", "RKVTT", "RRKVTT", "RRKVTTT",
        "RRRKKVTTT", "RRRRRRKKVTTT",
    ]  # fmt: skip


def test_leave_last_out_puts_rows_not_chosen_after_the_last_chosen_one(make_log):
    chosen = [0, 1, 0, 1, 0, 1, 1, 0]
    log = make_log([(0, n, n) for n in range(8)] + [(1, n, n) for n in range(8)], chosen=chosen * 2)
    windows = split(log, LAST_OUT)
    assert "".join("RKVT"[code] for code in windows.window[:8]) == "RRRKKVTT"
    assert (windows.window[:8] == windows.window[8:]).all()


def test_ends_under_leave_last_out_are_each_users_own(make_log):
    log = make_log(
        [(0, n, 100 + n) for n in range(4)] + [(1, n, n) for n in range(6)] + [(2, 0, 5)]
    )
    windows = split(log, LAST_OUT)
    by_user = {user: windows.end(RETRIEVAL)[log.user == user] for user in range(3)}
    assert set(by_user[0]) == {101}
    assert set(by_user[1]) == {2}
    assert set(by_user[2]) == {NEVER}
    assert set(windows.end(VALIDATION)[log.user == 0]) == {103}


def test_labels_are_those_known_when_the_window_was_over(make_log):
    log = steady(make_log)
    late = Labels(np.ones(100, np.float32), log.time + 40, absent=0.0)
    log = steady(make_log, labels={"purchase": late})
    windows = split(log, SplitConfig())
    labels = known_labels(log, windows, task="purchase", code=RETRIEVAL)
    cut = windows.end(RETRIEVAL)
    np.testing.assert_array_equal(labels == 1, log.time + 40 < cut)
    assert (known_labels(log, windows, task="purchase", code=TEST) == 1).all()


def test_rows_and_description(make_log):
    log = steady(make_log)
    windows = split(log, SplitConfig())
    both = windows.rows(RETRIEVAL, TEST)
    assert set(windows.window[both]) == {RETRIEVAL, TEST}
    lines = windows.describe()
    assert re.match(r"retrieval: 4[45] rows of 4 users", lines[0])
    assert "1970-01-01" in lines[0]


@pytest.mark.parametrize(
    ("rows", "config", "message"),
    [
        ([(u, n, 5) for u in range(3) for n in range(9)], SplitConfig(), "timestamps are equal"),
        ([(u, n, 5) for u in range(3) for n in range(9)], LAST_OUT, "timestamp_unit: order"),
        ([(0, n, n) for n in range(50)], SplitConfig(), r"1 user \('u0'\)"),
        ([(u, 0, n) for u in range(3) for n in range(9)], SplitConfig(), r"1 item \('i0'\)"),
        ([(0, 0, 0), (0, 1, 1), (1, 1, 2)], SplitConfig(), "window is empty.*leave_last_out"),
        ([(u, n, n) for u in range(5) for n in range(2)], LAST_OUT, "window is empty.*kind: time"),
        ([(u, n, int(n > 5)) for u in range(3) for n in range(9)], SplitConfig(), "is empty"),
    ],
)
def test_what_cannot_be_split_says_what_to_do(make_log, rows, config, message):
    with pytest.raises(UserError, match=message):
        split(make_log(rows), config)


def test_an_order_cannot_be_cut_by_time(make_log):
    with pytest.raises(UserError, match="kind: leave_last_out"):
        split(steady(make_log, has_times=False), SplitConfig())
    assert split(steady(make_log, has_times=False), LAST_OUT).rows(TEST).size == 4
