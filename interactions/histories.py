"""What a user had chosen strictly before a moment."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

import numpy as np

from interactions.blocks import Spill, whole_spans
from interactions.log import EventLog
from interactions.ragged import Ragged
from interactions.search import first_at_or_after

PAD = -1
"""Stands in a history where nothing is left."""


@dataclass(frozen=True)
class History:
    """The latest choices of Q queries."""

    items: np.ndarray
    """[Q, length] int32: item rows, oldest first, PAD after the last."""
    times: np.ndarray
    """[Q, length] int64; 0 where padded."""
    count: np.ndarray
    """[Q] int32: how many are real."""


@dataclass(frozen=True)
class LatestEvents:
    """The latest choices of Q users, end to end."""

    offsets: np.ndarray
    """[Q + 1] int64: those of the q-th user are offsets[q]:offsets[q + 1], oldest first."""
    items: np.ndarray
    """[choices] int32 item rows."""
    times: np.ndarray
    """[choices] int64."""


@dataclass(frozen=True)
class Histories:
    """Every user's chosen events in the log's total order (time, then order in the file).

    Equal times are not history: the items of a basket do not explain each other.
    """

    offsets: np.ndarray
    """[users + 1] int64: the events of user u are offsets[u]:offsets[u + 1]."""
    rows: np.ndarray
    """[events] int64, ascending: rows of the log."""
    items: np.ndarray
    """[events] int32: item rows."""
    times: np.ndarray
    """[events] int64."""
    tie_start: np.ndarray
    """[events] int64: the place of the same user's first event of the same time, so that what lies
    before it is what came strictly before."""
    firsts: np.ndarray
    """[first choices] int64, ascending: places of events whose user had not chosen the item
    before."""
    row_user: np.ndarray
    """[rows of the log] int32."""

    @classmethod
    def of(cls, log: EventLog, *, among: np.ndarray | None = None) -> Self:
        """Return the log's chosen rows as histories, or those `among` some ([n] int64, ascending).

        They are made for a block of users at a time and lie on disk where they are long.
        """
        counts = np.zeros(len(log.user_ids), np.int64)
        kinds = (np.int64, np.int32, np.int64, np.int64, np.int64)
        begin = 0
        with ExitStack() as stack:
            spills = [stack.enter_context(Spill(kind)) for kind in kinds]
            for users in whole_spans(log.offsets):
                part = _Part.of(log, users, among)
                counts[users] = part.counts
                columns = (part.rows, part.items, part.times)
                places = (begin + part.tie_start, begin + part.firsts)
                for spill, column in zip(spills, (*columns, *places), strict=True):
                    spill.append(column)
                begin += len(part.rows)
            arrays = [spill.array() for spill in spills]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(offsets, *arrays, row_user=log.user)

    def before(self, users: np.ndarray, times: np.ndarray, *, length: int) -> History:
        """Return the latest `length` choices of each query, strictly before its time.

        `users` [Q] int32 are rows of the user ids, -1 for an unknown one, who has no history;
        `times` are [Q] int64.
        """
        starts, ends = self.spans(users, times)
        count = np.minimum(ends - starts, length)
        column = np.arange(length)
        real = column < count[:, None]  # [Q, length]
        if not len(self.items):
            padded = np.full(real.shape, PAD, np.int32)
            return History(padded, np.zeros(real.shape, np.int64), count.astype(np.int32))
        place = np.where(real, (ends - count)[:, None] + column, 0)
        return History(
            items=np.where(real, self.items[place], PAD).astype(np.int32),
            times=np.where(real, self.times[place], 0),
            count=count.astype(np.int32),
        )

    def latest(self, users: np.ndarray, *, length: int) -> LatestEvents:
        """Return the latest `length` of everything that `users` ([Q] int32, -1 is none) chose."""
        users = np.asarray(users, np.int64)
        end = np.where(users >= 0, self.offsets[users + 1], 0)
        start = np.where(users >= 0, self.offsets[users], 0)
        start = np.maximum(end - length, start)
        offsets = np.concatenate([[0], np.cumsum(end - start)]).astype(np.int64)
        place = np.repeat(start - offsets[:-1], end - start) + np.arange(offsets[-1])
        return LatestEvents(offsets, self.items[place], self.times[place])

    def seen(self, rows: np.ndarray) -> Ragged:
        """Return the distinct items chosen before each log row [Q] in the log's total order."""
        rows = np.asarray(rows, np.int64)
        starts = self.offsets[self.row_user[rows]]
        return self._distinct(starts, np.maximum(np.searchsorted(self.rows, rows), starts))

    def seen_at(self, users: np.ndarray, times: np.ndarray) -> Ragged:
        """Return the distinct items that `users` [Q] int32 chose before `times` [Q] int64."""
        return self._distinct(*self.spans(users, times))

    def spans(self, users: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where among the events the past of each query begins and ends, [Q] int64 each.

        `users` [Q] int32 and `times` [Q] int64 as in `before`.
        """
        users, times = np.asarray(users, np.int64), np.asarray(times, np.int64)
        known = users >= 0
        starts = np.where(known, self.offsets[users], 0)
        ends = np.where(known, self.offsets[np.where(known, users + 1, 0)], 0)
        return starts, first_at_or_after(self.times, starts, ends, times)

    def _distinct(self, starts: np.ndarray, ends: np.ndarray) -> Ragged:
        # A span begins with the user's first event, so an item's first choice stands for all of
        # them: spans of these first choices are the answer, and none is repeated.
        low, high = np.searchsorted(self.firsts, starts), np.searchsorted(self.firsts, ends)
        offsets = np.concatenate([[0], np.cumsum(high - low)]).astype(np.int64)
        inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], high - low)
        return Ragged(offsets, self.items[self.firsts[np.repeat(low, high - low) + inside]])


@dataclass(frozen=True)
class _Part:
    """The histories of some users, places counted from the first of their events."""

    counts: np.ndarray
    """[users] int64: events of each."""
    rows: np.ndarray
    items: np.ndarray
    times: np.ndarray
    tie_start: np.ndarray
    firsts: np.ndarray

    @classmethod
    def of(cls, log: EventLog, users: slice, among: np.ndarray | None) -> Self:
        """Take the chosen rows of `users`, of which only those `among` some count."""
        start, stop = int(log.offsets[users.start]), int(log.offsets[users.stop])
        if among is None:
            candidates = np.arange(start, stop)
        else:
            candidates = among[slice(*np.searchsorted(among, (start, stop)))]
            if (np.diff(candidates) <= 0).any():
                raise ValueError("rows must ascend, or they would be taken for other users'")
        rows = candidates[log.chosen[candidates]]
        user, item, time = log.user[rows], log.item[rows], log.time[rows]
        place = np.arange(len(rows))
        starts_tie = np.ones(len(rows), bool)
        starts_tie[1:] = (user[1:] != user[:-1]) | (time[1:] != time[:-1])
        pair = user.astype(np.int64) * len(log.item_ids) + item
        return cls(
            counts=np.bincount(user - users.start, minlength=users.stop - users.start),
            rows=rows,
            items=item,
            times=time,
            tie_start=np.maximum.accumulate(np.where(starts_tie, place, 0)),
            firsts=np.sort(np.unique(pair, return_index=True)[1]),
        )
