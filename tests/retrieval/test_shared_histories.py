"""Every query in one pass, with the history that it would have on its own."""

import numpy as np
import pytest

from interactions.histories import Histories
from interactions.queries import Queries, queries
from retrieval.shared_histories import passes


@pytest.mark.parametrize("length", [1, 5, 17, 1000])
def test_each_query_finds_its_own_history(log, length):
    histories = Histories.of(log)
    known = queries(log, np.arange(0, len(log), 3), repeats=True)
    unknown = Queries(
        np.array([0, 0]), np.array([-1, 3], np.int32), np.array([10**18, -1]), np.zeros(2, np.int32)
    )
    asked = Queries(
        *(
            np.concatenate([getattr(known, name), getattr(unknown, name)])
            for name in ("row", "user", "time", "item")
        )
    )
    alone = histories.before(asked.user, asked.time, length=length)
    answered = []
    for part in passes(histories, asked, length=length):
        assert part.items.shape[1] <= max(length, 1)
        for query, window, count in zip(part.query, part.window, part.count, strict=True):
            assert count == alone.count[query]
            assert (part.items[window, :count] == alone.items[query, :count]).all()
            assert (part.times[window, :count] == alone.times[query, :count]).all()
            answered.append(query)
    assert sorted(answered) == list(range(len(asked)))


def test_queries_of_one_user_share_a_sequence(log):
    histories = Histories.of(log)
    asked = queries(log, np.flatnonzero(log.user == log.user[0]), repeats=True)
    assert sum(len(part.items) for part in passes(histories, asked, length=1000)) == 1


def test_nothing_asked_and_nothing_known_take_no_history(log):
    nothing = Histories.of(log, among=np.empty(0, np.int64))
    asked = queries(log, np.arange(5), repeats=True)
    (part,) = passes(nothing, asked, length=4)
    assert (part.count == 0).all() and part.items.shape[1] == 1
    assert not list(passes(nothing, asked.take(np.zeros(0, int)), length=4))
