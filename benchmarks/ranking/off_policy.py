"""Orders judged on logged pages by what was shown there, beside the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.ranking.contender import Answers
from benchmarks.ranking.problem import Pages, Problem
from benchmarks.ranking.truth import TOP, Truth
from evaluation.off_policy import Logged, OffPolicy, RewardModel, judge_policy, uniform_over_top
from ranking.scoring import reorder

EVENTS = ("view", "purchase")


@dataclass(frozen=True)
class OnLoggedPages:
    """What an exposure would earn if it were drawn from an order's ten best."""

    estimated: OffPolicy
    truth: float


def judge_on_pages(problem: Problem, answers: Answers) -> dict[str, OnLoggedPages]:
    """Return, by event, what the order is worth; nothing where it cannot be known.

    What a page has shown above a place is not taken from the judged order's items, so that a
    small part of what it would show could not have been logged: the mean weight says how much.
    """
    pages, order = problem.pages, answers.order
    if pages is None or order is None:
        return {}
    lists, shown = pages.part.candidates, pages.part.exposures
    truth = Truth.of(problem, lists)
    if truth is None:
        return {}
    ranked = reorder(lists.item, order)[:, :TOP]
    target = uniform_over_top(ranked[pages.page], shown.queries.item, k=TOP)
    true_values = {"view": truth.views, "purchase": truth.buys}
    result = {}
    for event in EVENTS:
        if event not in shown.labels:
            continue
        there = ~np.isnan(shown.labels[event])
        logged = Logged(
            shown.labels[event][there].astype(np.float64), pages.propensity[there], target[there]
        )
        model = _model(event, answers, truth, pages)
        if model is not None:
            model = RewardModel(model.logged[there], model.judged[there])
        estimated = judge_policy(logged, model=model, clusters=shown.queries.user[there], seed=0)
        per_page = truth.top(order, true_values[event]).mean(axis=1)
        true = float((pages.looks * per_page[pages.page])[there].mean())
        result[event] = OnLoggedPages(estimated, true)
    return result


def _model(event: str, answers: Answers, truth: Truth, pages: Pages) -> RewardModel | None:
    """What the contender itself predicts, where it does: it need not be right."""
    if event not in answers.tasks or event not in answers.served or answers.order is None:
        return None
    expected = truth.top(answers.order, answers.served[event]).mean(axis=1)
    return RewardModel(answers.tasks[event].astype(np.float64), expected[pages.page])
