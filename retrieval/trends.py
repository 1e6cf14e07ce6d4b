"""How popular every item was at any moment: what a retriever adds to taste."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interactions.log import EventLog

_DAY = 86_400_000_000
"""Microseconds."""
HALF_LIVES = (7.0, 30.0, 120.0)
"""Days after which an event counts half: what is new, what is in season, what lasts."""
_MOST_SLOTS = 256
_FEWEST_SLOTS = 8
_MOST_CELLS = 4_000_000
"""Slots times items, which bounds the memory of a large catalogue."""


@dataclass(frozen=True)
class Trends:
    """Decayed counts of every item's choices at a number of moments.

    A query sees the counts of the latest moment at or before it, and a moment counts what came
    strictly before it; so nothing of a query's own time or later can reach it.
    """

    start: np.ndarray
    """[slots] int64, ascending: the first time of each slot; the last one is after all rows."""
    value: np.ndarray
    """[slots, half-lives, items] float32: log of 1 + the decayed count."""

    @classmethod
    def of(cls, log: EventLog, rows: np.ndarray) -> Trends:
        """Count the chosen ones of `rows` ([n] int64) of the log.

        Where the data has no times there is one slot, and every row counts the same.
        """
        rows = rows[log.chosen[rows]]
        items = len(log.item_ids)
        if not log.has_times or not len(rows):
            count = np.log1p(np.bincount(log.item[rows], minlength=items)).astype(np.float32)
            value = np.broadcast_to(count, (1, len(HALF_LIVES), items)).copy()
            return cls(np.array([np.iinfo(np.int64).min]), value)
        rows = rows[np.argsort(log.time[rows], kind="stable")]
        start = _starts(log.time[rows], items)
        value = np.zeros((len(start), len(HALF_LIVES), items), np.float32)
        count = np.zeros((len(HALF_LIVES), items))
        for slot in range(1, len(start)):
            new = rows[slice(*np.searchsorted(log.time[rows], start[slot - 1 : slot + 1]))]
            for place, half_life in enumerate(HALF_LIVES):
                count[place] *= _decay(start[slot] - start[slot - 1], half_life)
                weight = _decay(start[slot] - log.time[new], half_life)
                count[place] += np.bincount(log.item[new], weights=weight, minlength=items)
            value[slot] = np.log1p(count)
        return cls(start, value)

    def slot(self, times: np.ndarray) -> np.ndarray:
        """Return the slot [n] int32 that queries at `times` [n] int64 see."""
        found = np.searchsorted(self.start, times, side="right") - 1
        return np.maximum(found, 0).astype(np.int32)


def _starts(times: np.ndarray, items: int) -> np.ndarray:
    """Return the starts of slots that hold about as many of the sorted `times` each."""
    slots = int(np.clip(_MOST_CELLS // items, _FEWEST_SLOTS, _MOST_SLOTS))
    cuts = times[np.linspace(0, len(times) - 1, slots).astype(np.int64)]
    return np.unique(np.append(cuts, times[-1] + 1))


def _decay(passed: np.ndarray | np.int64, half_life: float) -> np.ndarray:
    return np.exp2(-np.asarray(passed, np.float64) / (half_life * _DAY))
