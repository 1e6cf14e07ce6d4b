"""Choosing how much the tasks count in the order, on the validation window."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evaluation.metrics import hits, ndcg_at
from interactions.candidates import Candidates
from ranking.model import RETRIEVAL, Ranker
from ranking.scoring import Order, reorder

_GRID = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
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

    Chosen are the largest weights of the other tasks, in proportion to their loss weights, that
    keep NDCG@10 of the chosen items within 1 % of the best on the grid: as much satisfaction and
    buying as comes almost for free.

    Args:
        ranker: whose tasks they are.
        candidates: the validation queries' candidates.
        predictions: by task, [Q, C] float, of `candidates.item`.
        weights: by task, where the user has said how much each counts.
    """
    if weights is not None:
        return Order.of(ranker, weights)
    orders = [Order.of(ranker, _weights(ranker, share)) for share in _GRID]
    quality = [_ndcg(order, candidates, predictions) for order in orders]
    enough = (1.0 - _TOLERANCE) * max(quality)
    return next(
        order
        for order, value in zip(reversed(orders), reversed(quality), strict=True)
        if value >= enough
    )


def _weights(ranker: Ranker, share: float) -> dict[str, float]:
    return {
        task: 1.0 if task == RETRIEVAL else share * config.weight
        for task, config in ranker.tasks.items()
    }


def _ndcg(order: Order, candidates: Candidates, predictions: Mapping[str, np.ndarray]) -> float:
    ranked = reorder(candidates.item, order.score(predictions).numpy())
    found = hits(ranked, candidates.queries.item)
    k = min(10, ranked.shape[1])
    return float(ndcg_at(found, np.ones(len(ranked), np.int64), k).mean())
