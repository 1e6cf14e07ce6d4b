"""Dropout: how much it drops, what it keeps, and that a seed repeats it."""

import numpy as np
import pytest

from features.backend import tf
from training.dropout import dropout

SEED = tf.constant([5, 17])


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_the_share_asked_for_is_dropped_and_the_mean_stays(rate):
    kept = dropout(tf.ones([400, 500]), rate, SEED, salt=3).numpy()
    assert (kept == 0).mean() == pytest.approx(rate, abs=0.005)
    assert kept.mean() == pytest.approx(1.0, abs=0.03)
    assert len(np.unique(kept)) == 2


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5])
def test_any_number_of_entries_keeps_its_shape(size):
    assert dropout(tf.ones([size, 1]), 0.5, SEED, salt=3).shape == [size, 1]


def test_entries_are_dropped_independently_of_their_neighbours():
    dropped = dropout(tf.ones([100_000]), 0.3, SEED, salt=3).numpy() == 0
    for apart in (1, 2, 3, 4):
        both = (dropped[apart:] & dropped[:-apart]).mean()
        assert both == pytest.approx(0.09, abs=0.005)


def test_a_seed_and_a_place_repeat_it_and_others_do_not():
    values = tf.random.stateless_normal([1000], SEED)
    one = dropout(values, 0.5, SEED, salt=3)
    np.testing.assert_array_equal(one, dropout(values, 0.5, SEED, salt=3))
    for seed, salt in ((SEED, 4), (SEED + 1, 3)):
        assert (one.numpy() != dropout(values, 0.5, seed, salt=salt).numpy()).mean() > 0.3


def test_nothing_is_dropped_without_a_seed_or_a_rate():
    values = tf.ones([50])
    for rate, seed in ((0.5, None), (0.0, SEED)):
        np.testing.assert_array_equal(dropout(values, rate, seed, salt=3), values)


def test_the_gradient_passes_where_an_entry_was_kept():
    values = tf.ones([1000])
    with tf.GradientTape() as tape:
        tape.watch(values)
        kept = dropout(values, 0.3, SEED, salt=3)
    np.testing.assert_array_equal(tape.gradient(kept, values), kept)
