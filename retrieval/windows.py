"""Training batches: windows of users' sequences, every position a query."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from interactions.histories import Histories
from interactions.log import EventLog

_CONTEXT_DROPOUT = 0.2


@dataclass(frozen=True)
class Pieces:
    """Overlapping pieces of users' chosen events; each event is the target of exactly one."""

    row: np.ndarray
    """[events] int64: log rows of the chosen events of the training rows, by user and time."""
    before: np.ndarray
    """[events] int64: index of the first event of the same user at the same time; what lies before
    it came strictly before."""
    start: np.ndarray
    """[windows] int64: index of a window's first event."""
    first_target: np.ndarray
    """[windows] int64: index of its first target; what comes before is history only."""
    stop: np.ndarray
    """[windows] int64: index behind its last event."""

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.start)


def cut_windows(log: EventLog, rows: np.ndarray, *, length: int) -> Pieces:
    """Cut the chosen events among `rows` ([n] int64) into windows of at most `length`.

    A long sequence is cut so that each event but the first ones has at least half a window of
    history before it.
    """
    only = np.zeros(len(log), bool)
    only[rows] = True
    histories = Histories.of(log, only=only)
    users = np.flatnonzero(np.diff(histories.offsets))
    begin, end = histories.offsets[users], histories.offsets[users + 1]
    stride = max(length // 2, 1)
    pieces = np.maximum(-(-(end - begin - length) // stride), 0) + 1
    piece = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin, end = np.repeat(begin, pieces), np.repeat(end, pieces)
    start = begin + piece * stride
    stop = np.minimum(start + length, end)
    first_target = np.where(piece == 0, start, start + length - stride)
    return Pieces(histories.rows, histories.tie_start, start, first_target, stop)


@dataclass(frozen=True)
class BatchMaker:
    """Gathers batches of windows and uniformly drawn negatives from the log's arrays."""

    log: EventLog
    windows: Pieces
    catalogue: np.ndarray
    """[items] int32: rows of the items that may be drawn as negatives."""
    batch_windows: int
    negatives: int
    seed: int
    targets: np.ndarray
    """[log rows] bool: which events may be targets."""

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return max(len(self.windows) // self.batch_windows, 1)

    def epoch(self, number: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield the batches of epoch `number`, the same ones each time."""
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(len(self.windows))
        for step in range(self.steps):
            index = order[step * self.batch_windows : (step + 1) * self.batch_windows]
            batch = self._batch(index, rng)
            if len(batch["row"]):
                yield batch

    def _batch(self, index: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Gather one batch of W windows of length L with Q targets, C candidates and M items.

        `items` [M] int32: the distinct items of everything below; `sequence` [W, L] int32: the
        windows, as indices into them (padded with 0); `before` [W, L] int32: how many leading
        positions are history of each; `position` [Q] int32: the targets' places among the W * L;
        `row` [Q] int64: their log rows; `context_row` [Q] int64: the same, -1 where the context is
        hidden, since many requests will not carry any; `candidates` [C] int32: indices into
        `items`; `positive` [Q] int32: the targets' places among the candidates.
        """
        start, stop = self.windows.start[index], self.windows.stop[index]
        place = start[:, np.newaxis] + np.arange((stop - start).max())
        there = place < stop[:, np.newaxis]
        place = np.where(there, place, start[:, np.newaxis])
        rows = self.windows.row[place]
        target = there & (place >= self.windows.first_target[index][:, np.newaxis])
        position = np.flatnonzero(target & self.targets[rows])
        row = rows.ravel()[position]
        drawn = rng.choice(
            self.catalogue, min(self.negatives, len(self.catalogue)), replace=False, shuffle=False
        )
        sequence = self.log.item[rows]
        candidates, positive = _distinct(np.concatenate([self.log.item[row], drawn]))
        items, place_of = _distinct(np.concatenate([candidates, sequence.ravel()]))
        return {
            "items": items,
            "sequence": place_of[len(candidates) :].reshape(sequence.shape),
            "before": np.maximum(self.windows.before[place] - start[:, np.newaxis], 0).astype(
                np.int32
            ),
            "position": position.astype(np.int32),
            "row": row,
            "context_row": np.where(rng.random(len(row)) < _CONTEXT_DROPOUT, -1, row),
            "candidates": place_of[: len(candidates)],
            "positive": positive[: len(row)],
        }


def _distinct(items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values, sorted, and the place of each value among them, int32."""
    values, inverse = np.unique(items, return_inverse=True)
    return values.astype(np.int32), inverse.astype(np.int32)
