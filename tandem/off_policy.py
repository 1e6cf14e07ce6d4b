"""What each order would have earned, by what was shown with known probabilities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evaluation.bootstrap import Estimate, mean_interval, paired_difference
from evaluation.off_policy import (
    Logged,
    RewardModel,
    doubly_robust_values,
    judge_policy,
    uniform_over_top,
)
from evaluation.report import Metrics
from interactions.candidates import Exposures
from ranking.scoring import best_first, readable
from tandem.logged_requests import LoggedRequests, logged_requests
from tandem.system import Trained, candidates_of

LOGGED, FIRST, BOTH = "logged", "retrieval", "recommender"
PREFIX = "off_policy"
TOP = 10
"""Places of a list; each is taken to be shown as often as any other."""


def add_off_policy(
    metrics: Metrics, trained: Trained, shown: Exposures, predicted: Mapping[str, np.ndarray]
) -> None:
    """Add what an exposure earns of each binary task, as logged and by each stage's order.

    An exposure of an order is one of its first ten, each as likely as any other; nothing is
    added without `data.propensity`, or where no exposure of the test window has one.

    Args:
        metrics: to be added to, as `off_policy.<order>.<task>_<estimator>`.
        trained: the system that orders.
        shown: the exposures of the test window.
        predicted: by task, [exposures] float64: what the ranker predicts of them.
    """
    data = trained.data
    tasks = [task for task, one in data.config.trained_tasks.items() if one.kind == "binary"]
    if data.log.propensity is None or not tasks:
        return
    chance = data.log.propensity[shown.queries.row]
    known = np.flatnonzero(~np.isnan(chance))
    if not len(known):
        return
    asked = logged_requests(shown.take(known))
    place = known[asked.exposure]
    judged = _Judged(trained, shown.take(place), asked, chance[place])
    for task in tasks:
        judged.add(metrics, task, predicted[task][place])


class _Judged:
    """The orders' first items on logged requests, beside what was shown there."""

    def __init__(
        self, trained: Trained, shown: Exposures, asked: LoggedRequests, chance: np.ndarray
    ) -> None:
        self._trained, self._shown, self._chance = trained, shown, chance
        self._request = asked.request
        data, scorer = trained.data, trained.scorer
        self._table = candidates_of(data, trained.searcher, asked.queries)
        self._found = scorer.predict(
            self._table.queries, self._table.item, self._table.retrieval_score
        )
        score = trained.order.score(self._found).numpy()
        # by order, [requests, TOP]: places of its first items among the candidates
        self._first = {
            name: best_first(self._table.item, by)[:, :TOP]
            for name, by in ((FIRST, self._table.retrieval_score), (BOTH, score))
        }

    def add(self, metrics: Metrics, task: str, predicted: np.ndarray) -> None:
        """Add the estimates of one task, of which the ranker has `predicted` [n] labels."""
        label = self._shown.labels[task].astype(np.float64)
        there = ~np.isnan(label)
        if not there.any():
            return
        label, users = label[there], self._shown.queries.user[there]
        options = {"clusters": users, "seed": self._trained.data.config.seed}
        metrics.add(f"{PREFIX}.{LOGGED}", {f"{task}_mean": mean_interval(label, **options)})
        robust = {}
        for name, first in self._first.items():
            logged = Logged(label, self._chance[there], self._target(first)[there])
            model = RewardModel(predicted[there], self._expected(task, first)[there])
            found = judge_policy(logged, model=model, **options)
            assert found.doubly_robust is not None, "there is a model"
            metrics.add(
                f"{PREFIX}.{name}",
                {
                    f"{task}_inverse_propensity": found.inverse_propensity,
                    f"{task}_self_normalised": found.self_normalised,
                    f"{task}_doubly_robust": found.doubly_robust,
                    f"{task}_weight": found.mean_weight,
                    f"{task}_effective_rows": _bare(found.effective_rows, len(label)),
                },
            )
            robust[name] = doubly_robust_values(logged, model)
        metrics.add(
            f"{PREFIX}.{BOTH}_minus_{FIRST}",
            {f"{task}_doubly_robust": paired_difference(robust[BOTH], robust[FIRST], **options)},
        )

    def _target(self, first: np.ndarray) -> np.ndarray:
        """With which probability the order would have shown each exposure's item, [n]."""
        ranked = np.take_along_axis(self._table.item, first, axis=1)
        return uniform_over_top(ranked[self._request], self._shown.queries.item, k=TOP)

    def _expected(self, task: str, first: np.ndarray) -> np.ndarray:
        """What the ranker expects of what the order would have shown instead, [n]."""
        config = self._trained.data.config.tasks[task]
        chance = readable(config, self._found[task]).numpy().astype(np.float64)
        real = np.take_along_axis(self._table.item, first, axis=1) >= 0
        total = np.where(real, np.take_along_axis(chance, first, axis=1), 0.0).sum(axis=1)
        return (total / np.maximum(real.sum(axis=1), 1))[self._request]


def _bare(value: float, n: int) -> Estimate:
    return Estimate(value, float("nan"), float("nan"), n)
