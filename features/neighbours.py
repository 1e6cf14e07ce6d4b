"""Which items are chosen by the same people: the nearest neighbours of every item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from interactions.log import EventLog

_BLOCK = 2048
_SHRINK = 5.0
"""Added to each item's count, so that two rare items seen together once are not the same item."""


@dataclass(frozen=True)
class Neighbours:
    """The items most often chosen together with each item."""

    item: np.ndarray
    """[items + 1, width] int32, -1 where there are fewer; the last row is the unknown item."""
    weight: np.ndarray
    """[items + 1, width] float32: shrunk cosine similarity, 0 where there are fewer."""


def neighbours(log: EventLog, rows: np.ndarray, *, width: int, latest: int = 200) -> Neighbours:
    """Count which items the same users chose in `rows` ([n] int64) of the log.

    Only a user's `latest` items count, so that one who chose everything costs no square of it.
    Similarity is the cosine of Sarwar et al. 2001, "Item-based collaborative filtering
    recommendation algorithms", with shrunk norms.
    """
    rows = rows[log.chosen[rows]]
    users, items = len(log.user_ids), len(log.item_ids)
    after = np.searchsorted(log.user[rows], log.user[rows], side="right") - np.arange(len(rows))
    rows = rows[after <= latest]
    chosen = sparse.csr_matrix(
        (np.ones(len(rows), np.float32), (log.user[rows], log.item[rows])), shape=(users, items)
    )
    chosen.sum_duplicates()
    chosen.data[:] = 1.0
    norm = np.sqrt(np.asarray(chosen.sum(axis=0)).ravel() + _SHRINK)
    by_item = (chosen @ sparse.diags_array(1.0 / norm)).tocsc()
    near = np.full((items + 1, width), -1, np.int32)
    weight = np.zeros((items + 1, width), np.float32)
    for start in range(0, items, _BLOCK):
        block = (by_item[:, start : start + _BLOCK].T @ by_item).tocsr()
        for offset in range(block.shape[0]):
            low, high = block.indptr[offset], block.indptr[offset + 1]
            columns, values = block.indices[low:high], block.data[low:high]
            other = columns != start + offset
            columns, values = columns[other], values[other]
            best = np.lexsort((columns, -values))[:width]
            near[start + offset, : len(best)] = columns[best]
            weight[start + offset, : len(best)] = values[best]
    return Neighbours(near, weight)
