"""The most popular items, of the training and of the days before each query."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.retrieval.contender import Contender, Fitted, Settings, grid
from benchmarks.retrieval.problem import K, Problem
from evaluation.baselines import Popularity, RecentPopularity
from interactions.errors import UserError
from interactions.queries import Queries

DAYS = (1.0, 7.0, 30.0, 90.0, 365.0)


def _popularity(problem: Problem, settings: Settings, seed: int) -> Fitted:
    started = time.perf_counter()
    popularity = Popularity.of(problem.data.log.item[problem.chosen], catalogue=problem.items)

    def rank(queries: Queries, asking: Settings) -> np.ndarray:
        return popularity.top_k(queries.time, k=K, **_masks(problem, queries))

    return Fitted(rank, time.perf_counter() - started, len(problem.chosen))


def _recent_popularity(problem: Problem, settings: Settings, seed: int) -> Fitted:
    started = time.perf_counter()
    log = problem.data.log
    if not log.has_times:
        raise UserError(
            "recent_popularity counts days, and this data has no times; name others with --models"
        )
    # Under a split by time the days roll up to each query, as histories do. Where the last events
    # of every user are held out there is no common moment, and only training events count.
    rolls = problem.data.windows.kind == "time"
    rows = np.flatnonzero(log.chosen) if rolls else problem.chosen

    def rank(queries: Queries, asking: Settings) -> np.ndarray:
        model = RecentPopularity.of(
            log.item[rows], log.time[rows], catalogue=problem.items, days=asking["days"]
        )
        return model.top_k(queries.time, k=K, **_masks(problem, queries))

    return Fitted(rank, time.perf_counter() - started, len(problem.chosen))


def _masks(problem: Problem, queries: Queries) -> dict:
    data = problem.data
    return {"seen": data.seen(queries), "available_from": data.log.first_seen}


POPULARITY = Contender("popularity", "counts of the training events", _popularity)
RECENT_POPULARITY = Contender(
    "recent popularity",
    "counts of the days before each query (under leave last out, of training events only)",
    _recent_popularity,
    asking=grid(days=DAYS),
)
