"""A recommender's outputs as the lists that callers of the client get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.answers import Recommendations, RecommendedItem
from serving.wishes import BECAUSE_ITEM_ID, BECAUSE_SCORE, TASK_WEIGHTS, tasks_of


def recommendations(
    user_id: str, outputs: Mapping[str, np.ndarray], *, row: int, k: int
) -> Recommendations:
    """Return row `row` of the recommender's outputs, each [B, max_k] but `count` [B]."""
    tasks = tasks_of(outputs)
    weights = outputs.get(TASK_WEIGHTS)
    return Recommendations(
        user_id=user_id,
        items=tuple(
            RecommendedItem(
                item_id=outputs["item_id"][row, rank].decode("utf-8"),
                score=float(outputs["score"][row, rank]),
                retrieval_score=float(outputs["retrieval_score"][row, rank]),
                tasks={name: float(outputs[name][row, rank]) for name in outputs if name in tasks},
                **_reason(outputs, row=row, rank=rank),
            )
            for rank in range(min(k, int(outputs["count"][row])))
        ),
        task_weights={}
        if weights is None
        else dict(zip(tasks, weights[row].tolist(), strict=True)),
    )


def _reason(outputs: Mapping[str, np.ndarray], *, row: int, rank: int) -> dict[str, Any]:
    """What of the history explains an item, as fields of RecommendedItem; empty for nothing."""
    if BECAUSE_ITEM_ID not in outputs or not outputs[BECAUSE_ITEM_ID][row, rank]:
        return {}
    return {
        "because": outputs[BECAUSE_ITEM_ID][row, rank].decode("utf-8"),
        "because_score": float(outputs[BECAUSE_SCORE][row, rank]),
    }
