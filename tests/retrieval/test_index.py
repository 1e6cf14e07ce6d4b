from typing import NamedTuple

import numpy as np
import pytest

from features.backend import tf
from retrieval.index import ExactIndex, Few, Without, exclude, first_of, listed


@pytest.mark.parametrize("items", [3, 32, 33, 200])
@pytest.mark.parametrize("bias_scale", [1.0, 1e-3, -2.0])
def test_top_k_is_that_of_the_whole_product_whatever_the_bias(items, bias_scale):
    rng = np.random.default_rng(items)
    embeddings = rng.normal(size=(items, 5)).astype(np.float32) - 3.0
    queries = rng.normal(size=(7, 5)).astype(np.float32)
    queries[:, -1] = bias_scale
    index = ExactIndex(embeddings)
    found = index.top_k(index.scores(tf.constant(queries)), 50)
    scores = queries @ embeddings.T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :50]
    assert (found.item.numpy() == best).all()
    np.testing.assert_allclose(found.score, np.take_along_axis(scores, best, 1), atol=1e-4)


def test_items_of_equal_score_come_in_the_order_of_their_rows():
    embeddings = np.ones((100, 2), np.float32)
    embeddings[70] = 2.0
    index = ExactIndex(embeddings)
    found = index.top_k(index.scores(tf.ones([1, 2])), 40)
    assert found.item.numpy().tolist() == [[70, *range(39)]]


def test_the_first_of_many_equal_items_are_found_wherever_they_lie_in_a_wide_catalogue():
    embeddings = np.zeros((9_001, 2), np.float32)
    embeddings[np.arange(5, 9_001, 37)] = 1.0
    index = ExactIndex(embeddings)
    found = index.search(tf.ones([2, 2]), k=200)
    assert found.item.numpy().tolist() == [list(range(5, 5 + 200 * 37, 37))] * 2
    assert index.padded >= 9_001 and not (found.item.numpy() >= 9_001).any()


def test_excluded_items_are_never_found_however_short_the_list_gets():
    index = ExactIndex(np.arange(10, dtype=np.float32).reshape(5, 2))
    scores = index.scores(tf.ones([2, 2]))
    found = index.top_k(exclude(scores, tf.ragged.constant([[4, 1], [0, 1, 2, 3, 4]])), 4)
    assert found.item.numpy().tolist() == [[3, 2, 0, -1], [-1, -1, -1, -1]]


def test_gather_gives_back_the_embeddings():
    embeddings = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    rows = np.array([[0, 39], [7, 7]])
    found = ExactIndex(embeddings).gather(tf.constant(rows))
    np.testing.assert_array_equal(found, embeddings[rows])


def test_items_that_are_not_offered_are_never_found_but_keep_their_embedding():
    embeddings = np.random.default_rng(1).normal(size=(70, 4)).astype(np.float32)
    offered = np.arange(70) % 7 != 0
    index = ExactIndex(embeddings, offered=offered)
    for attempt in (embeddings, embeddings + 1):
        index.replace(attempt)
        found = index.search(tf.constant(embeddings[:5]), k=70).item.numpy()
        assert {item for row in found for item in row} == {*np.flatnonzero(offered), -1}
    np.testing.assert_array_equal(index.gather(tf.range(70)), embeddings + 1)


class Only(NamedTuple):
    """Lets some items of each query through, and knows that they are few."""

    items: tf.Tensor

    def mask(self, scores):
        raise AssertionError("whoever knows a few items need not look at all")

    def passes(self, items):
        return listed(items, self.items)

    def few(self):
        return Few(tf.constant(True), lambda: self.items)


def test_rules_are_applied_before_the_best_are_taken():
    index = ExactIndex(np.arange(10, dtype=np.float32).reshape(5, 2))
    gone = tf.ragged.constant([[4, 1], [0]], dtype=tf.int32)
    found = index.search(tf.ones([2, 2]), k=3, rules=Without(gone))
    assert found.item.numpy().tolist() == [[3, 2, 0], [4, 3, 2]]


@pytest.mark.parametrize("k", [1, 3, 5, 9])
def test_a_few_items_are_searched_as_all_are(k):
    embeddings = np.repeat(np.random.default_rng(2).normal(size=(100, 4)), 2, axis=0)
    index = ExactIndex(embeddings.astype(np.float32), offered=np.arange(200) != 6)
    queries = tf.constant(np.random.default_rng(3).normal(size=(3, 4)), tf.float32)
    some = [[2, 3, 6, 7, 150], [-1, -1, -1, 4, 5], [-1] * 5]
    found = index.search(queries, k=k, rules=Only(tf.constant(some)))
    others = tf.ragged.constant([sorted({*range(200)} - {*row}) for row in some], dtype=tf.int32)
    expected = index.search(queries, k=k, rules=Without(others))
    np.testing.assert_array_equal(found.item, expected.item)
    real = expected.item.numpy() >= 0
    np.testing.assert_array_equal(found.score.numpy()[real], expected.score.numpy()[real])


def test_listed_finds_rows_of_lists_in_any_order():
    items = tf.constant([[3, 0, 9], [3, 0, 9], [3, 0, 9]])
    lists = tf.constant([[9, 1, 3], [-1, -1, -1], [0, 0, -1]])
    assert listed(items, lists).numpy().tolist() == [
        [True, False, True],
        [False, False, False],
        [False, True, False],
    ]


def test_the_first_filter_that_knows_a_few_items_names_them():
    def few(known, item):
        return Few(tf.constant(known), lambda: tf.constant([[item]]))

    assert first_of([None, None]) is None
    for known, item in (((True, True), 1), ((False, True), 2), ((True, False), 1)):
        found = first_of([None, few(known[0], 1), None, few(known[1], 2)])
        assert found is not None
        assert bool(found.known)
        assert found.items().numpy().tolist() == [[item]]
    none = first_of([few(False, 1), few(False, 2)])
    assert none is not None
    assert not bool(none.known)
