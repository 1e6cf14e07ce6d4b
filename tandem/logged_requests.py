"""Requests of the log, put together again from what was shown in answer to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interactions.candidates import Exposures
from interactions.queries import Queries

MOST = 1_500
"""Requests that orders are judged on, spread over the window."""


@dataclass(frozen=True)
class LoggedRequests:
    """Who asked when, and which exposures answered."""

    queries: Queries
    """[requests], with the row and the item of the first exposure."""
    exposure: np.ndarray
    """[n] int64: places among the exposures."""
    request: np.ndarray
    """[n] int64: the request that each of them answered."""


def logged_requests(shown: Exposures, *, most: int = MOST) -> LoggedRequests:
    """Take what one user was shown at one moment for the answer to one request, at `most` so many.

    Requests are spread evenly over those that there are, in the order of users and times.
    """
    queries = shown.queries
    asked = np.stack([queries.user.astype(np.int64), queries.time], axis=1)
    _, first, request = np.unique(asked, axis=0, return_index=True, return_inverse=True)
    kept = np.unique(np.linspace(0, len(first) - 1, min(len(first), most)).astype(np.int64))
    some = np.flatnonzero(np.isin(request, kept))
    return LoggedRequests(queries.take(first[kept]), some, np.searchsorted(kept, request[some]))
