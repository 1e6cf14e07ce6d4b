"""Cross features against loops."""

import numpy as np
import pytest

from features.backend import tf
from features.encoders import FeatureSpec
from ranking import cross

B, C, H, M, W = 3, 6, 5, 4, 3


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    candidates = rng.integers(-1, 8, (B, C)).astype(np.int32)
    history = rng.integers(0, 8, (B, H)).astype(np.int32)
    history[0, 3:] = -1
    history[2] = -1
    return candidates, history


def test_how_often_a_candidate_was_chosen_before(rows):
    candidates, history = rows
    found = cross.chosen_before(tf.constant(candidates), tf.constant(history)).numpy()
    for b in range(B):
        for c in range(C):
            item = candidates[b, c]
            count = 0 if item < 0 else list(history[b]).count(item)
            assert found[b, c] == pytest.approx(np.log1p(count))


@pytest.mark.parametrize("many", [M, 9])
@pytest.mark.parametrize("width", [C, 40])
def test_how_near_a_candidate_is_to_what_the_same_people_chose(width, many):
    """Few neighbours are compared with the candidates, many are looked up if candidates are."""
    candidates = np.random.default_rng(3).integers(-1, 8, (B, width)).astype(np.int32)
    rng = np.random.default_rng(1)
    near = rng.integers(-1, 8, (B, H, many)).astype(np.int32)
    weight = np.where(near >= 0, rng.random((B, H, many)), 0).astype(np.float32)
    total, most = cross.chosen_together(
        tf.constant(candidates), tf.constant(near), tf.constant(weight)
    )
    for b in range(B):
        for c in range(width):
            found = [
                weight[b, h, m] for h in range(H) for m in range(many)
                if near[b, h, m] == candidates[b, c]
            ]  # fmt: skip
            assert total[b, c].numpy() == pytest.approx(sum(found), abs=1e-6)
            assert most[b, c].numpy() == pytest.approx(max(found, default=0.0), abs=1e-6)


@pytest.mark.parametrize("more", [0, 10_000])
def test_how_alike_candidate_and_history_are(rows, more):
    """Categories with many values are compared, not counted."""
    rng = np.random.default_rng(2)
    specs = (
        FeatureSpec("brand", "categorical", 4 + more, 0),
        FeatureSpec("title", "text", 9, 2),
        FeatureSpec("genres", "categories", 5 + more, W),
        FeatureSpec("price", "numeric", 0, 2),
    )

    def encoded(length):
        # values of one item are distinct, in any order, with gaps
        genres = np.stack(
            [[rng.permutation(5)[:W] for _ in range(length)] for _ in range(B)]
        ).astype(np.int32)
        return {
            "brand": rng.integers(0, 4, (B, length)).astype(np.int32),
            "title": rng.integers(0, 9, (B, length, 2)).astype(np.int32),
            "genres": genres,
            "price": rng.normal(size=(B, length, 2)).astype(np.float32),
        }

    ours, theirs = encoded(C), encoded(H)
    mask = (rows[1] >= 0).astype(np.float32)
    brand, genres, difference, distance = (
        value.numpy()
        for value in cross.affinities(
            specs,
            {name: tf.constant(value) for name, value in ours.items()},
            {name: tf.constant(value) for name, value in theirs.items()},
            tf.constant(mask),
        )
    )
    for b in range(B):
        real = np.flatnonzero(mask[b])
        count = max(len(real), 1)
        mean = sum(theirs["price"][b, h, 0] for h in real) / count
        for c in range(C):
            value = ours["brand"][b, c]
            same = sum(value > 0 and theirs["brand"][b, h] == value for h in real)
            assert brand[b, c] == pytest.approx(same / count)
            mine = [v for v in ours["genres"][b, c] if v > 0]
            shared = sum(v in theirs["genres"][b, h] for v in mine for h in real)
            assert genres[b, c] == pytest.approx(shared / max(len(mine), 1) / count, abs=1e-6)
            assert difference[b, c] == pytest.approx(ours["price"][b, c, 0] - mean, abs=1e-5)
            assert distance[b, c] == pytest.approx(abs(ours["price"][b, c, 0] - mean), abs=1e-5)
