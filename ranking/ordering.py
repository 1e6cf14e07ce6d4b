"""Choosing how much the tasks count in the order, on the validation window."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evaluation.metrics import hits, ndcg_at
from interactions.candidates import Candidates
from ranking.model import RETRIEVAL, Ranker
from ranking.scoring import Order, reorder

_GRID = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5)
_ROUNDS = 2
_TOLERANCE = 0.01
"""Share of the validation NDCG@10 that the other tasks may cost."""


def choose_order(
    ranker: Ranker,
    candidates: Candidates,
    predictions: Mapping[str, np.ndarray],
    *,
    weights: Mapping[str, float] | None,
) -> Order:
    """Return the order with the given `weights`, or else with weights chosen on validation.

    The weights of the other tasks beside 1 for retrieval are first chosen, one after the other and
    twice over, for the best NDCG@10 of the chosen items; then each is raised as long as it stays
    within 1 % of that: as much satisfaction and buying as comes almost for free.

    Args:
        ranker: whose tasks they are.
        candidates: the validation queries' candidates.
        predictions: by task, [Q, C] float, of `candidates.item`.
        weights: by task, where the user has said how much each counts.
    """
    if weights is not None:
        return Order.of(ranker, weights)
    others = [task for task in ranker.tasks if task != RETRIEVAL]
    chosen = dict.fromkeys(others, 0.0)

    def quality(task: str, weight: float) -> float:
        order = Order.of(ranker, {RETRIEVAL: 1.0, **chosen, task: weight})
        return _ndcg(order, candidates, predictions)

    best = _ndcg(Order.of(ranker, {RETRIEVAL: 1.0}), candidates, predictions)
    for task in others * _ROUNDS:
        found = {weight: quality(task, weight) for weight in _GRID}
        chosen[task] = max(found, key=lambda weight: found[weight])
        best = max(best, found[chosen[task]])
    for task in others:
        higher = [weight for weight in _GRID if weight > chosen[task]]
        enough = [w for w in higher if quality(task, w) >= (1.0 - _TOLERANCE) * best]
        chosen[task] = max(enough, default=chosen[task])
    return Order.of(ranker, {RETRIEVAL: 1.0, **chosen})


def _ndcg(order: Order, candidates: Candidates, predictions: Mapping[str, np.ndarray]) -> float:
    ranked = reorder(candidates.item, order.score(predictions).numpy())
    found = hits(ranked, candidates.queries.item)
    k = min(10, ranked.shape[1])
    return float(ndcg_at(found, np.ones(len(ranked), np.int64), k).mean())
