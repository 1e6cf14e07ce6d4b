"""Learning the weights of the order: a search on validation lists for a stated objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from scipy.optimize import differential_evolution, minimize_scalar
from scipy.special import logsumexp, softmax
from scipy.stats import qmc

from interactions.errors import UserError
from ranking.model import RETRIEVAL
from ranking.order_objective import AUTO, OrderObjective

_FIRST = 64
"""Weights tried all over the range before the search goes on from the best of them."""
_POPULATION = 12
_GENERATIONS = 20
_LARGEST = 20.0
"""Largest weight beside 1 for retrieval: there the other task orders alone."""
_MOST_QUERIES = 4_000
_LEAST_CHANCE = 1e-9
_MOST_WORTH = 10.0
"""How many times the geometric mean of all chosen items a single one may count."""
_DOUBT = 0.5
"""How far the ranker's own expectation of a loss may be off, as a share of it."""


@dataclass(frozen=True)
class Lists:
    """Candidates of validation queries with everything that an order can be made and judged of."""

    user: np.ndarray
    """[Q] int."""
    there: np.ndarray
    """[Q, C] bool, False for padding."""
    chosen: np.ndarray
    """[Q, C] bool: the item that was chosen, if it is among the candidates."""
    utility: Mapping[str, np.ndarray]
    """By task, [Q, C] float32: what its weight is multiplied by, retrieval's among them."""
    outcome: Mapping[str, np.ndarray]
    """By task but retrieval, [Q, C] float32: the probability or label that is predicted."""
    scale: Mapping[str, float | None]
    """By task but retrieval: None for a probability, else the labels' standard deviation."""
    log_shown: np.ndarray | None = None
    """[Q, C] float32: logarithm of the chance that the log's policy would show a candidate, but for
    a constant. What is chosen then counts one over that chance; all alike where it is None."""

    def thinned(self, most: int) -> Lists:
        """Return at most so many queries, spread evenly."""
        if len(self.user) <= most:
            return self
        index = np.linspace(0, len(self.user) - 1, most).astype(np.int64)
        return Lists(
            self.user[index],
            self.there[index],
            self.chosen[index],
            {task: values[index] for task, values in self.utility.items()},
            {task: values[index] for task, values in self.outcome.items()},
            self.scale,
            None if self.log_shown is None else self.log_shown[index],
        )


@dataclass(frozen=True)
class Tried:
    """Weights, and what the order that they make achieves on the validation lists."""

    weights: dict[str, float]
    """By task; retrieval's is 1."""
    ndcg: float
    """Of the chosen items, in the first places, each by its worth (`worth_of`)."""
    expected_ndcg: float
    """The same by the chances of being chosen that the retrieval task gives the candidates."""
    outcome: dict[str, float]
    """By task but retrieval: mean prediction in the first places."""
    value: float
    """What is maximised: the relative gain over the retrieval task's own order."""


@dataclass(frozen=True)
class Learnt:
    """The outcome of a search, with everything that was tried on the way."""

    chosen: Tried
    retrieval_only: Tried
    reference_ndcg: float
    """What can be reached: see `_Search.settle`."""
    lost_ndcg: float
    """What the chosen order is taken to lose of it, as a share: see `_Search._lost`."""
    ndcg_cost: float
    """The share that it was allowed to lose."""
    hits: float
    """How many chosen items in the first places of the retrieval task's own order these NDCG stand
    on, less where some of them count much more than others."""
    by_worth: bool
    """Whether they count one over the chance of having been shown, see `worth_of`."""
    tried: tuple[Tried, ...]
    maximised: tuple[str, ...]
    """The tasks whose gain is the value."""
    floors: Mapping[str, float]
    """By task, what its mean prediction was to reach."""
    unmet: tuple[str, ...]
    """What of the objective no order that was tried achieves, in words."""


def learn_weights(lists: Lists, objective: OrderObjective, *, seed: int) -> Learnt:
    """Search the weights that serve `objective` best, deterministic at a `seed`.

    First a Sobol sequence over all weights finds what NDCG can be reached; then differential
    evolution (Storn and Price 1997) goes on from the best of them. An order that breaks a floor
    is worse than any that does not, and among those that do the nearer is better (Deb 2000).

    Raises:
        UserError: the objective names a task that is not there.
    """
    _refuse_unknown(objective, lists)
    search = _Search(lists.thinned(_MOST_QUERIES), objective)
    tasks = [task for task in lists.utility if task != RETRIEVAL]
    if tasks and len(lists.user):
        sobol = qmc.Sobol(len(tasks), rng=np.random.default_rng(seed)).random(_FIRST)
        first = np.concatenate([np.zeros((1, len(tasks))), sobol])
        for point in first:
            search.evaluate(point)
        search.settle()
        best = np.argsort([search.badness(point) for point in first], kind="stable")
        differential_evolution(
            search.badness,
            [(0.0, 1.0)] * len(tasks),
            init=cast("Any", first[best[:_POPULATION]]),  # an array: the stubs know names only
            maxiter=_GENERATIONS,
            polish=False,
            rng=np.random.default_rng(seed),
        )
    return search.result()


