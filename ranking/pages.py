"""Exposures put together by request: what one person was shown at one moment is one list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from features.entities import EncodedTable
from interactions.candidates import Exposures
from interactions.queries import Queries

_WIDEST = 32
_MOST_PADDING = 1.5
"""Cells per exposure at the most."""


@dataclass(frozen=True)
class Pages:
    """Lists of exposures that share a query, so that the query's side is computed once."""

    queries: Queries
    """[P] the query of each page, with the row, and the item, of its first exposure."""
    exposure: np.ndarray
    """[P, W] int64: places among the exposures, -1 where a page has fewer."""
    item: np.ndarray
    """[P, W] int32 item rows, -1 where a page has fewer."""

    def __len__(self) -> int:
        """Return the number of pages."""
        return len(self.queries)

    @classmethod
    def of(cls, exposures: Exposures, context: EncodedTable) -> Self:
        """Put exposures of the same user, time and context into one page, as wide as pays off."""
        queries = exposures.queries
        starts = _starts(queries, context)
        width = _width(np.diff(np.append(starts, len(queries))), len(queries))
        # a group wider than a page goes over several
        number = np.arange(len(queries))
        group = np.repeat(starts, np.diff(np.append(starts, len(queries))))
        place = (number - group) % width if len(number) else number
        page = np.cumsum(place == 0) - 1
        exposure = np.full((int((place == 0).sum()), width), -1, np.int64)
        exposure[page, place] = number
        item = np.where(exposure >= 0, queries.item[exposure], -1).astype(np.int32)
        return cls(queries.take(exposure[:, 0]), exposure, item)

    def take(self, index: np.ndarray) -> Pages:
        """Return the pages at `index`."""
        return Pages(self.queries.take(index), self.exposure[index], self.item[index])

    def spread(self, values: np.ndarray, *, filler: float) -> np.ndarray:
        """Put `values` [exposures] on the pages, [P, W]; `filler` where there is no exposure."""
        if not len(values):
            return np.full(self.exposure.shape, filler, values.dtype)
        return np.where(self.exposure >= 0, values[self.exposure], values.dtype.type(filler))


def _starts(queries: Queries, context: EncodedTable) -> np.ndarray:
    """Where a new request begins among exposures in the log's order, [requests] int64."""
    if not len(queries):
        return np.zeros(0, np.int64)
    keys = [
        queries.user,
        queries.time,
        *(values[queries.row] for values in context.arrays.values()),
    ]
    new = np.ones(len(queries), bool)
    new[1:] = False
    for key in keys:
        change = key[1:] != key[:-1]
        new[1:] |= change.reshape(len(change), -1).any(axis=1)
    return np.flatnonzero(new)


def _width(sizes: np.ndarray, exposures: int) -> int:
    """The widest page, by powers of 2, that is mostly full."""
    width = 1
    while width < _WIDEST:
        cells = -(-sizes // (2 * width)) * 2 * width
        if cells.sum() > _MOST_PADDING * exposures:
            break
        width *= 2
    return width
