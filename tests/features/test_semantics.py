"""Latent semantics: texts that share rare words begin near to each other."""

import numpy as np

from features.semantics import latent_semantics

_SIZE, _DIM = 40, 6
_COMMON, _SHOE, _LAMP = 1, np.arange(2, 8), np.arange(8, 14)


def _texts(*, seed: int) -> np.ndarray:
    """[60, 5] tokens: a common word, and four of one of two subjects; padded by 0."""
    rng = np.random.default_rng(seed)
    subjects = [_SHOE, _LAMP] * 30
    rows = [[_COMMON, *rng.choice(words, 3, replace=False), 0] for words in subjects]
    return np.array(rows, np.int32)


def _means(vectors: np.ndarray, ids: np.ndarray) -> np.ndarray:
    there = (ids > 0)[:, :, np.newaxis]
    return (vectors[ids] * there).sum(axis=1) / there.sum(axis=1)


def test_texts_of_one_subject_are_nearer_to_each_other_than_to_others() -> None:
    ids = _texts(seed=0)
    means = _means(latent_semantics(ids, size=_SIZE, dim=_DIM), ids)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    likeness = means @ means.T
    same = likeness[::2, ::2].mean()
    assert same > likeness[::2, 1::2].mean() + 0.3


def test_a_word_of_every_text_says_nothing() -> None:
    vectors = latent_semantics(_texts(seed=1), size=_SIZE, dim=_DIM)
    sizes = np.linalg.norm(vectors, axis=1)
    assert sizes[_COMMON] < 0.1 * sizes[_SHOE].min()


def test_means_are_about_unit_vectors_and_unused_tokens_zero() -> None:
    ids = _texts(seed=2)
    vectors = latent_semantics(ids, size=_SIZE, dim=_DIM)
    assert vectors.shape == (_SIZE, _DIM)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(_means(vectors, ids), axis=1).mean(), 1, rtol=1e-5)
    np.testing.assert_allclose(vectors[[0, *range(20, _SIZE)]], 0, atol=1e-6)


def test_the_same_texts_give_the_same_vectors() -> None:
    ids = _texts(seed=3)
    first, second = (latent_semantics(ids, size=_SIZE, dim=_DIM) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_too_few_texts_leave_directions_empty() -> None:
    few = latent_semantics(np.array([[2, 3], [4, 5], [2, 5]], np.int32), size=_SIZE, dim=_DIM)
    assert np.isfinite(few).all()
    assert few[:, :2].any()
    assert not few[:, 2:].any()
    for nothing in (np.zeros((0, 4), np.int32), np.zeros((5, 4), np.int32)):
        assert not latent_semantics(nothing, size=_SIZE, dim=_DIM).any()
