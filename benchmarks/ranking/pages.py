"""Logged pages with propensities, on which orders are judged by what was really shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interactions.candidates import Exposures
from interactions.marketplace import Marketplace
from interactions.marketplace.world import DEVICES, examination
from interactions.queries import Queries
from tandem.data import Data
from tandem.logged_requests import logged_requests

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
    asked = logged_requests(shown)
    some = shown.take(asked.exposure)
    place = _event_rows(data, market, some.queries)
    assert data.log.propensity is not None, "a marketplace's config names its propensities"
    events = market.events
    names = events["device"].to_numpy().astype(str)[place]
    device = (names[:, np.newaxis] == np.array(DEVICES)).argmax(axis=1)
    return LoggedPages(
        asked.queries,
        some,
        asked.request,
        data.log.propensity[some.queries.row],
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
