import math

import numpy as np
import pytest
from sklearn import metrics as reference

from evaluation.metrics import (
    auc,
    calibration_curve,
    calibration_error,
    coverage_at,
    hit_rate_at,
    hits,
    log_loss,
    mae,
    mrr_at,
    ndcg_at,
    recall_at,
    relevant_counts,
    rmse,
)
from interactions.errors import UserError
from interactions.ragged import Ragged

CATALOGUE = 30


def random_lists(seed: int, *, queries: int = 60, width: int = 12):
    """Lists without repeats, some ended early, and one to four relevant items per query."""
    random = np.random.default_rng(seed)
    ranked = np.stack([random.permutation(CATALOGUE)[:width] for _ in range(queries)])
    ranked[np.arange(width) >= random.integers(1, width + 1, queries)[:, None]] = -1
    relevant = [random.permutation(CATALOGUE)[: random.integers(1, 5)] for _ in range(queries)]
    return ranked, relevant


def slow_metrics(ranked: list[int], relevant: set[int], k: int) -> dict[str, float]:
    """The definitions, written out for one query."""
    gained, first, found = 0.0, 0.0, 0
    for place, item in enumerate(ranked[:k], start=1):
        if item in relevant:
            gained += 1 / math.log2(place + 1)
            found += 1
            first = first or 1 / place
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(relevant)) + 1))
    return {
        "recall": found / len(relevant),
        "hit_rate": float(found > 0),
        "ndcg": gained / ideal,
        "mrr": first,
    }


def fast_metrics(ranked, relevant, k) -> dict[str, np.ndarray]:
    found, counts = hits(ranked, relevant), relevant_counts(relevant)
    return {
        "recall": recall_at(found, counts, k),
        "hit_rate": hit_rate_at(found, k),
        "ndcg": ndcg_at(found, counts, k),
        "mrr": mrr_at(found, k),
    }


@pytest.mark.parametrize("k", [1, 3, 10, 12])
@pytest.mark.parametrize("single", [True, False])
def test_list_metrics_equal_the_definitions(k, single):
    ranked, lists = random_lists(seed=k)
    lists = [one[:1] for one in lists] if single else lists
    relevant = np.array([one[0] for one in lists]) if single else Ragged.of(lists)
    fast = fast_metrics(ranked, relevant, k)
    for query, (row, one) in enumerate(zip(ranked.tolist(), lists, strict=True)):
        slow = slow_metrics(row, set(one.tolist()), k)
        assert {name: values[query] for name, values in fast.items()} == pytest.approx(slow)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_ndcg_equals_scikit_learn(k):
    random = np.random.default_rng(k)
    ranked = np.stack([random.permutation(CATALOGUE) for _ in range(40)])
    lists = [random.permutation(CATALOGUE)[: random.integers(1, 6)] for _ in range(40)]
    relevant = Ragged.of(lists)
    truth, scores = np.zeros((40, CATALOGUE)), np.zeros((40, CATALOGUE))
    for query in range(40):
        truth[query, lists[query]] = 1
        scores[query, ranked[query]] = -np.arange(CATALOGUE)
    ours = ndcg_at(hits(ranked, relevant), relevant_counts(relevant), k)
    theirs = [reference.ndcg_score(truth[[q]], scores[[q]], k=k) for q in range(40)]
    np.testing.assert_allclose(ours, theirs)


def test_a_list_that_ended_early_never_hits_an_unknown_item():
    ranked = np.array([[3, -1, -1], [-1, -1, -1]])
    assert not hits(ranked, np.array([-1, -1])).any()
    assert hits(ranked, np.array([3, 3])).tolist() == [[True, False, False], [False] * 3]
    # The item that the catalogue does not have is a miss, not left out.
    assert recall_at(hits(ranked, np.array([-1, 3])), np.array([1, 1]), 3).tolist() == [0, 0]
    assert relevant_counts(np.array([-1, 3])).tolist() == [1, 1]


def test_a_basket_with_an_item_twice_needs_it_once():
    relevant = Ragged.of([[4, 4, 7]])
    ranked = np.array([[4, 7, 1]])
    assert relevant_counts(relevant).tolist() == [2]
    assert recall_at(hits(ranked, relevant), relevant_counts(relevant), 3).tolist() == [1.0]


@pytest.mark.parametrize("relevant", [np.array([5]), Ragged.of([[5, 2]])])
def test_a_list_that_repeats_its_hit_is_refused(relevant):
    with pytest.raises(ValueError, match="twice"):
        hits(np.array([[5, 1, 5]]), relevant)


def test_an_item_beyond_all_relevant_ones_is_not_taken_for_the_next_query():
    # One integer per (query, item) must not let item 9 of query 0 look like an item of query 1.
    relevant = Ragged.of([[0], [4]])
    assert not hits(np.array([[9, 5], [0, 1]]), relevant).any()


@pytest.mark.parametrize("k", [0, 4])
def test_k_beyond_the_lists_is_refused(k):
    with pytest.raises(ValueError, match=f"k={k}: the lists have 3 places"):
        hit_rate_at(np.zeros((2, 3), bool), k)


def test_queries_without_relevant_items_are_refused():
    relevant = Ragged.of([[1], []])
    found = hits(np.array([[1], [2]]), relevant)
    with pytest.raises(ValueError, match="no relevant item"):
        recall_at(found, relevant_counts(relevant), 1)


