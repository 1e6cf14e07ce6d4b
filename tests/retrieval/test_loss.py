"""The sampled softmax against the full one, and its correction against simulations."""

import numpy as np
import pytest

from features.backend import tf
from retrieval.loss import log_inclusion, sampled_softmax

ITEMS = 12


def loss_and_gradient(logits, *, positive, log_probability=0.0, allowed=True):
    """Losses [Q] and their gradient by the logits [Q, C]."""
    logits = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = sampled_softmax(
            logits,
            positive=tf.constant(positive, tf.int32),
            log_probability=tf.constant(
                np.broadcast_to(log_probability, logits.shape[1:]), tf.float32
            ),
            allowed=tf.constant(np.broadcast_to(allowed, logits.shape)),
        )
    return losses.numpy(), tape.gradient(losses, logits).numpy()


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def test_on_the_whole_catalogue_it_is_the_softmax():
    logits = np.random.default_rng(0).normal(size=(5, ITEMS)) * 3
    positive = np.array([0, 3, 3, 11, 7])
    losses, gradient = loss_and_gradient(logits, positive=positive)
    chances = softmax(logits)
    np.testing.assert_allclose(losses, -np.log(chances[np.arange(5), positive]), rtol=1e-4)
    np.testing.assert_allclose(gradient, chances - np.eye(ITEMS)[positive], atol=1e-5)


@pytest.mark.parametrize("skew", [0.0, 2.0])
def test_averaged_over_draws_its_gradient_is_that_of_the_full_softmax(skew):
    """Items that are drawn more often must not pay for it."""
    rng = np.random.default_rng(1)
    items, positive = 300, 3
    logits = rng.normal(size=items)
    inclusion = 0.05 + 0.9 / (1 + np.exp(-rng.normal(size=items) * skew))
    drawn = rng.random((2000, items)) < inclusion
    drawn[:, positive] = True
    given = {"positive": np.full(len(drawn), positive), "allowed": drawn}
    repeated = np.broadcast_to(logits, drawn.shape)
    losses, gradient = loss_and_gradient(repeated, log_probability=np.log(inclusion), **given)
    chances = softmax(logits)
    wanted = chances - np.eye(items)[positive]
    error = np.abs(gradient.mean(axis=0) - wanted).sum()
    # the whole gradient is 2 long; a ratio of sums is only nearly unbiased
    assert error < 0.06
    assert losses.mean() == pytest.approx(-np.log(chances[positive]), abs=0.03)
    if skew:
        _, plain = loss_and_gradient(repeated, **given)
        assert error < 0.25 * np.abs(plain.mean(axis=0) - wanted).sum()


def test_the_chosen_item_counts_once_and_uncorrected():
    """Its accidental appearance among the negatives, however improbable, adds nothing."""
    logits = np.random.default_rng(2).normal(size=(1, ITEMS))
    rare = np.zeros(ITEMS)
    plain = loss_and_gradient(logits, positive=[4], log_probability=rare)
    rare[4] = -20.0
    found = loss_and_gradient(logits, positive=[4], log_probability=rare)
    np.testing.assert_array_equal(found[0], plain[0])
    np.testing.assert_array_equal(found[1], plain[1])


def test_an_item_that_had_not_appeared_is_no_negative():
    logits = np.random.default_rng(3).normal(size=(2, ITEMS))
    logits[:, 5] = 30.0
    allowed = np.ones((2, ITEMS), bool)
    allowed[0, 5] = False
    losses, gradient = loss_and_gradient(logits, positive=[1, 1], allowed=allowed)
    rest = np.delete(logits[0], 5)
    assert losses[0] == pytest.approx(-np.log(softmax(rest)[1]), rel=1e-4)
    assert gradient[0, 5] == 0.0 and gradient[1, 5] == pytest.approx(1.0, abs=1e-3)


def test_alone_with_no_negative_it_costs_nothing_and_moves_nothing():
    losses, gradient = loss_and_gradient([[2.0, 9.0]], positive=[0], allowed=[[True, False]])
    assert losses[0] == pytest.approx(0.0, abs=1e-6) and not gradient.any()


def test_the_probability_to_be_drawn_is_that_of_a_simulation():
    rng = np.random.default_rng(4)
    windows, batch, drawn, catalogue = 40, 6, 3, 20
    members = rng.random((windows, catalogue)) < rng.random(catalogue) * 0.2
    members[:, 0] = False
    found = np.exp(
        log_inclusion(
            windows_with_item=members.sum(axis=0),
            windows=windows,
            batch_windows=batch,
            uniform_share=drawn / catalogue,
        )
    )
    times = 4000
    count = np.zeros(catalogue)
    for _ in range(times):
        inside = members[rng.permutation(windows)[:batch]].any(axis=0)
        inside[rng.choice(catalogue, drawn, replace=False)] = True
        count += inside
    # windows are drawn without replacement, which the formula passes over
    np.testing.assert_allclose(found, count / times, atol=0.055)
    assert np.corrcoef(found, count / times)[0, 1] > 0.99
    assert found[0] == pytest.approx(drawn / catalogue)


def test_a_batch_of_everything_needs_no_correction():
    log = log_inclusion(
        windows_with_item=np.array([1, 2]), windows=3, batch_windows=3, uniform_share=0.1
    )
    np.testing.assert_allclose(log, 0.0, atol=1e-6)
