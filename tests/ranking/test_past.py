import dataclasses

import numpy as np
import pytest

from features.backend import tf
from features.label_factors import LabelFactors
from features.neighbours import Neighbours
from features.own_labels import OwnLabels
from features.statistics import Statistics
from ranking.past import Past

USERS, ITEMS = 5, 7


def past_of(seed, *, logarithm=(0.0, 0.0), pairs=9):
    rng = np.random.default_rng(seed)
    # rows of items number one more, for the unknown one
    known = rng.choice(USERS * (ITEMS + 1), pairs, replace=False)
    own = OwnLabels(np.sort(known), rng.normal(size=pairs).astype(np.float32))
    factors = LabelFactors(
        rng.normal(size=(USERS + 1, 4)).astype(np.float32),
        rng.normal(size=(ITEMS + 1, 4)).astype(np.float32),
        logarithm,
        own if pairs else OwnLabels.none(),
    )
    near = Neighbours(np.zeros((ITEMS + 1, 2), np.int32), np.zeros((ITEMS + 1, 2), np.float32))
    known = Statistics(
        np.zeros((USERS + 1, 1), np.float32), np.zeros((ITEMS + 1, 1), np.float32), {}, {}
    )
    return Past(known, near, {"rating": factors}), factors


@pytest.mark.parametrize("logarithm", [(0.0, 0.0), (1.2, 0.5)], ids=["plain", "logarithm"])
@pytest.mark.parametrize("made", ["as it is", "copied", "replaced", "of no pairs"])
def test_what_is_expected_is_what_the_factors_predict(made, logarithm):
    past, factors = past_of(0, logarithm=logarithm)
    if made == "copied":
        past = past.copy()
    elif made == "replaced":
        past, (other, factors) = past.copy(), past_of(1, logarithm=(0.9, 0.1), pairs=20)
        past.replace(other)
    elif made == "of no pairs":
        past, factors = past_of(0, logarithm=logarithm, pairs=0)
    users = tf.range(-1, USERS)
    candidates = tf.tile(tf.range(-1, ITEMS)[tf.newaxis], [USERS + 1, 1])
    found = past.expected("rating", users, candidates).numpy()
    expected = [
        factors.predict(np.full(ITEMS + 1, user), np.arange(-1, ITEMS)) for user in users.numpy()
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert past.factorised == ("rating",)
    without = dataclasses.replace(factors, own=OwnLabels.none())
    moved = np.abs(np.subtract(expected, [
        without.predict(np.full(ITEMS + 1, user), np.arange(-1, ITEMS)) for user in users.numpy()
    ])) > 1e-6  # fmt: skip
    assert moved.any() == (made != "of no pairs")
    assert not moved[0].any() and not moved[:, 0].any()
