"""The bonus for repeats against the written-out definition, over the whole catalogue."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.backend import tf
from retrieval.index import NOTHING, ExactIndex
from retrieval.repeats import RepeatBonus, distinct, lift

ITEMS = 7
row = st.lists(st.integers(-1, ITEMS - 1), min_size=4, max_size=4)
histories = st.lists(row, max_size=3)
amount = st.sampled_from([0.0, 0.5, 2.0])


def as_tensor(rows):
    return tf.constant(np.array(rows, np.int32).reshape(-1, 4))


def written_out(scores, history, *, once, again):
    scores = scores.astype(np.float64).copy()
    for query, items in enumerate(history):
        for item in {item for item in items if item >= 0}:
            scores[query, item] += once + again * np.log(items.count(item))
    return scores


@given(histories, amount, amount, st.integers(1, 9), st.integers(0, 2**16))
def test_the_lifted_top_k_is_that_of_all_items_with_their_bonus(history, once, again, k, seed):
    rng = np.random.default_rng(seed)
    embeddings = rng.integers(-2, 3, (ITEMS, 3)).astype(np.float32)
    queries = rng.integers(-2, 3, (len(history), 3)).astype(np.float32)
    offered = rng.random(ITEMS) < 0.8
    index, own = ExactIndex(embeddings, offered=offered), as_tensor(history)
    k = min(k, ITEMS)
    found = lift(
        index.search(tf.constant(queries), k=k),
        index.score(tf.constant(queries), distinct(own)),
        own,
        bonus=RepeatBonus(once, again),
        k=k,
    )
    scores = written_out(queries @ embeddings.T, history, once=once, again=again)
    scores = np.where(offered, scores, NOTHING)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    expected = np.take_along_axis(scores, order, axis=1)
    there = expected > NOTHING / 2
    np.testing.assert_allclose(found.score[there], expected[there], rtol=1e-5, atol=1e-5)
    # logarithms are rounded, so items of nearly equal scores may change places
    for query in range(len(history)):
        clear = np.abs(np.subtract.outer(expected[query], expected[query])) > 1e-4
        alone = clear.sum(axis=1) == k - 1
        np.testing.assert_array_equal(
            found.item[query].numpy()[alone & there[query]], order[query][alone & there[query]]
        )
    assert (found.item.numpy()[~there] == -1).all()


@given(histories)
def test_distinct_keeps_the_first_of_each_item(history):
    kept = distinct(as_tensor(history)).numpy().tolist()
    for items, left in zip(history, kept, strict=True):
        assert left == [i if items.index(i) == at else -1 for at, i in enumerate(items)]


def test_no_item_is_no_repeat():
    bonus = RepeatBonus(1.0, 1.0).of(tf.constant([[-1, 0, 1]]), tf.constant([[-1, 0, 0]]))
    np.testing.assert_allclose(bonus, [[0.0, 1.0 + np.log(2), 0.0]], rtol=1e-6)
