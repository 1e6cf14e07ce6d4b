"""Predictions of lists, and the order made of them."""

import numpy as np
import pytest

from features.backend import tf
from interactions.config import TaskConfig
from interactions.queries import Queries, queries
from ranking.config import RankingConfig
from ranking.model import Ranker
from ranking.scoring import Order, Scorer, readable, reorder


@pytest.fixture(scope="module")
def asked(trained_system):
    log = trained_system.log
    return queries(log, np.arange(len(log)), repeats=False).take(np.arange(0, 90, 9))


@pytest.fixture(scope="module")
def lists(trained_system, asked):
    rng = np.random.default_rng(0)
    items = np.stack([rng.permutation(len(trained_system.log.item_ids))[:9] for _ in asked.row])
    items = items.astype(np.int32)
    items[::2, 7:] = -1
    return items, rng.normal(size=items.shape).astype(np.float32)


def test_a_list_is_predicted_as_its_items_one_by_one(trained_system, asked, lists):
    items, score = lists
    together = trained_system.scorer.predict(asked, items, score)
    assert set(together) == {"retrieval", "rating", "purchase"}
    for place in range(items.shape[1]):
        column = slice(place, place + 1)
        alone = trained_system.scorer.predict(asked, items[:, column], score[:, column])
        for task, values in alone.items():
            np.testing.assert_allclose(values[:, 0], together[task][:, place], atol=1e-4)


def test_one_query_is_predicted_as_among_others_and_in_any_order(trained_system, asked, lists):
    items, score = lists
    together = trained_system.scorer.predict(asked, items, score)
    for query in range(len(asked)):
        index = np.array([query])
        turned = trained_system.scorer.predict(
            asked.take(index), items[index, ::-1], score[index, ::-1]
        )
        for task, values in turned.items():
            np.testing.assert_allclose(values[0, ::-1], together[task][query], atol=1e-4)


def test_no_query_gets_no_prediction(trained_system, asked):
    nothing = asked.take(np.zeros(0, np.int64))
    found = trained_system.scorer.predict(
        nothing, np.zeros((0, 4), np.int32), np.zeros((0, 4), np.float32)
    )
    assert all(values.shape == (0, 4) for values in found.values())


def test_long_histories_of_single_candidates_go_in_several_calls(world):
    """What a call holds are histories too, of which one candidate brings a whole one."""
    calls = []

    class Told(Scorer):
        def inputs(self, queries, context_rows):
            found = super().inputs(queries, context_rows)
            calls.append(len(queries) * self.ranker.config.history)
            return found

    past = world.examples.past.copy()
    scorer = Told(
        Ranker(world.inputs, RankingConfig(history=500), past),
        histories=world.histories,
        context=world.context,
    )
    shown = world.examples.exposures
    item, score = shown.queries.item[:, None], shown.retrieval_score[:, None]
    found = scorer.predict(shown.queries, item, score)
    assert len(calls) > 1 and max(calls) < 100_000
    last = np.arange(len(item) - 5, len(item))
    alone = scorer.predict(shown.queries.take(last), item[last], score[last])
    for task, values in alone.items():
        np.testing.assert_allclose(values, found[task][last], atol=1e-4)


def test_an_unknown_user_without_history_is_predicted(trained_system):
    nobody = Queries(
        np.array([-1]), np.array([-1], np.int32), np.array([0]), np.array([0], np.int32)
    )
    found = trained_system.scorer.predict(
        nobody, np.array([[0, 1, -1]], np.int32), np.zeros((1, 3), np.float32)
    )
    assert all(np.isfinite(values).all() for values in found.values())


@pytest.fixture
def order():
    return Order(
        {"retrieval": 1.0, "rating": 2.0, "purchase": 3.0, "click": 0.0},
        {"rating": 3.5}, {"rating": 0.5},
        {"retrieval": "retrieval", "rating": "regression", "purchase": "binary", "click": "binary"},
    )  # fmt: skip


def test_the_order_is_the_weighted_sum_of_comparable_utilities(order):
    predictions = {
        "retrieval": tf.constant([[1.0, -2.0]]),
        "rating": tf.constant([[4.0, 3.5]]),
        "purchase": tf.constant([[0.0, 2.0]]),
        "click": tf.constant([[99.0, -99.0]]),
    }
    chance = 1 / (1 + np.exp([0.0, -2.0]))
    wanted = np.array([1.0, -2.0]) + 2 * np.array([1.0, 0.0]) + 3 * np.log(chance)
    np.testing.assert_allclose(order.score(predictions)[0], wanted, rtol=1e-5)


def test_an_improbable_purchase_gives_a_finite_score(order):
    predictions = {
        "retrieval": tf.zeros([1, 1]), "rating": tf.zeros([1, 1]),
        "purchase": tf.constant([[-200.0]]), "click": tf.zeros([1, 1]),
    }  # fmt: skip
    assert np.isfinite(order.score(predictions)).all()


def test_reordering_puts_the_best_first_and_padding_last():
    items = np.array([[4, -1, 7, 2], [1, 2, 3, 0]])
    score = np.array([[0.1, 9.0, 0.5, -3.0], [1.0, 1.0, 1.0, 2.0]])
    assert reorder(items, score).tolist() == [[7, 4, 2, -1], [0, 1, 2, 3]]


def test_only_a_binary_task_is_read_as_a_probability():
    logits = np.array([-30.0, 0.0, 30.0])
    found = readable(TaskConfig(kind="binary", column="y"), logits)
    np.testing.assert_allclose(found, [0.0, 0.5, 1.0], atol=1e-6)
    rating = TaskConfig(kind="regression", column="y")
    assert (readable(rating, logits).numpy() == logits).all()


def test_a_regression_is_read_within_its_declared_range():
    rating = TaskConfig(kind="regression", column="rating", range=(1.0, 5.0))
    found = readable(rating, np.array([-3.0, 2.5, 9.0], np.float32)).numpy()
    np.testing.assert_array_equal(found, [1.0, 2.5, 5.0])
