"""Corrections for which labels there are, on a world whose truth is known."""

import numpy as np
import pytest

from features.backend import tf
from ranking.loss import squared_errors
from ranking.selection import doubly_robust, inverse_propensity, observed_mean

SIZE = 40_000


class Ratings:
    """Half of the items are liked, rated 5 and seen often; the rest 1 and seen seldom."""

    rng = np.random.default_rng(0)
    liked = rng.random((SIZE, 1)) < 0.5
    label = np.where(liked, 5.0, 1.0).astype(np.float32)
    chance = np.where(liked, 0.6, 0.1).astype(np.float32)
    there = rng.random((SIZE, 1)) < chance
    weight = np.ones((SIZE, 1), np.float32)


def errors(value, label):
    return squared_errors(value, label, std=1.0)


def losses(prediction):
    return errors(tf.fill([SIZE, 1], prediction), tf.constant(Ratings.label))


def robust(prediction, *, chance, imputed):
    return float(
        doubly_robust(
            tf.fill([SIZE, 1], prediction),
            tf.constant(np.where(Ratings.there, Ratings.label, 0.0)),
            tf.constant(Ratings.there),
            tf.constant(Ratings.weight),
            chance=tf.constant(chance),
            imputed=tf.constant(imputed),
            row_loss=errors,
        )
    )


TRUTH = {value: float(np.square(value - Ratings.label).mean()) for value in (2.0, 2.5, 4.5)}
WRONG_CHANCE = np.full((SIZE, 1), 0.35, np.float32)
WRONG_LABEL = np.full((SIZE, 1), 3.5, np.float32)


@pytest.mark.parametrize("value", TRUTH)
def test_the_labels_there_are_mislead_and_their_chances_put_it_right(value):
    there, weight = tf.constant(Ratings.there), tf.constant(Ratings.weight)
    naive = float(observed_mean(losses(value), there, weight))
    chance = tf.constant(Ratings.chance)
    corrected = float(inverse_propensity(losses(value), there, weight, chance=chance))
    assert abs(naive - TRUTH[value]) > 5 * abs(corrected - TRUTH[value])
    assert corrected == pytest.approx(TRUTH[value], rel=0.05)


@pytest.mark.parametrize("value", TRUTH)
@pytest.mark.parametrize(
    ("chance", "imputed"), [(Ratings.chance, WRONG_LABEL), (WRONG_CHANCE, Ratings.label)]
)
def test_the_doubly_robust_loss_is_right_where_either_is(value, chance, imputed):
    assert robust(value, chance=chance, imputed=imputed) == pytest.approx(TRUTH[value], rel=0.06)


def test_it_is_wrong_where_both_are():
    found = robust(2.0, chance=WRONG_CHANCE, imputed=WRONG_LABEL)
    assert abs(found - TRUTH[2.0]) > 0.5


def test_a_rare_label_rules_no_step():
    """However small its chance, a label counts ten times the average at the most."""
    there, weight = tf.ones([100, 1], tf.bool), tf.ones([100, 1])
    chance = tf.constant(np.r_[np.full(99, 0.5), 1e-9].astype(np.float32)[:, None])
    loss = tf.constant(np.r_[np.zeros(99), 1.0].astype(np.float32)[:, None])
    assert float(inverse_propensity(loss, there, weight, chance=chance)) < 0.11


def test_chances_and_imputed_labels_learn_nothing_from_these_losses():
    chance, imputed = tf.constant([[0.5, 0.2]]), tf.constant([[1.0, 2.0]])
    there, weight = tf.constant([[True, False]]), tf.ones([1, 2])
    values = tf.constant([[0.3, 0.4]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([chance, imputed, values])
        one = inverse_propensity(errors(values, imputed), there, weight, chance=chance)
        other = doubly_robust(
            values, tf.zeros([1, 2]), there, weight,
            chance=chance, imputed=imputed, row_loss=errors,
        )  # fmt: skip
    assert tape.gradient(one, chance) is None
    assert tape.gradient(other, chance) is None and tape.gradient(other, imputed) is None
    assert np.all(tape.gradient(other, values).numpy() != 0)


def test_padding_counts_nowhere():
    there = tf.constant([[True, True]])
    weight = tf.constant([[1.0, 0.0]])
    label, chance = tf.zeros([1, 2]), tf.constant([[0.5, 0.9]])
    values = tf.constant([[1.0, 100.0]])
    found = doubly_robust(
        values, label, there, weight, chance=chance, imputed=label, row_loss=errors
    )
    assert float(found) == pytest.approx(1.0)
    assert float(observed_mean(errors(values, label), there, weight)) == pytest.approx(1.0)
