"""Matrix factorisation with biases, by alternating least squares, for regression tasks.

Koren, Bell and Volinsky 2009, "Matrix factorization techniques for recommender systems": a label is
the global mean, a bias of the user, one of the item, and the product of their vectors.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.ranking.baselines.simple import training_labels
from benchmarks.ranking.contender import Answers, Contender, Fitted
from benchmarks.ranking.problem import Part, Problem
from interactions.queries import Queries

FACTORS = (0, 4, 16)
REGULARIZATION = (2.0, 5.0, 10.0, 20.0)
"""Of vectors and biases, as if of so many more labels."""
BIAS_SHARE = (0.25, 1.0)
"""What part of it biases get."""
SWEEPS = 12


@dataclass(frozen=True)
class Factors:
    """What was learnt of users and items."""

    mean: float
    user: np.ndarray
    """[users, 1 + factors]: bias and vector."""
    item: np.ndarray
    """[items, 1 + factors]."""

    def predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return the expected labels of pairs, [n] float64."""
        mine, theirs = self.user[user], self.item[item]
        biases = mine[:, 0] + theirs[:, 0]
        return self.mean + biases + np.einsum("nd,nd->n", mine[:, 1:], theirs[:, 1:])


def factorise(
    labels: csr_matrix, *, factors: int, regularization: float, bias_share: float, seed: int
) -> Factors:
    """Learn from `labels` [users, items], whose stored entries are what is known."""
    rng = np.random.default_rng(seed)
    mean = float(labels.data.mean()) if labels.nnz else 0.0
    centred = labels.copy()
    centred.data = labels.data - mean
    transposed = centred.T.tocsr()
    users, items = len(centred.indptr) - 1, len(transposed.indptr) - 1
    user, item = np.zeros((users, 1 + factors)), np.zeros((items, 1 + factors))
    item[:, 1:] = 0.1 * rng.normal(size=(items, factors))
    penalty = np.full(1 + factors, regularization)
    penalty[0] *= bias_share
    for _ in range(SWEEPS):
        user = _solve(centred, item, penalty)
        item = _solve(transposed, user, penalty)
    return Factors(mean, user, item)


def _solve(labels: csr_matrix, other: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """Return the best rows [rows, 1 + factors] given those of the other side."""
    width = other.shape[1]
    known = labels.copy()
    known.data = np.ones_like(labels.data)
    # a label is (1, vector) of the other side times (bias, vector) of this one, plus their bias
    design = np.concatenate([np.ones((len(other), 1)), other[:, 1:]], axis=1)
    rest = labels @ design - known @ (design * other[:, :1])
    # [other, width * width] -> [rows, width, width]
    square = known @ (design[:, :, np.newaxis] * design[:, np.newaxis, :]).reshape(-1, width**2)
    square = square.reshape(-1, width, width) + np.diag(penalty)
    return np.linalg.solve(square, rest[:, :, np.newaxis])[:, :, 0]


def _matrix(queries: Queries, labels: np.ndarray, *, shape: tuple[int, int]) -> csr_matrix:
    """[users, items] of labels; a pair that was labelled twice has their mean."""
    pair = queries.user.astype(np.int64) * shape[1] + queries.item
    distinct, place = np.unique(pair, return_inverse=True)
    mean = np.bincount(place, labels) / np.maximum(np.bincount(place), 1)
    return csr_matrix((mean, (distinct // shape[1], distinct % shape[1])), shape=shape)


def _fit(problem: Problem, seed: int, quick: bool) -> Fitted:
    started, notes, learnt = time.perf_counter(), {}, {}
    config, log = problem.data.config, problem.data.log
    shape = (len(log.user_ids), len(log.item_ids))
    grid = list(itertools.product(FACTORS, REGULARIZATION, BIAS_SHARE))
    for task, (queries, labels) in training_labels(problem).items():
        if config.tasks[task].kind != "regression":
            continue
        matrix = _matrix(queries, labels, shape=shape)
        shown = problem.validation.exposures
        there = ~np.isnan(shown.labels[task])
        held, truth = shown.queries.take(there), shown.labels[task][there]
        tried = {}
        for factors, regularization, share in grid[:1] if quick else grid:
            found = factorise(
                matrix, factors=factors, regularization=regularization, bias_share=share, seed=seed
            )
            error = float(np.square(found.predict(held.user, held.item) - truth).mean())
            tried[factors, regularization, share] = (error, found)
        best = min(tried, key=lambda setting: tried[setting][0])
        learnt[task] = tried[best][1]
        notes[task] = dict(zip(("factors", "regularization", "bias share"), best, strict=True))

    def answer(part: Part) -> Answers:
        shown, found = part.exposures.queries, {}
        for task, factors in learnt.items():
            found[task] = factors.predict(shown.user, shown.item)
            bounds = config.tasks[task].range
            if bounds is not None:
                found[task] = np.clip(found[task], bounds[0], bounds[1])
        return Answers(tasks=found)

    return Fitted(answer, time.perf_counter() - started, 0, notes)


FACTORISATION = Contender(
    "biased matrix factorisation",
    "alternating least squares over every training label; factors, regularisation and that of the "
    f"biases chosen of {len(FACTORS) * len(REGULARIZATION) * len(BIAS_SHARE)} on validation",
    _fit,
)
