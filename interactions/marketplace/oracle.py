"""The true probabilities of a marketplace, and the best that any recommender could do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interactions.errors import UserError
from interactions.marketplace.world import World, sigmoid

VIEW_INTERCEPT, BUY_INTERCEPT = -2.3, -2.05
RATING_MEAN, RATING_NOISE = 3.5, 0.45
NONE = -1
"""Padding of a ranking that has fewer than k items."""


@dataclass(frozen=True)
class Oracle:
    """What is true of users and items, given as rows of their tables.

    Throughout, `users` is [Q] int, `times` a scalar or [Q] int64 in milliseconds since 1970, and
    `items` None for all items, giving [Q, items], or int [Q] or [Q, k], giving its own shape.
    """

    world: World
    user_ids: np.ndarray
    """[users] str, in the order of the users table."""
    item_ids: np.ndarray
    """[items] str, in the order of the items table."""

    def user_rows(self, ids: np.ndarray) -> np.ndarray:
        """Return the rows [...] int64 of user ids [...] str; raises UserError on an unknown one."""
        return _rows(self.user_ids, ids, "user")

    def item_rows(self, ids: np.ndarray) -> np.ndarray:
        """Return the rows [...] int64 of item ids [...] str; raises UserError on an unknown one."""
        return _rows(self.item_ids, ids, "item")

    def view_probability(
        self, users: np.ndarray, items: np.ndarray | None, times: np.ndarray | int
    ) -> np.ndarray:
        """Return the probability float64 of a view of an item at a position that is looked at.

        It is 0 before the item's launch.
        """
        pair = self._pairs(users, items)
        hype = 0.3 * self.world.item_hype[pair.items]
        appeal = self.world.appeal(pair.items, pair.spread(np.asarray(times)))
        return sigmoid(VIEW_INTERCEPT + 1.8 * pair.affinity + hype + appeal)

    def purchase_given_view(self, users: np.ndarray, items: np.ndarray | None) -> np.ndarray:
        """Return the probability float64 that a view leads to a purchase, at once or days later."""
        pair, world = self._pairs(users, items), self.world
        return sigmoid(
            BUY_INTERCEPT
            + 0.8 * pair.affinity
            + 0.5 * world.item_hype[pair.items]
            + 0.2 * world.item_quality[pair.items]
            - pair.spread(world.user_thrift[users]) * world.item_dearness[pair.items]
        )

    def purchase_probability(
        self, users: np.ndarray, items: np.ndarray | None, times: np.ndarray | int
    ) -> np.ndarray:
        """Return the probability float64 of view and purchase at a position that is looked at.

        It holds for items that the user has not bought before: nobody buys twice.
        """
        return self.view_probability(users, items, times) * self.purchase_given_view(users, items)

    def expected_rating(self, users: np.ndarray, items: np.ndarray | None) -> np.ndarray:
        """Return the mean float64 of the rating, 1 to 5, that the user would give after buying."""
        return 1.0 + self.rating_exceeds(users, items).sum(axis=-1)

    def rating_exceeds(self, users: np.ndarray, items: np.ndarray | None) -> np.ndarray:
        """Return the probabilities [..., 4] float64 of a rating above 1, 2, 3 and 4.

        An ordered logit of satisfaction: what the item is, less what price and title promised.
        """
        pair, world = self._pairs(users, items), self.world
        promised = 0.55 * world.item_hype[pair.items] + 0.25 * world.item_dearness[pair.items]
        mean = RATING_MEAN + 0.9 * world.item_quality[pair.items] - promised + 0.2 * pair.affinity
        return sigmoid((mean[..., None] - np.array([1.5, 2.5, 3.5, 4.5])) / RATING_NOISE)

    def expected_purchases(
        self, ranked: np.ndarray, users: np.ndarray, times: np.ndarray | int
    ) -> np.ndarray:
        """Return [Q] float64: purchases expected if each of `ranked` [Q, k] int is looked at.

        An item of -1 is padding and counts nothing.
        """
        bought = self.purchase_probability(users, np.maximum(ranked, 0), times)
        return np.where(ranked == NONE, 0.0, bought).sum(axis=1)

    def oracle_ranking(
        self,
        users: np.ndarray,
        times: np.ndarray | int,
        *,
        k: int,
        allowed: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return [Q, k] int64: the launched items likeliest to be bought, best first, -1 padding.

        `allowed` [Q, items] bool leaves items out, such as those already bought.
        """
        score = self.purchase_probability(users, None, times)
        if allowed is not None:
            score = np.where(allowed, score, 0.0)
        order = np.argsort(-score, axis=1, kind="stable")[:, :k]
        ranked = np.where(np.take_along_axis(score, order, axis=1) > 0, order, NONE)
        missing = k - ranked.shape[1]
        return np.pad(ranked, ((0, 0), (0, max(missing, 0))), constant_values=NONE)

    def _pairs(self, users: np.ndarray, items: np.ndarray | None) -> _Pairs:
        affinity = self.world.affinity(users, items)
        rows = np.arange(len(self.item_ids)) if items is None else items
        return _Pairs(affinity=affinity, items=rows)


@dataclass(frozen=True)
class _Pairs:
    """Users against items, and how a value per user lines up with them."""

    affinity: np.ndarray
    items: np.ndarray

    def spread(self, value: np.ndarray) -> np.ndarray:
        """Return [Q] values as [Q, 1] where the pairs are [Q, k]; scalars as they are."""
        return value[:, None] if value.ndim == 1 and self.affinity.ndim == 2 else value


def _rows(known: np.ndarray, ids: np.ndarray, what: str) -> np.ndarray:
    # Ids are numbered with leading zeros, so the tables' order is the sorted order.
    ids = np.asarray(ids, known.dtype.type)
    rows = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    wrong = known[rows] != ids
    if wrong.any():
        raise UserError(
            f"{what} {str(ids[wrong].flat[0])!r} is not in this marketplace: "
            f"give ids from its {what}s table"
        )
    return rows
