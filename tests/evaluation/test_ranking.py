import math

import numpy as np
import pytest

from evaluation.ranking import rank_queries
from interactions.ragged import Ragged


def lists(*, queries: int, width: int, catalogue: int) -> np.ndarray:
    random = np.random.default_rng(2)
    return np.stack([random.permutation(catalogue)[:width] for _ in range(queries)])


def test_every_metric_is_there_for_every_k():
    result = rank_queries(lists(queries=8, width=200, catalogue=500), np.arange(8), catalogue=500)
    for k in (10, 100, 200):
        for name in ("recall", "ndcg", "hit_rate", "mrr"):
            assert result.per_query[f"{name}@{k}"].shape == (8,)
        assert 0 < result.coverage[f"coverage@{k}"] <= 1


@pytest.mark.parametrize(("catalogue", "left"), [(100, {"10"}), (101, {"10", "100"}), (10, set())])
def test_k_at_or_above_the_catalogue_is_left_out(catalogue, left):
    ranked = np.full((3, 200), -1)
    ranked[:, :catalogue] = np.arange(catalogue)[:200]
    result = rank_queries(ranked, np.array([0, 1, 2]), catalogue=catalogue)
    assert {name.split("@")[1] for name in result.per_query} == left
    assert {name.split("@")[1] for name in result.coverage} == left


def test_k_beyond_the_lists_is_left_out():
    result = rank_queries(
        lists(queries=2, width=20, catalogue=900), np.zeros(2, int), catalogue=900
    )
    assert {name.split("@")[1] for name in result.per_query} == {"10"}


def test_estimates_are_means_over_queries_with_coverage_beside_them():
    ranked = lists(queries=40, width=12, catalogue=30)
    relevant = Ragged.of([[query % 30, (query + 7) % 30] for query in range(40)])
    result = rank_queries(ranked, relevant, catalogue=30, ks=(10,))
    estimates = result.estimates(clusters=np.arange(40) // 4, seed=1)
    recall = estimates["recall@10"]
    assert recall.value == pytest.approx(result.per_query["recall@10"].mean())
    assert recall.low < recall.value < recall.high
    assert recall.n == 40
    coverage = estimates["coverage@10"]
    assert coverage.value == len(np.unique(ranked[:, :10])) / 30
    assert math.isnan(coverage.low)
