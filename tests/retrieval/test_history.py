"""What every history encoder must do, and what each does of its own."""

import numpy as np
import pytest

from features.backend import tf
from retrieval.config import RetrievalConfig
from retrieval.history import MeanHistory, history_encoder
from retrieval.transformer import look_up

WINDOWS, LENGTH, DIM = 3, 7, 8


@pytest.fixture(scope="module", params=["mean", "gru", "transformer"])
def encoder(request):
    tf.keras.utils.set_random_seed(1)
    config = RetrievalConfig(encoder=request.param, embedding_dim=DIM, history=LENGTH)
    encoder = history_encoder(config)
    encoder.states(*sequence())
    for weight in encoder.trainable_variables:
        # away from the zeros and ones that hide what a weight does
        weight.assign_add(tf.random.stateless_normal(weight.shape, seed=[1, 2]) * 0.3)
    return encoder


def sequence(seed=0):
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(WINDOWS, LENGTH, DIM)).astype(np.float32)
    times = np.sort(rng.integers(0, 10**13, (WINDOWS, LENGTH)))
    return tf.constant(embeddings), tf.constant(times, tf.int64)


def test_there_is_a_state_before_each_event_and_one_after_all(encoder):
    assert encoder.states(*sequence()).shape == (WINDOWS, LENGTH + 1, DIM)


def test_a_state_knows_the_events_before_it_and_nothing_else(encoder):
    embeddings, times = sequence()
    states = encoder.states(embeddings, times).numpy()
    for place in range(LENGTH):
        other, later = embeddings.numpy().copy(), times.numpy().copy()
        other[:, place:] += 1.0
        later[:, place:] += 10**12
        changed = encoder.states(tf.constant(other), tf.constant(later)).numpy()
        np.testing.assert_allclose(changed[:, : place + 1], states[:, : place + 1], atol=1e-5)
        assert np.abs(changed[:, place + 1] - states[:, place + 1]).max() > 1e-3


def test_state_zero_is_the_same_for_everyone(encoder):
    states = encoder.states(*sequence()).numpy()
    np.testing.assert_allclose(states[:, 0], np.broadcast_to(states[0, 0], (WINDOWS, DIM)))


def test_what_is_padded_behind_changes_nothing(encoder):
    embeddings, times = sequence()
    whole = encoder.states(embeddings, times).numpy()
    short = encoder.states(embeddings[:, :4], times[:, :4]).numpy()
    np.testing.assert_allclose(whole[:, :5], short, atol=1e-5)


def test_an_order_without_times_is_encoded(encoder):
    embeddings, _ = sequence()
    assert np.isfinite(encoder.states(embeddings, None).numpy()).all()


def test_dropout_is_a_function_of_its_seed(encoder):
    if isinstance(encoder, MeanHistory):
        pytest.skip("a mean has nothing to drop")
    one, again, other = (
        encoder.states(*sequence(), tf.constant(seed, tf.int32)).numpy()
        for seed in ([1, 5], [1, 5], [1, 6])
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3


def test_the_mean_is_the_mean():
    embeddings, _ = sequence()
    states = MeanHistory().states(embeddings, None).numpy()
    np.testing.assert_array_equal(states[:, 0], 0.0)
    for count in range(1, LENGTH + 1):
        expected = embeddings.numpy()[:, :count].mean(axis=1)
        np.testing.assert_allclose(states[:, count], expected, atol=1e-6)


def test_the_transformer_minds_order_and_gaps_in_time_and_not_when_it_all_happened():
    tf.keras.utils.set_random_seed(1)
    encoder = history_encoder(RetrievalConfig(embedding_dim=DIM, history=LENGTH))
    embeddings, times = sequence()
    encoder.states(embeddings, times)
    for weight in encoder.trainable_variables:
        weight.assign_add(tf.random.stateless_normal(weight.shape, seed=[1, 2]) * 0.3)
    states = encoder.states(embeddings, times)[:, -1].numpy()
    order = [1, 0, *range(2, LENGTH)]
    swapped = encoder.states(tf.gather(embeddings, order, axis=1), times)[:, -1].numpy()
    assert np.abs(swapped - states).max() > 1e-3
    wider = encoder.states(embeddings, times * 1000)[:, -1].numpy()
    assert np.abs(wider - states).max() > 1e-3
    moved = encoder.states(embeddings, times + 10**15)[:, -1].numpy()
    np.testing.assert_allclose(moved, states, atol=1e-5)


def test_looking_up_is_a_gather_with_the_gradient_of_one():
    rng = np.random.default_rng(4)
    table = tf.constant(rng.normal(size=(2, 6)).astype(np.float32))
    ids = tf.constant(rng.integers(0, 5, (3, 4, 4)), tf.int32)  # the last number is never asked for
    upstream = tf.constant(rng.normal(size=(3, 2, 4, 4)).astype(np.float32))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(table)
        found = look_up(table, ids)
        plain = tf.transpose(tf.gather(tf.transpose(table), ids), [0, 3, 1, 2])
    np.testing.assert_array_equal(found, plain)
    expected = tape.gradient(plain, table, output_gradients=upstream)
    gradient = tape.gradient(found, table, output_gradients=upstream)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
