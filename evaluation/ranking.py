"""All top-k metrics of one model's ranked lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.bootstrap import Estimate, mean_intervals
from evaluation.metrics import (
    coverage_at,
    hit_rate_at,
    hits,
    mrr_at,
    ndcg_at,
    recall_at,
    relevant_counts,
)
from interactions.ragged import Ragged

KS = (10, 100, 200)


@dataclass(frozen=True)
class RankedQueries:
    """What every query got, by metric name such as `ndcg@10`."""

    per_query: dict[str, np.ndarray]
    """Each [Q] float64."""
    coverage: dict[str, float]
    """`coverage@k`: of all lists together, so without a value per query."""
    n: int

    def estimates(
        self, *, clusters: np.ndarray | None = None, seed: int, resamples: int = 1000
    ) -> dict[str, Estimate]:
        """Return every metric's mean with its interval; `clusters` [Q] is the user of each query.

        Coverage has no interval (NaN): a resample holds fewer distinct lists, so fewer items.
        """
        means = mean_intervals(self.per_query, clusters=clusters, seed=seed, resamples=resamples)
        nan = float("nan")
        return means | {
            name: Estimate(value, nan, nan, self.n) for name, value in self.coverage.items()
        }


def rank_queries(
    ranked: np.ndarray,
    relevant: np.ndarray | Ragged,
    *,
    catalogue: int,
    ks: Sequence[int] = KS,
) -> RankedQueries:
    """Return recall, NDCG, hit rate, MRR and coverage at each k of `ks`.

    `ranked` [Q, K] int item rows, best first, -1 where a list ended early; `relevant` [Q] int true
    items or lists of them; `catalogue`: how many items could be ranked. A k at or above the
    catalogue (where a list of everything would be perfect) or above K is left out.
    """
    found = hits(ranked, relevant)
    counts = relevant_counts(relevant)
    per_query: dict[str, np.ndarray] = {}
    coverage: dict[str, float] = {}
    for k in ks:
        if k >= catalogue or k > ranked.shape[1]:
            continue
        per_query[f"recall@{k}"] = recall_at(found, counts, k)
        per_query[f"ndcg@{k}"] = ndcg_at(found, counts, k)
        per_query[f"hit_rate@{k}"] = hit_rate_at(found, k)
        per_query[f"mrr@{k}"] = mrr_at(found, k)
        coverage[f"coverage@{k}"] = coverage_at(ranked, k, catalogue)
    return RankedQueries(per_query, coverage, len(ranked))
