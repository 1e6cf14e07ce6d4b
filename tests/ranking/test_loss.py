"""The tasks' losses against their definitions, and what must not count."""

import numpy as np
import pytest

from features.backend import tf
from ranking.loss import choice_loss, log_losses, squared_errors
from ranking.selection import observed_mean

NAN = float("nan")


def with_gradient(loss_of, values):
    values = tf.constant(values, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(values)
        loss = loss_of(values)
    return float(loss), tape.gradient(loss, values).numpy()


def choice(logits, *, label, there=None, log_weight=None):
    shape = np.shape(logits)
    return with_gradient(
        lambda values: choice_loss(
            values,
            label=tf.constant(np.array(label, bool)),
            there=tf.constant(np.ones(shape, bool) if there is None else there),
            log_weight=tf.constant(
                np.zeros(shape) if log_weight is None else log_weight, tf.float32
            ),
        ),
        logits,
    )


def test_it_is_the_cross_entropy_of_the_chosen_candidate():
    logits = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    label = [[0, 1, 0], [1, 0, 0]]
    loss, _ = choice(logits, label=label)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert loss == pytest.approx(-np.log([chances[0, 1], chances[1, 0]]).mean(), rel=1e-5)


def test_a_sampled_candidate_counts_as_many_times_as_it_stands_for():
    weighted, _ = choice([[1.0, 0.3]], label=[[1, 0]], log_weight=[[0.0, np.log(3.0)]])
    written_out, _ = choice([[1.0, 0.3, 0.3, 0.3]], label=[[1, 0, 0, 0]])
    assert weighted == pytest.approx(written_out, rel=1e-5)


def test_the_weight_of_the_chosen_one_does_not_count():
    one = choice([[1.0, 0.3]], label=[[1, 0]], log_weight=[[5.0, 0.0]])
    other = choice([[1.0, 0.3]], label=[[1, 0]])
    assert one[0] == other[0] and (one[1] == other[1]).all()


def test_padding_and_queries_without_a_chosen_one_do_not_count():
    logits = [[1.0, 2.0, 99.0], [5.0, -5.0, 0.0]]
    loss, gradient = choice(
        logits, label=[[1, 0, 0], [0, 0, 0]], there=[[True, True, False], [True, True, True]]
    )
    alone, _ = choice([[1.0, 2.0]], label=[[1, 0]])
    assert loss == pytest.approx(alone, rel=1e-5)
    assert gradient[0, 2] == 0 and not gradient[1].any() and gradient[0, :2].all()


def test_no_chosen_one_at_all_gives_zero():
    loss, gradient = choice([[1.0, 2.0]], label=[[0, 0]])
    assert loss == 0 and not gradient.any()


def observed(losses_of, label, weight=None):
    """The mean over the labels there are, of a function of predictions and labels."""
    label = np.array(label, np.float32)
    there = ~np.isnan(label)
    given = np.ones(len(label)) if weight is None else weight
    return lambda values: observed_mean(
        losses_of(values, tf.constant(np.where(there, label, 0.0), tf.float32)),
        tf.constant(there),
        tf.constant(given, tf.float32),
    )


def in_twos(prediction, label):
    return squared_errors(prediction, label, std=2.0)


def test_a_missing_label_gives_no_gradient_and_does_not_thin_the_mean():
    loss, gradient = with_gradient(observed(in_twos, [1.0, NAN, 3.0]), [2.0, 50.0, 7.0])
    assert loss == pytest.approx((0.25 + 4.0) / 2)
    assert gradient[1] == 0 and np.isfinite(gradient).all() and gradient[[0, 2]].all()
    loss, gradient = with_gradient(observed(log_losses, [1.0, NAN, 0.0]), [2.0, 50.0, -1.0])
    chances = 1 / (1 + np.exp([-2.0, 1.0]))
    assert loss == pytest.approx(-np.log([chances[0], 1 - chances[1]]).mean(), rel=1e-5)
    assert gradient[1] == 0 and np.isfinite(gradient).all() and gradient[[0, 2]].all()


@pytest.mark.parametrize("label", [[NAN, NAN], []])
def test_without_any_label_the_loss_is_zero(label):
    for losses_of in (in_twos, log_losses):
        loss, gradient = with_gradient(observed(losses_of, label), np.zeros(len(label), np.float32))
        assert loss == 0 and not gradient.any()


def test_a_row_of_weight_2_counts_as_two():
    weighted, _ = with_gradient(observed(in_twos, [1.0, 3.0], [2.0, 1.0]), [2.0, 7.0])
    written_out, _ = with_gradient(observed(in_twos, [1.0, 1.0, 3.0]), [2.0, 2.0, 7.0])
    assert weighted == pytest.approx(written_out)
    weight = tf.constant([2.0, 1.0])
    logits, label = tf.constant([[1.0, 0.3], [0.0, 2.0]]), tf.constant([[True, False]] * 2)
    everyone, nothing = tf.ones([2, 2], tf.bool), tf.zeros([2, 2])
    found = choice_loss(logits, label=label, there=everyone, log_weight=nothing, weight=weight)
    one, other = (
        choice_loss(logits[n : n + 1], label=label[:1], there=everyone[:1], log_weight=nothing[:1])
        for n in range(2)
    )
    assert float(found) == pytest.approx((2 * float(one) + float(other)) / 3, rel=1e-5)
