import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from features.neighbours import neighbours
from features.statistics import statistics
from interactions.log import EventLog


def log_of(user, item, *, users=6, items=8, chosen=None, seed=0):
    user, item = np.asarray(user, np.int32), np.asarray(item, np.int32)
    order = np.argsort(user, kind="stable")
    rows = len(user)
    return EventLog(
        user_ids=np.array([f"u{n}" for n in range(users)], object),
        item_ids=np.array([f"i{n}" for n in range(items)], object),
        user=user[order],
        item=item[order],
        time=np.arange(rows, dtype=np.int64),
        chosen=np.ones(rows, bool) if chosen is None else np.asarray(chosen)[order],
        exposure=np.ones(rows, bool),
        labels={},
        event_table=pa.table({}),
        user_table=pa.table({}),
        item_table=pa.table({}),
        has_times=True,
    )


@pytest.fixture
def log():
    rng = np.random.default_rng(1)
    return log_of(rng.integers(0, 5, 80), rng.integers(0, 7, 80), chosen=rng.random(80) < 0.8)


def test_counts_enter_as_their_place_among_those_with_any():
    log = log_of([0, 0, 0, 1, 2, 2], [0, 1, 2, 0, 0, 1])
    known = statistics(log, np.arange(6), {})
    # users 0, 1, 2 chose 3, 1 and 2 items; items 0, 1, 2 were chosen 3, 2 and 1 times
    np.testing.assert_allclose(known.user[:, 0], [1, 1 / 3, 2 / 3, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(known.item[:4, 0], [1, 2 / 3, 1 / 3, 0], atol=1e-6)


def test_recent_popularity_counts_the_latest_rows_only():
    log = log_of([0] * 30, [0] * 27 + [1] * 3)
    known = statistics(log, np.arange(30), {})
    assert known.item[0, 1] == 0.0 and known.item[1, 1] == 1.0
    assert known.item[0, 0] > known.item[1, 0]


def test_labels_are_means_shrunk_towards_the_mean_of_all():
    log = log_of([0] * 40 + [1], [0] * 20 + [1] * 21)
    label = np.array([1.0] * 20 + [3.0] * 20 + [3.0], np.float32)
    known = statistics(log, np.arange(41), {"rating": label})
    mean, std = label.mean(), label.std()
    assert known.label_mean["rating"] == pytest.approx(mean, abs=1e-6)
    assert known.label_std["rating"] == pytest.approx(std, abs=1e-6)
    one_label, trust = known.user[1, 1:3]
    assert 0 < one_label < 0.2 * (3.0 - mean) / std
    assert trust == pytest.approx(1 / 11)
    assert known.item[1, 2] == pytest.approx(((3 - mean) / std) * 21 / 31, rel=1e-5)


def test_nothing_outside_the_rows_counts(log):
    rows = np.arange(0, len(log), 2)
    others = np.setdiff1d(np.arange(len(log)), rows)
    label = np.random.default_rng(2).normal(size=len(log)).astype(np.float32)
    item, changed = log.item.copy(), label.copy()
    item[others], changed[others] = 7, 1e6
    chosen = log.chosen.copy()
    chosen[others] = ~chosen[others]
    perturbed = dataclasses.replace(log, item=item, chosen=chosen)
    one = statistics(log, rows, {"y": label})
    other = statistics(perturbed, rows, {"y": changed})
    np.testing.assert_array_equal(one.user, other.user)
    np.testing.assert_array_equal(one.item, other.item)
    assert one.label_mean == other.label_mean and one.label_std == other.label_std
    near, far = neighbours(log, rows, width=3), neighbours(perturbed, rows, width=3)
    np.testing.assert_array_equal(near.item, far.item)
    np.testing.assert_array_equal(near.weight, far.weight)


def test_what_is_chosen_more_often_when_shown_has_the_higher_rate():
    # item 0 is chosen whenever it is shown, item 1 never, item 2 was not shown
    chosen = np.array([True, False] * 20)
    log = log_of([0] * 40, [0, 1] * 20, chosen=chosen)
    rate = statistics(log, np.arange(40), {}).item[:, 2]
    assert rate[0] > 0 > rate[1] and rate[2] == rate[-1] == 0


@pytest.mark.parametrize("rows", [slice(0, 20), slice(20, 40), slice(0, 0), slice(0, 40)])
def test_all_cuts_have_the_same_columns_and_finite_numbers(rows):
    """A ranker is trained with one cut's statistics and served with another's."""
    chosen = np.arange(40) < 20
    log = log_of([0] * 40, [0, 1] * 20, chosen=chosen)
    known = statistics(log, np.arange(40)[rows], {})
    assert known.item.shape[1] == 3 and known.user.shape[1] == 2
    assert np.isfinite(known.item).all() and np.isfinite(known.user).all()


def test_missing_and_constant_labels_give_finite_numbers(log):
    nothing = np.full(len(log), np.nan, np.float32)
    same = np.full(len(log), 4.0, np.float32)
    known = statistics(log, np.arange(len(log)), {"none": nothing, "same": same})
    assert known.label_std == {"none": 1.0, "same": 1.0}
    assert np.isfinite(known.user).all() and np.isfinite(known.item).all()
    empty = statistics(log, np.arange(0), {"none": nothing})
    assert not empty.user.any() and not empty.item.any()


def test_of_the_unknown_user_and_item_nothing_is_said(log):
    label = np.random.default_rng(2).normal(size=len(log)).astype(np.float32)
    known = statistics(log, np.arange(len(log)), {"y": label})
    assert len(known.user) == len(log.user_ids) + 1 and not known.user[-1].any()
    assert len(known.item) == len(log.item_ids) + 1 and not known.item[-1].any()


def test_neighbours_are_those_of_the_written_out_shrunk_cosine(log):
    found = neighbours(log, np.arange(len(log)), width=4)
    chosen = np.zeros((len(log.user_ids), len(log.item_ids)))
    for row in np.flatnonzero(log.chosen):
        chosen[log.user[row], log.item[row]] = 1.0
    for item in range(len(log.item_ids)):
        pairs = []
        for other in range(len(log.item_ids)):
            together = sum(chosen[user, item] * chosen[user, other] for user in range(len(chosen)))
            if other != item and together:
                norms = (chosen[:, item].sum() + 5.0) * (chosen[:, other].sum() + 5.0)
                pairs.append((-together / norms**0.5, other))
        best = sorted(pairs)[:4]
        np.testing.assert_allclose(
            found.weight[item], [-w for w, _ in best] + [0.0] * (4 - len(best)), atol=1e-6
        )
        weights = {other: -weight for weight, other in pairs}
        for other, weight in zip(found.item[item], found.weight[item], strict=True):
            assert (other == -1 and weight == 0) or weights[other] == pytest.approx(weight)
    assert (found.item[-1] == -1).all() and not found.weight[-1].any()


def test_only_a_users_latest_items_make_neighbours():
    log = log_of([0, 0, 0, 1, 1], [0, 1, 2, 3, 4])
    found = neighbours(log, np.arange(5), width=2, latest=2)
    assert found.item[0].tolist() == [-1, -1]
    assert found.item[1].tolist() == [2, -1] and found.item[3].tolist() == [4, -1]


def test_the_range_is_that_of_the_labels_there_are_in_the_rows():
    log = log_of([0, 0, 1, 2], [0, 1, 2, 3])
    labels = {
        "rating": np.array([2.0, np.nan, 4.0, 9.0], np.float32),
        "none": np.full(4, np.nan, np.float32),
    }
    assert statistics(log, np.arange(3), labels).label_range == {"rating": (2.0, 4.0)}