class _Search:
    """Evaluates weights, remembers them, and says which of them are best."""

    def __init__(self, lists: Lists, objective: OrderObjective) -> None:
        self._lists, self._objective = lists, objective
        self._tasks = [task for task in lists.utility if task != RETRIEVAL]
        self._at: dict[tuple[float, ...], int] = {}
        self._tried: list[Tried] = []
        self._per_query: list[np.ndarray] = []
        worth = worth_of(lists)
        chance = chances(lists.utility[RETRIEVAL], lists.there, lists.chosen)
        self._expected_worth = worth * chance
        self._worth_of_chosen = np.sum(worth, axis=1, where=lists.chosen)
        self.evaluate(np.zeros(len(self._tasks)))
        self._reference = 0.0

    def evaluate(self, point: np.ndarray) -> int:
        """Return the number of what the weights at `point` [tasks], in [0, 1], achieve."""
        weights = {
            task: _LARGEST * float(x) ** 3 for task, x in zip(self._tasks, point, strict=True)
        }
        key = tuple(weights.values())
        if key not in self._at:
            self._at[key] = len(self._tried)
            weights = {RETRIEVAL: 1.0, **weights}
            ndcg, expected, outcome = self._achieved(weights)
            value = self._value(outcome)
            self._per_query.append(ndcg)
            self._tried.append(Tried(weights, _mean(ndcg), expected, outcome, value))
        return self._at[key]

    def settle(self) -> None:
        """Take as the reference, which others are held against, the best gain tried so far.

        The best of many owes some of its lead to luck, which `_gain` leaves out as far as the
        ranker expects something else.
        """
        self._reference = max(self._gain(tried) for tried in range(len(self._tried)))

    def badness(self, point: np.ndarray) -> float:
        """Return what the search makes small: minus the value, or how far floors are broken."""
        broken, minus_value, minus_ndcg = self._rank(self.evaluate(point))
        # a value is a relative gain, so far below this; among equal values NDCG decides
        return 1e6 * (1.0 + broken) if broken > 0 else minus_value + 1e-6 * minus_ndcg

    def result(self) -> Learnt:
        """Return the best of what was tried, the first of equals."""
        best = min(range(len(self._tried)), key=self._rank)
        chosen = self._tried[best]
        unmet = tuple(
            f"the mean {task} of the first {self._objective.top} places reaches "
            f"{chosen.outcome[task]:.4g} on validation, not the {floor:.4g} asked for"
            for task, floor in self._objective.at_least.items()
            if chosen.outcome[task] < floor
        )
        return Learnt(
            chosen=chosen,
            retrieval_only=self._tried[0],
            reference_ndcg=self._tried[0].ndcg * (1.0 + self._reference),
            lost_ndcg=self._lost(best),
            ndcg_cost=self._objective.ndcg_cost,
            hits=self._hits,
            by_worth=self._lists.log_shown is not None,
            tried=tuple(self._tried),
            maximised=tuple(self._wanted),
            floors=self._objective.at_least,
            unmet=unmet,
        )

    def _rank(self, tried: int) -> tuple[float, float, float]:
        """How far floors are broken, minus the value, minus the NDCG."""
        one = self._tried[tried]
        return self._broken(tried), -one.value, -one.ndcg

    def _broken(self, tried: int) -> float:
        """How far floors are broken, as a share of what they ask for; 0 where all are kept."""
        one = self._tried[tried]
        broken = max(self._lost(tried) - self._objective.ndcg_cost, 0.0)
        for task, floor in self._objective.at_least.items():
            missing = max(floor - one.outcome[task], 0.0)
            broken += missing / max(abs(floor), _LEAST_CHANCE)
        return broken

    def _lost(self, tried: int) -> float:
        """The share of the reference's NDCG that an order is taken to lose; below 0 it gains."""
        return 1.0 - (1.0 + self._gain(tried)) / (1.0 + self._reference)

    def _gain(self, tried: int) -> float:
        """The share of NDCG that an order is taken to gain over the retrieval task's own.

        Among many orders some look harmless by luck, as few chosen items tell a loss from noise. So
        what the lists show, with its standard error, is weighed with what the ranker expects by its
        own chances, which may be off by half: the mean of two normal estimates by their precision.

        To that error one hit is added, of as many as there effectively are: an order that leaves
        the only hit in its place differs on no list, which would else pass for certain. Without a
        hit, or with one user alone, there is what the ranker expects.
        """
        first, one = self._tried[0], self._tried[tried]
        if first.expected_ndcg <= 0:
            return 0.0
        expected = one.expected_ndcg / first.expected_ndcg - 1.0
        if first.ndcg <= 0 or self._users.max() == 0:
            return expected
        difference = self._per_query[tried] - self._per_query[0]
        shown, noise = (
            value / first.ndcg
            for value in (_mean(difference), _standard_error(difference, self._users))
        )
        one_hit = 1.0 / self._hits
        doubt = _DOUBT * abs(expected)
        variance = noise**2 + one_hit**2
        return (shown * doubt**2 + expected * variance) / (doubt**2 + variance)

    @cached_property
    def _hits(self) -> float:
        """How many chosen items in the first places tell as much, were they worth the same.

        By the retrieval task's own order (Kish 1965, "Survey sampling").
        """
        worth = self._worth_of_chosen[self._per_query[0] > 0]
        return float(worth.sum() ** 2 / (worth @ worth)) if len(worth) else 0.0

    @cached_property
    def _users(self) -> np.ndarray:
        """[Q] int64: users, numbered from 0."""
        return np.unique(self._lists.user, return_inverse=True)[1]

    def _achieved(self, weights: Mapping[str, float]) -> tuple[np.ndarray, float, dict[str, float]]:
        """NDCG per query [Q], the expected one, and the mean of every task in the first places."""
        lists, k = self._lists, min(self._objective.top, self._lists.there.shape[1])
        score = np.zeros(lists.there.shape, np.float32)
        for task, weight in weights.items():
            if weight:
                score += np.float32(weight) * lists.utility[task]
        score[~lists.there] = -np.inf
        own = np.max(score, axis=1, where=lists.chosen, initial=-np.inf)
        place = (score > own[:, np.newaxis]).sum(axis=1)
        found = lists.chosen.any(axis=1) & (place < k)
        ndcg = np.where(found, self._worth_of_chosen / np.log2(place + 2.0), 0.0)
        top = np.argpartition(-score, k - 1, axis=1)[:, :k]
        top = np.take_along_axis(
            top, np.argsort(-np.take_along_axis(score, top, axis=1), axis=1), axis=1
        )
        discount = 1.0 / np.log2(np.arange(k) + 2.0)
        expected = np.take_along_axis(self._expected_worth, top, axis=1) @ discount
        real = np.take_along_axis(lists.there, top, axis=1)
        outcome = {
            task: float(np.take_along_axis(values, top, axis=1)[real].mean()) if real.any() else 0.0
            for task, values in lists.outcome.items()
        }
        return ndcg, _mean(expected), outcome

    def _value(self, outcome: Mapping[str, float]) -> float:
        """The relative gain of what is maximised over the retrieval task's own order."""
        if not self._tried:
            return 0.0
        before, value = self._tried[0].outcome, 0.0
        for task in self._wanted:
            scale = self._lists.scale[task]
            if scale is None:
                ratio = max(outcome[task], _LEAST_CHANCE) / max(before[task], _LEAST_CHANCE)
                value += float(np.log(ratio))
            else:
                value += (outcome[task] - before[task]) / scale
        return value

    @cached_property
    def _wanted(self) -> list[str]:
        """The tasks that are maximised."""
        if self._objective.maximise != AUTO:
            return [self._objective.maximise]
        before = self._tried[0].outcome
        events = [task for task in self._tasks if self._lists.scale[task] is None]
        return [min(events, key=lambda task: before[task])] if events else self._tasks


