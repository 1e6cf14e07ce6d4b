"""The questions that models are trained on and judged by: who asked, when, and what was chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interactions.blocks import Spill, spans
from interactions.histories import Histories
from interactions.log import EventLog


@dataclass(frozen=True)
class Queries:
    """One query per chosen event."""

    row: np.ndarray
    """[queries] int64: the event's row in the log."""
    user: np.ndarray
    """[queries] int32: row of the user."""
    time: np.ndarray
    """[queries] int64."""
    item: np.ndarray
    """[queries] int32: row of the item that was chosen."""

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.row)

    def take(self, index: np.ndarray) -> Queries:
        """Return the queries at `index` (int or bool)."""
        return Queries(self.row[index], self.user[index], self.time[index], self.item[index])


def queries(log: EventLog, rows: np.ndarray, *, repeats: bool) -> Queries:
    """Make a query of each chosen event among `rows` ([n] int64) of the log.

    Without `repeats`, an item that its user had chosen before is left out: what has been seen is
    never recommended, so it cannot be found.
    """
    rows = rows[log.chosen[rows]]
    if not repeats:
        rows = rows[first_choices(log)[rows]]
    return Queries(rows, log.user[rows], log.time[rows], log.item[rows])


def first_choices(log: EventLog) -> np.ndarray:
    """[log rows] bool: True where a user chose an item for the first time."""
    histories = Histories.of(log)
    with Spill(np.bool_) as spill:
        for part in spans(len(log)):
            result = np.zeros(part.stop - part.start, bool)
            events = slice(*np.searchsorted(histories.rows, (part.start, part.stop)))
            firsts = histories.firsts[
                slice(*np.searchsorted(histories.firsts, (events.start, events.stop)))
            ]
            result[histories.rows[firsts] - part.start] = True
            spill.append(result)
        return spill.array()
