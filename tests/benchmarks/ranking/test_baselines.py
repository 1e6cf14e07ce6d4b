"""The baselines of ranking: known answers, and columns that know what they may."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from benchmarks.ranking.baselines.columns import Columns
from benchmarks.ranking.baselines.factorisation import factorise
from benchmarks.ranking.baselines.simple import CONSTANT, ITEM_MEAN, training_labels
from benchmarks.ranking.baselines.trees import TREES
from interactions.split import RANKING, RETRIEVAL


def planted(rng, *, users=150, items=60, factors=2):
    """Labels of a known bias of each user and item and a known product, without noise."""
    user, item = rng.normal(size=(users, 1 + factors)), rng.normal(size=(items, 1 + factors))
    labels = 3.0 + user[:, :1] + item[:, 0] + user[:, 1:] @ item[:, 1:].T
    known = rng.random(labels.shape) < 0.5
    return labels, known


def test_factorisation_finds_what_was_planted():
    labels, known = planted(np.random.default_rng(0))
    row, column = np.nonzero(known)
    given = csr_matrix((labels[row, column], (row, column)), shape=labels.shape)
    options = {"regularization": 0.1, "bias_share": 0.5, "seed": 0}
    user, item = np.nonzero(~known)
    errors = {
        factors: np.std(
            factorise(given, factors=factors, **options).predict(user, item) - labels[user, item]
        )
        for factors in (0, 2)
    }
    assert errors[2] < 0.2 * errors[0] < 0.2 * 1.1 * labels.std()


def test_an_unlabelled_user_gets_what_holds_for_everyone():
    labels = csr_matrix((np.full(20, 4.0), (np.arange(20) % 4, np.arange(20) // 4)), shape=(6, 5))
    factors = factorise(labels, factors=2, regularization=5.0, bias_share=1.0, seed=0)
    np.testing.assert_allclose(factors.predict(np.array([5]), np.array([0])), 4.0, atol=1e-6)


def test_means_are_those_of_the_training_windows(tiny):
    labels = training_labels(tiny)["view"][1]
    found = CONSTANT.fit(tiny, 0, False).answer(tiny.test).tasks["view"]
    np.testing.assert_allclose(found, labels.mean())
    by_item = ITEM_MEAN.fit(tiny, 0, False).answer(tiny.test).tasks["view"]
    assert 0 <= by_item.min() < labels.mean() < by_item.max() <= 1


@pytest.fixture(scope="module")
def columns(tiny):
    return Columns.known_from(tiny, RETRIEVAL)


def test_columns_of_a_pair_are_those_of_the_pair_alone(tiny, columns):
    lists = tiny.test.candidates.take(np.arange(6))
    table = columns.table(lists.queries, lists.item, lists.retrieval_score)
    np.testing.assert_array_equal(table[..., 0], lists.retrieval_score)
    for query in (0, 5):
        index = np.array([query])
        alone = columns.table(
            lists.queries.take(index), lists.item[index, 3:4], lists.retrieval_score[index, 3:4]
        )
        np.testing.assert_allclose(alone[0, 0], table[query, 3], atol=1e-5)


def test_the_second_column_counts_what_was_chosen_before(tiny, columns):
    lists = tiny.test.candidates.take(np.arange(20))
    history = tiny.data.histories.before(
        lists.queries.user, lists.queries.time, length=tiny.data.config.ranking.history
    )
    wanted = (lists.item[:, :, None] == history.items[:, None, :]).sum(axis=2)
    table = columns.table(lists.queries, lists.item, lists.retrieval_score)
    real = lists.item >= 0
    np.testing.assert_array_equal(table[..., 1][real], wanted[real])


def test_what_labels_say_of_a_pair_is_among_the_columns(tiny, columns):
    """The ranker is given it, so trees are too, from the windows that they may know."""
    factors = tiny.data.label_factors(RETRIEVAL)
    assert set(factors) == {"rating", "purchase", "view"}
    lists = tiny.test.candidates.take(np.arange(20))
    table = columns.table(lists.queries, lists.item, lists.retrieval_score)
    users = np.broadcast_to(lists.queries.user[:, np.newaxis], lists.item.shape)
    for one in factors.values():
        wanted = one.predict(users.ravel(), lists.item.ravel()).reshape(lists.item.shape)
        assert np.ptp(wanted) > 0
        assert np.isclose(table, wanted[..., np.newaxis], atol=1e-5).all(axis=(0, 1)).any()


def test_columns_know_the_windows_they_are_told_and_no_others(tiny, columns):
    late = Columns.known_from(tiny, RETRIEVAL, RANKING)
    assert (late.statistics.item != columns.statistics.item).any()
    assert (columns.statistics.item == tiny.data.statistics(RETRIEVAL).item).all()


@pytest.mark.slow
def test_trees_answer_for_everything(tiny):
    found = TREES.fit(tiny, 0, True).answer(tiny.test)
    assert found.order.shape == tiny.test.candidates.item.shape
    assert set(found.tasks) == {"rating", "purchase", "view"}
    assert all(((found.tasks[t] >= 0) & (found.tasks[t] <= 1)).all() for t in ("purchase", "view"))