def chances(logits: np.ndarray, there: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Chances of being chosen, [Q, C], of candidates that are `there`, by `logits`.

    The logits' scale is the one that makes what was `chosen` likeliest, so that a ranker that is
    too sure of itself does not count as one who knows.
    """
    # a query without candidates has chances of 0, whatever its padding says
    logits = np.where(there | ~there.any(axis=1, keepdims=True), logits, -np.inf)
    found = chosen.any(axis=1)

    def loss(scale: float) -> float:
        total = logsumexp(scale * logits[found], axis=1)
        return float((total - scale * logits[found][chosen[found]]).mean())

    scale = 1.0
    if found.any():
        scale = float(minimize_scalar(loss, bounds=(0.1, 3.0), method="bounded").x)
    return softmax(scale * logits, axis=1) * there


def worth_of(lists: Lists) -> np.ndarray:
    """What it counts to find each candidate, [Q, C] float64; chosen ones count 1 on average.

    One over the chance that it was shown: people choose among what they are shown, so that an order
    that shows the same finds more of what they chose, and is no better for it (Yang et al. 2018,
    "Unbiased offline recommender evaluation for missing-not-at-random implicit feedback"). No item
    counts more than ten times the geometric mean of the chosen ones, so that none decides alone.
    """
    if lists.log_shown is None or not lists.there.any():
        return np.ones(lists.there.shape)
    chosen = lists.chosen & lists.there
    typical = chosen if chosen.any() else lists.there
    log_worth = -lists.log_shown.astype(np.float64)
    log_worth -= log_worth[typical].mean()
    worth = np.where(lists.there, np.exp(np.minimum(log_worth, np.log(_MOST_WORTH))), 0.0)
    return worth / worth[typical].mean()


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _standard_error(difference: np.ndarray, users: np.ndarray) -> float:
    """Of the mean of `difference` [Q], whose queries of one user [Q] belong together."""
    off = np.bincount(users, difference - _mean(difference))
    return float(np.sqrt(np.square(off).sum())) / max(len(difference), 1)


def _refuse_unknown(objective: OrderObjective, lists: Lists) -> None:
    known = [task for task in lists.utility if task != RETRIEVAL]
    for task in sorted(objective.named - set(known)):
        raise UserError(
            f"ranking.objective names the task {task!r}, which the ranker does not predict; "
            f"there are {', '.join(known) or 'none beside retrieval'}"
        )