def test_different_numbers_of_queries_are_refused():
    with pytest.raises(ValueError, match="2 and 3"):
        hits(np.zeros((2, 3), int), np.zeros(3, int))
    with pytest.raises(ValueError, match="2 queries, relevant 1"):
        hits(np.zeros((2, 3), int), Ragged.of([[1]]))


def test_coverage_counts_items_not_places():
    ranked = np.array([[0, 1, 2], [0, 3, -1], [0, -1, -1]])
    assert coverage_at(ranked, 1, catalogue=10) == 0.1
    assert coverage_at(ranked, 3, catalogue=8) == 0.5


@pytest.fixture
def rows():
    random = np.random.default_rng(7)
    labels = random.integers(0, 2, 500)
    # Rounded, so that there are ties within and between the classes.
    predictions = np.round(np.clip(labels * 0.3 + random.random(500) * 0.7, 0.01, 0.99), 1)
    return labels, predictions


@pytest.mark.parametrize("weighted", [False, True])
def test_row_metrics_equal_scikit_learn(rows, weighted):
    labels, predictions = rows
    weights = np.random.default_rng(8).integers(0, 4, 500).astype(float) if weighted else None
    for ours, theirs in (
        (auc, reference.roc_auc_score),
        (log_loss, reference.log_loss),
        (rmse, reference.root_mean_squared_error),
        (mae, reference.mean_absolute_error),
    ):
        expected = theirs(labels, predictions, sample_weight=weights)
        assert ours(labels, predictions, weights=weights) == pytest.approx(expected)


def test_weights_are_repeated_rows(rows):
    labels, predictions = rows
    weights = np.random.default_rng(9).integers(0, 3, 500)
    for metric in (auc, log_loss, rmse, mae):
        repeated = metric(np.repeat(labels, weights), np.repeat(predictions, weights))
        assert metric(labels, predictions, weights=weights) == pytest.approx(repeated)


def test_auc_of_one_class_is_unknown():
    assert math.isnan(auc(np.ones(3), np.array([0.1, 0.2, 0.3])))
    assert math.isnan(auc(np.empty(0), np.empty(0)))
    assert math.isnan(auc(np.array([0, 1]), np.array([0.1, 0.2]), weights=np.array([1, 0])))


@pytest.mark.parametrize("metric", [rmse, mae, log_loss, calibration_error])
def test_metrics_of_no_rows_are_unknown(metric):
    assert math.isnan(metric(np.empty(0), np.empty(0)))


def test_certain_and_wrong_is_costly_but_finite():
    loss = log_loss(np.array([1, 0]), np.array([0.0, 1.0], np.float32))
    assert 10 < loss < 20
    assert log_loss(np.array([1, 0]), np.array([1.0, 0.0])) < 1e-6


@pytest.mark.parametrize("metric", [rmse, mae, auc, log_loss, calibration_error])
def test_nan_is_refused_in_one_line_with_the_remedy(metric):
    for labels, predictions, name in (
        ([0.0, math.nan, 1.0], [0.1, 0.2, 0.3], "labels"),
        ([0.0, 1.0, 1.0], [0.1, math.nan, 0.3], "predictions"),
    ):
        with pytest.raises(UserError, match=rf"^{name}: 1 of 3 are NaN; leave [^\n]*$"):
            metric(np.array(labels), np.array(predictions))


def test_wrong_labels_and_probabilities_are_named():
    with pytest.raises(UserError, match=r"found 3\.0; .* 0 or 1"):
        auc(np.array([0.0, 3.0]), np.array([0.1, 0.2]))
    with pytest.raises(UserError, match=r"found 1\.5; .* from 0 to 1"):
        log_loss(np.array([0.0, 1.0]), np.array([0.1, 1.5]))
    with pytest.raises(ValueError, match="2 and 1"):
        rmse(np.zeros(2), np.zeros(1))


def slow_calibration_error(labels, predictions, bins):
    """Without ties: sort, cut into equal parts, compare means."""
    order = np.argsort(predictions)
    parts = np.array_split(order, bins)
    gaps = [abs(predictions[part].mean() - labels[part].mean()) * len(part) for part in parts]
    return sum(gaps) / len(labels)


def test_calibration_error_equals_the_definition():
    random = np.random.default_rng(3)
    predictions = random.random(1000)
    labels = (random.random(1000) < predictions**2).astype(int)
    expected = slow_calibration_error(labels, predictions, 10)
    assert calibration_error(labels, predictions, bins=10) == pytest.approx(expected)
    assert expected > 0.1


def test_calibrated_predictions_have_little_error_and_constant_ones_one_bin():
    random = np.random.default_rng(4)
    predictions = random.random(20_000)
    labels = (random.random(20_000) < predictions).astype(int)
    assert calibration_error(labels, predictions) < 0.02
    curve = calibration_curve(labels, np.full(20_000, 0.25))
    assert curve.count.tolist() == [20_000]
    assert curve.observed[0] == pytest.approx(labels.mean())


def test_calibration_bins_hold_equally_many_rows():
    predictions = np.random.default_rng(5).random(1003)
    curve = calibration_curve(np.zeros(1003), predictions, bins=10)
    assert curve.count.sum() == 1003
    assert curve.count.max() - curve.count.min() <= 1
    assert (np.diff(curve.predicted) > 0).all()
