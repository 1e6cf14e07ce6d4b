"""Properties of metrics, top-k and intervals that hold for any input."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evaluation.baselines import DAY, RecentPopularity, top_k
from evaluation.bootstrap import mean_interval, paired_ratio
from evaluation.metrics import (
    auc,
    calibration_error,
    hit_rate_at,
    hits,
    log_loss,
    mrr_at,
    ndcg_at,
    recall_at,
    relevant_counts,
)
from interactions.ragged import Ragged, take


@st.composite
def ranked_and_relevant(draw):
    items = draw(st.integers(2, 20))
    queries = draw(st.integers(1, 8))
    width = draw(st.integers(1, items))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    ranked = np.stack([random.permutation(items)[:width] for _ in range(queries)])
    ranked[np.arange(width) >= random.integers(0, width + 1, queries)[:, None]] = -1
    lists = [random.integers(0, items, random.integers(1, 5)) for _ in range(queries)]
    return ranked, Ragged.of(lists), random


def all_metrics(ranked, relevant, k):
    found, counts = hits(ranked, relevant), relevant_counts(relevant)
    return np.stack(
        [
            recall_at(found, counts, k),
            hit_rate_at(found, k),
            ndcg_at(found, counts, k),
            mrr_at(found, k),
        ]
    )


@given(ranked_and_relevant())
def test_metrics_are_bounded_and_zero_together(drawn):
    ranked, relevant, _ = drawn
    for k in range(1, ranked.shape[1] + 1):
        values = all_metrics(ranked, relevant, k)
        assert (values >= 0).all() and (values <= 1 + 1e-12).all()
        assert ((values == 0).all(axis=0) | (values > 0).all(axis=0)).all()


@given(ranked_and_relevant())
def test_recall_hit_rate_and_mrr_rise_with_k(drawn):
    ranked, relevant, _ = drawn
    by_k = np.stack([all_metrics(ranked, relevant, k) for k in range(1, ranked.shape[1] + 1)])
    assert (np.diff(by_k[:, [0, 1, 3]], axis=0) >= 0).all()


@given(ranked_and_relevant())
def test_ndcg_of_one_true_item_rises_with_k(drawn):
    ranked, relevant, _ = drawn
    true_items = relevant.items[relevant.offsets[:-1]]
    found, counts = hits(ranked, true_items), relevant_counts(true_items)
    by_k = np.stack([ndcg_at(found, counts, k) for k in range(1, ranked.shape[1] + 1)])
    assert (np.diff(by_k, axis=0) >= 0).all()


@given(ranked_and_relevant())
def test_the_order_of_the_queries_does_not_matter(drawn):
    ranked, relevant, random = drawn
    order = random.permutation(len(ranked))
    k = ranked.shape[1]
    np.testing.assert_array_equal(
        all_metrics(ranked[order], take(relevant, order), k),
        all_metrics(ranked, relevant, k)[:, order],
    )


@given(ranked_and_relevant(), st.integers(1, 30))
def test_a_perfect_ranking_is_perfect(drawn, k):
    _, relevant, _ = drawn
    counts = relevant_counts(relevant)
    perfect = np.full((len(counts), 30), -1)
    for query, wanted in enumerate(np.split(relevant.items, relevant.offsets[1:-1])):
        perfect[query, : counts[query]] = np.unique(wanted)
    recall, hit_rate, ndcg, mrr = all_metrics(perfect, relevant, k)
    np.testing.assert_allclose(ndcg, 1)
    np.testing.assert_allclose(recall, np.minimum(1, k / counts))
    assert (hit_rate == 1).all() and (mrr == 1).all()


@given(ranked_and_relevant())
def test_moving_a_hit_up_never_hurts(drawn):
    ranked, relevant, random = drawn
    if ranked.shape[1] < 2:
        return
    place = random.integers(1, ranked.shape[1])
    swapped = ranked.copy()
    found = hits(ranked, relevant)
    better = found[:, place] & ~found[:, place - 1]
    swapped[better, place - 1], swapped[better, place] = (
        ranked[better, place],
        ranked[better, place - 1],
    )
    for k in range(1, ranked.shape[1] + 1):
        gain = all_metrics(swapped, relevant, k) - all_metrics(ranked, relevant, k)
        assert (gain >= -1e-12).all()


rows = st.integers(0, 2**32).map(np.random.default_rng)


@given(rows, st.integers(2, 60))
def test_row_metrics_do_not_depend_on_order(random, n):
    labels = random.integers(0, 2, n)
    predictions = np.round(random.random(n), 1)
    order = random.permutation(n)
    for metric in (auc, log_loss, calibration_error):
        np.testing.assert_allclose(
            metric(labels[order], predictions[order]), metric(labels, predictions), atol=1e-12
        )


@given(rows, st.integers(2, 60))
def test_auc_sees_only_the_order_of_the_scores_and_turns_with_it(random, n):
    labels = random.integers(0, 2, n)
    scores = np.round(random.normal(size=n), 1)
    area = auc(labels, scores)
    np.testing.assert_allclose(auc(labels, np.exp(scores)), area)
    np.testing.assert_allclose(auc(labels, -scores), 1 - area)


@given(rows, st.integers(1, 40))
def test_log_loss_is_at_least_the_entropy_of_the_mean(random, n):
    labels = random.integers(0, 2, n)
    constant = log_loss(labels, np.full(n, labels.mean()))
    assert constant <= log_loss(labels, np.full(n, random.random())) + 1e-6


@settings(max_examples=40)
@given(hnp.arrays(np.float64, st.integers(2, 30), elements=st.floats(-5, 5)), st.integers(0, 1000))
def test_an_interval_holds_its_value_and_stays_within_the_values(values, seed):
    interval = mean_interval(values, seed=seed)
    assert interval.low <= interval.value <= interval.high
    assert values.min() - 1e-9 <= interval.low and interval.high <= values.max() + 1e-9
    shifted = mean_interval(values + 1, seed=seed)
    np.testing.assert_allclose(
        [shifted.low - 1, shifted.high - 1], [interval.low, interval.high], atol=1e-9
    )


@settings(max_examples=40)
@given(rows, st.integers(2, 30))
def test_a_share_of_a_best_value_is_at_most_one(random, n):
    best = random.random(n) + 0.01
    share = paired_ratio(best * random.random(n), best, seed=1)
    assert 0 <= share.low <= share.value <= share.high <= 1 + 1e-12


@given(rows, st.integers(1, 12), st.integers(1, 15), st.integers(1, 17))
def test_top_k_holds_the_best_items_once(random, queries, items, k):
    scores = random.integers(0, 3, (queries, items)).astype(float)
    ranked = top_k(lambda asked: scores[asked], k=k, times=random.integers(0, 5, queries))
    for row, own in zip(ranked, scores, strict=True):
        shown = row[row >= 0]
        assert len(shown) == len(set(shown.tolist())) == min(k, items)
        np.testing.assert_array_equal(own[shown], np.sort(own)[::-1][:k])


@given(rows, st.integers(1, 30))
def test_a_longer_window_counts_at_least_as_much(random, events):
    items, times = random.integers(0, 5, events), random.integers(0, 50 * DAY, events)
    asked = np.sort(random.integers(0, 60 * DAY, 6))
    short, long = (
        RecentPopularity.of(items, times, catalogue=5, days=days).counts_at(asked)
        for days in (3, 10)
    )
    assert (short >= 0).all() and (short <= long).all()
