"""Judging a trained system on the test window, beside the baselines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from evaluation.baselines import Popularity, RecentPopularity, choose_days
from evaluation.bootstrap import Estimate, mean_interval, paired_difference, statistic_interval
from evaluation.metrics import (
    CalibrationCurve,
    auc,
    calibration_curve,
    calibration_error,
    log_loss,
    mae,
    rmse,
)
from evaluation.plots import plot_calibration, plot_models
from evaluation.ranking import RankedQueries, rank_queries
from evaluation.report import Metrics
from evaluation.slices import slice_intervals, slices
from interactions.candidates import Exposures
from interactions.config import TaskConfig
from interactions.queries import Queries
from interactions.split import RANKING, RETRIEVAL, TEST, VALIDATION
from ranking.scoring import readable, reorder
from tandem.data import Data
from tandem.marketplace_truth import find_marketplace, oracle_metrics
from tandem.off_policy import add_off_policy
from tandem.show import measured
from tandem.system import Trained, candidates_of, exposures_of

KS = (1, 5, 10, 100, 200)


@dataclass(frozen=True)
class Lists:
    """What each contender recommends to the test queries."""

    queries: Queries
    ranked: Mapping[str, np.ndarray]
    """By contender: [queries, up to 200] int item rows, best first, -1 is nothing."""


def judge(trained: Trained, *, run: Path) -> Metrics:
    """Measure everything on the test window; writes metrics, slices and plots into the run."""
    data, seed = trained.data, trained.data.config.seed
    metrics = Metrics()
    lists = _lists(trained)
    catalogue = _catalogue(data)
    judged = {
        what: rank_queries(ranked, lists.queries.item, catalogue=catalogue, ks=KS)
        for what, ranked in lists.ranked.items()
    }
    users = lists.queries.user
    for what, result in judged.items():
        metrics.add(what, result.estimates(clusters=users, seed=seed))
    _add_differences(metrics, judged, users=users, seed=seed)
    shown = exposures_of(data, trained.searcher, TEST)
    predicted = _predicted(trained, shown)
    curves = _add_tasks(metrics, data, shown, predicted)
    add_off_policy(metrics, trained, shown, predicted)
    market = find_marketplace(data.config.data)
    if market is not None:
        oracle_metrics(metrics, market, data, lists.queries, lists.ranked, ks=KS, seed=seed)
    metrics.write(run / "metrics.json")
    _write_slices(data, judged, lists.queries, path=run / "slices.json")
    plots = run / "plots"
    plots.mkdir(exist_ok=True)
    plot_models(
        metrics, plots / "models.png", columns=measured(metrics, ("ndcg@10", "hit_rate@10"))
    )
    if curves:
        plot_calibration(curves, plots / "calibration.png")
    return metrics


def _lists(trained: Trained) -> Lists:
    data = trained.data
    queries = data.queries(TEST)
    table = candidates_of(data, trained.searcher, queries)
    predictions = trained.scorer.predict(queries, table.item, table.retrieval_score)
    score = trained.order.score(predictions).numpy()
    return Lists(
        queries,
        {
            **_baseline_lists(data, queries),
            "retrieval": table.item,
            "recommender": reorder(table.item, score),
        },
    )


def _baseline_lists(data: Data, queries: Queries) -> dict[str, np.ndarray]:
    """Popularity in training, and popularity in the days before each query."""
    log, catalogue = data.log, len(data.log.item_ids)
    options = {"k": max(KS), "seen": data.seen(queries), "available_from": log.first_seen}
    training = data.windows.rows(RETRIEVAL, RANKING)
    training = training[log.chosen[training]]
    popular = Popularity.of(log.item[training], catalogue=catalogue)
    if not log.has_times:
        recent = Popularity.of_latest(log.item[training], log.time[training], catalogue=catalogue)
        return {
            "popularity": popular.top_k(queries.time, **options),
            "recent_popularity": recent.top_k(queries.time, **options),
        }
    # the days roll up to each query, as histories do; where the last event of every user is held
    # out there is no common moment, and only training events count
    known = np.flatnonzero(log.chosen) if data.windows.kind == "time" else training
    held_out = data.queries(VALIDATION)
    choice = choose_days(
        log.item[known],
        log.time[known],
        catalogue=catalogue,
        times=held_out.time,
        relevant=held_out.item,
        seen=data.seen(held_out),
        available_from=log.first_seen,
    )
    recent = RecentPopularity.of(
        log.item[known], log.time[known], catalogue=catalogue, days=choice.days
    )
    return {
        "popularity": popular.top_k(queries.time, **options),
        "recent_popularity": recent.top_k(queries.time, **options),
    }


def _catalogue(data: Data) -> int:
    """How many items could be recommended at the end of the log."""
    there = data.log.first_seen <= data.log.time.max()
    return int(there.sum()) if data.log.has_times else len(there)


def _add_differences(
    metrics: Metrics, judged: Mapping[str, RankedQueries], *, users: np.ndarray, seed: int
) -> None:
    """The second stage against the first, query by query."""
    second, first = judged["recommender"].per_query, judged["retrieval"].per_query
    metrics.add(
        "recommender_minus_retrieval",
        {
            name: paired_difference(second[name], first[name], clusters=users, seed=seed)
            for name in second
            if name.startswith("ndcg")
        },
    )


def _predicted(trained: Trained, shown: Exposures) -> dict[str, np.ndarray]:
    """By task that is trained and has labels, what people read of each exposure, [n] float64."""
    if not len(shown):
        return {}
    found = trained.scorer.predict(
        shown.queries, shown.queries.item[:, np.newaxis], shown.retrieval_score[:, np.newaxis]
    )
    tasks = trained.data.config.tasks
    return {
        task: readable(tasks[task], found[task][:, 0].astype(np.float64)).numpy()
        for task in shown.labels
    }


def _add_tasks(
    metrics: Metrics, data: Data, shown: Exposures, predictions: Mapping[str, np.ndarray]
) -> dict[str, CalibrationCurve]:
    """Each task's predictions on the logged exposures of the test window."""
    curves = {}
    for task, labels in shown.labels.items():
        there = ~np.isnan(labels)
        if not there.any():
            continue
        predicted = predictions[task][there]
        estimates = _task_estimates(
            data.config.tasks[task],
            labels[there].astype(np.float64),
            predicted,
            users=shown.queries.user[there],
            seed=data.config.seed,
        )
        metrics.add(f"ranking.{task}", estimates)
        curves[task] = calibration_curve(labels[there].astype(np.float64), predicted)
    return curves


