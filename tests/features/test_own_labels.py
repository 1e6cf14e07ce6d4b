import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import features.own_labels
from features.own_labels import NO_PAIR, OwnLabels, own_labels

PAIRS, OF_PAIR, NOISE = 4000, 0.6, 1.0


def residuals(*, of_pair=OF_PAIR, seed=0):
    """Labels of pairs, most of them with one, that differ by what the pair is like."""
    rng = np.random.default_rng(seed)
    like = of_pair * rng.normal(size=PAIRS)
    pair = rng.integers(0, PAIRS, 2 * PAIRS).astype(np.int64)
    return like, pair, like[pair] + NOISE * rng.normal(size=len(pair))


def fit(pair, off, volume=None):
    return own_labels(pair, lambda: (off, np.ones(len(off)) if volume is None else volume))


def test_labels_are_believed_as_far_as_pairs_differ():
    like, pair, off = residuals()
    found = fit(pair, off)
    count = np.bincount(pair, minlength=PAIRS)
    best = np.bincount(pair, weights=off, minlength=PAIRS) / (count + NOISE**2 / OF_PAIR**2)
    predicted = found.of(np.arange(PAIRS))
    np.testing.assert_allclose(predicted, best, atol=0.1)
    assert (predicted[count == 0] == 0).all() and (count == 0).any()
    assert np.mean((predicted - like) ** 2) < 0.7 * OF_PAIR**2


def test_nothing_is_made_up_where_pairs_do_not_differ():
    for seed in range(5):
        _, pair, off = residuals(of_pair=0.0, seed=seed)
        assert np.mean(fit(pair, off).of(np.arange(PAIRS)) ** 2) < 0.01


def test_few_repeats_and_none_say_nothing():
    _, _, off = residuals()
    for pair in (np.arange(len(off)), np.append(np.arange(len(off) - 1), 0)):
        found = fit(pair.astype(np.int64), off)
        assert found.pair.tolist() == [NO_PAIR]
        assert (found.of(pair) == 0).all()
    nothing = np.zeros(0)
    assert fit(nothing.astype(np.int64), nothing).of(np.array([3]))[0] == 0


def test_exact_labels_are_believed_more():
    like, pair, off = residuals()
    rng = np.random.default_rng(1)
    volume = rng.choice([0.2, 1.8], len(pair))
    off = like[pair] + NOISE * rng.normal(size=len(pair)) / np.sqrt(volume)
    errors = [
        np.mean((fit(pair, off, given).of(np.arange(PAIRS)) - like) ** 2)
        for given in (volume, None, 2 - volume)
    ]
    assert errors[0] < 0.95 * errors[1] < errors[2]


@pytest.mark.parametrize("labels", [100, 1000])
def test_one_pair_of_many_labels_does_not_speak_for_all(labels):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        pair = np.concatenate(
            [np.zeros(labels), np.repeat(np.arange(1, 1001), 2), np.arange(1001, 6001)]
        )
        off = rng.normal(size=len(pair)) + (pair == 0)
        found = fit(pair.astype(np.int64), off).of(np.arange(1, 6001))
        assert np.mean(found**2) < 0.01


def test_labels_that_are_the_same_in_a_pair_are_not_believed_without_any_doubt():
    like = np.random.default_rng(0).normal(size=200)
    found = fit(np.repeat(np.arange(200), 2), np.repeat(like, 2)).of(np.arange(200))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, like * 2 / 2.1, rtol=1e-5)


def test_what_is_no_number_says_nothing():
    _, pair, off = residuals()
    off[3] = np.nan
    assert fit(pair, off).pair.tolist() == [NO_PAIR]


def test_where_there_is_no_room_the_pairs_with_most_labels_are_kept(monkeypatch):
    _, pair, off = residuals()
    every = fit(pair, off)
    monkeypatch.setattr(features.own_labels, "_MOST_PAIRS", 100)
    kept = fit(pair, off)
    assert len(kept.pair) == 100 and (np.diff(kept.pair) > 0).all()
    np.testing.assert_array_equal(kept.difference, every.of(kept.pair))
    count = np.bincount(pair)
    assert count[kept.pair].min() >= np.sort(count)[-100]


@given(st.sets(st.integers(0, 50), min_size=1), st.lists(st.integers(-1, 60), min_size=1))
def test_pairs_are_found_or_are_worth_nothing(known, asked):
    pairs = np.array(sorted(known), np.int64)
    found = OwnLabels(pairs, (pairs + 1).astype(np.float32)).of(np.array(asked, np.int64))
    assert found.tolist() == [one + 1 if one in known else 0 for one in asked]


def test_no_pair_is_found_among_none():
    assert OwnLabels.none().of(np.array([-1, 0, 10**12])).tolist() == [0, 0, 0]
