"""Figures of a comparison, made from the lists that the contenders left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.retrieval.contender import Contender
from benchmarks.retrieval.contenders import OURS, contender
from benchmarks.retrieval.contest import (
    Choice,
    Measured,
    read_choice,
    read_lists,
    read_measured,
)
from benchmarks.retrieval.problem import Problem
from evaluation.bootstrap import Estimate, mean_interval, paired_difference, paired_ratio
from evaluation.ranking import rank_queries
from interactions.queries import Queries
from interactions.split import TEST

PAIRED = ("ndcg@10", "recall@100")
"""Metrics in which ours is set against each other contender."""
COLD = "recall@100"


@dataclass(frozen=True)
class Result:
    """How one contender did on one data set."""

    name: str
    title: str
    note: str
    choice: Choice
    runs: tuple[Measured, ...]
    """By seed."""
    estimates: dict[str, Estimate]
    """By metric, the mean over seeds and queries."""
    by_seed: dict[str, list[float]]
    """By metric, the mean over queries of each seed."""
    cold: Estimate | None
    """Recall@100 on test queries whose item has no training event; None where there are none."""
    per_query: dict[str, np.ndarray]
    """By metric: [queries] float64, the mean over seeds."""


@dataclass(frozen=True)
class Pair:
    """Ours against another contender, on the same queries."""

    ratio: Estimate
    """Sum of ours over sum of the other's."""
    difference: Estimate
    """Mean of ours minus the other's."""


@dataclass(frozen=True)
class Comparison:
    """Everything known of one data set."""

    data: str
    queries: int
    users: int
    events: int
    """Chosen training events."""
    catalogue: int
    """Items that could have been recommended."""
    cold_queries: int
    results: tuple[Result, ...]
    pairs: dict[str, dict[str, Pair]]
    """By other contender and metric."""


def compare(
    data: str, problem: Problem, *, folder: Path, models: Sequence[str], seeds: int
) -> Comparison:
    """Judge what `contest` left in `folder` for each of `models` on the same queries."""
    queries = problem.queries(TEST)
    cold = problem.popularity[queries.item] == 0
    log = problem.data.log
    catalogue = int((log.first_seen <= log.time.max()).sum())
    results = {
        name: _result(name, folder / name, queries, cold=cold, catalogue=catalogue, seeds=seeds)
        for name in models
    }
    return Comparison(
        data=data,
        queries=len(queries),
        users=len(np.unique(queries.user)),
        events=len(problem.chosen),
        catalogue=catalogue,
        cold_queries=int(cold.sum()),
        results=tuple(results.values()),
        pairs=_pairs(results, queries) if OURS in results else {},
    )


def seeds_of(subject: Contender, seeds: int) -> range:
    """Return the seeds at which a contender is judged: one where nothing depends on it."""
    return range(seeds if subject.seeded else 1)


def _result(
    name: str, folder: Path, queries: Queries, *, cold: np.ndarray, catalogue: int, seeds: int
) -> Result:
    subject = contender(name)
    ranked = [
        rank_queries(read_lists(folder, seed), queries.item, catalogue=catalogue)
        for seed in seeds_of(subject, seeds)
    ]
    per_query = {
        metric: np.mean([one.per_query[metric] for one in ranked], axis=0)
        for metric in ranked[0].per_query
    }
    nan = float("nan")
    coverage = {
        metric: Estimate(float(np.mean([one.coverage[metric] for one in ranked])), nan, nan, 0)
        for metric in ranked[0].coverage
    }
    means = {
        metric: mean_interval(values, clusters=queries.user, seed=0)
        for metric, values in per_query.items()
    }
    some = cold.any() and COLD in per_query
    return Result(
        name=name,
        title=subject.title,
        note=subject.note,
        choice=read_choice(subject, folder),
        runs=tuple(read_measured(folder, seed) for seed in seeds_of(subject, seeds)),
        estimates=means | coverage,
        by_seed={
            metric: [float(one.per_query[metric].mean()) for one in ranked] for metric in per_query
        },
        cold=mean_interval(per_query[COLD][cold], clusters=queries.user[cold], seed=0)
        if some
        else None,
        per_query=per_query,
    )


def _pairs(results: Mapping[str, Result], queries: Queries) -> dict[str, dict[str, Pair]]:
    ours = results[OURS].per_query
    options = {"clusters": queries.user, "seed": 0}
    return {
        name: {
            metric: Pair(
                paired_ratio(ours[metric], other.per_query[metric], **options),
                paired_difference(ours[metric], other.per_query[metric], **options),
            )
            for metric in PAIRED
            if metric in ours
        }
        for name, other in results.items()
        if name != OURS
    }
