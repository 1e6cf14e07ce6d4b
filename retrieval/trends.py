"""How popular every item was at any moment: what a retriever adds to taste."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from interactions.blocks import spans, stride_to_fit
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
    strictly before it; so nothing of a query's own time or later can reach it. Where the moments
    lie, the times of all choices say, later ones too; which items were chosen has no part in it.
    """

    start: np.ndarray
    """[slots] int64, ascending: the first time of each slot; the last one is after all rows."""
    value: np.ndarray
    """[slots, half-lives, items] float32: log of 1 + the decayed count."""

    @classmethod
    def of(cls, log: EventLog, rows: np.ndarray | None = None) -> Trends:
        """Count the chosen ones of `rows` ([n] int64) of the log, or of all.

        Where the data has no times there is one slot, and every row counts the same.
        """
        items = len(log.item_ids)
        sample = _times(log, rows)
        if not log.has_times or not len(sample):
            count = np.zeros(items)
            for chosen in _chosen(log, rows):
                count += np.bincount(log.item[chosen], minlength=items)
            value = np.broadcast_to(np.log1p(count).astype(np.float32), (1, len(HALF_LIVES), items))
            return cls(np.array([np.iinfo(np.int64).min]), value.copy())
        start = _starts(sample, items)
        value = np.zeros((len(start), len(HALF_LIVES), items), np.float32)
        for chosen in _chosen(log, rows):
            _add_new(value, start, log.item[chosen], log.time[chosen])
        count = np.zeros((len(HALF_LIVES), items))
        for slot in range(1, len(start)):
            for place, half_life in enumerate(HALF_LIVES):
                count[place] *= _decay(start[slot] - start[slot - 1], half_life)
            count += value[slot]
            value[slot] = np.log1p(count)
        return cls(start, value)

    def slot(self, times: np.ndarray) -> np.ndarray:
        """Return the slot [n] int32 that queries at `times` [n] int64 see."""
        found = np.searchsorted(self.start, times, side="right") - 1
        return np.maximum(found, 0).astype(np.int32)


def _chosen(log: EventLog, rows: np.ndarray | None) -> Iterator[np.ndarray]:
    """Yield the chosen ones of `rows`, or of all, block by block."""
    for part in spans(len(log) if rows is None else len(rows)):
        block = np.arange(part.start, part.stop) if rows is None else rows[part]
        yield block[log.chosen[block]]


def _times(log: EventLog, rows: np.ndarray | None) -> np.ndarray:
    """Sorted times of the chosen rows, [n] int64.

    Of a log of many blocks, those of one row in so many, and the first and the last.
    """
    stride = stride_to_fit(len(log) if rows is None else len(rows))
    some = [np.empty(0, np.int64)]
    first, last = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    for chosen in _chosen(log, rows):
        times = log.time[chosen]
        first, last = times.min(initial=first), times.max(initial=last)
        some.append(times[::stride].copy())  # a view would keep all of them
    times = np.sort(np.concatenate(some))
    times[-1:] = last
    times[:1] = first  # what came before the first slot would be in none
    return times


def _add_new(value: np.ndarray, start: np.ndarray, items: np.ndarray, times: np.ndarray) -> None:
    """Add to each slot what choices of `items` at `times` ([n]) since the slot before are worth."""
    slot = np.searchsorted(start, times, side="right")
    cell = slot * value.shape[-1] + items
    for place, half_life in enumerate(HALF_LIVES):
        new = value[:, place]  # [slots, items]
        weight = _decay(start[slot] - times, half_life)
        new += np.bincount(cell, weights=weight, minlength=new.size).reshape(new.shape)


def _starts(times: np.ndarray, items: int) -> np.ndarray:
    """Return the starts of slots that hold about as many of the sorted `times` each."""
    slots = int(np.clip(_MOST_CELLS // items, _FEWEST_SLOTS, _MOST_SLOTS))
    cuts = times[np.linspace(0, len(times) - 1, slots).astype(np.int64)]
    return np.unique(np.append(cuts, times[-1] + 1))


def _decay(passed: np.ndarray | np.int64, half_life: float) -> np.ndarray:
    return np.exp2(-np.asarray(passed, np.float64) / (half_life * _DAY))
