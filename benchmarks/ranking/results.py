"""Figures of a comparison, made from the answers that the contenders left."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ranking.contender import Answers
from benchmarks.ranking.contenders import FIRST_STAGE, OURS, contender, seeds_of
from benchmarks.ranking.contest import load_answers, of_pages
from benchmarks.ranking.judge import PURCHASES, PURCHASES_ALONE, Judge
from benchmarks.ranking.off_policy import OnLoggedPages, judge_on_pages
from benchmarks.ranking.problem import Problem
from benchmarks.ranking.truth import TOP
from evaluation.bootstrap import Estimate, seeded_mean, seeded_ratio, seeded_statistic
from evaluation.metrics import auc

LOWER_IS_BETTER = ("rmse", "log_loss", "calibration_error", "rmse_on_all_items")
_ROOTS = (".rmse", ".rmse_on_all_items")
_CALIBRATION = ".calibration_error"
_DRAWS = 20
"""Of all labels, to see what chance does to a calibration error."""


@dataclass(frozen=True)
class Metric:
    """One quality of one contender."""

    estimate: Estimate
    """The mean over seeds, with an interval over users and seeds."""
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class Result:
    """How one contender did on one data set."""

    name: str
    title: str
    note: str
    metrics: dict[str, Metric]
    """By name: `ndcg@10`, `rating.rmse`, ..."""
    costs: tuple[dict[str, Any], ...]
    """By seed, as `contest` left them."""
    values: dict[str, np.ndarray]
    """By name, what the metric is a mean of, [seeds, queries or rows] float64."""
    answers: tuple[Answers, ...]
    off_policy: dict[str, OnLoggedPages]
    """By event, of the order at the first seed; empty where no propensities are known."""
    served_deciles: tuple[np.ndarray, ...] = ()
    """By seed, as `Judge.served_deciles` tells; empty where it cannot."""


@dataclass(frozen=True)
class Comparison:
    """Everything known of one data set."""

    data: str
    queries: int
    candidates: float
    """Per query, on average."""
    found: float
    """Share of the queries whose item is among the candidates: no order can find more."""
    exposures: dict[str, int]
    """Labelled test rows, by task."""
    results: tuple[Result, ...]
    pairs: dict[str, dict[str, Estimate]]
    """By other contender and metric, by what share of the other's ours is larger, or smaller where
    lower is better: above 0 ours is better."""


def compare(
    data: str, problem: Problem, *, folder: Path, models: Sequence[str], seeds: int
) -> Comparison:
    """Judge what `contest` left in `folder` for each of `models`."""
    judge = Judge(problem)
    results = {name: _result(name, folder / name, judge, seeds=seeds) for name in models}
    lists = problem.test.candidates
    return Comparison(
        data=data,
        queries=len(lists.queries),
        candidates=float((lists.item >= 0).sum(axis=1).mean()),
        found=float(lists.label.any(axis=1).mean()),
        exposures={t: int(judge.labelled(t).sum()) for t in problem.test.exposures.labels},
        results=tuple(results.values()),
        pairs=_pairs(results, judge) if OURS in results else {},
    )


def _result(name: str, folder: Path, judge: Judge, *, seeds: int) -> Result:
    subject = contender(name)
    of = seeds_of(subject, seeds)
    answers = tuple(load_answers(folder / f"seed-{seed}.npz") for seed in of)
    costs = tuple(
        json.loads((folder / f"seed-{seed}.json").read_text(encoding="utf-8")) for seed in of
    )
    metrics: dict[str, Metric] = {}
    values = _by_seed([judge.per_query(one) | judge.per_row(one) for one in answers])
    for metric, losses in values.items():
        finish = _finish(metric)
        estimate = seeded_mean(losses, clusters=judge.users_of(metric), seed=0)
        ends = [float(finish(end)) for end in (estimate.value, estimate.low, estimate.high)]
        metrics[metric] = Metric(
            Estimate(ends[0], ends[1], ends[2], estimate.n),
            tuple(float(finish(mean)) for mean in losses.mean(axis=1)),
        )
    for metric, statistic in judge.statistics(answers[0]).items():
        metrics[metric] = _statistic(metric, statistic, answers, judge)
        if metric.endswith(_CALIBRATION):
            metrics[f"{metric}_if_calibrated"] = _if_calibrated(metric, statistic, answers, judge)
    deciles = tuple(d for one in answers if (d := judge.served_deciles(one)) is not None)
    if deciles:
        nan, errors = float("nan"), [float(np.abs(one - 1.0).max()) for one in deciles]
        estimate = Estimate(float(np.mean(errors)), nan, nan, len(judge.users) * TOP)
        metrics["purchase.served_decile_error"] = Metric(estimate, tuple(errors))
    pages = of_pages(folder / f"seed-{of[0]}.json")
    logged = judge_on_pages(judge.problem, load_answers(pages)) if pages.exists() else {}
    return Result(
        name, subject.title, subject.note, metrics, costs, values, answers, logged, deciles
    )


def _statistic(
    metric: str, statistic: Callable[..., float], answers: Sequence[Answers], judge: Judge
) -> Metric:
    task = metric.rsplit(".", 1)[0]
    labels, predicted = judge.labels(task), _predicted(task, answers, judge)
    estimate = seeded_statistic(
        statistic, labels, predicted, clusters=judge.row_users(task), seed=0, resamples=100
    )
    return Metric(estimate, tuple(statistic(labels, one) for one in predicted))


def _if_calibrated(
    metric: str, statistic: Callable[..., float], answers: Sequence[Answers], judge: Judge
) -> Metric:
    """What chance alone would show, were every label as probable as was predicted."""
    random, nan = np.random.default_rng(0), float("nan")
    predicted = _predicted(metric.rsplit(".", 1)[0], answers, judge)
    found = tuple(
        float(np.mean([statistic(random.random(len(p)) < p, p) for _ in range(_DRAWS)]))
        for p in predicted
    )
    return Metric(Estimate(float(np.mean(found)), nan, nan, predicted.shape[1]), found)


def _predicted(task: str, answers: Sequence[Answers], judge: Judge) -> np.ndarray:
    """[seeds, labelled rows] float64."""
    there = judge.labelled(task)
    return np.stack([one.tasks[task][there].astype(np.float64) for one in answers])


def _pairs(results: Mapping[str, Result], judge: Judge) -> dict[str, dict[str, Estimate]]:
    ours = results[OURS]
    return {
        name: {
            metric: _gain(metric, ours, other, judge)
            for metric in ours.metrics
            if metric in other.metrics and (metric in ours.values or metric.endswith(".auc"))
        }
        | _closed(ours, other, results, judge)
        for name, other in results.items()
        if name != OURS
    }


def _gain(metric: str, ours: Result, other: Result, judge: Judge) -> Estimate:
    """By what share ours is larger, or smaller where lower is better."""
    if metric.endswith(".auc"):
        task = metric.rsplit(".", 1)[0]
        sides = (_predicted(task, one.answers, judge) for one in (ours, other))
        labels, users = judge.labels(task), judge.row_users(task)
        return _less_one(
            seeded_statistic(auc, labels, *sides, clusters=users, seed=0, resamples=100)
        )
    found = seeded_ratio(
        ours.values[metric], other.values[metric], clusters=judge.users_of(metric), seed=0
    )
    finish = _finish(metric)
    ends = [float(finish(end)) for end in (found.value, found.low, found.high)]
    gain = _less_one(Estimate(ends[0], ends[1], ends[2], found.n))
    if metric.endswith(LOWER_IS_BETTER):
        return Estimate(-gain.value, -gain.high, -gain.low, gain.n)
    return gain


def _less_one(ratio: Estimate) -> Estimate:
    return Estimate(ratio.value - 1.0, ratio.low - 1.0, ratio.high - 1.0, ratio.n)


def _closed(
    ours: Result, other: Result, results: Mapping[str, Result], judge: Judge
) -> dict[str, Estimate]:
    """The share of the way from the retrieval order's purchases to the oracle's that ours goes:
    with the order as it is learnt, and with that of the purchase task alone."""
    if other.name != FIRST_STAGE or judge.truth is None:
        return {}
    before = other.values[PURCHASES]  # [1, queries]: it depends on no seed
    gap = judge.truth.purchases(judge.truth.buys) - before
    return {
        name: seeded_ratio(ours.values[of] - before, gap, clusters=judge.users, seed=0)
        for name, of in (
            ("gap_closed", PURCHASES),
            ("gap_closed_by_purchase_alone", PURCHASES_ALONE),
        )
        if of in ours.values
    }


def _by_seed(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """By name, [seeds, n]."""
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def _finish(metric: str) -> Callable[[float], float]:
    """What makes the metric of a mean of its values."""
    return np.sqrt if metric.endswith(_ROOTS) else float
