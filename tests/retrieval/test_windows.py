"""Every event a target once, and every history strictly before it."""

import numpy as np
import pytest

from interactions.queries import first_choices
from retrieval.windows import BatchMaker, cut_windows


def maker(log, rows, *, length, batch_windows=7, targets=None):
    return BatchMaker(
        log=log,
        windows=cut_windows(log, rows, length=length),
        catalogue=np.unique(log.item[rows]).astype(np.int32),
        batch_windows=batch_windows,
        negatives=20,
        seed=3,
        targets=np.ones(len(log), bool) if targets is None else targets,
    )


@pytest.fixture(scope="module")
def rows(log):
    """Two rows of three, and none of some users."""
    kept = np.arange(len(log)) % 3 > 0
    return np.flatnonzero(kept & (log.user % 9 != 4))


@pytest.mark.parametrize("length", [1, 2, 5, 16, 1000])
def test_each_chosen_event_of_the_rows_is_a_target_exactly_once(log, rows, length):
    pieces = cut_windows(log, rows, length=length)
    targets = np.concatenate(
        [pieces.row[a:b] for a, b in zip(pieces.first_target, pieces.stop, strict=True)]
    )
    assert sorted(targets) == sorted(rows[log.chosen[rows]])
    assert (pieces.stop - pieces.start <= max(length, 1)).all()
    assert (pieces.start <= pieces.first_target).all() and (pieces.first_target < pieces.stop).all()
    first, last = log.user[pieces.row[pieces.start]], log.user[pieces.row[pieces.stop - 1]]
    assert (first == last).all()


def test_no_rows_make_no_windows(log):
    assert len(cut_windows(log, np.zeros(0, np.int64), length=5)) == 0


@pytest.mark.parametrize("length", [4, 30])
def test_a_history_is_what_the_user_chose_strictly_before_and_within_the_rows(log, rows, length):
    batches = maker(log, rows, length=length)
    inside = np.zeros(len(log), bool)
    inside[rows] = True
    inside &= log.chosen
    seen = 0
    for batch in batches.epoch(0):
        width = batch["sequence"].shape[1]
        for place, row in zip(batch["position"], batch["row"], strict=True):
            window, position = divmod(int(place), width)
            before = batch["before"][window, position]
            history = batch["items"][batch["sequence"][window, :before]]
            own = inside & (log.user == log.user[row])
            earlier = log.item[own & (log.time < log.time[row])]
            assert history.tolist() == earlier[len(earlier) - before :].tolist()
            # all there is, or at least half a window less what came at the same moment
            tied = (own & (log.time == log.time[row])).sum()
            assert before >= min(len(earlier), length // 2 - tied)
            seen += 1
    assert seen > 0.8 * inside.sum()


def test_targets_and_negatives_are_among_the_candidates_once_each(log, rows):
    for batch in maker(log, rows, length=10).epoch(1):
        candidates = batch["items"][batch["candidates"]]
        assert len(np.unique(candidates)) == len(candidates)
        assert (candidates[batch["positive"]] == log.item[batch["row"]]).all()
        assert set(candidates) <= set(log.item[rows])
        assert ((batch["context_row"] == batch["row"]) | (batch["context_row"] == -1)).all()
        assert (batch["context_row"] == -1).any()


def test_an_epoch_is_the_same_each_time_and_another_is_not(log, rows):
    batches = maker(log, rows, length=10)
    one, again, other = (list(batches.epoch(number)) for number in (2, 2, 3))
    for first, second in zip(one, again, strict=True):
        for name, values in first.items():
            np.testing.assert_array_equal(values, second[name])
    assert any(
        len(a["row"]) != len(b["row"]) or (a["row"] != b["row"]).any()
        for a, b in zip(one, other, strict=True)
    )
    assert len(one) == batches.steps


def test_only_what_may_be_a_target_is_one_but_all_is_history(log, rows):
    targets = first_choices(log)
    asked = 0
    for batch in maker(log, rows, length=10, targets=targets).epoch(0):
        assert targets[batch["row"]].all()
        asked += len(batch["row"])
    assert 0 < asked < log.chosen[rows].sum()