def _task_estimates(
    config: TaskConfig, labels: np.ndarray, predicted: np.ndarray, *, users: np.ndarray, seed: int
) -> dict[str, Estimate]:
    statistics = {"rmse": rmse, "mae": mae}
    if config.kind == "binary":
        statistics = {"auc": auc, "log_loss": log_loss, "calibration_error": calibration_error}
    return {
        name: statistic_interval(statistic, labels, predicted, clusters=users, seed=seed)
        for name, statistic in statistics.items()
    } | {"mean_label": mean_interval(labels, clusters=users, seed=seed)}


def _write_slices(
    data: Data, judged: Mapping[str, RankedQueries], queries: Queries, *, path: Path
) -> None:
    """Metrics of new users, cold items and each popularity decile, by contender."""
    training = data.windows.rows(RETRIEVAL, RANKING)
    training = training[data.log.chosen[training]]
    masks = slices(
        queries.item,
        history_counts=data.histories.before(queries.user, queries.time, length=1).count,
        training_counts=np.bincount(data.log.item[training], minlength=len(data.log.item_ids)),
    )
    result = {
        what: {
            name: {metric: asdict(estimate) for metric, estimate in estimates.items()}
            for name, estimates in slice_intervals(
                ranked.per_query, masks, clusters=queries.user, seed=data.config.seed
            ).items()
        }
        for what, ranked in judged.items()
    }
    path.write_text(json.dumps(result, indent=1) + "\n")
