"""What holds of a batch's candidates for any log."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.negative_sources import BatchTargets, Popular
from retrieval.negatives import Negatives
from retrieval.negatives_config import NegativesConfig
from retrieval.occurrence import StreamingFrequency, absence_table

seeds = st.integers(0, 2**32 - 1)


@given(st.integers(1, 60), st.data())
def test_absence_is_hypergeometric(windows, data):
    drawn = data.draw(st.integers(0, windows))
    table = absence_table(windows, drawn=drawn, longest=windows)
    for count, found in enumerate(table):
        wanted = math.comb(windows - count, drawn) / math.comb(windows, drawn)
        assert math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-12)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=40).filter(any), st.integers(1, 50), seeds
)
def test_a_weighted_draw_stays_in_its_strata(weights, number, seed):
    weights = np.array(weights, float)
    everything = np.arange(len(weights))
    source = Popular(everything, weights=weights, number=number)
    absence = source.absence(everything)
    share = number * weights / weights.sum()
    assert (absence > -1e-9).all() and (absence < 1 + 1e-9).all()
    # distinct draws are at most as many as draws
    assert (1 - absence <= share + 1e-9).all()
    np.testing.assert_allclose(absence[share >= 2], 0.0, atol=1e-9)
    nothing = np.zeros(0, np.int32)
    batch = BatchTargets(nothing, nothing, nothing)
    drawn = source.draw(batch, np.random.default_rng(seed)).items
    assert len(drawn) == number and (weights[drawn] > 0).all() and (np.diff(drawn) >= 0).all()
    assert np.isin(everything[absence < 1e-9], drawn).all()


@settings(deadline=None, max_examples=60)
@given(
    seed=seeds,
    items=st.integers(2, 40),
    windows=st.integers(1, 12),
    uniform=st.integers(0, 50),
    popular=st.integers(0, 20),
    kept=st.integers(0, 3),
    hard=st.integers(0, 3),
    removes=st.booleans(),
)
def test_candidates_of_any_log(seed, items, windows, uniform, popular, kept, hard, removes):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, items, (windows, 3)).astype(np.int32)
    member = np.zeros((windows, items), bool)
    np.put_along_axis(member, targets, True, axis=1)
    size = rng.integers(1, windows + 1)
    negatives = Negatives.of(
        NegativesConfig(
            full_up_to=0, uniform=uniform, popular=popular, kept_batches=kept, hard=hard
        ),
        catalogue=np.arange(items, dtype=np.int32),
        windows_with_item=member.sum(axis=0),
        windows=windows,
        batch_windows=size,
        seed=0,
    )
    if negatives.wants_hard:
        rows = np.argsort(rng.random((windows, items)) + 9 * member, axis=1)[:, :hard]
        rows[np.take_along_axis(member, rows, axis=1)] = -1
        negatives.mine(rows.astype(np.int32))
    order = rng.permutation(windows)
    for at in range(0, windows, size):
        index = order[at : at + size]
        batch = BatchTargets(targets[index].ravel(), np.repeat(np.arange(len(index)), 3), index)
        drawn = negatives.draw(batch, rng, remove=targets[index] if removes else None)
        assert (np.diff(drawn.items) > 0).all()
        np.testing.assert_array_equal(drawn.items[drawn.positive], batch.targets)
        assert np.isfinite(drawn.correction).all() and np.isfinite(drawn.positive_correction).all()
        assert (drawn.log_probability <= 0).all()
        # a negative counts at least once where it counts at all
        assert ((drawn.correction >= 0) | (drawn.correction < -1e8)).all()
        if removes:
            own = member[index][:, drawn.items]
            assert not np.exp(drawn.correction)[own].any()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(0, 10**6), max_size=20), min_size=1, max_size=30), seeds)
def test_a_streamed_chance_is_a_chance(batches, seed):
    frequency = StreamingFrequency(places=256, batch_windows=1, rng=np.random.default_rng(seed))
    frequency.observe(np.array([5], np.int32))
    for batch in batches:
        frequency.observe(np.array([*batch, 5], np.int32))
    seen = np.unique(np.concatenate([*map(np.array, batches), [5]])).astype(np.int32)
    found = frequency.probability(seen)
    assert ((found > 0) & (found <= 1)).all()
    assert found[seen == 5] == 1.0
