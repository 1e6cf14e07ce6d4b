"""What the user chose most often before: hard to beat where items are chosen again and again."""

from __future__ import annotations

import numpy as np

from benchmarks.retrieval.contender import Contender, Fitted, Settings, grid
from benchmarks.retrieval.problem import Problem
from interactions.queries import Queries

HALF_LIVES = (None, 10.0, 30.0, 100.0, 300.0)
"""In events back; None: all count the same."""


def _fit(problem: Problem, settings: Settings, seed: int) -> Fitted:
    def rank(queries: Queries, asking: Settings) -> np.ndarray:
        return problem.rank(queries, lambda part: problem.profiles(part, **asking).toarray())

    return Fitted(rank, 0.0, len(problem.chosen))


OWN_HISTORY = Contender(
    "own history",
    "what the user chose most often before, then popularity; where nothing is recommended twice it "
    "is popularity alone",
    _fit,
    asking=grid(half_life=HALF_LIVES),
)
