"""Hard negatives: what the retriever itself would recommend, and the user did not choose."""

from __future__ import annotations

import numpy as np

from features.entities import EncodedTable
from interactions.histories import Histories
from interactions.log import EventLog
from interactions.queries import Queries
from interactions.ragged import Ragged
from retrieval.model import Retriever
from retrieval.search import Searcher
from retrieval.windows import Sequences, Windows


class Miner:
    """Asks the index, as the retriever stands, for each window's best items that are wrong.

    One query stands for a window, that of its last event; its answers are negatives for all of the
    window's queries. What the user chose anywhere in the training rows is no answer.
    """

    def __init__(
        self,
        retriever: Retriever,
        sequences: Sequences,
        *,
        log: EventLog,
        rows: np.ndarray,
        context: EncodedTable,
        number: int,
    ) -> None:
        """Mine `number` items a window; `rows` [n] int64 are the log's training rows, ascending."""
        self._sequences, self._log = sequences, log
        self._chosen = Histories.of(log, among=rows)
        self._searcher = Searcher(retriever, log=log, context=context, seen_rows=rows)
        self._number = number

    def mine(self, windows: Windows) -> np.ndarray:
        """Return hard negatives of each window, [windows, h] int32 item rows, -1 for none."""
        self._searcher.refresh()
        row = self._sequences.row[windows.stop - 1]
        log = self._log
        queries = Queries(row, log.user[row], log.time[row], log.item[row])
        ever = np.full(len(row), np.iinfo(np.int64).max)
        seen: Ragged = self._chosen.seen_at(queries.user, ever)
        return self._searcher.search(queries, k=self._number, seen=seen).item
