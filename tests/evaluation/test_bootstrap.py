import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.bootstrap import (
    mean_interval,
    mean_intervals,
    paired_difference,
    paired_ratio,
    seeded_mean,
    seeded_ratio,
    seeded_statistic,
    statistic_interval,
)
from evaluation.metrics import auc, calibration_error, log_loss, mae, rmse


def clustered(seed: int, *, clusters: int = 80):
    """Values that users share, so that the queries of one user tell little new."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 9, clusters)
    users = np.repeat(np.arange(clusters), sizes)
    values = random.normal(size=clusters)[users] + 0.1 * random.normal(size=len(users))
    return values, users


def slow_resamples(fn, arrays, users, *, seed, resamples):
    """The bootstrap as it is told: draw users with replacement, take all their rows."""
    random = np.random.default_rng(seed)
    rows_of = [np.flatnonzero(users == user) for user in np.unique(users)]
    for _ in range(resamples):
        drawn = random.integers(0, len(rows_of), len(rows_of))
        rows = np.concatenate([rows_of[user] for user in drawn])
        yield fn(*(array[rows] for array in arrays))


def test_interval_equals_the_slow_bootstrap():
    values, users = clustered(1)
    fast = mean_interval(values, clusters=users, seed=2, resamples=4000)
    slow = list(slow_resamples(np.mean, [values], users, seed=3, resamples=4000))
    width = fast.high - fast.low
    assert fast.value == pytest.approx(values.mean())
    assert fast.n == len(values)
    assert fast.low == pytest.approx(np.quantile(slow, 0.025), abs=0.06 * width)
    assert fast.high == pytest.approx(np.quantile(slow, 0.975), abs=0.06 * width)


@pytest.mark.parametrize("fn", [rmse, mae, log_loss, auc])
def test_statistics_equal_the_slow_bootstrap(fn):
    random = np.random.default_rng(4)
    users = np.repeat(np.arange(60), random.integers(2, 15, 60))
    predictions = random.random(len(users))
    labels = (random.random(len(users)) < predictions).astype(float)
    fast = statistic_interval(fn, labels, predictions, clusters=users, seed=5, resamples=1500)
    slow = list(slow_resamples(fn, [labels, predictions], users, seed=6, resamples=1500))
    width = fast.high - fast.low
    assert fast.value == pytest.approx(fn(labels, predictions))
    assert fast.n == len(users)
    assert fast.low == pytest.approx(np.quantile(slow, 0.025), abs=0.1 * width)
    assert fast.high == pytest.approx(np.quantile(slow, 0.975), abs=0.1 * width)


def test_about_95_of_100_intervals_hold_the_true_mean():
    held = 0
    for seed in range(300):
        values, users = clustered(seed)
        interval = mean_interval(values, clusters=users, seed=seed, resamples=400)
        held += interval.low <= 0.0 <= interval.high
    assert 0.90 <= held / 300 <= 0.985


def test_queries_taken_as_independent_would_promise_too_much():
    values, users = clustered(7)
    right = mean_interval(values, clusters=users, seed=1)
    wrong = mean_interval(values, seed=1)
    assert right.high - right.low > 1.5 * (wrong.high - wrong.low)


def test_one_metric_alone_equals_the_same_among_others():
    values, users = clustered(8)
    together = mean_intervals({"a": values, "b": values**2}, clusters=users, seed=9)
    assert together["b"].low == pytest.approx(
        mean_interval(values**2, clusters=users, seed=9).low, abs=1e-12
    )
    assert mean_intervals({}, seed=0) == {}


def test_the_seed_decides():
    values, users = clustered(10)
    first, again, other = (mean_interval(values, clusters=users, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first.low != other.low


def test_clusters_may_be_strings():
    values, users = clustered(11)
    names = np.array([f"u{user:03d}" for user in users], object)
    assert mean_interval(values, clusters=names, seed=1) == mean_interval(
        values, clusters=users, seed=1
    )


def test_a_paired_difference_sees_what_two_intervals_cannot():
    values, users = clustered(12)
    better = values + 0.05 + 0.01 * np.random.default_rng(0).normal(size=len(values))
    difference = paired_difference(better, values, clusters=users, seed=3)
    first, second = (mean_interval(v, clusters=users, seed=3) for v in (better, values))
    assert difference.low > 0
    assert first.low < second.high


def test_a_paired_ratio_is_one_of_sums():
    first, second = np.array([1.0, 0.0, 5.0]), np.array([2.0, 1.0, 5.0])
    ratio = paired_ratio(first, second, seed=0)
    assert ratio.value == pytest.approx(6 / 8)
    assert 0 <= ratio.low <= ratio.value <= ratio.high <= 1
    exact = paired_ratio(0.3 * second, second, seed=0)
    assert (exact.low, exact.value, exact.high) == pytest.approx((0.3, 0.3, 0.3))


def same(first, second):
    left, right = ((one.value, one.low, one.high, one.n) for one in (first, second))
    return left == pytest.approx(right, rel=1e-9, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_one_seed_tells_what_users_alone_do(seed):
    values, users = clustered(seed)
    other, options = 2 + values**2, {"clusters": users, "seed": seed, "resamples": 50}
    mean = seeded_mean(values[np.newaxis], **options)
    assert same(mean, mean_interval(values, **options))
    ratio = seeded_ratio(values[np.newaxis], other[np.newaxis], **options)
    assert same(ratio, paired_ratio(values, other, **options))
    labels = (other > 2.5).astype(float)
    area = seeded_statistic(auc, labels, values[np.newaxis], **options)
    assert same(area, statistic_interval(auc, labels, values, **options))


def test_seeds_that_differ_widen_the_interval_as_their_mean_varies():
    random = np.random.default_rng(0)
    values = 5 + random.normal(size=900)
    shifts = np.array([-0.5, -0.2, 0.0, 0.2, 0.5])[:, np.newaxis]
    alike = seeded_mean(np.tile(values, (5, 1)), seed=1, resamples=4000)
    apart = seeded_mean(values + shifts, seed=1, resamples=4000)
    assert apart.value == pytest.approx(alike.value) and apart.n == alike.n == 900
    widths = [one.high - one.low for one in (alike, apart)]
    wanted = 2 * 1.96 * np.sqrt(values.var() / 900 + shifts.var() / 5)
    assert widths[0] == pytest.approx(2 * 1.96 * values.std() / 30, rel=0.06)
    assert widths[1] == pytest.approx(wanted, rel=0.06)


def test_each_side_draws_seeds_of_its_own():
    ones = np.ones(400)
    first, second = np.outer([0.8, 1.2], ones), np.outer([0.8, 1.2, 1.0], ones)
    alike = seeded_ratio(first, first, seed=0, resamples=4000)
    # paired by seed they would be alike in every resample
    assert (alike.low, alike.value, alike.high) == pytest.approx((0.8 / 1.2, 1.0, 1.2 / 0.8))
    fixed = seeded_ratio(first, second[2:], seed=0)
    assert (fixed.low, fixed.high) == pytest.approx((0.8, 1.2))
    assert seeded_ratio(first, second, seed=0).value == pytest.approx(1.0)


def test_users_stay_paired_whatever_the_seeds():
    values, users = clustered(13)
    values = np.exp(np.stack([values, 1.01 * values]))
    ratio = seeded_ratio(1.1 * values, values, clusters=users, seed=2)
    alone = seeded_mean(values, clusters=users, seed=2)
    assert ratio.high - ratio.low < 0.2 * (alone.high - alone.low) / alone.value


def test_seeds_widen_the_interval_of_any_statistic():
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 600).astype(float)
    noise = random.normal(size=600)
    predicted = np.stack([noise + strength * labels for strength in (0.5, 1.0, 2.0)])
    one, three = (
        seeded_statistic(auc, labels, side, seed=0) for side in (predicted[1:2], predicted)
    )
    assert three.value == pytest.approx(np.mean([auc(labels, each) for each in predicted]))
    assert three.high - three.low > 1.5 * (one.high - one.low)
    ratio = seeded_statistic(auc, labels, predicted, predicted[1:2], seed=0)
    assert ratio.value == pytest.approx(three.value / one.value)
    assert ratio.low < 1 < ratio.high


@pytest.mark.parametrize("error", [0.0, 0.1])
def test_the_interval_of_a_calibration_error_holds_the_true_one(error):
    """The value itself is too large by what chance adds, and so is where its resamples lie."""
    random = np.random.default_rng(5)
    held = []
    for _ in range(40):
        predicted = random.uniform(0.2, 0.8, 2000)
        labels = (random.random(2000) < predicted - error).astype(float)
        # every user has four rows alike, which tell no more than one
        rows = np.repeat(np.arange(2000), 4)
        found = statistic_interval(
            calibration_error, labels[rows], predicted[rows], clusters=rows, seed=1, resamples=100
        )
        held.append(found.low <= error <= found.high)
    assert np.mean(held) >= 0.85


def test_no_calibration_error_is_negative():
    labels = np.tile([0.0, 1.0], 200)
    found = statistic_interval(calibration_error, labels, np.full(400, 0.51), seed=1)
    assert found.value == pytest.approx(0.01)
    assert found.low == 0.0 < found.high


def unknown_ends(estimate):
    return math.isnan(estimate.low) and math.isnan(estimate.high)


def test_what_cannot_be_known_is_nan():
    nothing = mean_interval(np.empty(0), seed=0)
    assert math.isnan(nothing.value) and unknown_ends(nothing) and nothing.n == 0
    one_user = mean_interval(np.array([1.0, 3.0]), clusters=np.array([5, 5]), seed=0)
    assert one_user.value == 2 and unknown_ends(one_user) and one_user.n == 2
    one_row = statistic_interval(rmse, np.array([1.0]), np.array([3.0]), seed=0)
    assert one_row.value == pytest.approx(2) and unknown_ends(one_row)
    one_class = statistic_interval(auc, np.ones(5), np.arange(5.0), seed=0)
    assert math.isnan(one_class.value) and unknown_ends(one_class) and one_class.n == 5
    assert math.isnan(paired_ratio(np.ones(3), np.zeros(3), seed=0).value)


def test_resamples_of_one_class_do_not_spoil_the_rest():
    labels = np.array([0, 0, 0, 0, 0, 0, 1])  # about a third of resamples have no positive row
    auc_of = statistic_interval(auc, labels, np.arange(7.0), seed=0)
    assert auc_of.value == 1 and auc_of.low == 1 and auc_of.high == 1


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"ndcg@10: 1 of 2 values are NaN"):
        mean_intervals({"ndcg@10": np.array([1.0, math.nan])}, seed=0)
    with pytest.raises(ValueError, match="3 entries for 2"):
        mean_interval(np.ones(2), clusters=np.arange(3), seed=0)
    with pytest.raises(ValueError, match="2 and 3"):
        paired_difference(np.ones(2), np.ones(3), seed=0)
    with pytest.raises(ValueError, match="differ in length"):
        mean_intervals({"a": np.ones(2), "b": np.ones(3)}, seed=0)
