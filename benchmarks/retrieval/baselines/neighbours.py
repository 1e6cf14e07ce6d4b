"""Item k-nearest neighbours of the package `implicit`, asked with the history of each query."""

from __future__ import annotations

import time
import warnings

import numpy as np
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender

from benchmarks.retrieval.contender import Contender, Fitted, Settings, grid
from benchmarks.retrieval.problem import Problem
from interactions.queries import Queries

WEIGHTINGS = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender, "bm25": BM25Recommender}
"""Weights of the user-item matrix whose columns are compared; `cosine` takes it as it is."""
TRAINING = grid(weighting=tuple(WEIGHTINGS), neighbours=(20, 100, 500, 2000))
HALF_LIVES = (1.0, 3.0, 10.0, 30.0)
"""In events back."""


def _fit(problem: Problem, settings: Settings, seed: int) -> Fitted:
    started = time.perf_counter()
    # two threads of a shared machine gain little and make the order of ties random
    model = WEIGHTINGS[settings["weighting"]](K=settings["neighbours"], num_threads=1)
    with warnings.catch_warnings():
        # the package makes a COO matrix of ours and then complains of it
        warnings.filterwarnings("ignore", message="Method expects CSR input")
        model.fit(problem.matrix, show_progress=False)
    similarity = model.similarity
    seconds = time.perf_counter() - started

    def rank(queries: Queries, asking: Settings) -> np.ndarray:
        return problem.rank(
            queries, lambda part: (problem.profiles(part, **asking) @ similarity).toarray()
        )

    return Fitted(rank, seconds, len(problem.chosen))


ITEM_KNN = Contender(
    "item kNN",
    "all items of the rolled history weigh the same",
    _fit,
    training=TRAINING,
)
ITEM_KNN_RECENT = Contender(
    "item kNN, recent history",
    "as item kNN, but a history item loses half its weight every few events back",
    _fit,
    training=TRAINING,
    asking=grid(half_life=HALF_LIVES),
)
