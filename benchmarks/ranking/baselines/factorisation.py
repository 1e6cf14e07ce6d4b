"""Matrix factorisation with biases, by alternating least squares, for regression tasks.

Koren, Bell and Volinsky 2009, "Matrix factorization techniques for recommender systems": a label is
the global mean, a bias of the user, one of the item, and the product of their vectors.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.ranking.baselines.simple import training_labels
from benchmarks.ranking.contender import Answers, Contender, Fitted
from benchmarks.ranking.problem import Part, Problem
from interactions.queries import Queries

FACTORS = (0, 4, 16)
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1e6)
"""Tried of biases and vectors, as if of so many more labels; the last leaves nothing of them."""
SWEEPS = 12
_BEGIN = 10.0


@dataclass(frozen=True)
class Setting:
    """What validation chooses; users and items are held back apart.

    But for their vectors, of which only the product of both penalties would matter: what makes all
    vectors of users longer and those of items as much shorter changes no label.
    """

    factors: int
    user: float = _BEGIN
    """Of the users' biases."""
    item: float = _BEGIN
    vector: float = _BEGIN


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


def factorise(labels: csr_matrix, setting: Setting, *, seed: int) -> Factors:
    """Learn from `labels` [users, items], whose stored entries are what is known."""
    rng, factors = np.random.default_rng(seed), setting.factors
    mean = float(labels.data.mean()) if labels.nnz else 0.0
    centred = labels.copy()
    centred.data = labels.data - mean
    transposed = centred.T.tocsr()
    users, items = len(centred.indptr) - 1, len(transposed.indptr) - 1
    user, item = np.zeros((users, 1 + factors)), np.zeros((items, 1 + factors))
    item[:, 1:] = 0.1 * rng.normal(size=(items, factors))
    mine, theirs = (
        np.array([bias, *[setting.vector] * factors]) for bias in (setting.user, setting.item)
    )
    for _ in range(SWEEPS):
        user = _solve(centred, item, mine)
        item = _solve(transposed, user, theirs)
    return Factors(mean, user, item)


def tune(error: Callable[[Setting], float], *, factors: Sequence[int] = FACTORS) -> Setting:
    """Return the setting of least `error`, found one coordinate at a time.

    Biases alone are quick: all their penalties are tried. With vectors, and from where fewer of
    them did best, a penalty goes to the next one for as long as that is better.
    """
    error = functools.cache(error)
    best = found = Setting(factors[0])
    for number in factors:
        found, before = replace(found, factors=number), None
        while found != before:
            before = found
            for name in ("vector", "user", "item") if number else ("user", "item"):
                place = PENALTIES.index(getattr(found, name))
                near = PENALTIES[max(place - 1, 0) : place + 2] if number else PENALTIES
                found = min((replace(found, **{name: value}) for value in near), key=error)
        best = min(best, found, key=error)
    return best


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
    for task, (queries, labels) in training_labels(problem).items():
        if config.tasks[task].kind != "regression":
            continue
        matrix = _matrix(queries, labels, shape=shape)
        shown = problem.validation.exposures
        there = ~np.isnan(shown.labels[task])
        held, truth = shown.queries.take(there), shown.labels[task][there]

        def error(
            setting: Setting,
            matrix: csr_matrix = matrix,
            held: Queries = held,
            truth: np.ndarray = truth,
        ) -> float:
            found = factorise(matrix, setting, seed=seed).predict(held.user, held.item)
            return float(np.square(found - truth).mean()) if len(truth) else 0.0

        best = Setting(FACTORS[0]) if quick else tune(error)
        learnt[task] = factorise(matrix, best, seed=seed)
        notes[task] = vars(best)

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
    f"alternating least squares over every training label; factors of {FACTORS} and penalties, for "
    f"biases of users, biases of items and vectors apart, of {PENALTIES[0]:g} to "
    f"{PENALTIES[-2]:g} or beyond all, chosen on validation one at a time",
    _fit,
)
