"""On the generated marketplace: what orders are truly worth, and how far the oracle goes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.ranking.problem import Problem
from interactions.candidates import Candidates
from interactions.marketplace import Marketplace
from interactions.queries import Queries
from tandem.marketplace_truth import find_marketplace

TOP = 10


@dataclass(frozen=True)
class Truth:
    """The true probabilities of a problem's candidates."""

    views: np.ndarray
    """[Q, C] float64: probability of a view at a position that is looked at."""
    buys: np.ndarray
    """[Q, C] float64: probability of view and purchase at a position that is looked at."""
    rating: np.ndarray
    """[Q, C] float64: mean rating that the user would give."""
    there: np.ndarray
    """[Q, C] bool, False for padding."""

    @classmethod
    def of(cls, problem: Problem, lists: Candidates) -> Truth | None:
        """Return what is true of `lists`; None where it is not known."""
        market = find_marketplace(problem.data.config.data)
        if market is None:
            return None
        known = _Known(market, problem.data.log.user_ids, problem.data.log.item_ids)
        users, items, times = known.rows(lists.queries, lists.item)
        there = lists.item >= 0
        buys = market.oracle.purchase_probability(users, items, times)
        rating = market.oracle.expected_rating(users, items)
        views = np.where(there, market.oracle.view_probability(users, items, times), 0.0)
        return cls(views, np.where(there, buys, 0.0), np.where(there, rating, 0.0), there)

    def purchases(self, order: np.ndarray) -> np.ndarray:
        """Return the expected purchases in the top 10 by `order` [Q, C], [Q] float64."""
        return self.top(order, self.buys).sum(axis=1)

    def expected_views(self, order: np.ndarray) -> np.ndarray:
        """Return the expected views of the top 10 by `order` [Q, C], all looked at, [Q] float64."""
        return self.top(order, self.views).sum(axis=1)

    def mean_rating(self, order: np.ndarray) -> np.ndarray:
        """Return the mean true rating in the top 10 by `order` [Q, C], [Q] float64."""
        count = np.minimum(self.there.sum(axis=1), TOP)
        return self.top(order, self.rating).sum(axis=1) / np.maximum(count, 1)

    def top(self, order: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return `values` [Q, C] of the ten best by `order` [Q, C], [Q, up to 10]."""
        score = np.where(self.there, order, -np.inf)
        best = np.argsort(-score, axis=1, kind="stable")[:, :TOP]
        return np.take_along_axis(values, best, axis=1)


@dataclass(frozen=True)
class _Known:
    """Rows of the log's ids in the marketplace's tables."""

    market: Marketplace
    user_ids: np.ndarray
    item_ids: np.ndarray

    @cached_property
    def _items(self) -> np.ndarray:
        return self.market.oracle.item_rows(self.item_ids)

    def rows(
        self, queries: Queries, items: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return users [Q], items [Q, C] and times [Q] as the oracle takes them."""
        users = self.market.oracle.user_rows(self.user_ids[queries.user])
        # the log counts microseconds, the marketplace milliseconds
        return users, self._items[np.maximum(items, 0)], queries.time // 1000
