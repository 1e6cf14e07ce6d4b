import numpy as np
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


def fit(pair, off, size=None):
    return own_labels(pair, off, off=off, size=np.ones(len(off)) if size is None else size)


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


def test_a_difference_is_in_units_of_the_size():
    _, pair, off = residuals()
    once, twice = fit(pair, off), fit(pair, 2 * off, np.full(len(off), 2.0))
    # k counts labels of size 1: those of size 2 weigh as much as two of them
    mine, theirs = (found.of(np.arange(PAIRS)) for found in (once, twice))
    assert (np.abs(theirs) >= np.abs(mine) - 1e-6).all()
    assert (np.sign(mine) == np.sign(theirs)).all()


def test_the_pairs_of_which_most_is_said_are_kept(monkeypatch):
    _, pair, off = residuals()
    every = fit(pair, off)
    monkeypatch.setattr(features.own_labels, "_MOST_PAIRS", 100)
    kept = fit(pair, off)
    assert len(kept.pair) == 100 and (np.diff(kept.pair) > 0).all()
    np.testing.assert_array_equal(kept.difference, every.of(kept.pair))
    assert np.abs(kept.difference).min() >= np.sort(np.abs(every.difference))[-101]


@given(st.sets(st.integers(0, 50), min_size=1), st.lists(st.integers(-1, 60), min_size=1))
def test_pairs_are_found_or_are_worth_nothing(known, asked):
    pairs = np.array(sorted(known), np.int64)
    found = OwnLabels(pairs, (pairs + 1).astype(np.float32)).of(np.array(asked, np.int64))
    assert found.tolist() == [one + 1 if one in known else 0 for one in asked]


def test_no_pair_is_found_among_none():
    assert OwnLabels.none().of(np.array([-1, 0, 10**12])).tolist() == [0, 0, 0]
