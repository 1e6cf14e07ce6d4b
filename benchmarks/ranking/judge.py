"""What answers are worth on the test window of one problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import logsumexp

from benchmarks.ranking.contender import Answers
from benchmarks.ranking.problem import Problem
from benchmarks.ranking.truth import TOP, Truth
from evaluation.metrics import (
    auc,
    calibration_curve,
    calibration_error,
    hits,
    log_losses,
    ndcg_at,
    recall_at,
    squared_errors,
)
from ranking.scoring import reorder

_CHOICE_LOSS = "retrieval_task.log_loss"
BUYING = "purchase"
PURCHASES = "expected_purchases@10"
PURCHASES_ALONE = "expected_purchases@10_by_purchase_alone"
"""Of the ten likeliest to be bought by the task's own prediction, whatever else was to count."""


@dataclass(frozen=True)
class Judge:
    """Measures answers on the test window of one problem."""

    problem: Problem

    @cached_property
    def truth(self) -> Truth | None:
        """What is true of the candidates, on the marketplace."""
        return Truth.of(self.problem, self.problem.test.candidates)

    @property
    def users(self) -> np.ndarray:
        """[Q] the user of each query."""
        return self.problem.test.candidates.queries.user

    def labelled(self, task: str) -> np.ndarray:
        """[exposures] bool: the rows with a label."""
        return ~np.isnan(self.problem.test.exposures.labels[task])

    def row_users(self, task: str) -> np.ndarray:
        """The user of each labelled row."""
        return self.problem.test.exposures.queries.user[self.labelled(task)]

    def labels(self, task: str) -> np.ndarray:
        """The labels of the labelled rows, float64."""
        return self.problem.test.exposures.labels[task][self.labelled(task)].astype(np.float64)

    def per_query(self, answers: Answers) -> dict[str, np.ndarray]:
        """Return what each list is worth, [Q] float64 by metric."""
        result: dict[str, np.ndarray] = {}
        orders = {"": answers.order, "retrieval_task.": answers.choice}
        for prefix, order in orders.items():
            if order is None:
                continue
            lists = self.problem.test.candidates
            found = hits(reorder(lists.item, order), lists.queries.item)
            one = np.ones(len(found), np.int64)
            k = min(TOP, found.shape[1])
            result[f"{prefix}ndcg@10"] = ndcg_at(found, one, k)
            if not prefix:
                result["hit_rate@10"] = recall_at(found, one, k)
        if answers.order is not None and self.truth is not None:
            result[PURCHASES] = self.truth.purchases(answers.order)
            result["expected_views@10"] = self.truth.expected_views(answers.order)
            result["true_rating@10"] = self.truth.mean_rating(answers.order)
        if BUYING in answers.served and self.truth is not None:
            result[PURCHASES_ALONE] = self.truth.purchases(answers.served[BUYING])
        return result

    def per_row(self, answers: Answers) -> dict[str, np.ndarray]:
        """Return each labelled row's loss, float64 by metric: squared errors, log losses.

        For the choice a row is a list that holds the chosen item; its likelihood tells orders apart
        that NDCG does not.
        """
        result: dict[str, np.ndarray] = {}
        if answers.choice is not None:
            lists = self.problem.test.candidates
            logits = np.where(lists.item >= 0, answers.choice.astype(np.float64), -np.inf)
            chosen = np.take_along_axis(logits, lists.label.argmax(axis=1)[:, np.newaxis], axis=1)
            losses = logsumexp(logits, axis=1) - chosen[:, 0]
            result[_CHOICE_LOSS] = losses[lists.label.any(axis=1)]
        for task, predicted in answers.tasks.items():
            values = predicted[self.labelled(task)].astype(np.float64)
            if self.problem.data.config.tasks[task].kind == "binary":
                result[f"{task}.log_loss"] = log_losses(self.labels(task), values)
            else:
                result[f"{task}.rmse"] = squared_errors(self.labels(task), values)
        if self.problem.unselected is not None:
            true = self.problem.unselected.exposures.labels
            for task in true.keys() & answers.unselected.keys():
                result[f"{task}.rmse_on_all_items"] = squared_errors(
                    true[task].astype(np.float64), answers.unselected[task].astype(np.float64)
                )
        return result

    def users_of(self, metric: str) -> np.ndarray:
        """Return whose each value of a metric is: of the queries, or of the rows judged."""
        if metric == _CHOICE_LOSS:
            return self.users[self.problem.test.candidates.label.any(axis=1)]
        if "." not in metric or metric.startswith("retrieval_task"):
            return self.users
        if metric.endswith("on_all_items"):
            assert self.problem.unselected is not None, "nobody has answered for such pairs"
            return self.problem.unselected.exposures.queries.user
        return self.row_users(metric.rsplit(".", 1)[0])

    def served_deciles(self, answers: Answers) -> np.ndarray | None:
        """Return predicted over true purchases by decile of prediction, as served, float64.

        Of the ten best of each list, against the true probability at a place that gets as much
        attention as the logged ones do on average. None where that is not known.
        """
        pages, order = self.problem.pages, answers.order
        if self.truth is None or pages is None or order is None or BUYING not in answers.served:
            return None
        there = self.truth.top(order, self.truth.there)
        predicted = self.truth.top(order, answers.served[BUYING])[there].astype(np.float64)
        true = self.truth.top(order, self.truth.buys)[there] * pages.looks.mean()
        curve = calibration_curve(true, predicted)
        return curve.predicted / curve.observed

    def statistics(self, answers: Answers) -> dict[str, Callable[..., float]]:
        """Return what is no mean over rows, by metric: AUC and calibration error."""
        binary = [t for t in answers.tasks if self.problem.data.config.tasks[t].kind == "binary"]
        return {f"{task}.auc": auc for task in binary} | {
            f"{task}.calibration_error": calibration_error for task in binary
        }
