"""Matrix factorisation of the package `implicit`: iALS and BPR."""

from __future__ import annotations

import time

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking

from benchmarks.retrieval.contender import Contender, Fitted, Settings, grid
from benchmarks.retrieval.problem import Problem
from interactions.queries import Queries

IALS_GRID = grid(
    factors=(16, 32, 64, 128),
    regularization=(1.0, 3.0, 10.0, 30.0, 100.0),
    alpha=(1.0, 10.0, 40.0),
    iterations=(15,),
)
BPR_GRID = grid(
    factors=(64, 128),
    learning_rate=(0.003, 0.01, 0.03),
    regularization=(0.001, 0.01, 0.1),
    iterations=(100,),
)
SINGLE_THREADED_BLAS = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""`implicit` has threads of its own, and warns that those of BLAS get in their way."""


def _fit_ials(problem: Problem, settings: Settings, seed: int) -> Fitted:
    started = time.perf_counter()
    model = AlternatingLeastSquares(**settings, random_state=seed)
    model.fit(problem.matrix, show_progress=False)
    seconds = time.perf_counter() - started

    def scores(part: Queries) -> np.ndarray:
        # fold in each query's user from the history rolled up to it
        users = model.recalculate_user(np.arange(len(part)), problem.profiles(part))
        return users @ model.item_factors.T

    return Fitted(
        lambda queries, asking: problem.rank(queries, scores),
        seconds,
        len(problem.chosen) * settings["iterations"],
    )


def _fit_bpr(problem: Problem, settings: Settings, seed: int) -> Fitted:
    started = time.perf_counter()
    # with more than one thread the result would not depend on the seed alone
    model = BayesianPersonalizedRanking(**settings, num_threads=1, random_state=seed)
    model.fit(problem.matrix, show_progress=False)
    seconds = time.perf_counter() - started
    users = np.array(model.user_factors)
    # the last factor of a user is 1 and multiplies the items' biases: all that is known of a user
    # without training events
    users[np.diff(problem.matrix.indptr) == 0, :-1] = 0.0

    return Fitted(
        lambda queries, asking: problem.rank(
            queries, lambda part: users[part.user] @ model.item_factors.T
        ),
        seconds,
        len(problem.chosen) * settings["iterations"],
    )


IALS = Contender(
    "iALS",
    "users are folded in from the rolled history (recalculate_user)",
    _fit_ials,
    training=IALS_GRID,
    seeded=True,
    environment=SINGLE_THREADED_BLAS,
)
BPR = Contender(
    "BPR",
    "users as trained, since BPR cannot fold in; one without training events gets the items' "
    "biases",
    _fit_bpr,
    training=BPR_GRID,
    seeded=True,
    environment=SINGLE_THREADED_BLAS,
)
