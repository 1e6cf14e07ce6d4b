"""EASE: the closed form of a linear item-item autoencoder."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import numpy as np
from scipy.linalg.lapack import spotrf, spotri
from scipy.sparse import csr_matrix

from benchmarks.retrieval.contender import Contender, Fitted, Settings, grid
from benchmarks.retrieval.problem import Problem
from interactions.queries import Queries

TRAINING = grid(regularization=(10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0))
HALF_LIVES = (1.0, 3.0, 10.0, 30.0)
"""In events back."""

Propagate = Callable[[csr_matrix], np.ndarray]
"""Profiles [queries, items] -> their product with EASE's weights, [queries, items] float32."""


def ease(matrix: csr_matrix, *, regularization: float) -> Propagate:
    """Solve EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data", equation 8).

    `matrix` [users, items], taken as 0 or 1. With P the inverse of (X'X + r I), the weights are
    I - P / diag(P) by column. Where there are fewer users than items, P = (I - X' G X) / r with G
    the inverse of (X X' + r I) gives the same without ever holding items times items numbers.
    """
    ones = np.ones(matrix.nnz, np.float32)
    seen = csr_matrix((ones, matrix.indices, matrix.indptr), shape=matrix.shape)
    users, items = cast(tuple[int, int], matrix.shape)
    return _by_users(seen, regularization) if users < items else _by_items(seen, regularization)


def _by_items(seen: csr_matrix, regularization: float) -> Propagate:
    gram = (seen.T @ seen).toarray()
    inverse = _inverse(gram, regularization)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return lambda profiles: profiles @ weights


def _by_users(seen: csr_matrix, regularization: float) -> Propagate:
    inverse = _inverse((seen @ seen.T).toarray(), regularization)
    # (G X) and X, column by column: what each item's own entry of X' G X is
    spread = (seen.T @ inverse).T  # [users, items]
    own = np.asarray(seen.multiply(spread).sum(axis=0)).ravel()
    diagonal = (1.0 - own) / regularization

    def propagate(profiles: csr_matrix) -> np.ndarray:
        dense = profiles.toarray()
        product = (dense - np.asarray(profiles @ seen.T @ spread)) / regularization
        return dense - product / diagonal

    return propagate


def _inverse(gram: np.ndarray, regularization: float) -> np.ndarray:
    """Invert gram + regularization I, [n, n] float32, from its Cholesky factor."""
    shifted = np.array(gram, np.float32, order="F")
    shifted[np.diag_indices_from(shifted)] += regularization
    factor, failed = spotrf(shifted, lower=1, overwrite_a=1)
    assert not failed, "a Gram matrix with a positive number on its diagonal is positive definite"
    lower, failed = spotri(factor, lower=1, overwrite_c=1)
    assert not failed, "and so has an inverse"
    lower = np.tril(lower)
    return lower + np.tril(lower, -1).T


def _fit(problem: Problem, settings: Settings, seed: int) -> Fitted:
    started = time.perf_counter()
    propagate = ease(problem.matrix, regularization=settings["regularization"])
    seconds = time.perf_counter() - started

    def rank(queries: Queries, asking: Settings) -> np.ndarray:
        return problem.rank(queries, lambda part: propagate(problem.profiles(part, **asking)))

    return Fitted(rank, seconds, len(problem.chosen))


EASE = Contender(
    "EASE",
    "all items of the rolled history weigh the same",
    _fit,
    training=TRAINING,
)
EASE_RECENT = Contender(
    "EASE, recent history",
    "as EASE, but a history item loses half its weight every few events back",
    _fit,
    training=TRAINING,
    asking=grid(half_life=HALF_LIVES),
)
