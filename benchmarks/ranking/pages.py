"""Logged pages with propensities, on which orders are judged by what was really shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interactions.candidates import Exposures
from interactions.marketplace import Marketplace
from interactions.marketplace.world import DEVICES, examination
from interactions.queries import Queries
from tandem.data import Data

MOST_PAGES = 1_500
"""Spread over the test window."""
_TYPE = "impression"


@dataclass(frozen=True)
class LoggedPages:
    """Pages of the test window, and what was shown on them."""

    queries: Queries
    """[pages] who asked and when, with the row and item of the first exposure."""
    exposures: Exposures
    """[n] what was shown on these pages, with its labels; without retrieval scores."""
    page: np.ndarray
    """[n] int64: the page of each exposure."""
    propensity: np.ndarray
    """[n] float64: the probability with which the shop showed this item at this place."""
    looks: np.ndarray
    """[n] float64: the true probability that the place was looked at."""


def logged_pages(data: Data, market: Marketplace, shown: Exposures) -> LoggedPages:
    """Find the pages of the exposures `shown`, with what the marketplace logged of them."""
    queries = shown.queries
    request = np.stack([queries.user.astype(np.int64), queries.time], axis=1)
    _, first, page = np.unique(request, axis=0, return_index=True, return_inverse=True)
    kept = np.unique(np.linspace(0, len(first) - 1, min(len(first), MOST_PAGES)).astype(np.int64))
    some = np.flatnonzero(np.isin(page, kept))
    place = _event_rows(data, market, queries.take(some))
    events = market.events
    names = events["device"].to_numpy().astype(str)[place]
    device = (names[:, np.newaxis] == np.array(DEVICES)).argmax(axis=1)
    return LoggedPages(
        queries.take(first[kept]),
        Exposures(
            queries.take(some),
            shown.retrieval_score[some],
            {task: values[some] for task, values in shown.labels.items()},
        ),
        np.searchsorted(kept, page[some]),
        events["propensity"].to_numpy()[place].astype(np.float64),
        examination(events["position"].to_numpy()[place].astype(np.int64), device),
    )


def _event_rows(data: Data, market: Marketplace, queries: Queries) -> np.ndarray:
    """The row of each exposure in the marketplace's events, [n] int64."""
    oracle, events = market.oracle, market.events
    shown = np.flatnonzero(events["type"].to_numpy().astype(str) == _TYPE)
    size = len(oracle.item_ids)

    def key(users: np.ndarray, items: np.ndarray, times: np.ndarray) -> np.ndarray:
        pair = oracle.user_rows(users) * size + oracle.item_rows(items)
        return (times - start) * (len(oracle.user_ids) * size) + pair

    start = int(events["timestamp"].to_numpy().min())
    known = key(
        events["user_id"].to_numpy()[shown],
        events["item_id"].to_numpy()[shown],
        events["timestamp"].to_numpy()[shown],
    )
    # the log counts microseconds, the marketplace milliseconds
    wanted = key(
        data.log.user_ids[queries.user], data.log.item_ids[queries.item], queries.time // 1000
    )
    order = np.argsort(known, kind="stable")
    return shown[order[np.searchsorted(known[order], wanted)]]
