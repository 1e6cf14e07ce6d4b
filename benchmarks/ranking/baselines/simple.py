"""What needs no learning: the retrieval order, a constant, and means of users and items."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.ranking.contender import Answers, Contender, Fitted
from benchmarks.ranking.problem import Part, Problem
from interactions.queries import Queries
from interactions.split import RANKING, RETRIEVAL

SHRINKAGE = (0.0, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0)
"""Labels at the global mean that each entity starts with; chosen per task on validation."""


def _fit_retrieval_order(problem: Problem, seed: int, quick: bool) -> Fitted:
    return Fitted(lambda part: Answers(order=part.candidates.retrieval_score))


def training_labels(problem: Problem) -> dict[str, tuple[Queries, np.ndarray]]:
    """By task, every labelled row of both training windows, as known when they were over."""
    data = problem.data
    rows = data.windows.rows(RETRIEVAL, RANKING)
    log, result = data.log, {}
    for task, labels in data.labels(RANKING).items():
        there = rows[~np.isnan(labels[rows]) & log.exposure[rows]]
        queries = Queries(there, log.user[there], log.time[there], log.item[there])
        result[task] = (queries, labels[there].astype(np.float64))
    return result


def _fit_means(of: Callable[[Queries], np.ndarray] | None, size: Callable[[Problem], int]):
    """Return the fit of means by entity, shrunk as does best on validation; None is no entity."""

    def fit(problem: Problem, seed: int, quick: bool) -> Fitted:
        tables: dict[str, np.ndarray] = {}
        for task, (queries, labels) in training_labels(problem).items():
            mean = float(labels.mean()) if len(labels) else 0.0
            if of is None:
                tables[task] = np.full(1, mean)
                continue
            entity = of(queries)
            count = np.bincount(entity, minlength=size(problem))
            total = np.bincount(entity, labels - mean, minlength=size(problem))
            shown = problem.validation.exposures
            there = ~np.isnan(shown.labels[task])
            held = of(shown.queries)[there]

            def error(
                table: np.ndarray,
                held: np.ndarray = held,
                label: np.ndarray = shown.labels[task][there],
            ) -> float:
                return float(np.square(table[held] - label).mean()) if len(held) else 0.0

            tried = [mean + total / np.maximum(count + prior, 1e-9) for prior in SHRINKAGE]
            tables[task] = min(tried, key=error)

        def answer(part: Part) -> Answers:
            shown = part.exposures.queries
            entity = np.zeros(len(shown), np.int64) if of is None else of(shown)
            return Answers(tasks={task: table[entity] for task, table in tables.items()})

        return Fitted(answer)

    return fit


RETRIEVAL_ORDER = Contender("retrieval order", "by retrieval score", _fit_retrieval_order)
CONSTANT = Contender("constant", "the mean label of training", _fit_means(None, lambda problem: 1))
USER_MEAN = Contender(
    "user means", "mean label of the user in training, shrunk to the global one as does best on "
    "validation",
    _fit_means(lambda queries: queries.user, lambda problem: len(problem.data.log.user_ids)),
)  # fmt: skip
ITEM_MEAN = Contender(
    "item means", "mean label of the item in training, shrunk alike",
    _fit_means(lambda queries: queries.item, lambda problem: len(problem.data.log.item_ids)),
)  # fmt: skip
