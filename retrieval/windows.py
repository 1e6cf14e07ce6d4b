"""Training batches: windows of users' sequences, every position a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from interactions.histories import Histories
from interactions.log import EventLog

_CONTEXT_DROPOUT = 0.2
_SHORTEST_CLASS = 16
"""Length up to which windows share a class; each class is twice as long as the one before."""


@dataclass(frozen=True)
class Sequences:
    """Users' chosen events among the training rows, in the log's order."""

    row: np.ndarray
    """[events] int64: log rows, by user and time."""
    before: np.ndarray
    """[events] int64: place of the first event of the same user at the same time; what lies before
    it came strictly before."""
    offsets: np.ndarray
    """[users + 1] int64: the events of user u are offsets[u]:offsets[u + 1]."""

    @classmethod
    def of(cls, log: EventLog, rows: np.ndarray) -> Self:
        """Return the chosen ones among `rows` ([n] int64, ascending) of the log."""
        histories = Histories.of(log, among=rows)
        return cls(histories.rows, histories.tie_start, histories.offsets)


@dataclass(frozen=True)
class Windows:
    """Pieces of sequences; each event is in exactly one."""

    start: np.ndarray
    """[windows] int64: place of a window's first event."""
    stop: np.ndarray
    """[windows] int64: place behind its last event."""
    user: np.ndarray
    """[windows] int32: row of the user."""

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.start)

    @property
    def length(self) -> np.ndarray:
        """[windows] int64: how many events each holds."""
        return self.stop - self.start

    def take(self, index: np.ndarray) -> Windows:
        """Return the windows at `index`."""
        return Windows(self.start[index], self.stop[index], self.user[index])


def cut_windows(sequences: Sequences, *, length: int, rng: np.random.Generator) -> Windows:
    """Cut sequences into windows of at most `length` events, at random places.

    Other cuts in each epoch show every event with much and with little before it, and leave
    nothing out, however long a sequence is.
    """
    users = np.flatnonzero(np.diff(sequences.offsets))
    begin, end = sequences.offsets[users], sequences.offsets[users + 1]
    # the first window of a long sequence holds 1 to `length` events, the others are full
    first = np.where(end - begin > length, rng.integers(1, length + 1, len(users)), length)
    pieces = 1 + np.maximum(-(-(end - begin - first) // length), 0)
    owner = np.repeat(np.arange(len(users)), pieces)
    piece = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin, end, first = begin[owner], end[owner], first[owner]
    start = np.where(piece == 0, begin, begin + first + (piece - 1) * length)
    stop = np.minimum(begin + first + piece * length, end)
    return Windows(start, stop, users[owner].astype(np.int32))


def length_classes(windows: Windows, *, length: int) -> list[np.ndarray]:
    """Group windows of similar length, [n] int64 indices each.

    A batch comes from one class, so that little of it is padding. Within a class its windows are
    drawn by chance alone, so that it is known how likely an item is to be among its negatives.
    """
    limits = [_SHORTEST_CLASS]
    while limits[-1] < length:
        limits.append(2 * limits[-1])
    of_window = np.searchsorted(limits, windows.length)
    groups = (np.flatnonzero(of_window == number) for number in range(len(limits)))
    return [group for group in groups if len(group)]


@dataclass(frozen=True)
class BatchMaker:
    """Gathers batches of windows from the log's arrays."""

    log: EventLog
    sequences: Sequences
    targets: np.ndarray
    """[log rows] bool: which events may be targets."""

    def gather(self, windows: Windows, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Gather a batch of W windows of length L with Q targets.

        `sequence` [W, L] int32: item rows, padded with the first; `sequence_time` [W, L] int64;
        `state` [Q] int32: which of the W * (L + 1) states of the history encoder is a target's,
        the one that knows what came strictly before it; `known` [Q] bool: whether that is
        anything; `previous` [Q] int64: the time of the last of it; `row` [Q] int64: the targets'
        log rows; `context_row` [Q] int64: the same, -1 where the context is hidden, since many
        requests will not carry any; `window` [Q] int32: a target's window.
        """
        length = int(windows.length.max())
        place = windows.start[:, np.newaxis] + np.arange(length)
        there = place < windows.stop[:, np.newaxis]
        place = np.where(there, place, windows.start[:, np.newaxis])
        rows = self.sequences.row[place]
        window, column = np.nonzero(there & self.targets[rows])
        target = place[window, column]
        # what came at the same time in the window before this one is out of sight anyhow
        before = np.maximum(self.sequences.before[target] - windows.start[window], 0)
        previous = windows.start[window] + np.maximum(before - 1, 0)
        row = self.sequences.row[target]
        return {
            "sequence": self.log.item[rows],
            "sequence_time": self.log.time[rows],
            "state": (window * (length + 1) + before).astype(np.int32),
            "known": before > 0,
            "previous": self.log.time[self.sequences.row[previous]],
            "row": row,
            "context_row": np.where(rng.random(len(row)) < _CONTEXT_DROPOUT, -1, row),
            "window": window.astype(np.int32),
        }


def windows_per_batch(windows: Windows, group: np.ndarray, *, events: int) -> int:
    """Return how many windows of a class make a batch of about `events` events."""
    mean = windows.length[group].mean()
    return int(np.clip(round(events / mean), 1, len(group)))
