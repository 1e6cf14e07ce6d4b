import numpy as np
import pytest
from scipy.sparse import csr_matrix

from benchmarks.retrieval.baselines.ease import ease
from benchmarks.retrieval.contender import grid
from benchmarks.retrieval.contenders import contender
from benchmarks.retrieval.problem import K
from interactions.errors import UserError
from interactions.split import TEST


def random_matrix(users, items, *, seed):
    rng = np.random.default_rng(seed)
    return csr_matrix((rng.random((users, items)) < 0.3).astype(np.float32))


@pytest.mark.parametrize(("users", "items"), [(8, 20), (20, 8), (12, 12)])
def test_ease_is_the_best_linear_map_without_self_weights(users, items):
    seen = random_matrix(users, items, seed=users)
    weights = ease(seen, regularization=2.0)(csr_matrix(np.eye(items, dtype=np.float32)))
    np.testing.assert_allclose(np.diag(weights), 0.0, atol=1e-4)
    dense = seen.toarray()
    for item in range(items):  # ridge regression of each column on the others
        others = np.delete(np.arange(items), item)
        x = dense[:, others]
        solved = np.linalg.solve(x.T @ x + 2.0 * np.eye(items - 1), x.T @ dense[:, item])
        np.testing.assert_allclose(weights[others, item], solved, atol=1e-3)


def test_ease_counts_a_repeated_choice_once():
    seen = random_matrix(9, 5, seed=1)
    profiles = csr_matrix(np.ones((1, 5), np.float32))
    np.testing.assert_allclose(
        ease(seen * 3, regularization=1.0)(profiles), ease(seen, regularization=1.0)(profiles)
    )


@pytest.mark.parametrize(
    "name", ["item_knn", "item_knn_recent", "tfidf", "ease", "ease_recent", "ials", "bpr"]
)
@pytest.mark.filterwarnings("ignore:OpenBLAS")  # its threads are set in a process of its own
def test_a_baseline_solves_the_checkerboard(checkerboard, name):
    subject, queries = contender(name), checkerboard.queries(TEST)
    fitted = subject.fit(checkerboard, subject.training[-1], 0)
    ranked = fitted.rank(queries, subject.asking[-1])
    assert ranked.shape == (len(queries), K)
    np.testing.assert_array_equal(ranked[:, 0], queries.item)
    assert fitted.seconds > 0 and fitted.events > 0


def test_popularity_counts_training_and_recent_popularity_the_days_before(tiny):
    queries, log = tiny.queries(TEST), tiny.data.log
    plain, recent = contender("popularity"), contender("recent_popularity")
    ranked = plain.fit(tiny, {}, 0).rank(queries, {})
    assert (np.diff(tiny.popularity[ranked[0][ranked[0] >= 0]]) <= 0).all()
    ranked = recent.fit(tiny, {}, 0).rank(queries, {"days": 7.0})
    for row in range(0, len(queries), 10):
        age = queries.time[row] - log.time
        counted = log.chosen & (age > 0) & (age <= 7 * 24 * 3600 * 10**6)
        counts = np.bincount(log.item[counted], minlength=tiny.items)
        assert (np.diff(counts[ranked[row][ranked[row] >= 0]]) <= 0).all()


@pytest.mark.parametrize("name", ["ials", "bpr"])
@pytest.mark.filterwarnings("ignore:OpenBLAS")
def test_the_same_seed_gives_the_same_lists(tiny, name):
    subject, queries = contender(name), tiny.queries(TEST)
    first, second = (
        subject.fit(tiny, subject.training[0], 3).rank(queries, subject.asking[0]) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_content_finds_items_that_nobody_has_chosen(tiny):
    subject, queries = contender("tfidf"), tiny.queries(TEST)
    ranked = subject.fit(tiny, subject.training[0], 0).rank(queries, subject.asking[0])
    untrained = np.flatnonzero(tiny.popularity == 0)
    assert np.isin(ranked[:, :50], untrained).any()


def test_a_grid_has_every_combination():
    assert grid(a=(1, 2), b=("x",)) == ({"a": 1, "b": "x"}, {"a": 2, "b": "x"})
    assert grid() == ({},)


def test_an_unknown_model_is_named():
    with pytest.raises(UserError, match=r"'svd' is unknown.*ease"):
        contender("svd")
