"""The table that joins the two stages: candidates of queries, and their retrieval scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from interactions.queries import Queries

COLUMNS = ("query", "log_row", "user", "time", "item", "retrieval_score", "log_weight", "label")


@dataclass(frozen=True)
class Candidates:
    """The candidates of each query, in the order of their item rows.

    No rank and no origin is kept: either would betray a chosen item that the retriever had missed
    and that was put in by hand.
    """

    queries: Queries
    item: np.ndarray
    """[queries, C] int32 item rows; -1 where a query has fewer."""
    retrieval_score: np.ndarray
    """[queries, C] float32, standardised over the catalogue, computed alike for every row."""
    log_weight: np.ndarray
    """[queries, C] float32: log of how many items of the catalogue a row stands for. Only the loss
    may use it."""

    @property
    def label(self) -> np.ndarray:
        """[queries, C] bool: the item that was chosen."""
        return self.item == self.queries.item[:, np.newaxis]

    def take(self, index: np.ndarray) -> Candidates:
        """Return the candidates of the queries at `index`."""
        return Candidates(
            self.queries.take(index),
            self.item[index],
            self.retrieval_score[index],
            self.log_weight[index],
        )

    def save(self, path: Path) -> None:
        """Write one row per candidate as Parquet."""
        width = self.item.shape[1]
        there = self.item.ravel() >= 0
        columns = {
            "query": np.repeat(np.arange(len(self.queries), dtype=np.int32), width),
            "log_row": np.repeat(self.queries.row, width),
            "user": np.repeat(self.queries.user, width),
            "time": np.repeat(self.queries.time, width),
            "item": self.item.ravel(),
            "retrieval_score": self.retrieval_score.ravel(),
            "log_weight": self.log_weight.ravel(),
            "label": self.label.ravel(),
        }
        table = pa.table({name: columns[name][there] for name in COLUMNS})
        beside = path.with_suffix(".tmp")
        pq.write_table(table.replace_schema_metadata({"width": str(width)}), beside)
        beside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Candidates:
        """Read what `save` wrote."""
        table = pq.read_table(path)
        columns = {name: table[name].to_numpy() for name in COLUMNS}
        query, first = np.unique(columns["query"], return_index=True)
        place = np.arange(len(columns["query"])) - first[columns["query"]]
        shape = (len(query), int((table.schema.metadata or {})[b"width"]))

        def rectangle(name: str, filler: float, dtype: type) -> np.ndarray:
            values = np.full(shape, filler, dtype)
            values[columns["query"], place] = columns[name]
            return values

        item = rectangle("item", -1, np.int32)
        label = rectangle("label", False, np.bool_)
        chosen = item[np.arange(len(query)), label.argmax(axis=1)]
        queries = Queries(
            columns["log_row"][first], columns["user"][first], columns["time"][first], chosen
        )
        return cls(
            queries,
            item,
            rectangle("retrieval_score", 0, np.float32),
            rectangle("log_weight", 0, np.float32),
        )


@dataclass(frozen=True)
class Exposures:
    """Items that were shown, on which rating, purchase and the like could be observed."""

    queries: Queries
    """Who was shown what, and when; `item` is the item shown."""
    retrieval_score: np.ndarray
    """[exposures] float32, as in `Candidates`."""
    labels: dict[str, np.ndarray]
    """By task: [exposures] float32, NaN where the label is missing."""

    def __len__(self) -> int:
        """Return the number of exposures."""
        return len(self.queries)

    def take(self, index: np.ndarray) -> Exposures:
        """Return the exposures at `index`, int64."""
        labels = {task: values[index] for task, values in self.labels.items()}
        return Exposures(self.queries.take(index), self.retrieval_score[index], labels)

    @property
    def telling(self) -> tuple[str, ...]:
        """The tasks whose labels are not all alike, or missing."""
        known = {task: values[~np.isnan(values)] for task, values in self.labels.items()}
        return tuple(t for t, values in known.items() if len(values) and np.ptp(values) > 0)
