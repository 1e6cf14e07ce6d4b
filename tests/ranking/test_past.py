import numpy as np
import pytest

from features.backend import tf
from features.label_factors import LabelFactors
from features.neighbours import Neighbours
from features.statistics import Statistics
from ranking.past import Past

USERS, ITEMS = 5, 7


def past_of(seed, *, logarithm=(0.0, 0.0)):
    rng = np.random.default_rng(seed)
    factors = LabelFactors(
        rng.normal(size=(USERS + 1, 4)).astype(np.float32),
        rng.normal(size=(ITEMS + 1, 4)).astype(np.float32),
        logarithm,
    )
    near = Neighbours(np.zeros((ITEMS + 1, 2), np.int32), np.zeros((ITEMS + 1, 2), np.float32))
    known = Statistics(
        np.zeros((USERS + 1, 1), np.float32), np.zeros((ITEMS + 1, 1), np.float32), {}, {}
    )
    return Past(known, near, {"rating": factors}), factors


@pytest.mark.parametrize("logarithm", [(0.0, 0.0), (1.2, 0.5)], ids=["plain", "logarithm"])
@pytest.mark.parametrize("made", ["as it is", "copied", "replaced"])
def test_what_is_expected_is_what_the_factors_predict(made, logarithm):
    past, factors = past_of(0, logarithm=logarithm)
    if made == "copied":
        past = past.copy()
    elif made == "replaced":
        past, (other, factors) = past.copy(), past_of(1, logarithm=(0.9, 0.1))
        past.replace(other)
    users, candidates = tf.constant([0, 3, -1]), tf.constant([[1, 6], [0, -1], [2, 2]])
    found = past.expected("rating", users, candidates).numpy()
    expected = [
        factors.predict(np.array([user, user]), np.array(items))
        for user, items in zip(users.numpy(), candidates.numpy(), strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert past.factorised == ("rating",)
