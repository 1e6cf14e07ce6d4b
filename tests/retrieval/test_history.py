import numpy as np

from features.backend import tf
from retrieval.history import MeanHistory


def test_causal_gives_every_position_what_last_gives_its_history():
    rng = np.random.default_rng(0)
    embeddings = tf.constant(rng.normal(size=(3, 6, 4)), tf.float32)
    # positions 2 and 3 came at the same moment
    before = np.array([[0, 1, 2, 2, 4, 5], [0, 0, 0, 3, 4, 4], [0, 1, 2, 3, 4, 5]], np.int32)
    encoder = MeanHistory()
    found = encoder.causal(embeddings, tf.constant(before)).numpy()
    for window in range(3):
        for position in range(6):
            alone = encoder.last(embeddings[window : window + 1], before[window, position][None])
            np.testing.assert_allclose(found[window, position], alone[0], atol=1e-6)


def test_nothing_after_a_position_reaches_it():
    embeddings = np.random.default_rng(1).normal(size=(1, 5, 3)).astype(np.float32)
    before = tf.constant([[0, 1, 2, 3, 4]])
    changed = embeddings.copy()
    changed[:, 3:] += 100.0
    one = MeanHistory().causal(tf.constant(embeddings), before).numpy()
    other = MeanHistory().causal(tf.constant(changed), before).numpy()
    np.testing.assert_array_equal(one[:, :4], other[:, :4])
    assert (one[:, 4] != other[:, 4]).all()


def test_padding_does_not_count_and_no_history_is_zero():
    embeddings = np.random.default_rng(2).normal(size=(2, 4, 3)).astype(np.float32)
    found = MeanHistory().last(tf.constant(embeddings), tf.constant([2, 0])).numpy()
    np.testing.assert_allclose(found[0], embeddings[0, :2].mean(axis=0), atol=1e-6)
    assert not found[1].any()
