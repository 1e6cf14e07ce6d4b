"""Predictions of the heads: bounded regressions, chances of both, and what shapes what."""

from dataclasses import replace

import numpy as np
import pytest

from features.backend import tf
from interactions.config import TaskConfig
from ranking.heads import Heads, logit_of_both
from ranking.inputs import RankerInputs
from ranking.sides import Sides

TASKS = {
    "retrieval": TaskConfig(),
    "view": TaskConfig(kind="binary", column="view"),
    "buy": TaskConfig(kind="binary", column="buy", given="view"),
    "rating": TaskConfig(kind="regression", column="rating", selection="doubly_robust"),
}


def inputs(**given):
    nothing = None
    return replace(
        RankerInputs(
            nothing, nothing, (), "item", "user", TASKS,
            {"view": 0.2, "buy": 0.05, "rating": 4.0}, {"view": 0.4, "buy": 0.2, "rating": 0.5},
            {"rating": (1.0, 5.0)},
        ),
        **given,
    )  # fmt: skip


@pytest.mark.parametrize("ranges", [{"rating": (1.0, 5.0)}, {}], ids=["bounded", "unbounded"])
def test_an_expected_label_becomes_the_output_that_predicts_it(ranges):
    heads = Heads(inputs(label_range=ranges))
    expected = tf.constant([1.5, 2.0, 3.0, 4.0, 4.5])
    output = heads.number_of("rating", expected)
    sides = Sides(None, tf.reshape(output, [1, 5, 1]))
    hidden = {task: tf.zeros([1, 5, 4]) for task in TASKS}
    heads(hidden, sides)
    heads.start_linear("rating", 0, 1.0)
    found = heads(hidden, sides).predictions["rating"]
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


def test_a_guess_of_a_label_that_is_given_another_begins_at_its_rate():
    tasks = TASKS | {"buy": TASKS["buy"].model_copy(update={"selection": "doubly_robust"})}
    found = Heads(inputs(tasks=tasks))(
        {task: tf.zeros([1, 1, 4]) for task in tasks}, Sides(None, tf.zeros([1, 1, 1]))
    )
    for guess in (found.imputed["buy"], found.predictions["buy"]):
        assert tf.sigmoid(guess).numpy().item() == pytest.approx(0.05, rel=1e-4)


@pytest.mark.parametrize("output", [-40.0, 40.0])
def test_beyond_a_bound_the_bound_is_predicted_and_labels_inside_draw_back(output):
    heads, hidden = Heads(inputs()), {task: tf.zeros([1, 1, 4]) for task in TASKS}
    number = tf.Variable([[[output]]])
    heads(hidden, Sides(None, number))
    heads.start_linear("rating", 0, 1.0)
    for label, pull in ((3.0, np.sign(output)), (3.0 + 2 * np.sign(output), 0.0)):
        with tf.GradientTape() as tape:
            found = heads(hidden, Sides(None, number)).predictions["rating"]
            loss = tf.reduce_sum(tf.square(found - label))
        assert float(found[0, 0]) == 3.0 + 2 * np.sign(output)
        assert np.sign(tape.gradient(loss, number).numpy()).item() == pull


def test_amounts_far_below_the_largest_one_are_told_apart():
    means, spread = inputs().label_mean | {"rating": 3.0}, inputs().label_std | {"rating": 4.0}
    amounts = inputs(label_range={"rating": (0.0, 1e3)}, label_mean=means, label_std=spread)
    heads = Heads(amounts)
    hidden = {task: tf.zeros([1, 3, 4]) for task in TASKS}
    expected = tf.constant([0.2, 0.9, 2.0])
    sides = Sides(None, tf.reshape(heads.number_of("rating", expected), [1, 3, 1]))
    heads(hidden, sides)
    heads.start_linear("rating", 0, 1.0)
    found = heads(hidden, sides).predictions["rating"]
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


@pytest.fixture
def hidden():
    rng = np.random.default_rng(0)
    return {task: tf.constant(rng.normal(size=(2, 3, 4)), tf.float32) for task in TASKS}


@pytest.fixture
def numbers():
    rng = np.random.default_rng(1)
    return Sides(
        tf.constant(rng.normal(size=(2, 2)), tf.float32),
        tf.constant(rng.normal(size=(2, 3, 5)), tf.float32),
    )


