"""Pairs that nothing has selected: any item of the catalogue, whoever would have bought it.

Ratings in the log are of what people bought, which is what they like; a model is asked about
everything.
"""

from __future__ import annotations

import numpy as np

from interactions.marketplace import Marketplace
from interactions.queries import Queries
from tandem.data import Data

PAIRS = 40_000
RATING = "rating"
"""The marketplace's task whose labels exist for a chosen part of the exposures only."""


def unselected_pairs(data: Data, queries: Queries, *, seed: int) -> Queries:
    """Draw by lot who asks and when, of `queries`, and any item, `PAIRS` of them."""
    rng = np.random.default_rng(seed)
    asked = queries.take(np.sort(rng.integers(len(queries), size=PAIRS)))
    items = rng.integers(len(data.log.item_ids), size=PAIRS).astype(asked.item.dtype)
    return Queries(asked.row, asked.user, asked.time, items)


def true_ratings(data: Data, market: Marketplace, pairs: Queries) -> np.ndarray:
    """Return the mean rating that each user would give each item, [n] float32."""
    oracle = market.oracle
    users = oracle.user_rows(data.log.user_ids[pairs.user])
    items = oracle.item_rows(data.log.item_ids)[pairs.item]
    return oracle.expected_rating(users, items[:, np.newaxis])[:, 0].astype(np.float32)