def moved(heads, hidden, numbers, *, by):
    heads(hidden, numbers)
    rng = np.random.default_rng(2)
    for variable in heads.trainable_variables:
        variable.assign(rng.normal(size=variable.shape) * by)
    return heads


def sigmoid(values):
    return 1 / (1 + np.exp(-np.asarray(values, np.float64)))


def test_new_heads_say_what_is_known_of_everybody(hidden, numbers):
    found = Heads(inputs())(hidden, numbers).predictions
    assert sigmoid(found["view"]) == pytest.approx(0.2, rel=1e-4)
    assert sigmoid(found["buy"]) == pytest.approx(0.05, rel=1e-4)
    assert found["rating"].numpy() == pytest.approx(4.0, rel=1e-4)
    assert not found["retrieval"].numpy().any()


@pytest.mark.parametrize("by", [0.3, 30.0])
def test_what_is_given_another_is_never_likelier_than_it(hidden, numbers, by):
    found = moved(Heads(inputs()), hidden, numbers, by=by)(hidden, numbers).predictions
    assert np.isfinite(found["buy"]).all()
    assert (sigmoid(found["buy"]) <= sigmoid(found["view"]) + 1e-7).all()


def test_the_purchase_teaches_the_view_it_is_given(hidden, numbers):
    heads = moved(Heads(inputs()), hidden, numbers, by=0.3)
    with tf.GradientTape(persistent=True) as tape:
        total = tf.reduce_sum(heads(hidden, numbers).predictions["buy"])
    found = {
        task: tape.gradient(total, head.trainable_variables) for task, head in heads._heads.items()
    }
    taught = {task for task, those in found.items() if any(one is not None for one in those)}
    assert taught == {"view", "buy"}


@pytest.mark.parametrize("one", [-80.0, -3.0, 0.0, 3.0, 80.0])
@pytest.mark.parametrize("other", [-80.0, -3.0, 0.0, 3.0, 80.0])
def test_the_logit_of_both(one, other):
    values = tf.constant([one, other])
    with tf.GradientTape() as tape:
        tape.watch(values)
        found = logit_of_both(values[0], values[1])
    assert np.isfinite(found) and np.isfinite(tape.gradient(found, values)).all()
    chance = sigmoid(one) * sigmoid(other)
    if 1e-12 < chance < 1 - 1e-12:
        assert float(found) == pytest.approx(np.log(chance / (1 - chance)), rel=1e-4)


def test_a_regression_stays_between_the_labels_seen_or_those_declared(hidden, numbers):
    heads = moved(Heads(inputs()), hidden, numbers, by=30.0)
    rating = heads(hidden, numbers).predictions["rating"].numpy()
    assert rating.min() >= 1.0 and rating.max() <= 5.0 and np.ptp(rating) > 3.0
    tasks = TASKS | {"rating": TASKS["rating"].model_copy(update={"range": (0.0, 10.0)})}
    declared = moved(Heads(inputs(tasks=tasks)), hidden, numbers, by=30.0)
    rating = declared(hidden, numbers).predictions["rating"].numpy()
    assert rating.min() >= 0.0 and 5.0 < rating.max() <= 10.0


@pytest.mark.parametrize("ranges", [{}, {"rating": (4.0, 4.0)}])
def test_without_a_range_nothing_bounds_it(hidden, numbers, ranges):
    heads = moved(Heads(inputs(label_range=ranges)), hidden, numbers, by=30.0)
    assert np.abs(heads(hidden, numbers).predictions["rating"]).max() > 10


def test_what_serves_the_training_alone_shapes_no_hidden_vector(hidden, numbers):
    heads = moved(Heads(inputs()), hidden, numbers, by=0.3)
    assert heads.corrected == ("rating",)
    with tf.GradientTape() as tape:
        tape.watch(hidden)
        outputs = heads(hidden, numbers)
        total = tf.reduce_sum(outputs.observed["rating"] + outputs.imputed["rating"])
    assert all(gradient is None for gradient in tape.gradient(total, hidden).values())


def test_a_head_begins_from_what_is_asked(hidden, numbers):
    heads = Heads(inputs())
    heads(hidden, numbers)
    heads.start_linear("retrieval", 3, 2.0)
    heads.start_observed("rating", 0.1)
    found = heads(hidden, numbers)
    np.testing.assert_allclose(
        found.predictions["retrieval"], 2 * numbers.candidate[:, :, 3], rtol=1e-5
    )
    assert sigmoid(found.observed["rating"]) == pytest.approx(0.1, rel=1e-4)
